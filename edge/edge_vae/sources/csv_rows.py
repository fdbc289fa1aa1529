"""CSV text to rows of readings."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from edge_vae.errors import SourceError
from edge_vae.sources.decode import GrowingRows, Rows, parse_time, time_column
from edge_vae.sources.lines import Lines, Malformed

__all__ = ["CsvRows", "sniff_delimiter", "split_cells"]

DELIMITERS = (",", ";", "\t", "|")
DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")
"""As a spreadsheet writes numbers in half of Europe; only believed where cells are not divided by commas."""


def sniff_delimiter(header: str, *, wanted: Collection[str] = ()) -> str:
    """The delimiter of a header line: of `, ; tab |` the one that finds most of the wanted names, then most names.

    >>> sniff_delimiter("time;flow, l/min;bar", wanted=["bar"])
    ';'
    """

    def found(delimiter: str) -> tuple[int, int]:
        names = [name.strip() for name in split_cells(header, delimiter)]
        return len(set(wanted).intersection(names)), len(names)

    return max(DELIMITERS, key=found)


def split_cells(line: str, delimiter: str) -> list[str]:
    """The cells of one line, without the quotes around them; a quoted cell does not reach over the end of the line."""
    if '"' not in line:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return line.split(delimiter)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the cells of a line belong."""

    delimiter: str
    width: int
    columns: tuple[int, ...]
    time: int | None


