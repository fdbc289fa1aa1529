"""Values that are told when they change, sampled at an even rate."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from edge_vae.sample import FloatArray
from edge_vae.sources.decode import Rows

__all__ = ["Change", "Hold"]

STEP_S = 5.0
"""A clock of the teller that moved by more against the monotonic one was set; less is delay on the way."""

Change = tuple[int, float, float]
"""Number of the channel, the time of its new value in seconds since 1970 (NaN: as it was told), and the value."""


class Hold:
    """The last value of each channel at or before each tick; ticks are multiples of the period by the teller's clock.

    A value stays until the next one. A tick is due once the teller has told something `settle_s` after it; a value that
    comes later, with a time before that tick, counts from the next one. Values of a channel keep the order in which
    they came, and none is from the future. When the teller's clock was set, ticks go on from its new time: that step
    is a gap, which no window crosses.

    Args:
        channels: How many there are; NaN until their first value.
        rate_hz: Ticks a second.
        settle_s: How long a value may take until it is told.
    """

    def __init__(self, channels: int, *, rate_hz: float, settle_s: float) -> None:
        self._rate_hz, self._settle_s = rate_hz, settle_s
        self._times = [[-math.inf] for _ in range(channels)]
        self._values = [[math.nan] for _ in range(channels)]
        self._tick = 0
        self._ahead_s = math.nan

    def push(self, changes: Iterable[Change], *, told_s: float, monotonic_s: float) -> Rows:
        """Take what was told, and give the ticks that are due.

        Args:
            changes: New values, those of a channel in their order.
            told_s: When they were told, by the teller's clock in seconds since 1970.
            monotonic_s: When they came, by a clock of ours that never jumps.
        """
        ahead_s = told_s - monotonic_s
        if not abs(ahead_s - self._ahead_s) <= STEP_S:
            self._restart(told_s)
        self._ahead_s = ahead_s
        for channel, at_s, value in changes:
            times = self._times[channel]
            times.append(max(times[-1], told_s if math.isnan(at_s) else min(at_s, told_s)))
            self._values[channel].append(value)
        due = math.floor((told_s - self._settle_s) * self._rate_hz) + 1
        ticks = np.arange(self._tick, max(due, self._tick)) / self._rate_hz
        self._tick += len(ticks)
        return Rows(self._sampled(ticks), ticks)

    def _restart(self, told_s: float) -> None:
        self._tick = math.ceil(told_s * self._rate_hz)
        self._times = [[-math.inf] for _ in self._times]
        self._values = [values[-1:] for values in self._values]

    def _sampled(self, ticks: FloatArray) -> FloatArray:
        sampled = np.empty((len(ticks), len(self._times)))
        for channel, (times, values) in enumerate(zip(self._times, self._values, strict=True)):
            at = np.searchsorted(times, ticks, side="right") - 1
            sampled[:, channel] = np.asarray(values)[at]
            if len(ticks):
                del times[: at[-1]], values[: at[-1]]
        return sampled
