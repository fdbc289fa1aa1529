import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_vae.errors import OutboxError
from edge_vae.outbox import OnFull, Outbox, Stored
from old_outbox import LAYOUT_1

ASSETS = {"pump": "t/pump/event", "fan": "t/fan/event"}
NOTICE_SIZE = 80


def notice(kind: str, *, asset: str, seq: int, dropped: int | None, salvaged: int | None) -> bytes:
    facts = {"kind": kind, "asset": asset, "seq": seq, "dropped": dropped}
    return json.dumps(facts | ({} if salvaged is None else {"salvaged": salvaged})).encode().ljust(NOTICE_SIZE)


def opened(folder: Path, *, max_bytes: int = 1 << 20, on_full: OnFull = "drop_oldest") -> Outbox:
    return Outbox(folder, assets=ASSETS, notice=notice, max_bytes=max_bytes, on_full=on_full)


@contextmanager
def outbox_in(folder: Path, *, max_bytes: int = 1 << 20, on_full: OnFull = "drop_oldest") -> Iterator[Outbox]:
    with closing(opened(folder, max_bytes=max_bytes, on_full=on_full)) as outbox:
        yield outbox


def message(size: int) -> Callable[[int], bytes]:
    """A payload of that many bytes that starts with its sequence number."""
    return lambda seq: f"{seq} ".encode().ljust(size, b".")


def put(outbox: Outbox, size: int = 10, *, asset: str = "pump") -> int:
    return outbox.put(asset, ASSETS[asset], message(size))


def kept_put(outbox: Outbox, value: bytes, size: int = 10) -> int:
    return outbox.put("pump", ASSETS["pump"], message(size), kept={"alarms": value})


def all_of(outbox: Outbox) -> list[Stored]:
    return outbox.pending(0, 1 << 30)


def seqs(messages: list[Stored]) -> list[int]:
    return [stored.seq for stored in messages]


def notices(outbox: Outbox) -> list[dict[str, Any]]:
    return [json.loads(stored.payload) for stored in all_of(outbox) if stored.payload.startswith(b"{")]


def test_messages_come_out_as_they_went_in_and_in_order(tmp_path: Path) -> None:
    with outbox_in(tmp_path) as outbox:
        assert [put(outbox, asset=asset) for asset in ("pump", "fan", "pump")] == [1, 1, 2]
        first, second, third = all_of(outbox)
        assert (first.asset, first.seq, first.topic, first.payload) == ("pump", 1, "t/pump/event", b"1 ........")
        assert (second.asset, third.seq) == ("fan", 2)
        assert first.key < second.key < third.key == outbox.last_key
        assert (outbox.count, outbox.size_bytes) == (3, 30)


def test_pending_goes_on_after_a_key_and_stops_at_a_limit(tmp_path: Path) -> None:
    with outbox_in(tmp_path) as outbox:
        for _ in range(5):
            put(outbox)
        assert seqs(outbox.pending(0, 2)) == [1, 2]
        assert seqs(outbox.pending(outbox.pending(0, 2)[-1].key, 2)) == [3, 4]
        assert outbox.pending(outbox.last_key, 2) == []


def test_a_message_is_on_disk_when_put_returns(tmp_path: Path) -> None:
    with outbox_in(tmp_path) as outbox:
        put(outbox)
        with closing(sqlite3.connect(f"file:{tmp_path / 'outbox.db'}?mode=ro", uri=True)) as other:
            assert other.execute("SELECT seq, payload FROM message").fetchall() == [(1, b"1 ........")]


def test_every_commit_is_synced_to_the_disk(tmp_path: Path) -> None:
    with outbox_in(tmp_path) as outbox:
        assert outbox._file.db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert outbox._file.db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_sequence_numbers_go_on_after_a_restart_though_all_messages_are_gone(tmp_path: Path) -> None:
    with outbox_in(tmp_path) as outbox:
        put(outbox)
        put(outbox, asset="fan")
        put(outbox)
        outbox.delete(*(stored.key for stored in all_of(outbox)))
        last_key = outbox.last_key
    with outbox_in(tmp_path) as outbox:
        assert (outbox.count, outbox.size_bytes, outbox.last_key) == (0, 0, last_key)
        assert (put(outbox), put(outbox, asset="fan")) == (3, 2)
        assert [stored.key for stored in all_of(outbox)] == [last_key + 1, last_key + 2]


