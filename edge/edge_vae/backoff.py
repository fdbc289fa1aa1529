"""How long to wait before trying again: longer each time, up to a cap, and never all at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

__all__ = ["STEADY_S", "Backoff", "Retries"]

STEADY_S = 10.0
"""What held for so long was sound: the next wait after it is a short one."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential waits with full jitter, so that a fleet does not come back in step after an outage.

    Attributes:
        random: Where the jitter comes from.
        first_s: Upper bound of the first wait; doubles with every attempt.
        cap_s: Upper bound of every wait.
    """

    random: Random = field(default_factory=Random)
    first_s: float = 1.0
    cap_s: float = 60.0

    def delay_s(self, attempt: int) -> float:
        """Seconds to wait after a number of failed attempts, counted from 0; evenly spread between 0 and the bound.

        The bound is min(cap, first * 2 ** attempt): "full jitter" of M. Brooker, Exponential Backoff And Jitter, 2015.
        """
        return self.random.uniform(0.0, min(self.cap_s, self.first_s * 2.0 ** min(attempt, 64)))


class Retries:
    """The tries of one thing that breaks now and then, and the waits between them.

    What works for a moment and breaks again is waited for as long as what never works.

    Args:
        backoff: How long to wait.
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff, self._attempt = backoff, 0

    @property
    def again(self) -> bool:
        """Whether the try before this one failed as well."""
        return self._attempt > 0

    def delay_s(self, held_s: float = 0.0) -> float:
        """Seconds to wait after a failure, of what had held for so many."""
        if held_s >= STEADY_S:
            self._attempt = 0
        self._attempt += 1
        return self._backoff.delay_s(self._attempt - 1)
