"""Recorded files, played as if they happened now: flat out, as recorded, or faster."""

from __future__ import annotations

import time as clock
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_vae.errors import SourceError
from edge_vae.sample import Block, FloatArray
from edge_vae.sources.decode import Rows
from edge_vae.sources.pace import Pace
from edge_vae.sources.recording import Piece, Recording, open_recording, recorded_files

__all__ = ["ReplaySource"]


class ReplaySource:
    """The rows of a recorded file, or of all recordings in a folder by name, each of them a session of its own.

    Args:
        path: A CSV, npz or Parquet file, or a folder of them.
        speed: 0 is flat out, 1 as recorded, N is N times faster; above 0 the recording needs times or a rate.
        rate_hz: How often it was sampled, for recordings without times; by default what an npz file says.
        time: Name of the time column; by default it is recognised.
    """

    dropped = 0
    progress_ns: int | None = None

    def __init__(
        self, path: Path, *, speed: float = 1.0, rate_hz: float | None = None, time: str | None = None
    ) -> None:
        self._path, self._speed, self._rate_hz, self._time = path, speed, rate_hz, time
        self._recordings: list[Recording] = []
        self._pieces: Iterator[tuple[Recording, Piece]] = iter(())
        self._waiting: _Waiting | None = None
        self._pace: Pace | None = None
        self._starts = True
        self.exhausted = False
        self.samples = 0

    @property
    def malformed(self) -> int:
        """How many readings could not be read so far."""
        return sum(recording.malformed for recording in self._recordings)

    def check(self, channels: Sequence[str]) -> None:
        """Look at the columns of every file.

        Raises:
            SourceError: A file cannot be read, is empty, lacks a channel, or cannot be played at this speed.
            MissingExtraError: Reading Parquet needs a package that is not installed.
        """
        self._found(channels)

    def open(self, channels: Sequence[str]) -> None:
        """Look at the columns of every file, and begin with the first; raises what `check` does."""
        self.close()
        self._recordings = self._found(channels)
        self._pieces = ((recording, piece) for recording in self._recordings for piece in recording.pieces())
        self._starts, self.exhausted = True, False

    def read(self, timeout_s: float, *, at_least: int = 1) -> list[Block]:
        """The rows that are due, waiting for that many at most this long.

        Raises:
            SourceError: The rest of a recording cannot be read or played at this speed.
        """
        if self._waiting is None:
            try:
                self._waiting = self._next_piece()
            except OSError as error:
                raise self._unplayable("cannot be read", "a recording", error.strerror or str(error)) from error
        if self._waiting is None:
            self.exhausted = True
            return []
        rows, self._waiting = self._waiting.take(timeout_s, at_least)
        if not len(rows):
            return []
        starts, self._starts = self._starts, False
        self.samples += len(rows)
        return [Block(rows.values, rows.times, clock.monotonic_ns(), starts_session=starts)]

    def close(self) -> None:
        """Leave the file that is being read."""
        self._pieces, self._waiting = iter(()), None

    def _found(self, channels: Sequence[str]) -> list[Recording]:
        found = [open_recording(file, channels, time=self._time) for file in recorded_files(self._path)]
        if self._speed and not all(one.has_times or self._rate_hz or one.rate_hz for one in found):
            raise self._no_pace()
        return found

    def _next_piece(self) -> _Waiting | None:
        recording, piece = next(self._pieces, (None, None))
        if recording is None or piece is None:
            return None
        self._starts = self._starts or piece.starts_session
        if not self._speed:
            return _Waiting(piece.rows, None)
        if self._pace is None or piece.starts_session:
            self._pace = Pace(clock.monotonic(), speed=self._speed, rate_hz=self._rate_hz or recording.rate_hz)
        try:
            return _Waiting(piece.rows, self._pace.due_s(piece.rows.times))
        except ValueError as error:
            raise self._no_pace() from error

    def _no_pace(self) -> SourceError:
        what = f"cannot be replayed at speed {self._speed:g}"
        return self._unplayable(what, "times in the recording, a rate_hz, or speed = 0", "neither")

    def _unplayable(self, what: str, expected: str, received: str) -> SourceError:
        return SourceError(f"{self._path} {what}", expected=expected, received=received)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Rows that were read and not given out yet, and when each is due on the monotonic clock; None: now."""

    rows: Rows
    due_s: FloatArray | None

    def take(self, timeout_s: float, at_least: int) -> tuple[Rows, _Waiting | None]:
        """The rows that are due, waiting for that many at most this long, and what stays."""
        if self.due_s is None:
            return self.rows, None
        last = min(at_least, len(self.due_s)) - 1
        clock.sleep(min(max(self.due_s[last] - clock.monotonic(), 0.0), timeout_s))
        count = int(np.searchsorted(self.due_s, clock.monotonic(), side="right"))
        rest = Rows(self.rows.values[count:], self.rows.times[count:])
        due = Rows(self.rows.values[:count], self.rows.times[:count])
        return due, _Waiting(rest, self.due_s[count:]) if len(rest) else None
