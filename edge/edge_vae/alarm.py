"""Scores to the condition of an alarm: on-delay, off-delay and deadband, in the words of ISA-18.2. Pure.

What an operator is told of it, and when, is for `annunciator` to say.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

import msgspec

__all__ = ["Alarm", "AlarmRules", "Change"]


class Change(Enum):
    """What one window, or one sample, did to the condition of an alarm."""

    NONE = "none"
    RAISED = "raised"
    CLEARED = "cleared"


class AlarmRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When an alarm is raised and when it is cleared.

    Attributes:
        on_delay: (k, n): raise when k of the last n windows are above the threshold.
        off_delay: (k, n): clear when k of the last n windows are below threshold * (1 - deadband).
        deadband: Part of the threshold that a score must fall below it to count as normal again, at least 0, below 1.
    """

    on_delay: tuple[int, int] = (2, 3)
    off_delay: tuple[int, int] = (3, 3)
    deadband: float = 0.1

    def __post_init__(self) -> None:
        for name, (k, n) in (("on_delay", self.on_delay), ("off_delay", self.off_delay)):
            if not 1 <= k <= n:
                msg = f"expected {name} [k, n] with 1 <= k <= n, received [{k}, {n}]"
                raise ValueError(msg)
        if not 0 <= self.deadband < 1:
            msg = f"expected a deadband of at least 0 and below 1, received {self.deadband}"
            raise ValueError(msg)


class Alarm:
    """The alarm of one asset: fed one score a window, it says when it is raised and cleared.

    Args:
        rules: Delays and deadband.
        threshold: The score above which a window is anomalous.
    """

    def __init__(self, rules: AlarmRules, *, threshold: float) -> None:
        self._rules, self.threshold = rules, threshold
        """The score above which a window is anomalous; may be changed between windows."""
        self._above: deque[bool] = deque(maxlen=rules.on_delay[1])
        self._below: deque[bool] = deque(maxlen=rules.off_delay[1])
        self.active = False
        self.peak_score = 0.0

    def push(self, score: float) -> Change:
        """What this window's score did to the alarm."""
        self._above.append(score > self.threshold)
        self._below.append(score < self.threshold * (1 - self._rules.deadband))
        if self.active:
            self.peak_score = max(self.peak_score, score)
            if sum(self._below) >= self._rules.off_delay[0]:
                return self._turn(active=False)
        elif sum(self._above) >= self._rules.on_delay[0]:
            self.peak_score = score
            return self._turn(active=True)
        return Change.NONE

    def resume(self, peak_score: float) -> None:
        """Go on with an alarm that was active before a restart."""
        self.active, self.peak_score = True, peak_score

    def interrupt(self) -> None:
        """Forget the windows so far, as at the start of a segment; an active alarm stays until windows clear it."""
        self._above.clear()
        self._below.clear()

    def _turn(self, *, active: bool) -> Change:
        self.active = active
        self.interrupt()
        return Change.RAISED if active else Change.CLEARED
