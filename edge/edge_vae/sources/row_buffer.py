"""Rows that have arrived and were not read yet: bounded, and what had to be dropped is counted."""

from __future__ import annotations

import logging
import threading
from collections import deque

from edge_vae.sources.decode import Rows, joined

__all__ = ["RowBuffer"]

MERGED_PIECES = 256
"""So many small pieces become one: a row in arrays of its own takes ten times the memory of its numbers."""

log = logging.getLogger(__name__)


class RowBuffer:
    """A queue of rows between the thread that receives and the one that reads; when it is full the oldest rows go.

    Args:
        max_rows: How many rows it holds.
        source: How to call the source in the log.
    """

    def __init__(self, max_rows: int, *, source: str) -> None:
        self._max_rows, self._source = max_rows, source
        self._merged: deque[Rows] = deque()
        self._loose: list[Rows] = []
        self._held = self._arrived_ns = 0
        self._wanted = 1
        self._changed = threading.Condition()
        self.dropped = 0

    def put(self, rows: Rows, arrived_ns: int) -> None:
        """Add rows that arrived at this time of the monotonic clock, and wake who waits for so many."""
        if not len(rows):
            return
        with self._changed:
            self._loose.append(rows)
            self._held += len(rows)
            self._arrived_ns = arrived_ns
            if len(self._loose) >= MERGED_PIECES:
                self._merge()
            self._drop(self._held - self._max_rows)
            if self._held >= self._wanted:
                self._changed.notify_all()

    def wake(self) -> None:
        """Make a waiting `take` return now."""
        with self._changed:
            self._changed.notify_all()

    def clear(self) -> None:
        """Drop what waits; whoever waits for rows goes on without."""
        with self._changed:
            self.dropped += self._held
            self._empty()
            self._changed.notify_all()

    def take(self, timeout_s: float, at_least: int = 1) -> tuple[Rows, int] | None:
        """All rows that are there, as one, and when the last one arrived; None if none came in time or it was woken.

        Args:
            timeout_s: How long to wait.
            at_least: Rows to wait for.
        """
        with self._changed:
            self._wanted = min(at_least, self._max_rows)
            if self._held < self._wanted:
                self._changed.wait(timeout_s)
            if not self._held:
                return None
            taken = joined([*self._merged, *self._loose]), self._arrived_ns
            self._empty()
            return taken

    def _empty(self) -> None:
        self._merged.clear()
        self._loose.clear()
        self._held = 0

    def _merge(self) -> None:
        self._merged.append(joined(self._loose))
        self._loose.clear()

    def _drop(self, excess: int) -> None:
        if excess > 0 and not self.dropped:
            log.warning("rows dropped: source=%s kept=%d; more are counted, not logged", self._source, self._max_rows)
        while excess > 0:
            if not self._merged:
                self._merge()
            oldest = self._merged.popleft()
            gone = min(excess, len(oldest))
            if gone < len(oldest):
                self._merged.appendleft(oldest[gone:])
            self._held -= gone
            self.dropped += gone
            excess -= gone