def test_half_delivered_messages_leave_the_other_half(tmp_path: Path) -> None:
    with outbox_in(tmp_path) as outbox:
        for _ in range(6):
            put(outbox)
        outbox.delete(*(stored.key for stored in outbox.take("pump", 0, 3)))
        outbox.take("pump", 0, 2)
    with outbox_in(tmp_path) as outbox:
        assert seqs(outbox.take("pump", 0, 10)) == [4, 5, 6]
        assert (outbox.count, outbox.size_bytes) == (3, 30)


def test_deleting_an_unknown_key_changes_nothing(tmp_path: Path) -> None:
    with outbox_in(tmp_path) as outbox:
        put(outbox)
        outbox.delete(99, outbox.last_key, outbox.last_key)
        assert (outbox.count, outbox.size_bytes) == (0, 0)
        put(outbox)
        assert seqs(all_of(outbox)) == [2]


def test_a_payload_that_cannot_be_made_uses_no_sequence_number(tmp_path: Path) -> None:
    def broken(seq: int) -> bytes:
        raise ValueError(seq)

    with outbox_in(tmp_path) as outbox:
        with pytest.raises(ValueError, match="1"):
            outbox.put("pump", ASSETS["pump"], broken)
        assert outbox.count == 0
        assert put(outbox) == 1


def test_take_gives_each_message_once_until_it_is_released(tmp_path: Path) -> None:
    with outbox_in(tmp_path) as outbox:
        for _ in range(4):
            put(outbox)
        first = outbox.take("pump", 0, 2)
        assert seqs(outbox.take("pump", 0, 10)) == [3, 4]
        assert outbox.take("pump", 0, 10) == []
        outbox.release([first[1].key])
        assert seqs(outbox.take("pump", 0, 10)) == [2]
        outbox.release()
        assert seqs(outbox.take("pump", 0, 10)) == [1, 2, 3, 4]


def test_take_gives_one_asset_and_leaves_out_topics(tmp_path: Path) -> None:
    with outbox_in(tmp_path) as outbox:
        for asset in ("pump", "fan", "pump", "fan"):
            put(outbox, asset=asset)
        assert outbox.take("pump", 0, 10, skip_topics=[ASSETS["pump"]]) == []
        assert [stored.asset for stored in outbox.take("pump", 0, 10, skip_topics=[ASSETS["fan"]])] == ["pump", "pump"]
        assert seqs(outbox.take("fan", 2, 10)) == [2]


def test_waiting_tells_the_last_message_of_each_asset_that_has_some(tmp_path: Path) -> None:
    with outbox_in(tmp_path) as outbox:
        for asset in ("pump", "fan", "pump"):
            put(outbox, asset=asset)
        assert outbox.waiting() == {"pump": 3, "fan": 2}
        outbox.delete(2)
        assert outbox.waiting() == {"pump": 3}
    with outbox_in(tmp_path) as outbox:
        assert outbox.waiting() == {"pump": 3}


def test_every_put_wakes_the_listener_after_the_commit(tmp_path: Path) -> None:
    with outbox_in(tmp_path) as outbox:
        seen: list[int] = []
        outbox.listen(lambda: seen.append(len(all_of(outbox))))
        put(outbox)
        put(outbox)
        assert seen == [1, 2]


def test_threads_share_one_outbox(tmp_path: Path) -> None:
    with outbox_in(tmp_path) as outbox:

        def produce() -> None:
            for _ in range(25):
                put(outbox)

        threads = [threading.Thread(target=produce) for _ in range(4)]
        for thread in threads:
            thread.start()
        taken: list[Stored] = []
        while len(taken) < 100:
            batch = outbox.take("pump", 0, 7)
            outbox.delete(*(stored.key for stored in batch))
            taken += batch
        for thread in threads:
            thread.join()
        assert seqs(taken) == list(range(1, 101))
        assert (outbox.count, outbox.size_bytes) == (0, 0)


