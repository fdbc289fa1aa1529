"""`edge-vae outbox` on files as agents leave them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from edge_vae import event
from edge_vae.cli import run
from edge_vae.event import Event
from edge_vae.outbox import SET_ASIDE_AFTER, Outbox
from edge_vae.stamp import Stamper
from old_outbox import LAYOUT_1

TOPIC = "edge-vae/plant/gateway/pump/event"
Told = Callable[..., tuple[int, str, str]]
stamper = Stamper("b", wall=lambda: 1_583_020_800.0)


@contextmanager
def outbox_in(folder: Path, count: int = 0) -> Iterator[Outbox]:
    maker = event.notice_maker(stamper)
    with closing(Outbox(folder, assets={"pump": TOPIC}, notice=maker, max_bytes=1 << 20, on_full="thin")) as outbox:
        for _ in range(count):
            outbox.put("pump", TOPIC, raised)
        yield outbox


def raised(seq: int) -> bytes:
    stamp = stamper()
    return event.encode(
        Event(
            event_id=stamp.event_id, alarm_id=stamp.event_id, seq=seq, asset="pump", event="raised",
            severity="warning", time=stamp.time, time_quality=stamp.time_quality, boot_id=stamp.boot_id,
            monotonic_ns=stamp.monotonic_ns, score=2.0, peak_score=2.0, threshold=1.0, ratio=2.0, channels=(),
            window=None, model=None, quality="good", replayed=False, dropped=None, cause=None, reason=None, action=None,
            collapsed=None, phase=None,
        )
    )  # fmt: skip


@pytest.fixture
def told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Told:
    """Status, output and errors of a command about the outbox in the test's folder."""

    def answer(*words: str) -> tuple[int, str, str]:
        status = run(["outbox", *words, "--state-dir", str(tmp_path)])
        out, err = capfd.readouterr()
        return status, out, "".join(line for line in err.splitlines(keepends=True) if line.startswith("edge-vae: "))

    return answer


def damage(folder: Path) -> None:
    """Flip a bit of the second message."""
    file = folder / "outbox.db"
    content = file.read_bytes()
    file.write_bytes(content.replace(b'"seq":2,', b'"seq":3,'))


def test_ls_shows_what_waits_and_what_was_set_aside_while_the_agent_runs(tmp_path: Path, told: Told) -> None:
    with outbox_in(tmp_path, 4) as outbox:
        for _ in range(SET_ASIDE_AFTER):
            outbox.blame([2], "Packet too large")
        outbox.blame([3], "connection lost")
        status, out, _ = told("ls", "--limit", "3")
        document = json.loads(told("ls", "--json")[1])
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith("pump: 4 messages, ")
    assert lines[0].endswith(" bytes, seq 1 to 5")
    assert [line.split()[:5] for line in lines[1:4]] == [
        ["2020-03-01T00:00:00.000000Z", "pump", "seq", str(seq), "raised"] for seq in (1, 3, 4)
    ]
    assert "1 connections ended over it" in lines[2]
    assert lines[4] == "  and 1 more"
    assert lines[5].startswith("set aside: pump seq 2 raised ")
    assert lines[5].endswith(" bytes: Packet too large")
    assert [row["seq"] for row in document["messages"]] == [1, 3, 4, 5]
    assert document["messages"][3]["event"] == "set_aside"
    assert document["set_aside"][0]["reason"] == "Packet too large"


def test_ls_of_an_empty_outbox_and_of_drops(tmp_path: Path, told: Told) -> None:
    with outbox_in(tmp_path) as outbox:
        assert told("ls")[1] == "no message waits\n"
        outbox.put("pump", TOPIC, lambda seq: bytes(2 << 20))
        assert "dropped: pump 1 by thin, 0 not told yet" in told("ls")[1]


