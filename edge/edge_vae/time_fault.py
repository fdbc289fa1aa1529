"""Time stamps that cannot be right: gaps, a wrong rate, steps back, a clock that stands still. Pure.

Nothing is said of samples without a time.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.evidence import Delays, Evidence
from edge_vae.sample import FloatArray
from edge_vae.sensor_fault import FaultKind, SensorFault
from edge_vae.standstill import Standstill

__all__ = ["TimeFaults", "TimeRules"]


class TimeRules(msgspec.Struct, frozen=True):
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
        self._clock, self._rate = Standstill([rules.repeats]), _Rate(rules, judges="wrong_rate" in watched)
        self._busy = False
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
        self._busy = self._busy or kind != "wrong_rate"
        return True

    def push(self, at: int, times: FloatArray) -> list[SensorFault]:
        """What begins and ends with samples of these times (samples,) in seconds; the first one has this number."""
        if not self._busy and self._runs_on(times):
            self._passed, found = True, self._rate.push(times, None)
        else:
            found = self._look(at, times)
        self._before_s = float(times[-1])
        return found

    def _runs_on(self, times: FloatArray) -> bool:
        """Whether time only goes forward, with no gap."""
        first_s, last_s = float(times[0]), float(times[-1])
        if not (first_s > self._before_s and last_s - self._before_s <= self._rules.gap_s):
            return False
        return bool(np.count_nonzero(times[1:] > times[:-1]) == len(times) - 1)

    def _look(self, at: int, times: FloatArray) -> list[SensorFault]:
        if not self._busy and np.isnan(times).all():
            self._passed = True
            return []
        if self._passed:  # pieces in which the clock went on were not shown to it
            self._clock.forget(at - 1)
            self._clock.push(at - 1, np.array([[self._before_s]]))
            self._passed = False
        steps = np.diff(times, prepend=self._before_s)
        found = self._rate.push(times, ~((steps >= 0) & (steps <= self._rules.gap_s)))
        if "gap" in self._watched:
            found += _told("gap", self._gap, at, steps > self._rules.gap_s, steps, self._rules.gap_s)
        if "out_of_order" in self._watched:
            found += _told("out_of_order", self._back, at, steps < 0, -steps, math.nan)
        if "repeated_time" in self._watched:
            stills = self._clock.push(at, times[:, None])
            found += [SensorFault("repeated_time", None, still.begins, still.sample) for still in stills]
        self._busy = self._gap.active or self._back.active or bool(self._clock.active[0])
        return sorted(found, key=lambda fault: fault.sample)


def _told(
    kind: FaultKind, evidence: Evidence, at: int, broken: NDArray[np.bool_], values: FloatArray, limit: float
) -> Iterator[SensorFault]:
    begins = not evidence.active
    for sample in evidence.push(at, len(broken), broken if np.count_nonzero(broken) else None):
        yield SensorFault(kind, None, begins, sample, float(values[sample]) if begins else math.nan, limit)
        begins = not begins


class _Rate:
    """Samples a second, over pieces of a fixed number of steps, none of which is a gap or leads back."""

    def __init__(self, rules: TimeRules, *, judges: bool) -> None:
        self._rules, self._judges, self.wrong = rules, judges, False
        self.forget()

    def forget(self) -> None:
        self._start_s, self._left, self._against = math.nan, self._rules.rate_steps, 0

    def push(self, times: FloatArray, broken: NDArray[np.bool_] | None) -> list[SensorFault]:
        """What begins and ends with these times; a step in `broken` (samples,) ends a piece unjudged."""
        if not self._judges:
            return []
        if broken is None and self._left > len(times):
            self._left -= len(times)
            return []
        found: list[SensorFault] = []
        edges = [] if broken is None else np.flatnonzero(broken).tolist()
        start = 0
        for edge in [*edges, len(times)]:
            while self._left <= edge - start:
                start += self._left
                found += self._judge(float(times[start - 1]), start - 1)
            self._left -= edge - start
            if edge < len(times):
                self._start_s, self._left, start = float(times[edge]), self._rules.rate_steps, edge + 1
        return found

    def _judge(self, end_s: float, sample: int) -> list[SensorFault]:
        span_s, self._start_s, self._left = end_s - self._start_s, end_s, self._rules.rate_steps
        if not span_s > 0:  # a clock that stands still tells no rate
            return []
        rate_hz = self._left / span_s
        ratio = max(rate_hz / self._rules.rate_hz, self._rules.rate_hz / rate_hz)
        against = ratio <= math.sqrt(self._rules.tolerance) if self.wrong else ratio > self._rules.tolerance
        self._against = self._against + 1 if against else 0
        if self._against < 2:
            return []
        self.wrong, self._against = not self.wrong, 0
        return [SensorFault("wrong_rate", None, self.wrong, sample, rate_hz, self._rules.rate_hz)]
