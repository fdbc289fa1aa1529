"""How long to wait before trying again: longer each time, up to a cap, and never all at once."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential waits with full jitter, so that a fleet does not come back in step after an outage.

    Attributes:
        random: Where the jitter comes from.
        first_s: Upper bound of the first wait; doubles with every attempt.
        cap_s: Upper bound of every wait.
    """

    random: Random
    first_s: float = 1.0
    cap_s: float = 60.0

    def delay_s(self, attempt: int) -> float:
        """Seconds to wait after a number of failed attempts, counted from 0; evenly spread between 0 and the bound.

        The bound is min(cap, first * 2 ** attempt): "full jitter" of M. Brooker, Exponential Backoff And Jitter, 2015.
        """
        return self.random.uniform(0.0, min(self.cap_s, self.first_s * 2.0 ** min(attempt, 64)))
