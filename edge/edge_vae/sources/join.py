"""Readings of several sources, each at its own pace, to rows at one rate. Pure: moments are those of the readings.

Rows lie on a grid of one period, which begins at the first reading. A row is made of what each channel had read by its
moment, once every source has come so far, or once the one that is furthest ahead is `late_s` beyond it: then a source
that lags is not waited for, and what it brings later for rows that were made is late, and dropped. A recording can be
waited for, and always is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_vae.sample import FloatArray
from edge_vae.source_config import Join
from edge_vae.sources.decode import Rows, joined

__all__ = ["Joiner"]

Values = tuple[FloatArray, NDArray[np.bool_]]
"""(rows,) values of one channel, and which of them are uncertain."""

MOST_ROWS = 4096
"""Rows that are made at a time, so that a gap of a year is passed over and not filled."""
ROUNDING = 0.01
"""Part of a period by which a moment and a reading's time may differ and be the same: at 20 kHz the numbers of today's
seconds are a two-hundredth of a period apart."""


class Joiner:
    """Rows of all channels out of readings that come source by source.

    Args:
        sources: The channels of each source; none stands twice.
        rate_hz: Rows a second.
        late_s: So far may a source lag behind the one that is furthest ahead, by the times of their readings.
        max_age_s: An older reading is not held; the channel's value is missing then.
        join: How channels are joined; those that are not named are held.
        recorded: For each source whether it is a recording, which is waited for until it ends.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[str]],
        *,
        rate_hz: float,
        late_s: float,
        max_age_s: float,
        join: Mapping[str, Join],
        recorded: Sequence[bool],
    ) -> None:
        self._channels = [_Channel(join.get(name, "hold"), max_age_s) for names in sources for name in names]
        self._first = np.cumsum([0, *map(len, sources)])
        self._period_s, self._late_s, self._max_age_s = 1.0 / rate_hz, late_s, max_age_s
        self._recorded = np.array(recorded, np.bool_)
        self.late = 0
        """Rows of a source that came after the rows of their moment were made."""
        self.open()

    def open(self) -> None:
        """Begin with no readings, all sources running."""
        self._ended = np.zeros(len(self._recorded), np.bool_)
        self._start()

    def _start(self) -> None:
        self._latest = np.full(len(self._recorded), -math.inf)
        self._origin_s, self._next = -math.inf, 0
        for channel in self._channels:
            channel.clear()

    def lead_s(self, source: int) -> float:
        """How far a source is ahead of the recording that is furthest behind; 0 without another one."""
        others = [s for s in np.flatnonzero(self._recorded & ~self._ended) if s != source]
        if not others or self._latest[source] == -math.inf:
            return 0.0
        return max(0.0, float(self._latest[source] - self._latest[others].min()))

    def push(self, source: int, rows: Rows) -> None:
        """Take the rows of one source, its channels in their order.

        Times of a source that step back by more than `max_age_s` mean that its clock was set: everything begins anew.

        Args:
            source: Its number.
            rows: With a time each; rows without one are taken for late.
        """
        timed = rows.times[np.isfinite(rows.times)]
        if timed.size and timed[0] < self._latest[source] - self._max_age_s:
            self._start()
        use = rows.times > self._made_s  # False without a time
        self.late += len(rows) - int(np.count_nonzero(use))
        if not use.any():
            return
        values, times = rows.values[use], rows.times[use]
        doubts = np.zeros(values.shape, np.bool_) if rows.uncertain is None else rows.uncertain[use]
        self._latest[source] = max(self._latest[source], float(times.max()))
        for channel, readings, doubted in zip(self._of(source), values.T, doubts.T, strict=True):
            channel.push(times, readings, doubted)

    def end(self, source: int) -> None:
        """No more will come of this source."""
        self._ended[source] = True

    @property
    def ended(self) -> bool:
        """Whether nothing will come of any source."""
        return bool(self._ended.all())

    def take(self) -> Rows:
        """The rows that can be made now: values (rows, channels), all channels in the order of the sources.

        A value is uncertain when a reading is that it was made of.
        """
        made = [Rows(np.empty((0, len(self._channels))), np.empty(0))]
        while (moments := self._moments()).size:
            columns = [channel.at(moments, self._period_s) for channel in self._channels]
            values, doubts = (np.stack(each, axis=1) for each in zip(*columns, strict=True))
            there = ~np.isnan(values).all(axis=1)
            made.append(Rows(values[there], moments[there], doubts[there] if doubts.any() else None))
        return joined(made)

    @property
    def _made_s(self) -> float:
        return self._origin_s + (self._next - 1) * self._period_s if self._next else -math.inf

    def _moments(self) -> FloatArray:
        """The next moments of which rows can be made, at most a few thousand; none for a time without any readings."""
        horizon_s = self._horizon_s()
        due_s = self._origin_s + self._next * self._period_s
        if not any(channel.covers(due_s) for channel in self._channels):
            coming_s = min(channel.next_s for channel in self._channels)
            if not coming_s <= horizon_s:
                return np.empty(0)
            self._origin_s, self._next = coming_s, 0
        last = math.floor((horizon_s - self._origin_s) / self._period_s + ROUNDING)
        numbers = np.arange(self._next, min(last + 1, self._next + MOST_ROWS), dtype=np.float64)
        self._next += len(numbers)
        moments: FloatArray = self._origin_s + numbers * self._period_s
        return moments

    def _of(self, source: int) -> list[_Channel]:
        return self._channels[self._first[source] : self._first[source + 1]]

    def _horizon_s(self) -> float:
        """The latest moment of which rows can be made."""
        running = ~self._ended
        newest_s = float(self._latest.max())
        together_s = float(self._latest[running].min()) if running.any() else newest_s
        waited = self._latest[running & self._recorded]
        return min(max(together_s, newest_s - self._late_s), float(waited.min()) if waited.size else math.inf)