def test_a_second_process_is_told_who_has_the_outbox(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edge_vae.outbox import Outbox\n"
        "Outbox(Path(sys.argv[1]), assets={}, notice=None, max_bytes=1, on_full='drop_newest')"
    )
    with outbox_in(tmp_path):
        second = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert second.returncode == 1
        assert "outbox.db: in use: expected one agent for each state_dir" in second.stderr
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


@pytest.mark.parametrize("max_bytes", [0, -1])
def test_a_limit_that_admits_nothing_is_refused(tmp_path: Path, max_bytes: int) -> None:
    with pytest.raises(ValueError, match="max_bytes of at least 1"):
        opened(tmp_path, max_bytes=max_bytes)


# What is kept beside the messages.


def test_what_is_kept_is_stored_with_its_message_and_outlives_it(tmp_path: Path) -> None:
    with outbox_in(tmp_path) as outbox:
        assert outbox.kept("pump", "alarms") is None
        kept_put(outbox, b"raised")
        with closing(sqlite3.connect(f"file:{tmp_path / 'outbox.db'}?mode=ro", uri=True)) as other:
            assert other.execute("SELECT * FROM kept").fetchall() == [("pump", "alarms", b"raised")]
        kept_put(outbox, b"cleared")
        outbox.keep("fan", "alarms", b"raised")
        outbox.delete(*(stored.key for stored in all_of(outbox)))
    with outbox_in(tmp_path) as outbox:
        assert outbox.kept("pump", "alarms") == b"cleared"
        assert outbox.kept("fan", "alarms") == b"raised"


def test_a_message_that_is_not_stored_changes_nothing_that_is_kept(tmp_path: Path) -> None:
    with outbox_in(tmp_path) as outbox:
        kept_put(outbox, b"raised")
        pages = outbox._file.db.execute("PRAGMA page_count").fetchone()[0]
        outbox._file.db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(OutboxError, match="full"):
            kept_put(outbox, b"cleared", size=100_000)
        assert outbox.kept("pump", "alarms") == b"raised"
        outbox._file.db.execute("PRAGMA max_page_count = 100000")
    with outbox_in(tmp_path) as outbox:
        assert outbox.kept("pump", "alarms") == b"raised"


def test_what_is_kept_goes_on_in_the_file_that_replaces_a_damaged_one(tmp_path: Path) -> None:
    filled(tmp_path)
    with outbox_in(tmp_path) as outbox:
        outbox.keep("pump", "alarms", b"raised")
        outbox._file.db.execute("PRAGMA cache_size = 0")
        outbox._file.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        garbage(tmp_path / "outbox.db")
        put(outbox, asset="fan")
        assert outbox.moved_to is not None
    with outbox_in(tmp_path) as outbox:
        assert outbox.kept("pump", "alarms") == b"raised"


def test_a_file_of_the_layout_before_goes_on_with_its_messages(tmp_path: Path) -> None:
    path = filled(tmp_path)
    statement(path, "DROP TABLE kept")
    statement(path, "PRAGMA user_version = 1")
    with outbox_in(tmp_path) as outbox:
        assert (outbox.count, outbox.moved_to) == (40, None)
        kept_put(outbox, b"raised")
    with outbox_in(tmp_path) as outbox:
        assert (outbox.count, outbox.kept("pump", "alarms"), outbox.moved_to) == (41, b"raised", None)


# Overflow: 100 bytes, messages of 10; a notice has 80.


def test_drop_oldest_keeps_the_newest(tmp_path: Path) -> None:
    with outbox_in(tmp_path, max_bytes=100) as outbox:
        for _ in range(13):
            put(outbox)
        assert seqs(all_of(outbox)) == list(range(4, 14))
        assert outbox.dropped() == {"drop_oldest": 3}


