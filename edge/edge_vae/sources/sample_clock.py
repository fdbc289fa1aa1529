"""Times for samples that are taken at an even rate, come in bursts, and carry no time of their own."""

from __future__ import annotations

import math

import numpy as np

from edge_vae.sample import FloatArray
from edge_vae.window import GAP_PERIODS

__all__ = ["SampleClock"]

GAIN = 0.05
"""Part of its lead or lag that the clock makes good with a burst: small against the jitter of arrivals, large enough
that a sensor whose rate is a percent off stays within a fifth of a burst."""
LATE_S = 0.5
"""An arrival that is off by less is jitter of the line and the scheduler, whatever the rate."""
STEP_S = 1.0
"""A system clock that moves by more against the monotonic one was set."""


class SampleClock:
    """Even times by the system clock: a loop that follows the arrivals slowly.

    A phase-locked loop of the first order, as the filters in F. Adriaensen, Using a DLL to filter time (2005), with the
    rate known. After a pause, and after the system clock was set, it begins anew: that step in the times is a gap,
    which no window crosses.

    Args:
        rate_hz: Samples a second.
    """

    def __init__(self, rate_hz: float) -> None:
        self._period_s = 1.0 / rate_hz
        self._late_s = max(LATE_S, GAP_PERIODS * self._period_s)
        self._last_s = self._offset_s = math.nan

    def times(self, samples: int, *, monotonic_s: float, wall_s: float) -> FloatArray:
        """(samples,) seconds since 1970 of as many samples that have come, the last of them just now.

        Args:
            samples: How many came.
            monotonic_s: The present moment by the clock that never jumps.
            wall_s: The same by the system clock.
        """
        if samples < 1:
            return np.empty(0)
        offset_s = wall_s - monotonic_s
        if not abs(offset_s - self._offset_s) <= STEP_S:
            self._offset_s, self._last_s = offset_s, math.nan
        arrived_s, span_s = monotonic_s + self._offset_s, samples * self._period_s
        late_s = arrived_s - (self._last_s + span_s)
        if abs(late_s) <= self._late_s:
            # Spread over the burst, and at most half of it: the times stay even enough, and never step back.
            span_s += min(max(GAIN * late_s, -span_s / 2), span_s / 2)
            self._last_s += span_s
        else:
            self._last_s = arrived_s
        times: FloatArray = self._last_s - span_s / samples * np.arange(samples - 1, -1, -1, dtype=np.float64)
        return times