class _Channel:
    """Readings of one channel that later rows may still need, in order of time; the first may have been used already.

    Args:
        join: How its readings become values.
        max_age_s: How long a reading is held.
    """

    def __init__(self, join: Join, max_age_s: float) -> None:
        self._value = {"hold": self._held, "linear": self._between, "mean": self._mean}[join]
        self._max_age_s = max_age_s
        self.clear()

    def clear(self) -> None:
        self._times, self._readings, self._used = np.empty(0), np.empty(0), 0
        self._doubts = np.empty(0, np.bool_)

    def covers(self, moment_s: float) -> bool:
        """Whether there is a reading that may be held at this moment."""
        before = int(np.searchsorted(self._times, moment_s, side="right")) - 1
        return before >= 0 and moment_s - self._times[before] <= self._max_age_s

    @property
    def next_s(self) -> float:
        """Time of the first reading that no row was made of yet; infinite without one."""
        return float(self._times[self._used]) if self._times.size > self._used else math.inf

    def push(self, times: FloatArray, readings: FloatArray, doubts: NDArray[np.bool_]) -> None:
        there = np.isfinite(readings)
        self._times = np.concatenate([self._times, times[there]])
        self._readings = np.concatenate([self._readings, readings[there]])
        self._doubts = np.concatenate([self._doubts, doubts[there]])
        if np.any(np.diff(self._times) < 0):
            order = self._times.argsort(kind="stable")
            self._times, self._readings, self._doubts = self._times[order], self._readings[order], self._doubts[order]

    def at(self, moments: FloatArray, period_s: float) -> Values:
        """Values at these moments, NaN where no reading is young enough; what is of no more use is forgotten."""
        if not self._times.size:
            return np.full(len(moments), np.nan), np.zeros(len(moments), np.bool_)
        before = np.searchsorted(self._times, moments + ROUNDING * period_s, side="right") - 1
        values = self._value(moments, before, period_s)
        kept, self._used = max(0, int(before[-1])), int(before[-1] >= 0)
        self._times, self._readings, self._doubts = self._times[kept:], self._readings[kept:], self._doubts[kept:]
        return values

    def _held(self, moments: FloatArray, before: NDArray[np.intp], _period_s: float) -> Values:
        old = (before < 0) | (moments - self._times[before] > self._max_age_s)
        return np.where(old, np.nan, self._readings[before]), self._doubts[before] & ~old

    def _between(self, moments: FloatArray, before: NDArray[np.intp], period_s: float) -> Values:
        (held, doubts), after = self._held(moments, before, period_s), np.minimum(before + 1, len(self._times) - 1)
        left_s, right_s = self._times[before], self._times[after]
        bridged = (right_s > left_s) & (right_s - left_s <= self._max_age_s)
        part = np.where(bridged, (moments - left_s) / np.where(bridged, right_s - left_s, 1.0), 0.0)
        between = held + part * (self._readings[after] - self._readings[before])
        return between, doubts | ((part > 0) & self._doubts[after])

    def _mean(self, moments: FloatArray, before: NDArray[np.intp], period_s: float) -> Values:
        sums, doubted = (np.concatenate([[0.0], np.cumsum(each)]) for each in (self._readings, self._doubts))
        since = np.searchsorted(self._times, moments - (1.0 - ROUNDING) * period_s, side="right")
        counts = before + 1 - since
        means = (sums[before + 1] - sums[since]) / np.maximum(counts, 1)
        held, doubts = self._held(moments, before, period_s)
        return np.where(counts > 0, means, held), np.where(counts > 0, doubted[before + 1] > doubted[since], doubts)
