"""What is dropped when a message does not fit into the outbox: by policy, and by what the messages are worth."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # what an event is worth is asked where there is no database
    import sqlite3

__all__ = ["Doomed", "OnFull", "Overflow", "Priority"]

OnFull = Literal["drop_oldest", "drop_newest", "thin"]
"""What is dropped when a message does not fit."""


class Priority(IntEnum):
    """What a message is worth when not all can be kept, in rising order.

    `UPDATE`: another one follows. `NOTE`: stands for itself. `END` and `BEGINNING`: of an alarm.
    """

    UPDATE = 0
    NOTE = 1
    END = 2
    BEGINNING = 3


@dataclass(frozen=True, slots=True)
class Doomed:
    """A message that is to go."""

    key: int
    asset: str
    seq: int
    topic: str
    reports: int
    priority: int
    size: int


_WIDEST = 1 << 62
"""Wider than any gap between two sequence numbers."""
_SELECT = "SELECT key, asset, seq, topic, reports, priority, LENGTH(payload) FROM message WHERE"
# The condition of the index `lesser` must stand here as it stands there.
_LEVELS = (
    f"{_SELECT} priority < 2 AND priority = 0 AND key > ? ORDER BY key",
    f"{_SELECT} priority < 2 AND priority = 1 AND key > ? ORDER BY key",
    f"{_SELECT} priority >= 2 AND key > ? ORDER BY key",
)


class Overflow:
    """Chooses the messages that make room for another one.

    `drop_oldest`: the oldest. `drop_newest`: none, so the new one is dropped. `thin`: of what is worth least, as many
    as must go, in passes from the oldest to the newest. The first pass leaves every second message of an asset, the
    next every fourth, and so on, by sequence numbers; later it goes on where it stopped. So what is left is spread
    evenly over all the time, only the newest lie closer, and the first one stays. All updates go before the first note,
    and all notes before the first alarm. The end of an alarm goes where the beginning before it went. A message is
    dropped itself if what is worth no more than it gives too little.

    Args:
        on_full: The policy.
    """

    def __init__(self, on_full: OnFull) -> None:
        self._on_full = on_full
        self._passes = tuple(_Passes(select) for select in _LEVELS)

    def doomed(self, db: sqlite3.Connection, excess: int, priority: int, held: Collection[int]) -> list[Doomed] | None:
        """Messages whose payloads take at least `excess` bytes together; None if the policy gives too few.

        Args:
            db: The messages.
            excess: Bytes that are too many, above 0.
            priority: Of the message that does not fit.
            held: Keys of messages that may be on their way, which stay.
        """
        if self._on_full == "drop_newest":
            return None
        found: list[Doomed] = []
        for row in self._thinned(db, priority, held) if self._on_full == "thin" else _oldest(db, held):
            found.append(row)
            excess -= row.size
            if excess <= 0:
                return found
        return None

    def reset(self) -> None:
        """There is room again: the next time, `thin` begins anew."""
        for each in self._passes:
            each.reset()

    def _thinned(self, db: sqlite3.Connection, priority: int, held: Collection[int]) -> Iterator[Doomed]:
        for level, each in enumerate(self._passes):
            if level <= priority:
                yield from each.doomed(db, held)


class _Passes:
    """Goes over the messages of one level again and again, and leaves a gap that doubles from pass to pass."""

    def __init__(self, select: str) -> None:
        self._select = select
        self._gap, self._after = 1, 0
        self._kept: dict[str, int] = {}
        self._drops: dict[str, bool] = {}
        self._next()

    def reset(self) -> None:
        """Begin with the oldest message and the smallest gap."""
        self._gap = 1
        self._next()

    def doomed(self, db: sqlite3.Connection, held: Collection[int]) -> Iterator[Doomed]:
        """Messages to drop until all of them are, without those that are held."""
        gone = set(held)
        while True:
            from_the_oldest = self._after == 0
            for row in _read(db, self._select, self._after):
                self._after = row.key
                if row.key not in gone and self._chosen(row):
                    gone.add(row.key)
                    yield row
            if self._gap <= _WIDEST:
                self._next()
            elif from_the_oldest:  # if all of them were too few, they are still there the next time
                self.reset()
                return
            else:
                self._after = 0

    def _next(self) -> None:
        self._gap *= 2
        self._after = 0
        self._kept.clear()
        self._drops.clear()

    def _chosen(self, row: Doomed) -> bool:
        if self._gap > _WIDEST:  # one beginning of each asset is left, and ends whose beginnings are gone
            return True
        if row.priority != Priority.END:
            self._drops[row.asset] = 0 < row.seq - self._kept.get(row.asset, row.seq) < self._gap
            if not self._drops[row.asset]:
                self._kept[row.asset] = row.seq
        return self._drops.get(row.asset, False)


def _oldest(db: sqlite3.Connection, held: Collection[int]) -> Iterator[Doomed]:
    return (row for row in _read(db, f"{_SELECT} key > ? ORDER BY key", 0) if row.key not in held)


def _read(db: sqlite3.Connection, select: str, after: int) -> Iterator[Doomed]:
    return (Doomed(*row) for row in db.execute(select, (after,)))
