"""Single broken samples to a fault that begins and ends. Pure: samples are numbered, there is no clock."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = ["Delays", "Evidence", "EvidenceOfColumns", "Turn", "several"]

PART = 3
"""One column in so many, and at least two, are several."""


def several(columns: int) -> int:
    """How many of these columns are told as one when the same befalls them at once."""
    return max(2, -(-columns // PART))


class Delays(msgspec.Struct, frozen=True):
    """How many samples make a fault, and how many end it.

    Attributes:
        on: Broken samples in a row that begin it.
        spread: One broken sample in fewer than so many begins it too, later: each one counts `spread`, and each sample
            takes one off, so that what is rarer is forgotten.
        off: Whole samples in a row that end it; no fewer than `spread`, so that what began it keeps it going.
    """

    on: int
    spread: int
    off: int

    def __post_init__(self) -> None:
        if self.on < 1 or self.spread < 2 or self.off < self.spread:
            msg = f"expected on of at least 1, spread of at least 2 and off of at least spread, received {self}"
            raise ValueError(msg)


class Evidence:
    """One fault; the sizes of pieces never change where it begins and ends.

    Args:
        delays: When it begins and ends.
    """

    def __init__(self, delays: Delays) -> None:
        self._delays = delays
        self._limit = delays.on * (delays.spread - 1)
        self._level, self._at, self._last = 0, 0, 0
        self.active = False

    def resume(self, at: int) -> None:
        """Go on with a fault that has begun, from this sample on."""
        self.active, self._last = True, at - 1

    def forget(self, at: int) -> None:
        """Begin anew with this sample; a fault that has begun stays until samples end it."""
        self._level, self._at, self._last = 0, at, at - 1

    def push(
        self, at: int, count: int, broken: NDArray[np.bool_] | None, hidden: NDArray[np.bool_] | None = None
    ) -> list[int]:
        """Where the fault begins and ends in turn, as indices of these samples.

        While there is no fault, pieces without a broken sample may be left out.

        Args:
            at: Number of the first sample.
            count: How many there are.
            broken: (count,); None where none is.
            hidden: (count,) samples that are no evidence for a fault, though they may keep one going.
        """
        if broken is None:
            return self._whole(at, count)
        evidence = broken if hidden is None else broken & ~hidden
        turns, start = [], 0
        while start < count:
            turn = self._end(at + start, broken[start:]) if self.active else self._begin(at + start, evidence[start:])
            if turn is None:
                break
            self.active = not self.active
            start += turn + 1
            turns.append(start - 1)
        return turns

    def _whole(self, at: int, count: int) -> list[int]:
        end = self._last + self._delays.off - at
        if not self.active or end >= count:
            return []
        self.active, self._level, self._at = False, 0, at + end + 1
        return [end]

    def _begin(self, at: int, broken: NDArray[np.bool_]) -> int | None:
        level = max(0, self._level - (at - self._at))
        walk = np.cumsum(broken * self._delays.spread - 1)
        levels = walk - np.minimum(np.minimum.accumulate(walk), -level)  # never below zero
        hits = levels >= self._limit
        if not hits.any():
            self._level, self._at = int(levels[-1]), at + len(broken)
            return None
        first = int(hits.argmax())
        self._last = at + first
        return first

    def _end(self, at: int, broken: NDArray[np.bool_]) -> int | None:
        lasts = np.maximum.accumulate(np.where(broken, at + np.arange(len(broken)), self._last))
        ended = at + np.arange(len(broken)) - lasts >= self._delays.off
        if not ended.any():
            self._last = int(lasts[-1])
            return None
        first = int(ended.argmax())
        self._level, self._at = 0, at + first + 1
        return first


class Turn(msgspec.Struct, frozen=True):
    """A fault that begins or ends.

    Attributes:
        column: In which; None for several together.
        begins: Whether it begins.
        sample: Index of the sample that shows it.
        columns: Those that have it at this sample, where several do; empty else.
    """

    column: int | None
    begins: bool
    sample: int
    columns: tuple[int, ...] = ()


class EvidenceOfColumns:
    """The same fault in each of several columns, and in several of them at once, which then is one thing to tell.

    Args:
        columns: How many.
        delays: When it begins and ends.
    """

    def __init__(self, columns: int, delays: Delays) -> None:
        self._columns = [Evidence(delays) for _ in range(columns)]
        self._together, self._several = Evidence(delays), several(columns)
        self._any_active = False

    def resume(self, column: int | None, at: int) -> None:
        """Go on with a fault that has begun, from this sample on; None: of several columns."""
        (self._together if column is None else self._columns[column]).resume(at)
        self._any_active = True

    def forget(self, at: int) -> None:
        """Begin anew with this sample; faults that have begun stay until samples end them."""
        for evidence in (*self._columns, self._together):
            evidence.forget(at)

    def push(self, at: int, count: int, broken: NDArray[np.bool_] | None) -> list[Turn]:
        """What begins and ends.

        Args:
            at: Number of the first sample.
            count: How many there are.
            broken: (count, columns); None where none is.
        """
        if broken is None and not self._any_active:
            return []
        many = None if broken is None else np.asarray(np.count_nonzero(broken, axis=1) >= self._several)
        found, active = [], self._together.active
        hidden = np.full(count, active)
        for sample in self._together.push(at, count, many):
            active = not active
            hidden[sample:] = active
            columns = () if broken is None else tuple(np.flatnonzero(broken[sample]).tolist())
            found.append(Turn(None, active, sample, columns))
        for i, evidence in enumerate(self._columns):
            begins = not evidence.active
            column = None if broken is None or not broken[:, i].any() else broken[:, i]
            for sample in evidence.push(at, count, column, hidden):
                found.append(Turn(i, begins, sample))
                begins = not begins
        self._any_active = self._together.active or any(evidence.active for evidence in self._columns)
        return found
