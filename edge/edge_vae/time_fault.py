"""Time stamps that cannot be right: gaps, a wrong rate, steps back, a clock that stands still. Pure.

Nothing is said of samples without a time.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vae.evidence import Delays, Evidence
from edge_vae.sample import FloatArray
from edge_vae.sensor_fault import FaultKind, SensorFault
from edge_vae.standstill import Standstill

__all__ = ["TimeFaults", "TimeRules"]


@dataclass(frozen=True, slots=True)
class TimeRules:
    """What is wrong with times.

    Attributes:
        rate_hz: Samples a second that the bundle expects.
        gap_s: A longer step is a gap.
        tolerance: The rate may be so many times the expected one, or its inverse; above 1.
        rate_steps: The rate is that over so many steps; two such in a row begin a fault, or end it.
        repeats: Equal times in a row that make a clock stand still.
    """

    rate_hz: float
    gap_s: float
    tolerance: float
    rate_steps: int
    repeats: int


class TimeFaults:
    """Finds `gap`, `wrong_rate`, `out_of_order` and `repeated_time`.

    Args:
        rules: What is wrong.
        delays: Of `out_of_order`; a `gap` begins at once.
        watched: What is looked for.
    """

    def __init__(self, rules: TimeRules, delays: Delays, watched: Collection[FaultKind]) -> None:
        self._rules, self._watched = rules, watched
        self._back, self._gap = Evidence(delays), Evidence(Delays(1, delays.spread, delays.off))
        self._clock, self._rate = Standstill([rules.repeats]), _Rate(rules)
        self.forget(0)

    def forget(self, at: int) -> None:
        """Begin anew with this sample: no step leads to it; what has begun stays until samples end it."""
        for each in (self._back, self._gap, self._clock):
            each.forget(at)
        self._rate.forget()
        self._before_s, self._passed = math.nan, False

    def resume(self, kind: FaultKind, at: int) -> bool:
        """Go on with a fault that has begun, from this sample on; False for one that is not looked for."""
        if kind not in self._watched:
            return False
        if kind == "wrong_rate":
            self._rate.wrong = True
        elif kind == "repeated_time":
            self._clock.resume(0, at)
        else:
            (self._gap if kind == "gap" else self._back).resume(at)
        return True

    @property
    def _busy(self) -> bool:
        return self._back.active or self._gap.active or bool(self._clock.active[0])

    def push(self, at: int, times: FloatArray) -> Iterator[SensorFault]:
        """What begins and ends with samples of these times (samples,) in seconds; the first one has this number."""
        steps = np.empty(len(times))
        steps[0] = times[0] - self._before_s
        np.subtract(times[1:], times[:-1], out=steps[1:])
        even = bool(steps.min() > 0 and times[-1] - self._before_s <= self._rules.gap_s)
        timed = even or not np.isnan(times).all()
        if self._busy or (timed and not even):
            yield from self._look(at, times, steps)
        else:
            self._passed = True
        if timed and "wrong_rate" in self._watched:
            broken = None if even else ~((steps >= 0) & (steps <= self._rules.gap_s))
            yield from self._rate.push(times, broken)
        self._before_s = float(times[-1])

    def _look(self, at: int, times: FloatArray, steps: FloatArray) -> Iterator[SensorFault]:
        if self._passed:  # pieces in which the clock went on were not shown to it
            self._clock.forget(at - 1)
            self._clock.push(at - 1, np.array([[self._before_s]]))
            self._passed = False
        found: list[SensorFault] = []
        if "gap" in self._watched:
            found += _told("gap", self._gap, at, steps > self._rules.gap_s, steps, self._rules.gap_s)
        if "out_of_order" in self._watched:
            found += _told("out_of_order", self._back, at, steps < 0, -steps, math.nan)
        if "repeated_time" in self._watched:
            stills = self._clock.push(at, times[:, None])
            found += [SensorFault("repeated_time", None, still.begins, still.sample) for still in stills]
        yield from sorted(found, key=lambda fault: fault.sample)


def _told(
    kind: FaultKind, evidence: Evidence, at: int, broken: NDArray[np.bool_], values: FloatArray, limit: float
) -> Iterator[SensorFault]:
    begins = not evidence.active
    for sample in evidence.push(at, len(broken), broken if np.count_nonzero(broken) else None):
        yield SensorFault(kind, None, begins, sample, float(values[sample]) if begins else math.nan, limit)
        begins = not begins


class _Rate:
    """Samples a second, over pieces of a fixed number of steps, none of which is a gap or leads back."""

    def __init__(self, rules: TimeRules) -> None:
        self._rules, self.wrong = rules, False
        self.forget()

    def forget(self) -> None:
        self._start_s, self._left, self._against = math.nan, self._rules.rate_steps, 0

    def push(self, times: FloatArray, broken: NDArray[np.bool_] | None) -> Iterator[SensorFault]:
        """What begins and ends with these times; a step in `broken` (samples,) ends a piece unjudged."""
        edges = [] if broken is None else np.flatnonzero(broken).tolist()
        start = 0
        for edge in [*edges, len(times)]:
            while self._left <= edge - start:
                start += self._left
                yield from self._judge(float(times[start - 1]), start - 1)
            self._left -= edge - start
            if edge < len(times):
                self._start_s, self._left, start = float(times[edge]), self._rules.rate_steps, edge + 1

    def _judge(self, end_s: float, sample: int) -> Iterator[SensorFault]:
        span_s, self._start_s, self._left = end_s - self._start_s, end_s, self._rules.rate_steps
        if not span_s > 0:  # a clock that stands still tells no rate
            return
        rate_hz = self._left / span_s
        ratio = max(rate_hz / self._rules.rate_hz, self._rules.rate_hz / rate_hz)
        against = ratio <= math.sqrt(self._rules.tolerance) if self.wrong else ratio > self._rules.tolerance
        self._against = self._against + 1 if against else 0
        if self._against == 2:
            self.wrong, self._against = not self.wrong, 0
            yield SensorFault("wrong_rate", None, self.wrong, sample, rate_hz, self._rules.rate_hz)