def test_drop_newest_keeps_the_oldest_and_still_counts_on(tmp_path: Path) -> None:
    with outbox_in(tmp_path, max_bytes=100, on_full="drop_newest") as outbox:
        assert [put(outbox) for _ in range(13)] == list(range(1, 14))
        assert seqs(all_of(outbox)) == list(range(1, 11))
        assert outbox.dropped() == {"drop_newest": 3}


@pytest.mark.parametrize("on_full", ["drop_oldest", "drop_newest"])
def test_one_notice_with_the_count_is_stored_when_the_outbox_has_drained_to_half(
    tmp_path: Path, on_full: OnFull
) -> None:
    with outbox_in(tmp_path, max_bytes=100, on_full=on_full) as outbox:
        for _ in range(13):
            put(outbox)
        while outbox.size_bytes > 60:
            outbox.delete(outbox.pending(0, 1)[0].key)
            assert notices(outbox) == []
        outbox.delete(outbox.pending(0, 1)[0].key)
        assert notices(outbox) == [{"kind": "dropped", "asset": "pump", "seq": 14, "dropped": 3}]
        assert all_of(outbox)[-1].topic == ASSETS["pump"]
        outbox.delete(*(stored.key for stored in all_of(outbox)))
        assert outbox.count == 0
        assert put(outbox) == 15


def test_each_asset_gets_its_own_notice(tmp_path: Path) -> None:
    with outbox_in(tmp_path, max_bytes=100, on_full="drop_newest") as outbox:
        for asset, size in (("pump", 95), ("pump", 10), ("fan", 10), ("fan", 10)):
            put(outbox, size, asset=asset)
        outbox.delete(outbox.pending(0, 1)[0].key)
        assert notices(outbox) == [
            {"kind": "dropped", "asset": "fan", "seq": 3, "dropped": 2},
            {"kind": "dropped", "asset": "pump", "seq": 3, "dropped": 1},
        ]


def test_drops_that_wait_for_room_are_reported_after_a_restart_and_only_once(tmp_path: Path) -> None:
    with outbox_in(tmp_path, max_bytes=100) as outbox:
        for _ in range(12):
            put(outbox)
    with outbox_in(tmp_path, max_bytes=100) as outbox:
        assert notices(outbox) == []
        outbox.delete(*(stored.key for stored in all_of(outbox)))
        assert [item["dropped"] for item in notices(outbox)] == [2]
    for _ in range(2):
        with outbox_in(tmp_path, max_bytes=100) as outbox:
            assert [item["dropped"] for item in notices(outbox)] == [2]
            assert outbox.dropped() == {"drop_oldest": 2}


def test_a_larger_outbox_after_a_restart_reports_at_once(tmp_path: Path) -> None:
    with outbox_in(tmp_path, max_bytes=100) as outbox:
        for _ in range(12):
            put(outbox)
    with outbox_in(tmp_path, max_bytes=1000) as outbox:
        assert [item["dropped"] for item in notices(outbox)] == [2]


def test_a_dropped_notice_gives_its_count_back(tmp_path: Path) -> None:
    with outbox_in(tmp_path, max_bytes=1000) as outbox:
        for _ in range(12):
            put(outbox, 100)
        outbox.delete(*(stored.key for stored in all_of(outbox)))
        assert [item["dropped"] for item in notices(outbox)] == [2]
        for _ in range(12):
            put(outbox, 100)
        assert notices(outbox) == []
        outbox.delete(*(stored.key for stored in all_of(outbox)))
        # 2 of the first round, the notice itself, and the 2 of this round that did not fit beside 10 others.
        assert [item["dropped"] for item in notices(outbox)] == [5]


def test_a_message_larger_than_the_outbox_drops_itself_and_no_other(tmp_path: Path) -> None:
    with outbox_in(tmp_path, max_bytes=100) as outbox:
        put(outbox)
        put(outbox, 101)
        assert seqs(all_of(outbox)) == [1, 3]
        assert [item["dropped"] for item in notices(outbox)] == [1]