class CsvRows:
    """Rows of CSV text, one line a row, with the delimiter of the first line.

    Args:
        channels: Names of the columns to read, in the order wanted; other columns are ignored.
        time: Name of the time column; by default it is recognised by `TIME_NAMES`.
        header: Whether the first line holds the names. Without it, a line holds the channels in order, with or without
            the time in front of them.
        columns: Names of the columns of lines without header. A line that does not fit them is noise, after which the
            delimiter is looked for anew.
        source: How to call the source in errors and logs.
    """

    def __init__(
        self,
        channels: Sequence[str],
        *,
        time: str | None = None,
        header: bool = True,
        columns: Sequence[str] | None = None,
        source: str = "CSV",
    ) -> None:
        self._channels, self._time, self._header, self._source = tuple(channels), time, header, source
        self._columns = columns
        self._malformed = Malformed(source)
        self._lines = Lines(self._malformed)
        self._line = 0
        self._layout: _Layout | None = None

    @property
    def malformed(self) -> int:
        """How many cells and lines could not be read."""
        return self._malformed.count

    @property
    def has_header(self) -> bool:
        """Whether the header line has come."""
        return self._layout is not None

    @property
    def has_times(self) -> bool:
        """Whether the header line has come and names a time column."""
        return self._layout is not None and self._layout.time is not None

    def feed(self, data: bytes) -> Rows:
        """The rows that these bytes complete.

        Raises:
            SourceError: The header lacks a channel or the named time column, or has one of them twice.
        """
        return self._decode(self._lines.feed(data))

    def flush(self) -> Rows:
        """The row that is left when the stream has ended without a line end.

        Raises:
            SourceError: The stream ended before a header line.
        """
        rows = self._decode(self._lines.flush())
        if self._header and self._layout is None:
            columns = ", ".join(self._channels)
            raise self._wrong("is empty", expected=f"a header with {columns}", received="no line")
        return rows

    def messages(self, payloads: Iterable[bytes]) -> Rows:
        """The rows of messages that came whole: each one or several lines."""
        return self._decode([line for payload in payloads for line in payload.splitlines()])

    def _decode(self, lines: Sequence[bytes]) -> Rows:
        growing = GrowingRows()
        for line in b"\n".join(lines).decode("utf-8", "replace").split("\n") if lines else ():
            self._line += 1
            if not line or line.isspace():
                continue
            if self._layout is None:
                first = line.removeprefix("\ufeff")
                self._layout = self._named_layout(first) if self._header else self._plain_layout(first)
                if self._header or self._layout is None:
                    continue
            self._row(line, self._layout, growing)
        return growing.rows(len(self._channels))

    def _row(self, line: str, layout: _Layout, growing: GrowingRows) -> None:
        cells = split_cells(line, layout.delimiter)
        fits = len(cells) == layout.width
        try:
            readings = [float(cells[column]) for column in layout.columns] if fits else None
        except ValueError:
            readings = None
        if readings is None:
            if self._begins_again(line):
                return
            if not fits:
                cells = self._fitted(cells, layout.width, line)
                if not self._header:
                    self._layout = layout if self._columns is None else None
                    return
            readings = [self._reading(cells[column], column, layout.delimiter) for column in layout.columns]
        growing.readings += readings
        growing.times.append(math.nan if layout.time is None else self._time_of(cells[layout.time], layout.time))

    def _begins_again(self, line: str) -> bool:
        """Whether the line is a header, as of a device that was started anew."""
        if not self._header or self._channels[0] not in line:
            return False
        try:
            self._layout = self._named_layout(line)
        except SourceError:
            return False
        return True

    def _fitted(self, cells: list[str], width: int, line: str) -> list[str]:
        """As many cells as the header has: a short line lacks the last ones, a longer one has none in its place."""
        extra = "".join(cells[width:]).strip()
        if extra or len(cells) < width or not self._header:
            self._malformed.add(f"line={self._line} expected={width} cells", line)
        return [""] * width if extra else [*cells[:width], *[""] * (width - len(cells))]

    def _reading(self, cell: str, column: int, delimiter: str) -> float:
        decimal_comma = delimiter != "," and DECIMAL_COMMA.fullmatch(cell)
        try:
            return float(cell.replace(",", ".") if decimal_comma else cell)
        except ValueError:
            if cell.strip():
                self._malformed.add(f"line={self._line} cell={column + 1} expected=a number", cell)
            return math.nan

    def _time_of(self, cell: str, column: int) -> float:
        try:
            return parse_time(cell.strip())
        except ValueError:
            if cell.strip():
                self._malformed.add(f"line={self._line} cell={column + 1} expected=a time", cell)
            return math.nan

    def _plain_layout(self, line: str) -> _Layout | None:
        if self._columns is not None:
            return self._listed_layout(line, self._columns)
        wanted = len(self._channels)
        for delimiter in DELIMITERS:
            width = len(split_cells(line, delimiter))
            if (timed := width - wanted) in (0, 1):
                return _Layout(delimiter, width, tuple(range(timed, width)), 0 if timed else None)
        self._malformed.add(f"line={self._line} expected={wanted} cells, or one more for the time", line)
        return None

    def _listed_layout(self, line: str, columns: Sequence[str]) -> _Layout | None:
        for delimiter in DELIMITERS:
            if len(split_cells(line, delimiter)) == len(columns):
                return self._layout_of(columns, delimiter)
        self._malformed.add(f"line={self._line} expected={len(columns)} cells", line)
        return None

    def _named_layout(self, line: str) -> _Layout:
        wanted = [*self._channels, *([self._time] if self._time else [])]
        delimiter = sniff_delimiter(line, wanted=wanted)
        return self._layout_of([name.strip() for name in split_cells(line, delimiter)], delimiter)

    def _layout_of(self, names: Sequence[str], delimiter: str) -> _Layout:
        wanted = [*self._channels, *([self._time] if self._time else [])]
        missing = [name for name in wanted if name not in names]
        twice = [name for name in wanted if names.count(name) > 1]
        if missing or twice:
            wrong = f"has no column {', '.join(missing)}" if missing else f"has two columns {', '.join(twice)}"
            raise self._wrong(wrong, expected=f"the columns {', '.join(wanted)}", received=", ".join(names))
        time = time_column(names, channels=self._channels, name=self._time)
        columns = tuple(names.index(channel) for channel in self._channels)
        return _Layout(delimiter, len(names), columns, None if time is None else names.index(time))

    def _wrong(self, what: str, *, expected: str, received: str) -> SourceError:
        action = "Give it the columns of the bundle, or use the bundle that was made for this machine"
        return SourceError(f"{self._source} {what}", expected=expected, received=received, action=action)
