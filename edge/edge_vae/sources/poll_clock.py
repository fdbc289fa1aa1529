"""When a device is polled: at even moments, whatever a poll takes."""

from __future__ import annotations

import math
from collections import deque
from statistics import median

__all__ = ["PollClock"]

LOOKED_AT = 9
"""Polls from which the usual one is told: a few that were held up do not make a slow line."""


class PollClock:
    """Slots on the monotonic clock, the first one now.

    They do not drift, since each is counted from the first one. A slot that has begun while a poll was still running is
    skipped and counted, and never made good: the samples before and after it are that far apart.

    Args:
        period_s: From slot to slot.
        start_s: The present moment.
    """

    def __init__(self, period_s: float, start_s: float) -> None:
        self._period_s, self._start_s, self._slot = period_s, start_s, 0
        self._took_s: deque[float] = deque(maxlen=LOOKED_AT)
        self.skipped = 0

    @property
    def next_s(self) -> float:
        """When the next poll is due."""
        return self._start_s + self._slot * self._period_s

    @property
    def usual_s(self) -> float:
        """How long a poll takes, the median of the latest; NaN until there are some."""
        return median(self._took_s) if len(self._took_s) == LOOKED_AT else math.nan

    def polled(self, began_s: float, ended_s: float) -> None:
        """The poll that was due is done."""
        self._took_s.append(ended_s - began_s)
        next_slot = max(self._slot, math.floor((ended_s - self._start_s) / self._period_s)) + 1
        self.skipped += next_slot - self._slot - 1
        self._slot = next_slot
