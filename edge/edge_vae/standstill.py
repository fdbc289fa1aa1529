"""Readings that do not change any more: runs of equal ones, column by column. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_vae.evidence import Turn, several
from edge_vae.sample import FloatArray

__all__ = ["Standstill"]


class Standstill:
    """Finds columns that stand still for longer than they may; the sizes of pieces never change what is found.

    A column that has stood still moves again once for `limit` samples no run of equal readings was half as long as its
    limit: a glitch does not end it. Several columns at once stand still after half of the shortest limit, since a
    logger or a machine that has stopped is one thing to tell and not one for each column; meanwhile no column is told.

    Args:
        limits: Samples in a row that make a standstill, for each column; at least 2.
    """

    def __init__(self, limits: Sequence[int]) -> None:
        together = [max(2, min(limits) // 2)] if len(limits) > 1 else []
        self._limits = np.array([*limits, *together], np.int64)
        self._columns = len(limits)
        self._several = several(len(limits))
        self._least_limit = int(self._limits.min(initial=np.iinfo(np.int64).max))
        self._rested = np.zeros(len(self._limits), np.int64)
        self.active = np.zeros(len(self._limits), np.bool_)
        """Which columns stand still; the last entry, where there is more than one column, is for several of them."""
        self.forget(0)

    def resume(self, column: int | None, at: int) -> None:
        """Go on with a column that has stood still, from this sample on."""
        index = self._columns if column is None else column
        if index < len(self.active):
            self.active[index], self._rested[index], self._any_active = True, at - 1, True

    def forget(self, at: int) -> None:
        """Begin anew with this sample; what has stood still does so until samples show that it moves."""
        self._run = np.zeros(self._columns, np.int64)
        self._latest = np.full(self._columns, np.nan)
        self._rested[:] = at - 1
        self._longest, self._any_active = 0, bool(self.active.any())

    def push(self, at: int, values: FloatArray) -> list[Turn]:
        """What begins and ends with these samples.

        Args:
            at: Number of the first one.
            values: (samples, columns); NaN, which equals nothing, for a missing reading.
        """
        count = len(values)
        if self._any_active or self._longest + count >= self._least_limit:
            return self._look(at, values)
        equal = values[-1] == (values[-2] if count > 1 else self._latest)
        if np.count_nonzero(equal):
            self._trail(values, np.flatnonzero(equal))
        elif self._longest != 1:
            self._run, self._longest = np.ones(self._columns, np.int64), 1
        self._latest = values[-1].copy()
        return []

    def _trail(self, values: FloatArray, columns: NDArray[np.intp]) -> None:
        """Set the runs that these columns end with; the others have just changed."""
        readings = values.take(columns, axis=1)
        runs = (readings[::-1] != readings[-1]).argmax(axis=0)  # 0 where nothing has changed
        before, self._run = self._run, np.ones(self._columns, np.int64)
        self._run[columns] = runs
        for i in columns[runs == 0] if np.count_nonzero(runs) < len(runs) else ():
            self._run[i] = len(values) + (before[i] if values[0, i] == self._latest[i] else 0)
        self._longest = int(self._run.max())

    def _look(self, at: int, values: FloatArray) -> list[Turn]:
        runs = self._runs(values)
        self._run, self._latest = runs[-1, : self._columns].copy(), values[-1].copy()
        self._longest = int(self._run.max(initial=0))
        found: list[Turn] = []
        together = np.zeros(len(values), np.bool_)
        for index in range(len(self._limits) - 1, -1, -1):
            turns = list(self._turns(at, runs[:, index], index, together))
            if index < self._columns:
                found += [Turn(index, begins, sample) for sample, begins in turns]
            else:
                found += [Turn(None, begins, sample, self._resting(runs[sample])) for sample, begins in turns]
                together = _mask(len(values), turns, active=bool(self.active[index]))
        self._any_active = bool(self.active.any())
        return sorted(found, key=lambda turn: turn.sample)

    def _resting(self, runs: NDArray[np.int64]) -> tuple[int, ...]:
        least = max(2, int(self._limits[-1]) // 2)
        return tuple(np.flatnonzero(runs[: self._columns] >= least).tolist())

    def _runs(self, values: FloatArray) -> NDArray[np.int64]:
        """(samples, columns) length of the run that each sample ends, and last the one that several columns reach."""
        number = np.arange(len(values))[:, None]
        changed = np.empty(values.shape, np.bool_)
        changed[0] = values[0] != self._latest
        np.not_equal(values[1:], values[:-1], out=changed[1:])
        last = np.maximum.accumulate(np.where(changed, number, -1), axis=0)
        runs = np.where(last >= 0, number - last + 1, self._run + number + 1)
        if len(self._limits) > self._columns:
            rank = self._columns - self._several
            runs = np.hstack([runs, np.partition(runs, rank, axis=1)[:, rank : rank + 1]])
        return runs

    def _turns(
        self, at: int, runs: NDArray[np.int64], index: int, hidden: NDArray[np.bool_]
    ) -> Iterator[tuple[int, bool]]:
        """Samples at which the column's standstill begins or ends, and which of both."""
        limit = int(self._limits[index])
        rests = runs >= max(2, limit // 2)
        if not self.active[index] and not rests.any():
            return
        number = np.arange(len(runs))
        rested = np.maximum.accumulate(np.where(rests, at + number, self._rested[index]))
        begins, ends = (runs >= limit) & ~hidden, at + number - rested >= limit
        start = 0
        while start < len(runs):
            wanted = ends[start:] if self.active[index] else begins[start:]
            if not wanted.any():
                break
            start += int(wanted.argmax()) + 1
            self.active[index] = not self.active[index]
            yield start - 1, bool(self.active[index])
        self._rested[index] = rested[-1]


def _mask(count: int, turns: list[tuple[int, bool]], *, active: bool) -> NDArray[np.bool_]:
    """Between which samples it was active, where it is `active` after the last one."""
    mask = np.full(count, active)
    for sample, begins in reversed(turns):
        mask[:sample] = not begins
    return mask