def test_a_message_on_its_way_to_the_broker_is_not_dropped(tmp_path: Path) -> None:
    with outbox_in(tmp_path, max_bytes=100) as outbox:
        for _ in range(10):
            put(outbox)
        outbox.take("pump", 0, 4)
        for _ in range(3):
            put(outbox)
        assert seqs(all_of(outbox)) == [1, 2, 3, 4, 8, 9, 10, 11, 12, 13]
        outbox.take("pump", 0, 10)
        put(outbox)
        assert seqs(all_of(outbox))[-1] == 13
        assert outbox.dropped() == {"drop_oldest": 4}


def test_drops_of_both_policies_are_counted_apart(tmp_path: Path) -> None:
    for on_full in ("drop_oldest", "drop_newest"):
        with outbox_in(tmp_path, max_bytes=100, on_full=on_full) as outbox:
            for _ in range(11):
                put(outbox)
    with outbox_in(tmp_path, max_bytes=100) as outbox:
        assert outbox.dropped() == {"drop_oldest": 1, "drop_newest": 11}
        outbox.delete(*(stored.key for stored in all_of(outbox)))
        assert [item["dropped"] for item in notices(outbox)] == [12]


# Damage.


def filled(folder: Path, count: int = 40) -> Path:
    with outbox_in(folder) as outbox:
        for index in range(count):
            put(outbox, 300, asset="fan" if index % 3 else "pump")
    return folder / "outbox.db"


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * (path.stat().st_size // 256))


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero_one_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[8 * 4096 : 9 * 4096] = bytes(4096)  # the first with messages
    path.write_bytes(content)


def another_program(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE message (key)")


def statement(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute(sql)
    path.with_name("outbox.db-wal").unlink(missing_ok=True)


def rename_a_column(path: Path) -> None:
    statement(path, "UPDATE sqlite_master SET sql = replace(sql, 'asset', 'asses') WHERE name = 'message'")


def change_a_type(path: Path) -> None:
    statement(path, "UPDATE message SET payload = 'text' WHERE seq = 5")


def read_only(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[18] = 9  # the version of the format for writing: from 3 on SQLite reads only
    path.write_bytes(content)


def newer_layout(path: Path) -> None:
    statement(path, "PRAGMA user_version = 9")


def zero_the_head(path: Path) -> None:
    path.write_bytes(bytes(4096) + path.read_bytes()[4096:])


def flip_a_bit(path: Path) -> None:
    # Wherever that message stands: what is free in a page may hold it too, left over from another file's memory.
    path.write_bytes(path.read_bytes().replace(b"26 " + b"." * 20, b"26 " + b"." * 19 + b"/"))


# With the number of messages of the pump and of the fan, of 14 and 26, that are left.
DAMAGES: dict[Callable[[Path], None], tuple[int, int]] = {
    zero: (0, 0), garbage: (0, 0), tear: (0, 0), empty: (0, 0), another_program: (0, 0), newer_layout: (14, 26),
    read_only: (14, 26), rename_a_column: (14, 26), change_a_type: (13, 25), zero_the_head: (14, 26),
    flip_a_bit: (14, 25), zero_one_page: (10, 18),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "left"), DAMAGES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_damaged_file_is_moved_aside_and_a_fresh_one_begins_with_what_was_whole(
    tmp_path: Path, damage: Callable[[Path], None], left: tuple[int, int]
) -> None:
    path = filled(tmp_path)
    damage(path)
    content = path.read_bytes()
    with outbox_in(tmp_path) as outbox:
        assert outbox.moved_to == tmp_path / "outbox.db.damaged-1"
        assert outbox.moved_to.read_bytes() == content
        told = notices(outbox)
        assert [(item["kind"], item["asset"], item["dropped"]) for item in told] == [
            ("store_reset", asset, None) for asset in ASSETS
        ]
        assert tuple(item["salvaged"] for item in told) == left
        saved, last = all_of(outbox)[:-2], all_of(outbox)[-2:]
        assert [stored.topic for stored in last] == list(ASSETS.values())
        assert all(stored.payload == message(300)(stored.seq) for stored in saved)
        for asset, item, total in zip(ASSETS, told, (14, 26), strict=True):
            numbers = seqs([stored for stored in saved if stored.asset == asset])
            assert numbers == sorted(set(numbers))
            assert item["seq"] in (1, total + 1)
            assert put(outbox, asset=asset) == item["seq"] + 1
    assert not list(tmp_path.glob("outbox.db.aid*"))


def test_any_one_page_but_the_root_of_the_messages_may_be_lost_without_losing_more_than_that_page(
    tmp_path: Path,
) -> None:
    content = filled(tmp_path, 60).read_bytes()
    for page in range(len(content) // 4096):
        folder = tmp_path / str(page)
        folder.mkdir()
        (folder / "outbox.db").write_bytes(content[: page * 4096] + bytes(4096) + content[(page + 1) * 4096 :])
        with outbox_in(folder) as outbox:
            assert outbox.salvaged is not None
            saved = outbox.salvaged.messages.total()
            assert saved >= 60 - 13 or (page, saved) == (1, 0)


def test_a_file_of_the_layout_before_is_carried_over_whole(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "outbox.db")) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(LAYOUT_1)
    with outbox_in(tmp_path, max_bytes=7) as outbox:
        assert [(s.key, s.seq, s.payload) for s in all_of(outbox)] == [(5, 5, b"!!"), (7, 6, b"00")]
        assert (outbox.moved_to, outbox.last_key, outbox.dropped()) == (None, 9, {"drop_newest": 3})
        outbox.delete(5, 7)
        assert [item["dropped"] for item in notices(outbox)] == [2]
        assert put(outbox, 1, asset="fan") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outbox.db", "outbox.lock"]


def test_a_damaged_file_of_the_layout_before_gives_what_is_whole(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "outbox.db")) as db:
        db.executescript(LAYOUT_1)
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE message SET payload = 'text' WHERE key = 5")
        db.commit()
    with outbox_in(tmp_path) as outbox:
        assert outbox.moved_to is not None
        assert all_of(outbox)[0].payload == b"00"
        assert [item["salvaged"] for item in notices(outbox) if item["kind"] == "store_reset"] == [1, 0]


def test_an_undamaged_file_stays(tmp_path: Path) -> None:
    filled(tmp_path)
    with outbox_in(tmp_path) as outbox:
        assert outbox.moved_to is None
        assert outbox.count == 40
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outbox.db", "outbox.lock"]


def test_a_new_outbox_begins_empty_and_without_notice(tmp_path: Path) -> None:
    with outbox_in(tmp_path / "deep" / "er") as outbox:
        assert (outbox.count, outbox.moved_to) == (0, None)


def test_a_reset_is_reported_once(tmp_path: Path) -> None:
    zero(filled(tmp_path))
    for _ in range(3):
        with outbox_in(tmp_path) as outbox:
            assert len(notices(outbox)) == 2


def test_old_damaged_files_do_not_fill_the_disk(tmp_path: Path) -> None:
    for _ in range(6):
        zero(filled(tmp_path, 1))
        with outbox_in(tmp_path):
            pass
    names = sorted(path.name for path in tmp_path.glob("outbox.db.damaged*"))
    assert names == ["outbox.db.damaged-4", "outbox.db.damaged-5", "outbox.db.damaged-6"]


def test_damage_that_shows_while_running_is_answered_with_a_fresh_file(tmp_path: Path) -> None:
    filled(tmp_path)
    with outbox_in(tmp_path) as outbox:
        late = outbox.take("pump", 0, 5)
        last_key = outbox.last_key
        outbox._file.db.execute("PRAGMA cache_size = 0")  # so that the damage is read and not what is remembered
        outbox._file.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        garbage(tmp_path / "outbox.db")
        assert put(outbox) == 2
        assert [stored.payload[:1] for stored in all_of(outbox)] == [b"{", b"{", b"2"]
        assert outbox.moved_to == tmp_path / "outbox.db.damaged-1"
        # Keys are not used again: a late acknowledgement of an old message deletes nothing.
        assert all_of(outbox)[0].key == last_key + 1
        outbox.delete(*(stored.key for stored in late))
        assert outbox.count == 3


def test_a_power_cut_between_the_two_renames_loses_neither_file(tmp_path: Path) -> None:
    path = filled(tmp_path)
    path.rename(tmp_path / "damaged")
    with outbox_in(tmp_path):
        pass
    path.rename(tmp_path / "outbox.db.new")
    (tmp_path / "damaged").rename(tmp_path / "outbox.db.damaged-1")
    (tmp_path / "outbox.db-wal").write_bytes(b"belongs to the damaged one")
    with outbox_in(tmp_path) as outbox:
        assert outbox.count == 0
        put(outbox)
    assert (tmp_path / "outbox.db.damaged-1-wal").read_bytes() == b"belongs to the damaged one"
    assert not (tmp_path / "outbox.db.new").exists()


def test_the_log_of_a_file_that_is_gone_is_not_replayed_into_a_new_one(tmp_path: Path) -> None:
    with outbox_in(tmp_path) as outbox:
        put(outbox)
        log = (tmp_path / "outbox.db-wal").read_bytes()
        assert log
    (tmp_path / "outbox.db").unlink()
    (tmp_path / "outbox.db-wal").write_bytes(log)
    with outbox_in(tmp_path) as outbox:
        assert (outbox.count, outbox.moved_to) == (0, None)


def test_a_power_cut_while_a_file_is_made_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "outbox.db.new").write_bytes(b"half")
    (tmp_path / "outbox.db-wal").write_bytes(b"stray")
    with outbox_in(tmp_path) as outbox:
        assert (outbox.count, outbox.moved_to) == (0, None)
        put(outbox)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outbox.db", "outbox.lock"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_happens_to_the_bytes_the_outbox_opens_and_works(data: st.DataObject) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        content = bytearray(filled(folder, 30).read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            start = data.draw(st.one_of(st.integers(0, 120), st.integers(0, len(content) - 1)))
            content[start : start + 16] = data.draw(st.binary(min_size=1, max_size=16))
        (folder / "outbox.db").write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 3]))])
        with outbox_in(folder) as outbox:
            before = outbox.count
            outbox.take("pump", 0, 100)
            seq = put(outbox)
            (new,) = outbox.take("pump", 0, 100)
            assert (new.seq, new.payload) == (seq, message(10)(seq))
            assert outbox.count == before + 1
            outbox.delete(*(stored.key for stored in all_of(outbox)))
            assert outbox.count == 0


