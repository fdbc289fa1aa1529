"""Slow change of what is normal: the bulk of the scores, not single alarms. Pure: no clock, no file.

On normal data one window in twenty is above the start of the tail (one in ten where the threshold is of kind `blocks`).
Page's test (Continuous Inspection Schemes, Biometrika 1954) watches that share: its sum rises with every window above
the start, falls with every other one, never falls below zero, and drift begins when the sum has reached its limit. The
windows since the sum last was zero are those that have drifted.
"""

from __future__ import annotations

import math

import msgspec

from edge_vae.sample import FloatArray

__all__ = ["DEFAULT_HOURS", "DriftState", "DriftTest", "Drifted"]

DEFAULT_HOURS = 24.0
"""A day: what comes and goes within every day is no drift."""
DRIFTED_SHARE = 0.25
"""With this share of windows above the start of the tail the test takes exactly as long as it was told to."""
REFERENCE_SHARE = 0.15
"""A share above it counts for drift, one below against it: half way from the normal 0.05."""
LEAST_WINDOWS = 100
"""A share of fewer windows, which overlap besides, says nothing."""


class Drifted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The windows that have drifted, taken together.

    Attributes:
        windows: How many.
        score: Their mean score.
        shares: Mean share of each channel.
        values: Mean of what was measured of each channel, in sensor units.
        expected: Mean of what was expected of each channel, in sensor units.
        start_s: Time of the first sample of the first of them, seconds since 1970; None without time.
        end_s: Time of the last sample of the last of them.
    """

    windows: int
    score: float
    shares: tuple[float, ...]
    values: tuple[float, ...]
    expected: tuple[float, ...]
    start_s: float | None
    end_s: float | None

    def __post_init__(self) -> None:
        if self.windows < 1 or not len(self.shares) == len(self.values) == len(self.expected):
            msg = f"expected windows, and a share, a value and an expected one of each channel, received {self}"
            raise ValueError(msg)


class DriftState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a test stands.

    Attributes:
        active: Whether drift has begun and not ended.
        sum: Of the windows' evidence, at least 0.
        drifted: The windows since the sum was zero, until they are told.
    """

    active: bool = False
    sum: float = 0.0
    drifted: Drifted | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sum) and self.sum >= 0):
            msg = f"expected a finite sum of at least 0, received {self.sum}"
            raise ValueError(msg)


class DriftTest:
    """Fed one window of normal operation after another, it says once when drift begins.

    Drift has ended, and can begin again, when the sum is back at zero, which takes as long with a normal share.

    Args:
        start: The score where the tail begins.
        hours: A share of `DRIFTED_SHARE` is drift after so many hours of windows, `LEAST_WINDOWS` windows at least; a
            larger share is drift sooner.
        stride_s: Seconds from one window to the next.
        state: Where an earlier test stood.
    """

    def __init__(self, *, start: float, hours: float, stride_s: float, state: DriftState | None = None) -> None:
        self._start = start
        windows = max(hours * 3600.0 / stride_s, LEAST_WINDOWS)
        self._limit = (DRIFTED_SHARE - REFERENCE_SHARE) * windows
        self.state = state or DriftState()
        """Where it stands."""

    @property
    def active(self) -> bool:
        """Whether drift has begun and not ended."""
        return self.state.active

    def restart(self) -> None:
        """Forget everything: what is normal has been set anew."""
        self.state = DriftState()

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
        evidence = self.state.sum + (score > self._start) - REFERENCE_SHARE
        if evidence <= 0:
            self.restart()
            return None
        if self.active:
            self.state = DriftState(active=True, sum=min(evidence, self._limit))
            return None
        new = Drifted(
            1, score, tuple(shares.tolist()), tuple(values.tolist()), tuple(expected.tolist()),
            start_s if math.isfinite(start_s) else None, end_s if math.isfinite(end_s) else None,
        )  # fmt: skip
        drifted = _joined(self.state.drifted, new)
        if evidence < self._limit:
            self.state = DriftState(sum=evidence, drifted=drifted)
            return None
        self.state = DriftState(active=True, sum=evidence)
        return drifted


def _joined(old: Drifted | None, new: Drifted) -> Drifted:
    """Running means: a sum over weeks of large readings could grow beyond what a number holds."""
    if old is None:
        return new
    windows = old.windows + 1
    before, now = old.windows / windows, 1.0 / windows
    shares, values, expected = (
        tuple(before * a + now * b for a, b in zip(getattr(old, name), getattr(new, name), strict=True))
        for name in ("shares", "values", "expected")
    )
    return Drifted(windows, before * old.score + now * new.score, shares, values, expected, old.start_s, new.end_s)
