"""How fast a backlog may leave: a token bucket."""

from __future__ import annotations

__all__ = ["DEFAULT_DRAIN_PER_S", "MAX_DRAIN_PER_S", "Pace"]

DEFAULT_DRAIN_PER_S = 100.0
"""A full outbox of the default size, some 90,000 events, is delivered within a quarter of an hour."""
MAX_DRAIN_PER_S = 100_000.0
"""More than any broker takes from one client: no limit."""


class Pace:
    """Gives out allowances at a steady rate, and at most a small number at once after a pause.

    >>> pace = Pace(2.0, burst=3)
    >>> pace.allowed(10.0), pace.nap_s(10.0)
    (1, 0.0)
    >>> pace.spend(1)
    >>> pace.allowed(10.25), pace.nap_s(10.25)
    (0, 0.25)
    >>> pace.allowed(60.0)
    3

    Args:
        per_s: Messages a second.
        burst: So many may have accumulated.
    """

    def __init__(self, per_s: float, *, burst: int) -> None:
        self._per_s, self._burst = per_s, burst
        self._saved, self._at_s = 1.0, float("inf")

    def allowed(self, now_s: float) -> int:
        """How many messages may leave now."""
        self._saved = min(self._burst, self._saved + max(0.0, now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        return int(self._saved)

    def spend(self, count: int) -> None:
        """That many have left."""
        self._saved -= count

    def nap_s(self, now_s: float) -> float:
        """Seconds until the next one may leave."""
        self.allowed(now_s)
        return max(0.0, 1.0 - self._saved) / self._per_s