# The disk.


def test_a_folder_that_cannot_be_made_gives_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OutboxError, match=r"outbox\.db: cannot keep messages: expected a folder that can be written"
    ) as caught:
        opened(tmp_path / "file" / "state")
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_an_error_and_what_was_stored_stays(tmp_path: Path) -> None:
    with outbox_in(tmp_path) as outbox:
        put(outbox)
        pages = outbox._file.db.execute("PRAGMA page_count").fetchone()[0]
        outbox._file.db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own way to run out of space
        with pytest.raises(OutboxError, match="full"):
            put(outbox, 100_000)
        assert (seqs(all_of(outbox)), outbox.count, outbox.size_bytes) == ([1], 1, 10)
        outbox._file.db.execute("PRAGMA max_page_count = 100000")
        assert put(outbox, 100_000) == 2
        assert outbox.moved_to is None


def test_what_was_dropped_for_a_message_that_the_disk_refuses_comes_back(tmp_path: Path) -> None:
    with outbox_in(tmp_path, max_bytes=100_000) as outbox:
        for _ in range(3):
            put(outbox)
        pages = outbox._file.db.execute("PRAGMA page_count").fetchone()[0]
        outbox._file.db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(OutboxError, match="full"):
            put(outbox, 99_985)
        assert (seqs(all_of(outbox)), outbox.count, outbox.size_bytes) == ([1, 2, 3], 3, 30)
        assert outbox.dropped() == {}


def test_a_closed_outbox_says_so(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    outbox.close()
    outbox.close()
    with pytest.raises(OutboxError, match="closed"):
        put(outbox)
