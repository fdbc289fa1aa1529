"""Tails of single held-out blocks, where data is too little for peaks over threshold.

Each block has an exponential tail: of a fused score above its median, because its shape is known, and of any other
above its 90 % quantile. Blocks differ in level, but share a mean excess, which is that of all of them and, of a fused
score, drawn towards a usual one: a mean of a few numbers is chance (docs/decisions/0016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from edge_vae.sample import FloatArray

__all__ = ["BlockTails", "lifted", "lowered"]

TOP, TOP_FUSED = 0.1, 0.5
"""Part of the windows in the tail of a block."""
USUAL_EXCESS = (0.58, 0.39, 0.33, 0.27, 0.21)
"""A usual mean excess of the lifted score (`lifted`) of one to five terms, and more, over its median: mean over the
held-out normal windows of ten machines and all subsets of their terms (docs/decisions/0035)."""
USUAL_WINDOWS = 4.0
"""How many independent windows that is worth: the variance of the mean excess of one window (0.6 of its square) over
the variance of it between machines (0.17)."""
ODD_CHANCE = 1e-3
"""A block with half of its windows above what one in a thousand of the others' reaches shows another condition."""
_GROUP_WINDOWS = 5.0
"""Independent windows that a block must hold to have a tail of its own; shorter ones are joined to their neighbours."""
_SCALE_FLOOR = 1e-3


def lifted(score: FloatArray, terms: int) -> FloatArray:
    """A fused score as the -log p of one term: each term says log(1 + -log p), and -log p is exponential."""
    return np.expm1(score / terms) if terms else score


def lowered(lifted: float, terms: int) -> float:
    """The fused score of a lifted one."""
    return terms * float(np.log1p(lifted)) if terms else lifted


def _groups(blocks: Sequence[FloatArray], length: int) -> list[FloatArray]:
    """The blocks, those with too few windows joined to what comes next, at the end to what came before."""
    groups: list[list[FloatArray]] = [[]]
    for block in blocks:
        if sum(map(len, groups[-1])) >= _GROUP_WINDOWS * length:
            groups.append([])
        groups[-1].append(block)
    if len(groups) > 1 and sum(map(len, groups[-1])) < _GROUP_WINDOWS * length:
        short = groups.pop()
        groups[-1].extend(short)
    return [np.concatenate(group) for group in groups]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTails:
    """Exponential tails of single blocks, of the lifted score where it is a fused one.

    Attributes:
        top: Part of the windows in the tail.
        start: (blocks,) where the tail begins.
        scale: Mean excess over the starts.
        median: (blocks,) of all windows.
        weight: (blocks,) part of all windows.
        error: Relative standard error of the mean excess.
    """

    top: float
    start: FloatArray
    scale: float
    median: FloatArray
    weight: FloatArray
    error: float

    @classmethod
    def fit(cls, blocks: Sequence[FloatArray], *, length: int, terms: int) -> BlockTails:
        """The tails of scores (windows,) of each block; `length` and `terms` as in `fit_threshold`."""
        groups = [lifted(group, terms) for group in _groups(blocks, length)]
        top, usual, worth = (TOP_FUSED, _usual_excess(terms), USUAL_WINDOWS) if terms else (TOP, 0.0, 0.0)
        start = np.array([np.quantile(group, 1.0 - top) for group in groups])
        own = np.array([_mean_excess(group, at) for group, at in zip(groups, start, strict=True)])
        windows = np.array([len(group) / length for group in groups])
        known = float(windows.sum()) + worth
        common = float((windows @ own + worth * usual) / known)
        return cls(
            top=top,
            start=start,
            scale=max(common, _SCALE_FLOOR),
            median=np.array([np.median(group) for group in groups]),
            weight=windows / windows.sum(),
            # The error of the mean of n exponential numbers is 1 / sqrt(n).
            error=float(np.sqrt(1.0 / max(top * known, 1.0))),
        )

    def reached(self, chance: float) -> float:
        """What a window of a random block exceeds with this chance, below `top`; at least the lowest start."""
        low = float(self.start.min())
        high = float(self.start.max() + self.scale * np.log(self.top / chance)) + _SCALE_FLOOR
        if self._chance(low) <= chance:
            return low
        return float(optimize.brentq(lambda value: self._chance(value) - chance, low, high))

    def _chance(self, value: float) -> float:
        above = np.maximum(value - self.start, 0.0)
        return float(self.weight @ (self.top * np.exp(-above / self.scale)))

    def without_odd(self) -> BlockTails:
        """The same without blocks that show another condition of the machine, if those are less than half of them.

        Such a block would raise one long alarm whatever is promised, and a threshold above it would find nothing.
        """
        every = np.arange(len(self.median))
        if len(every) < 3:
            return self
        odd = np.array([self.median[i] > self._of(every != i).reached(ODD_CHANCE) for i in every])
        return self if 2 * np.count_nonzero(odd) >= len(odd) else self._of(~odd)

    def _of(self, chosen: NDArray[np.bool_]) -> BlockTails:
        weight = self.weight[chosen]
        return replace(
            self,
            start=self.start[chosen],
            median=self.median[chosen],
            weight=weight / weight.sum(),
        )

    def scaled(self, factor: float) -> BlockTails:
        """The same with another mean excess."""
        return replace(self, scale=self.scale * factor)

    def single(self) -> list[BlockTails]:
        """The tail of each block alone."""
        return [self._of(np.arange(len(self.median)) == i) for i in range(len(self.median))]


def _usual_excess(terms: int) -> float:
    return USUAL_EXCESS[min(terms, len(USUAL_EXCESS)) - 1]


def _mean_excess(block: FloatArray, start: float) -> float:
    above = block[block > start] - start
    return float(above.mean()) if len(above) else 0.0
