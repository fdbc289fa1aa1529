"""Slow change of what is normal: the bulk of the scores, not single alarms. Pure: no clock, no file.

On normal data one window in twenty is above the start of the tail (one in ten where the threshold is of kind `blocks`).
Page's test (Continuous Inspection Schemes, Biometrika 1954) watches that share: its sum rises with every window above
the start, falls with every other one, never falls below zero, and drift begins when the sum has reached its limit. The
windows since the sum last was zero are those that have drifted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_vae.sample import FloatArray

__all__ = ["DEFAULT_HOURS", "DriftTest", "Drifted"]

DEFAULT_HOURS = 24.0
"""A day: what comes and goes within every day is no drift."""
DRIFTED_SHARE = 0.25
"""With this share of windows above the start of the tail the test takes exactly as long as it was told to."""
REFERENCE_SHARE = 0.15
"""A share above it counts for drift, one below against it: half way from the normal 0.05."""
LEAST_WINDOWS = 100
"""A share of fewer windows, which overlap besides, says nothing."""


@dataclass(frozen=True, slots=True)
class Drifted:
    """The windows that have drifted, taken together.

    Attributes:
        windows: How many.
        score: Their mean score.
        shares: (channels,) mean shares.
        values: (channels,) means of what was measured, in sensor units.
        expected: (channels,) means of what was expected, in sensor units.
        start_s: Time of the first sample of the first of them, seconds since 1970; NaN without time.
        end_s: Time of the last sample of the last of them.
    """

    windows: int
    score: float
    shares: FloatArray
    values: FloatArray
    expected: FloatArray
    start_s: float
    end_s: float


class DriftTest:
    """Fed one window of normal operation after another, it says once when drift begins.

    Drift has ended, and can begin again, when the sum is back at zero, which takes as long with a normal share.

    Args:
        start: The score where the tail begins.
        hours: A share of `DRIFTED_SHARE` is drift after so many hours of windows, `LEAST_WINDOWS` windows at least; a
            larger share is drift sooner.
        stride_s: Seconds from one window to the next.
    """

    def __init__(self, *, start: float, hours: float, stride_s: float) -> None:
        self._start = start
        windows = max(hours * 3600.0 / stride_s, LEAST_WINDOWS)
        self._limit = (DRIFTED_SHARE - REFERENCE_SHARE) * windows
        self.restart()

    def restart(self) -> None:
        """Forget everything: what is normal has been set anew."""
        self.active = False
        """Whether drift has begun and not ended."""
        self._sum = 0.0
        self._drifted: Drifted | None = None

    def push(
        self,
        score: float,
        *,
        shares: FloatArray,
        values: FloatArray,
        expected: FloatArray,
        start_s: float,
        end_s: float,
    ) -> Drifted | None:
        """What has drifted if drift begins with this window, else None. Arrays are (channels,)."""
        self._sum += (score > self._start) - REFERENCE_SHARE
        if self._sum <= 0:
            self.restart()
            return None
        if self.active:
            self._sum = min(self._sum, self._limit)
            return None
        new = Drifted(1, score, shares, values, expected, start_s, end_s)
        self._drifted = new if self._drifted is None else _joined(self._drifted, new)
        if self._sum < self._limit:
            return None
        self.active = True
        told, self._drifted = self._drifted, None
        return told


def _joined(old: Drifted, new: Drifted) -> Drifted:
    """Running means: a sum over weeks of large readings could grow beyond what a number holds."""
    windows = old.windows + 1
    weights = np.array([old.windows / windows, 1.0 / windows])
    score, shares, values, expected = (
        weights[0] * getattr(old, name) + weights[1] * getattr(new, name)
        for name in ("score", "shares", "values", "expected")
    )
    return Drifted(windows, float(score), shares, values, expected, old.start_s, new.end_s)
