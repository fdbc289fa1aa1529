"""Scores of held-out normal blocks to a threshold that keeps a wish in false alarms a day.

A false alarm is one that the agent raises: k of the last n windows above the threshold (`AlarmRules`). What decides is
then each window's level, the k-th highest of the last n scores, and not a single high score.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from scipy import stats

from edge_vae.alarm import AlarmRules
from edge_vae.sample import FloatArray
from edge_vae.threshold import SECONDS_PER_DAY, Threshold
from edge_vae_train.block_tails import BlockTails, lowered

__all__ = ["fit_threshold"]

TAIL_QUANTILE = 0.95
"""Where the tail begins (Siffer et al., KDD 2017, section 4.3.3, use 0.98 of far longer records)."""
BLOCK_QUANTILE = 0.9
"""Where the tail of a typical block is said to begin: a block has some tens of windows."""
MIN_PEAKS = 30
"""With fewer separate peaks the tail of all blocks together is not fitted."""
SHAPE_LIMIT = 0.5
"""Beyond it a fitted shape says more about the few peaks than about the tail."""
SHAPE_PEAKS = 30.0
"""How many peaks the exponential tail counts for, to which a fitted shape is drawn: the error of the shape of so many
peaks is near 0.2, and a wish beyond the data is as sensitive to nothing else."""
ALARM_PART = 2.0 / 3.0
"""Windows above the threshold in one alarm, as a part of those that overlap: 5 to 6 of 8, on four simulated machines
at one window in a hundred and rarer."""
_DEEP = 1e-3
"""How rare a score is through which the tail goes that a device is told of, where the threshold is hardly in a tail."""
_SCALE_FLOOR = 1e-3
_RULES = AlarmRules()


def fit_threshold(
    blocks: Sequence[FloatArray], *, stride_s: float, length: int, false_alarms_per_day: float, terms: int = 0
) -> Threshold:
    """The score at which normal data raises `false_alarms_per_day` alarms a day.

    With at least `MIN_PEAKS` separate peaks (kind `pareto`): peaks over threshold (Coles 2001, chapter 4). The excesses
    of separate peaks of the level over the tail's start follow a generalised Pareto distribution, and t is exceeded
    peaks_per_day * P(excess > t - start) times a day. A wish for more windows than the tail holds (kind `rank`) is a
    quantile of the bulk; between the two, where peaks are fewer than wished, the tail's start. So a larger wish never
    has a higher threshold.

    With fewer peaks (kind `blocks`) the tails of single blocks decide (`edge_vae_train.block_tails`): the wish is kept
    on average over the blocks. It is extrapolated far, in the lifted score, whose tail is nearly exponential.

    Args:
        blocks: Scores (windows,) of each held-out block, in order of time.
        stride_s: Seconds from one window to the next.
        length: Windows that overlap: exceedances closer than this are one peak.
        false_alarms_per_day: The wish, above 0.
        terms: How many terms a fused score sums (`edge_vae.score`); 0 for any other score, of whose tail nothing is
            known beforehand.
    """
    wish = false_alarms_per_day
    whole = _pooled(blocks, stride_s=stride_s, length=length, wish=wish)
    if whole.peaks < MIN_PEAKS:
        return _typical(whole, blocks, stride_s=stride_s, length=length, terms=terms)
    spread = [_pooled(rest, stride_s=stride_s, length=length, wish=wish).value for rest in _leaving_one_out(blocks)]
    return msgspec.structs.replace(whole, low=min(whole.value, *spread), high=max(whole.value, *spread))


def _leaving_one_out(blocks: Sequence[FloatArray]) -> list[list[FloatArray]]:
    if len(blocks) == 1:
        return [list(blocks)]
    return [[*blocks[:i], *blocks[i + 1 :]] for i in range(len(blocks))]


def _pooled(blocks: Sequence[FloatArray], *, stride_s: float, length: int, wish: float) -> Threshold:
    """The threshold from the peaks of all blocks, or from a quantile of them."""
    scores = np.concatenate(blocks)
    days = len(scores) * stride_s / SECONDS_PER_DAY
    start = float(np.quantile(scores, TAIL_QUANTILE))
    peaks = np.concatenate([_peaks(_levels(block), start, length) for block in blocks])
    shape, scale = _tail(peaks - start)
    wished_rate = wish * stride_s / SECONDS_PER_DAY
    if wished_rate >= 1.0 - TAIL_QUANTILE:
        # So many alarms are wished that the bulk decides, with the windows counted one by one.
        kind, value = "rank", float(np.quantile(scores, max(1.0 - wished_rate, 0.0)))
    else:
        exceeded = min(wish * days / max(len(peaks), 1), 1.0)
        kind, value = "pareto", start + float(stats.genpareto.isf(exceeded, shape, scale=scale))
    value = max(value, _SCALE_FLOOR)
    return Threshold(
        value=value, kind=kind, false_alarms_per_day=wish, start=start, shape=shape, scale=scale,
        peaks_per_day=len(peaks) / days, peaks=len(peaks), observed_days=days, blocks=len(blocks), low=value,
        high=value,
    )  # fmt: skip


def _levels(block: FloatArray) -> FloatArray:
    """For each window the highest threshold at which the agent would raise an alarm there.

    Windows of a block that is too short for that count one by one.
    """
    k, n = _RULES.on_delay
    if len(block) < n:
        return block
    return np.sort(np.lib.stride_tricks.sliding_window_view(block, n), axis=1)[:, n - k]


def _tail(excess: FloatArray) -> tuple[float, float]:
    """Shape and scale of the excesses' generalised Pareto distribution; exponential with too few of them."""
    if len(excess) < MIN_PEAKS:
        return 0.0, max(float(excess.mean()) if len(excess) else 0.0, _SCALE_FLOOR)
    shape, _, _ = stats.genpareto.fit(excess, floc=0.0)
    shape = float(np.clip(shape * len(excess) / (len(excess) + SHAPE_PEAKS), -SHAPE_LIMIT, SHAPE_LIMIT))
    _, _, scale = stats.genpareto.fit(excess, f0=shape, floc=0.0)
    return shape, float(scale)


