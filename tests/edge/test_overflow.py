"""What the policy `thin` keeps; the other two are in test_outbox, and what holds for all in test_outbox_machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_vae.outbox import Outbox, Priority

UPDATE, NOTE, END, BEGINNING = Priority


def notice(kind: str, *, asset: str, seq: int, dropped: int | None, salvaged: int | None) -> bytes:
    return f"{kind} {dropped}".encode()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """Has room for twenty messages."""
    with closing(Outbox(tmp_path, assets={}, notice=notice, max_bytes=200, on_full="thin")) as made:
        yield made


def put(outbox: Outbox, *priorities: Priority, asset: str = "pump") -> None:
    for priority in priorities:
        outbox.put(asset, f"t/{asset}", lambda seq: f"{seq:10}".encode(), priority=priority)


def kept(outbox: Outbox, asset: str = "pump") -> list[int]:
    return [stored.seq for stored in outbox.pending(0, 100) if stored.asset == asset]


def test_every_second_message_goes_from_the_oldest_on_and_only_as_many_as_must(outbox: Outbox) -> None:
    put(outbox, *[NOTE] * 20)
    assert kept(outbox) == list(range(1, 21))
    put(outbox, *[NOTE] * 3)
    assert kept(outbox) == [1, 3, 5, *range(7, 24)]
    assert outbox.dropped() == {"thin": 3}


def test_what_is_left_is_spread_evenly_over_all_the_time_and_the_newest_lie_close(outbox: Outbox) -> None:
    put(outbox, *[NOTE] * 120)
    assert kept(outbox) == [*range(1, 114, 8), *range(116, 121)]


def test_updates_go_before_notes_and_notes_before_alarms(outbox: Outbox) -> None:
    put(outbox, BEGINNING, UPDATE, NOTE, UPDATE, NOTE, END, *[BEGINNING, END] * 7)
    put(outbox, BEGINNING)
    assert set(range(1, 22)) - set(kept(outbox)) == {4}
    put(outbox, END)
    assert set(range(1, 23)) - set(kept(outbox)) == {2, 4}
    put(outbox, BEGINNING, END)
    assert set(range(1, 25)) - set(kept(outbox)) == {2, 3, 4, 5}


def test_alarms_go_as_wholes_every_second_one(outbox: Outbox) -> None:
    put(outbox, *[BEGINNING, END] * 14)
    assert kept(outbox) == [1, 2, 5, 6, 9, 10, 13, 14, *range(17, 29)]


def test_an_end_whose_beginning_was_delivered_stays_with_the_alarm_before_it(outbox: Outbox) -> None:
    put(outbox, *[END, BEGINNING] * 11)
    assert kept(outbox) == [1, 2, 3, *range(6, 23)]


def test_each_asset_loses_every_second_message_of_its_own(outbox: Outbox) -> None:
    for _ in range(14):
        put(outbox, NOTE)
        put(outbox, NOTE, asset="fan")
    assert kept(outbox, "pump") == [1, 3, 5, 7, *range(9, 15)]
    assert kept(outbox, "fan") == [1, 3, 5, 7, *range(9, 15)]


def test_a_message_that_is_worth_less_than_all_that_is_stored_goes_itself(outbox: Outbox) -> None:
    put(outbox, *[BEGINNING, END] * 10)
    put(outbox, UPDATE, NOTE)
    assert kept(outbox) == list(range(1, 21))
    assert outbox.dropped() == {"thin": 2}


def test_after_a_message_that_went_itself_the_least_that_is_stored_goes_first(outbox: Outbox) -> None:
    put(outbox, UPDATE, *[NOTE] * 19)
    outbox.put("pump", "t/pump", lambda _: b"x" * 20, priority=UPDATE)
    assert kept(outbox) == list(range(1, 21))
    put(outbox, NOTE)
    assert kept(outbox) == [*range(2, 21), 22]


def test_a_message_on_its_way_stays(outbox: Outbox) -> None:
    put(outbox, *[NOTE] * 20)
    outbox.take("pump", 1, 2)
    put(outbox, NOTE)
    assert kept(outbox) == [1, 2, 3, 4, *range(6, 22)]


def test_the_last_messages_of_all_assets_can_still_make_room(tmp_path: Path) -> None:
    with closing(Outbox(tmp_path, assets={}, notice=notice, max_bytes=30, on_full="thin")) as outbox:
        for asset in ("a", "b", "c"):
            put(outbox, END, asset=asset)
        outbox.put("d", "t/d", lambda seq: bytes(30))
        assert [stored.asset for stored in outbox.pending(0, 10)] == ["d"]


def test_an_update_is_found_by_the_index_and_not_by_reading_all_alarms(outbox: Outbox) -> None:
    from edge_vae.overflow import _LEVELS

    for level in _LEVELS[:2]:
        plan = outbox._file.db.execute(f"EXPLAIN QUERY PLAN {level}", (0,)).fetchall()
        assert any("USING INDEX lesser" in row[3] for row in plan), plan
