from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vae.log_line import LogLine, goes_to_journal


def record(message: str, *args: object, level: int = logging.INFO, fault: bool = False) -> logging.LogRecord:
    made = logging.LogRecord("edge_vae.worker", level, __file__, 1, message, args, raised() if fault else None)
    made.created = 0.25
    return made


def raised() -> Any:
    try:
        fail()
    except RuntimeError:
        return sys.exc_info()


def fail() -> None:
    raise RuntimeError("two\nlines")


def fields(message: str, *args: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(LogLine("json").format(record(message, *args)))
    return {name: value for name, value in found.items() if name not in {"time", "level", "logger"}}


def test_text_has_level_logger_event_and_fields() -> None:
    assert LogLine().format(record("alarm %s asset=%s", "raised", "pump")) == (
        "INFO edge_vae.worker alarm raised asset=pump"
    )


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7)],
)
def test_journal_gets_the_priority_of_each_line_in_front_of_it(level: int, priority: int) -> None:
    made = LogLine(journal=True, debug=True).format(record("unforeseen asset=%s", "pump", level=level, fault=True))
    lines = made.split("\n")
    assert lines[0].startswith(f"<{priority}>edge_vae.worker unforeseen asset=pump error=RuntimeError(")
    assert all(line.startswith(f"<{priority}>") for line in lines)
    assert any("Traceback" in line for line in lines)


def test_error_is_one_line_with_the_places_that_it_came_through_unless_debugging() -> None:
    (line,) = LogLine().format(record("unforeseen asset=%s", "pump", fault=True)).split("\n")
    assert line.startswith(
        "INFO edge_vae.worker unforeseen asset=pump error=RuntimeError('two\\nlines') at=test_log_line"
    )
    assert "Traceback" in LogLine(debug=True).format(record("unforeseen", fault=True))


def test_json_has_time_level_logger_event_and_each_field_as_it_is() -> None:
    line = LogLine("json").format(record("alarm %s asset=%s seq=%d score=%.3f", "raised", "pump 3", 7, 1.23456))
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.250000Z", "level": "info", "logger": "edge_vae.worker", "event": "alarm raised",
        "asset": "pump 3", "seq": 7, "score": 1.23456,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("message", "args", "found"),
    [
        ("agent ready", (), {"event": "agent ready"}),
        ("%s connected: topic=%s", ("source", "a/b"), {"event": "source connected", "topic": "a/b"}),
        ("full rate=100%% asset=%r", ("pump",), {"event": "full rate=100%", "asset": "pump"}),
        ("malformed received=%.5r; more", (b"abcdefgh",), {"event": "malformed ; more", "received": "b'abc"}),
        ("wrong score=%.1f event=%s", (float("nan"), "x"), {"event": "wrong", "score": None}),
        ("ok=%s path=%s", (True, Path("/x")), {"event": "", "ok": True, "path": "/x"}),
    ],
)
def test_fields_are_what_the_message_calls_so(message: str, args: tuple[object, ...], found: dict[str, Any]) -> None:
    assert fields(message, *args) == found


@given(st.text(), st.sampled_from(["text", "json"]), st.booleans())
def test_a_value_from_outside_never_ends_a_line_nor_begins_one(value: str, style: Any, journal: bool) -> None:
    line = LogLine(style, journal=journal).format(record("refused reason=%s", value + "\n<0>forged"))
    assert line.splitlines() == [line]
    assert line.startswith("<6>") == journal
    if style == "json":
        assert json.loads(line.removeprefix("<6>"))["reason"] == value + "\n<0>forged"


def test_journal_is_recognised_by_the_file_that_systemd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "stream").open("w") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert goes_to_journal(stream)
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + 1}")
        assert not goes_to_journal(stream)  # inherited, and standard error was connected elsewhere since
        monkeypatch.delenv("JOURNAL_STREAM")
        assert not goes_to_journal(stream)
    assert not goes_to_journal(stream)
