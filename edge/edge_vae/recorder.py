"""The raw samples around alarms, taken while they happen: whether one was real is known hours later. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_vae.annunciator import Notice
from edge_vae.sample import Block, FloatArray

__all__ = ["Excerpt", "Recorder"]

BEFORE_WINDOWS = 4
AFTER_WINDOWS = 4
LONGEST_WINDOWS = 16
"""Windows' lengths of samples that are kept of an alarm, at most: what comes later looks like what came before."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The samples around one alarm.

    Attributes:
        alarm_id: Which one.
        values: (samples, columns) in sensor units; NaN for a missing reading.
        times: (samples,) seconds since 1970; NaN where the source has no time.
        alarm: (samples,) True from the first sample of the window that raised the alarm to the last one before it was
            cleared.
    """

    alarm_id: str
    values: FloatArray
    times: FloatArray
    alarm: NDArray[np.bool_]


@dataclass(slots=True)
class _Open:
    """An excerpt that still grows; numbers are of samples since the pipeline began."""

    alarm_id: str
    start: int
    first: int
    stop: int
    until: int
    values: list[FloatArray] = field(default_factory=list)
    times: list[FloatArray] = field(default_factory=list)

    def add(self, values: FloatArray, times: FloatArray, start: int) -> None:
        """Take what is missing from samples of which the first has this number."""
        at = self.start + sum(map(len, self.times)) - start
        self.values.append(values[at : self.until - start].copy())
        self.times.append(times[at : self.until - start].copy())

    def excerpt(self) -> Excerpt:
        values, times = (np.concatenate(each)[: self.until - self.start] for each in (self.values, self.times))
        numbers = np.arange(self.start, self.start + len(times))
        return Excerpt(self.alarm_id, values, times, (numbers >= self.first) & (numbers < self.stop))


class Recorder:
    """Remembers the latest samples of one asset, and follows its alarms.

    Args:
        length: Samples in a window.
        baseline: Samples that a session is learned from: so many more go before an alarm, so that a model with a
            baseline can be tried on the excerpt.
    """

    def __init__(self, *, length: int, baseline: int) -> None:
        self._length, self._before = length, BEFORE_WINDOWS * length + baseline
        self._needed = self._before + length
        self._recent: deque[tuple[FloatArray, FloatArray]] = deque()
        self._samples = self._held = 0
        self._open: dict[str, _Open] = {}
        self._due: dict[str, Excerpt] = {}

    def push(self, block: Block) -> None:
        """Remember the samples of a block, which the alarms of this block are about."""
        # Copies, for a block may be a view of much more.
        self._recent.append((block.values.copy(), block.times.copy()))
        self._samples += len(block.times)
        self._held += len(block.times)
        while self._held - len(self._recent[0][1]) >= self._needed + len(block.times):
            self._held -= len(self._recent.popleft()[1])
        for growing in self._open.values():
            growing.add(block.values, block.times, self._samples - len(block.times))

    def follow(self, notice: Notice) -> None:
        """Begin an excerpt when an alarm is raised, and let it end some windows after it is cleared.

        Faults of sensors have none: whoever learns from excerpts learns of the machine.
        """
        alarm = notice.alarm
        if alarm is not None and alarm.alarm_id is not None and not alarm.seen.cause.of_sensor:
            if notice.kind == "raised":
                self._begin(alarm.alarm_id, alarm.seen.sample, self._length if alarm.seen.cause.kind == "model" else 1)
            elif notice.kind == "cleared":
                self._end(alarm.alarm_id, alarm.seen.sample)

    def flush(self) -> None:
        """There will be no more samples: what has begun is whole."""
        for growing in self._open.values():
            self._due[growing.alarm_id] = growing.excerpt()
        self._open.clear()

    def _begin(self, alarm_id: str, sample: int, samples: int) -> None:
        """Of an alarm that was raised by so many samples, the last one of which has this number."""
        remembered = self._samples - self._held
        first = max(sample - samples + 1, remembered)
        until = first + LONGEST_WINDOWS * self._length
        growing = _Open(alarm_id, max(first - self._before, remembered), first, until, until)
        values, times = (np.concatenate(each) for each in zip(*self._recent, strict=True))
        growing.add(values, times, remembered)
        self._open[alarm_id] = growing
        self._due[alarm_id] = growing.excerpt()

    def _end(self, alarm_id: str, sample: int) -> None:
        growing = self._open.get(alarm_id)
        if growing is not None and sample < growing.until:
            growing.stop, growing.until = sample, min(growing.until, sample + AFTER_WINDOWS * self._length)

    def due(self) -> list[Excerpt]:
        """What is to be kept since the last call: excerpts that have begun or are whole."""
        for growing in list(self._open.values()):
            if self._samples >= growing.until:
                self._due[growing.alarm_id] = self._open.pop(growing.alarm_id).excerpt()
        due, self._due = list(self._due.values()), {}
        return due