@pytest.mark.parametrize("command", ["ls", "check", "export"])
def test_looking_leaves_nothing_behind_and_changes_nothing(tmp_path: Path, told: Told, command: str) -> None:
    with outbox_in(tmp_path, 2):
        pass
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert told(command)[0] == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_export_gives_every_message_as_a_line(tmp_path: Path, told: Told) -> None:
    with outbox_in(tmp_path, 3) as outbox:
        outbox.put("pump", TOPIC, lambda seq: b"\xff no JSON")
        for _ in range(SET_ASIDE_AFTER):
            outbox.blame([1], "Packet too large")
        outbox.delete(outbox.last_key)
        status, out, _ = told("export")
        assert told("export", "-o", str(tmp_path / "out.jsonl"))[0] == 0
    assert status == 0
    assert (tmp_path / "out.jsonl").read_text() == out
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(line["seq"], line["set_aside"]) for line in lines] == [
        (2, None), (3, None), (4, None), (1, "Packet too large"),
    ]  # fmt: skip
    assert lines[0]["message"]["event"] == "raised"
    assert lines[0]["topic"] == TOPIC
    assert lines[2]["message"] == "\ufffd no JSON"


def test_check_tells_soundness_by_its_status(tmp_path: Path, told: Told) -> None:
    with outbox_in(tmp_path, 3):
        assert told("check") == (0, f"{tmp_path / 'outbox.db'}: sound\n", "")
    damage(tmp_path)
    status, out, _ = told("check")
    assert status == 1
    assert "damaged: a table, the type of a value or the checksum of a message is not as it was made" in out
    assert "edge-vae outbox repair" in out
    status, out, _ = told("check", "--json")
    assert (status, json.loads(out)["sound"]) == (1, False)


def test_repair_saves_what_is_whole_and_tells_the_subscribers(tmp_path: Path, told: Told) -> None:
    with outbox_in(tmp_path, 3):
        pass
    damage(tmp_path)
    status, out, _ = told("repair", "--json")
    assert (status, json.loads(out)["salvaged"]) == (0, 2)
    assert (tmp_path / "outbox.db.damaged-1").exists()
    lines = [json.loads(line)["message"] for line in told("export")[1].splitlines()]
    assert [(line["event"], line["seq"], line["salvaged"]) for line in lines] == [
        ("raised", 1, None), ("raised", 3, None), ("store_reset", 4, 2),
    ]  # fmt: skip
    assert told("check")[0] == 0
    assert told("repair")[1] == "sound, nothing to repair: 3 messages wait\n"


def test_repair_is_refused_while_the_agent_runs(tmp_path: Path, told: Told) -> None:
    with outbox_in(tmp_path, 1):
        status, out, err = told("repair")
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert "outbox.db: in use: expected one agent for each state_dir, received a lock of another process" in err


@pytest.mark.parametrize("command", ["ls", "check", "repair", "export"])
def test_no_file_is_one_clear_line_and_makes_none(tmp_path: Path, told: Told, command: str) -> None:
    status, out, err = told(command)
    assert (status, out) == (1, "")
    assert err.startswith(f"edge-vae: {tmp_path / 'outbox.db'}: expected an outbox, received no file. Name the folder")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["ls", "export"])
def test_a_torn_file_is_one_clear_line(tmp_path: Path, told: Told, command: str) -> None:
    (tmp_path / "outbox.db").write_bytes(bytes(range(256)) * 64)
    status, _, err = told(command)
    assert status == 1
    assert "expected an outbox that can be read, received file is not a database. See what is wrong with" in err


def test_a_file_of_the_layout_before_is_sound_and_repair_brings_it_up_to_date(tmp_path: Path, told: Told) -> None:
    with closing(sqlite3.connect(tmp_path / "outbox.db")) as db:
        db.executescript(LAYOUT_1)
        db.commit()
    assert told("check")[0] == 0
    assert "received one of an older layout. Bring it up to date with: edge-vae outbox repair" in told("ls")[2]
    assert told("repair")[1] == "sound, nothing to repair: 3 messages wait\n"  # one tells the drops that it knew of
    assert told("ls")[0] == 0


def test_the_folder_is_found_through_the_configuration(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "agent.toml").write_text(
        f'[node]\nsite = "plant"\nname = "gateway"\nstate_dir = "{tmp_path / "state"}"\n'
        '[[pipeline]]\nasset = "pump"\nbundle = "x.evb"\n[pipeline.source]\ntype = "stdin"\n'
    )
    with outbox_in(tmp_path / "state", 3):
        pass
    damage(tmp_path / "state")
    assert run(["outbox", "repair", "--config", str(tmp_path / "agent.toml"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["salvaged"] == 2
