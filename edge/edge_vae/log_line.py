"""The agent's log: one line for each record, the event first and its values as fields, as text or as JSON.

A message is written `what happened asset=%s seq=%d`: each `name=%...` in it is a field. Where standard error is
connected to the journal of systemd, each line begins with its priority as sd-daemon(3) has it.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any, Literal, TextIO

from edge_vae.clock import format_time

__all__ = ["LogFormat", "LogLine", "goes_to_journal", "log_to_stderr"]

LogFormat = Literal["text", "json"]

_PLACE = re.compile(r"(?:(?P<name>\w+)=)?(?P<form>%(?:%|[-+ #0]*\d*(?:\.\d+)?[a-zA-Z]))")
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""Priorities of syslog(3): critical, error, warning, informational; debug is 7."""
# What would end a line early, or make a terminal do something, wherever the text came from.
_CONTROLS = {code: repr(chr(code))[1:-1] for code in [*range(32), *range(127, 160), 0x2028, 0x2029]}


class LogLine(logging.Formatter):
    """Makes one line of a record, whatever stands in it.

    Args:
        style: `text`, or `json`: one object with time, level, logger and event, and the fields as values.
        journal: Begin each line with its priority, and leave out what the journal notes itself.
        debug: Show the whole traceback of an error, on lines of its own.
    """

    def __init__(self, style: LogFormat = "text", *, journal: bool = False, debug: bool = False) -> None:
        super().__init__()
        self._as_json, self._journal, self._debug = style == "json", journal, debug

    def format(self, record: logging.LogRecord) -> str:
        """The line without its end; with `debug` an error has more of them."""
        line = self._json(record) if self._as_json else self._text(record)
        lines = [line]
        if record.exc_info and self._debug:
            lines += self.formatException(record.exc_info).splitlines()
        prefix = f"<{_priority(record.levelno)}>" if self._journal else ""
        return "\n".join(prefix + line.translate(_CONTROLS) for line in lines)

    def _text(self, record: logging.LogRecord) -> str:
        level = "" if self._journal else f"{record.levelname} "
        return f"{level}{record.name} {record.getMessage()}{_raised(record)}"

    def _json(self, record: logging.LogRecord) -> str:
        event, fields = _parts(record)
        found = {
            "time": format_time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": event + _raised(record),
        }
        return json.dumps(found | {name: value for name, value in fields.items() if name not in found})


def goes_to_journal(stream: TextIO) -> bool:
    """Whether what is written there goes to the journal: systemd says to which file it has connected it."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or no file at all
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def log_to_stderr(style: LogFormat, *, debug: bool) -> None:
    """Have all logs written to standard error; with `debug` more of them."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogLine(style, journal=goes_to_journal(sys.stderr), debug=debug))
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler])


def _priority(level: int) -> int:
    return next((priority for lowest, priority in _PRIORITIES if level >= lowest), 7)


def _parts(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """The event in words, and its fields."""
    if not isinstance(record.args, tuple) or not isinstance(record.msg, str):
        return record.getMessage(), {}
    values, fields = iter(record.args), {}

    def filled(place: re.Match[str]) -> str:
        if place["form"] == "%%":
            return "%"
        value = next(values)
        if place["name"] is None:
            return place["form"] % (value,)
        fields[place["name"]] = _value(value, place["form"])
        return ""

    try:
        event = _PLACE.sub(filled, record.msg)
    except (StopIteration, TypeError, ValueError):
        return record.getMessage(), {}
    return " ".join(event.split()).rstrip(":"), fields


def _value(value: object, form: str) -> object:
    """The value as JSON has it; one that the message shortens is as short here."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int | None) else str(value) if "." not in form else form % (value,)


def _raised(record: logging.LogRecord) -> str:
    """The error of a record in a few words, with the places that it came through, the innermost last."""
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    error = record.exc_info[1]
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    return f" error={error!r} at={'>'.join(places)}"