def _peaks(level: FloatArray, start: float, length: int) -> FloatArray:
    """The highest of each cluster of exceedances; `length` windows at or below the start part two clusters."""
    above = np.flatnonzero(level > start)
    if not len(above):
        return np.empty(0)
    clusters = np.split(above, np.flatnonzero(np.diff(above) > length) + 1)
    return np.array([level[cluster].max() for cluster in clusters])


def _typical(whole: Threshold, blocks: Sequence[FloatArray], *, stride_s: float, length: int, terms: int) -> Threshold:
    """The threshold that keeps the wish on average over the blocks, each with a level of its own."""
    chance = whole.false_alarms_per_day * stride_s * max(ALARM_PART * length, 1.0) / SECONDS_PER_DAY
    every = BlockTails.fit(blocks, length=length, terms=terms)
    tails = every.without_odd()
    if chance < tails.top:
        unsure = [every.scaled(float(np.exp(sign * every.error))) for sign in (-1.0, 1.0)]
        alone = [block for one in unsure for block in one.single()]
        values = [lowered(one.reached(chance), terms) for one in (tails, *alone)]
    else:
        lowest, level = lowered(float(tails.start.min()), terms), max(1.0 - chance, 0.0)
        values = [min(float(np.quantile(one, level)), lowest) for one in (np.concatenate(blocks), *blocks)]
    value, *spread = (max(one, _SCALE_FLOOR) for one in values)
    start, scale = _told(tails, chance, terms)
    return msgspec.structs.replace(
        whole, kind="blocks" if chance < 1.0 - BLOCK_QUANTILE else "rank", value=value, start=start, scale=scale,
        shape=0.0, low=min(value, *spread), high=max(value, *spread),
    )  # fmt: skip


def _told(tails: BlockTails, chance: float, terms: int) -> tuple[float, float]:
    """Start and scale of what a device is told of the tail: an exponential one through its start and the threshold."""
    first = 1.0 - BLOCK_QUANTILE
    inside = first < tails.top and not np.isclose(first, tails.top)
    start = lowered(tails.reached(first) if inside else float(np.median(tails.start)), terms)
    deep = chance if chance < first / 2 else _DEEP
    scale = (lowered(tails.reached(deep), terms) - start) / float(np.log(first / deep))
    return start, max(scale, _SCALE_FLOOR)
