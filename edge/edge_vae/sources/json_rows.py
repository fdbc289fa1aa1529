"""JSON lines to rows of readings."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from edge_vae.sources.decode import GrowingRows, Rows, parse_time, time_column, unix_seconds
from edge_vae.sources.lines import Lines, Malformed

__all__ = ["JsonRows"]


class JsonRows:
    """Rows of JSON objects, one a line: `{"time": ..., "bar": 1.2}` or `{"time": ..., "values": {"bar": 1.2}}`.

    The time is ISO 8601 text or seconds since 1970. A line may hold an array of such objects. Unknown keys are ignored;
    an object with none of the channels is no sample, and counted as malformed.

    Args:
        channels: Names of the readings, in the order wanted.
        time: Key of the time; by default it is recognised by `TIME_NAMES`.
        source: How to call the source in the log.
    """

    def __init__(self, channels: Sequence[str], *, time: str | None = None, source: str = "JSON lines") -> None:
        self._channels, self._time = tuple(channels), time
        self._malformed = Malformed(source)
        self._lines = Lines(self._malformed)
        self._last_time = time

    @property
    def malformed(self) -> int:
        """How many readings and lines could not be read."""
        return self._malformed.count

    def feed(self, data: bytes) -> Rows:
        """The rows that these bytes complete."""
        return self._decode(self._lines.feed(data))

    def flush(self) -> Rows:
        """The rows that are left when the stream has ended without a line end."""
        return self._decode(self._lines.flush())

    def messages(self, payloads: Iterable[bytes]) -> Rows:
        """The rows of messages that came whole: a JSON document on any number of lines, or several lines of JSON."""
        return self._rows(document for payload in payloads for document in self._message(payload))

    def _message(self, payload: bytes) -> Iterable[object]:
        try:
            return (_json(payload),)
        except (ValueError, RecursionError):
            return self._documents(payload.splitlines())

    def _decode(self, lines: Iterable[bytes]) -> Rows:
        return self._rows(self._documents(lines))

    def _documents(self, lines: Iterable[bytes]) -> Iterable[object]:
        return (document for line in filter(bytes.strip, lines) for document in self._document(line))

    def _document(self, line: bytes) -> Iterable[object]:
        try:
            return (_json(line),)
        except (ValueError, RecursionError):
            self._malformed.add("expected=a JSON object", line)
            return ()

    def _rows(self, documents: Iterable[object]) -> Rows:
        growing = GrowingRows()
        for document in documents:
            for item in document if isinstance(document, list) else [document]:
                self._row(item, growing)
        return growing.rows(len(self._channels))

    def _row(self, item: object, growing: GrowingRows) -> None:
        if not isinstance(item, dict):
            self._malformed.add("expected=a JSON object", item)
            return
        nested = item.get("values")
        readings = nested if isinstance(nested, dict) else item
        if readings.keys().isdisjoint(self._channels):
            self._malformed.add(f"expected=an object with {', '.join(self._channels)}", item)
            return
        growing.readings += [self._reading(name, readings.get(name)) for name in self._channels]
        growing.times.append(self._time_of(item))

    def _reading(self, name: str, value: object) -> float:
        try:
            return math.nan if value is None else _number(value)
        except (ValueError, OverflowError):
            self._malformed.add(f"channel={name} expected=a number", value)
            return math.nan

    def _time_of(self, item: Mapping[str, object]) -> float:
        if self._last_time not in item:
            self._last_time = time_column(list(item), channels=self._channels, name=self._time)
        value = None if self._last_time is None else item[self._last_time]
        try:
            if isinstance(value, str):
                return parse_time(value.strip())
            return math.nan if value is None else unix_seconds(_number(value))
        except (ValueError, OverflowError):
            self._malformed.add(f"key={self._last_time} expected=a time", value)
            return math.nan


def _json(text: bytes) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return json.loads(text)  # takes NaN and Infinity, which many writers put where a reading is missing


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        msg = f"expected a number, received {value!r}"
        raise ValueError(msg)  # noqa: TRY004 (wrong data, not a wrong call)
    return float(value)
