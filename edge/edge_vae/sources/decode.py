"""What all decoders of readings share: rows, the time column, and times and numbers as people write them.

A decoder turns bytes into rows however the bytes are cut into pieces: `feed(bytes)` returns the rows that these bytes
complete, `flush()` those that are left when the stream has ended. A missing reading is NaN; one that is there but
is no number is NaN and counted as malformed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_vae import clock
from edge_vae.sample import FloatArray

__all__ = [
    "LATEST_S",
    "TIME_NAMES",
    "Decoder",
    "GrowingRows",
    "Rows",
    "joined",
    "parse_time",
    "time_column",
    "unix_seconds",
]

TIME_NAMES = ("time", "timestamp", "datetime", "date")
"""Names by which a time column is recognised, in any case; the first such column is taken."""

LATEST_S = 1e11
"""The year 5138. A larger number is a time in milli- or nanoseconds; as seconds it would be nonsense."""
EARLIEST_S = -62_135_596_800.0
"""The year 1, the first that a time in a message can have."""


def parse_time(text: str) -> float:
    """Seconds since 1970-01-01 UTC of an ISO 8601 date or time, or of a number that is such seconds.

    A time without offset is taken as UTC. `nan` is NaN: no time.

    >>> parse_time("2020-03-09 10:14:33"), parse_time("1583748873.5"), parse_time("2020-03-09")
    (1583748873.0, 1583748873.5, 1583712000.0)

    Raises:
        ValueError: The text is neither.
    """
    if text[4:5] == "-" and text[:4].isdigit():  # a year: spares an exception a row
        return _iso_seconds(text)
    try:
        seconds = float(text)
    except ValueError:
        return _iso_seconds(text)
    return unix_seconds(seconds)


def unix_seconds(seconds: float) -> float:
    """The seconds themselves, if they can be seconds since 1970-01-01 UTC, or NaN.

    Raises:
        ValueError: The number is too large to be one, such as milliseconds, or lies before the year 1.
    """
    if seconds < EARLIEST_S or seconds >= LATEST_S:
        msg = f"expected seconds since 1970, received {seconds:.16g}"
        raise ValueError(msg)
    return seconds


def _iso_seconds(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        # Python 3.10 reads neither Z nor every number of decimals, and no Python reads leap seconds.
        return clock.parse_time(text)
    return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()


def time_column(names: Sequence[str], *, channels: Collection[str] = (), name: str | None = None) -> str | None:
    """The name of the time column among these, or None.

    Args:
        names: What there is to choose from.
        channels: Names that are readings whatever they sound like.
        name: The name that somebody gave; then only it will do.
    """
    if name is not None:
        return name if name in names else None
    usual = (column for column in names if column.strip().lower() in TIME_NAMES and column not in channels)
    return next(usual, None)


@dataclass(frozen=True, slots=True)
class Rows:
    """Decoded rows.

    Attributes:
        values: (rows, channels), in the order of the channels asked for; NaN where a reading is missing or no number.
        times: (rows,), seconds since 1970-01-01 UTC; NaN where there is no time.
        uncertain: (rows, channels), True where the source itself doubts a reading; None where it doubts none.
    """

    values: FloatArray
    times: FloatArray
    uncertain: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, rows: slice) -> Rows:
        return Rows(self.values[rows], self.times[rows], None if self.uncertain is None else self.uncertain[rows])


def joined(pieces: Sequence[Rows]) -> Rows:
    """One piece of rows for several, of which there is at least one."""
    values, times = np.concatenate([rows.values for rows in pieces]), np.concatenate([rows.times for rows in pieces])
    if all(rows.uncertain is None for rows in pieces):
        return Rows(values, times)
    certain = (np.zeros(rows.values.shape, np.bool_) if rows.uncertain is None else rows.uncertain for rows in pieces)
    return Rows(values, times, np.concatenate(list(certain)))


@dataclass(slots=True)
class GrowingRows:
    """Rows that are being collected, one list for all readings and one for the times."""

    readings: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def rows(self, channels: int) -> Rows:
        """What was collected, as arrays."""
        values = np.array(self.readings, dtype=np.float64).reshape(len(self.times), channels)
        return Rows(values, np.array(self.times, dtype=np.float64))


class Decoder(Protocol):
    """Bytes in pieces to rows."""

    @property
    def malformed(self) -> int:
        """How many readings and lines could not be read."""
        ...

    def feed(self, data: bytes) -> Rows:
        """The rows that these bytes complete."""
        ...

    def flush(self) -> Rows:
        """The rows that are left when the stream has ended."""
        ...
