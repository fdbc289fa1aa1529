"""The sign of life to the service manager: given while every stage makes progress, and withheld while one hangs."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

from edge_vae import notify

__all__ = ["Progress", "Vigil", "Watchdog"]

log = logging.getLogger(__name__)

STALLED_S = 30.0
"""A stage without progress for so long hangs, where no service manager says how long it would wait."""
SHORTEST_S = 3.0
"""A stage that waits shows progress once a second, so that a shorter time would be no sign of anything."""
TURN_S = 1.0
"""Whoever looks does so at least this often, unless it stood still itself."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage is: of two that differ, the later one shows that it went on in between.

    Attributes:
        at_ns: Monotonic time when it said so last.
        doing: What it is about.
        count: What it has done of that; 0 where nothing is counted.
    """

    at_ns: int
    doing: str
    count: int = 0


class Vigil:
    """Tells which stages hang. A stage that waits for others shows progress; one that hangs does not.

    Counted is time in which whoever looks was awake: a process that was stopped as a whole, or did not get the
    processor, has no stage that hangs when it goes on.

    Args:
        limit_s: A stage that shows no progress for so long hangs.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._marks: dict[str, Progress] = {}
        self._idle_s: dict[str, float] = {}
        self._looked_s = math.inf

    def hanging(self, stages: Mapping[str, Progress], now_s: float) -> list[str]:
        """Names of the stages that hang at this monotonic time."""
        passed_s = max(0.0, min(now_s - self._looked_s, 2 * TURN_S))
        before, self._marks, self._looked_s = self._marks, dict(stages), now_s
        still = {name for name, progress in stages.items() if before.get(name) == progress}
        self._idle_s = {name: self._idle_s.get(name, 0.0) + passed_s if name in still else 0.0 for name in stages}
        return [name for name, idle_s in self._idle_s.items() if idle_s >= self._limit_s]


class Watchdog:
    """Speaks to the service manager once a second while all is well.

    A stage that hangs for as long as the service manager would wait is told to it at once, so that it need not wait as
    long again.

    Args:
        timeout_s: After so long without a sign the service manager ends the agent; None: nobody waits for one.
    """

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self.limit_s = max(timeout_s or STALLED_S, SHORTEST_S)
        """A stage without progress for so long hangs."""
        self._vigil = Vigil(self.limit_s)
        self._hanging: list[str] = []
        self._told_s = -math.inf

    def turn(self, stages: Mapping[str, Progress], now_s: float) -> None:
        """Look at the stages, log what hangs or goes on, and tell the service manager.

        Args:
            stages: All that there are.
            now_s: Monotonic time; at most `TURN_S` after the last turn.
        """
        before, self._hanging = self._hanging, self._vigil.hanging(stages, now_s)
        for name in self._hanging:
            if name not in before:
                doing = stages[name].doing
                log.error("stage makes no progress stage=%s doing=%s seconds=%.0f", name, doing, self.limit_s)
        for name in before:
            if name not in self._hanging:
                log.warning("stage goes on again stage=%s", name)
        if self._timeout_s is None:
            return
        if self._hanging:
            if not before:
                notify.trigger()
        elif now_s - self._told_s >= min(self._timeout_s / 2, TURN_S):
            notify.watchdog()
            self._told_s = now_s
