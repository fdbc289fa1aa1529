"""Scores of held-out normal blocks to a threshold that keeps a wish in false alarms a day."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from scipy import stats

from edge_vae.sample import FloatArray
from edge_vae.threshold import SECONDS_PER_DAY, Threshold

__all__ = ["fit_threshold"]

TAIL_QUANTILE = 0.95
"""Where the tail begins (Siffer et al., KDD 2017, section 4.3.3, use 0.98 of far longer records)."""
BLOCK_QUANTILE = 0.9
"""Where the tail of a single block begins: a block has some tens of windows."""
MIN_PEAKS = 30
"""With fewer separate peaks the tail of all blocks together is not fitted."""
SHAPE_LIMIT = 0.5
"""Beyond it a fitted shape says more about the few peaks than about the tail."""
_SCALE_FLOOR = 1e-3


def fit_threshold(
    blocks: Sequence[FloatArray], *, stride_s: float, length: int, false_alarms_per_day: float
) -> Threshold:
    """The score that normal data exceeds `false_alarms_per_day` times a day.

    With at least `MIN_PEAKS` separate peaks (kind `pareto`): peaks over threshold (Coles 2001, chapter 4). The excesses
    of separate exceedances over the tail's start follow a generalised Pareto distribution, and t is exceeded
    peaks_per_day * P(excess > t - start) times a day. A wish for more windows than the tail holds (kind `rank`) is a
    quantile of the bulk; between the two, where peaks are fewer than wished, the tail's start. So a larger wish never
    has a higher threshold.

    With fewer peaks (kind `blocks`) one odd block would decide the tail of all. Then the typical block decides: an
    exponential tail that begins at the median of the blocks' own 90 % quantiles, with the geometric mean of their own
    mean excesses.

    Args:
        blocks: Scores (windows,) of each held-out block, in order of time.
        stride_s: Seconds from one window to the next.
        length: Windows that overlap: exceedances closer than this are one peak.
        false_alarms_per_day: The wish, above 0.
    """
    wished_rate = false_alarms_per_day * stride_s / SECONDS_PER_DAY
    whole = _pooled(blocks, wished_rate=wished_rate, stride_s=stride_s, length=length, wished=false_alarms_per_day)
    if whole.peaks < MIN_PEAKS:
        return _typical(whole, blocks, wished_rate=wished_rate)
    spread = [
        _pooled(rest, wished_rate=wished_rate, stride_s=stride_s, length=length, wished=false_alarms_per_day).value
        for rest in _leaving_one_out(blocks)
    ]
    return msgspec.structs.replace(whole, low=min(whole.value, *spread), high=max(whole.value, *spread))


def _leaving_one_out(blocks: Sequence[FloatArray]) -> list[list[FloatArray]]:
    if len(blocks) == 1:
        return [list(blocks)]
    return [[*blocks[:i], *blocks[i + 1 :]] for i in range(len(blocks))]


def _typical(whole: Threshold, blocks: Sequence[FloatArray], *, wished_rate: float) -> Threshold:
    """The threshold of a typical block, and of single blocks as its spread."""
    if wished_rate >= 1.0 - BLOCK_QUANTILE:
        spread = [_quantile(block, 1.0 - wished_rate) for block in blocks]
        whole = msgspec.structs.replace(whole, kind="rank", value=float(np.median(spread)))
    else:
        starts, scales = np.array([_block_tail(block) for block in blocks]).T
        reach = float(np.log((1.0 - BLOCK_QUANTILE) / wished_rate))
        spread = [float(value) for value in starts + scales * reach]
        start, scale = float(np.median(starts)), float(np.exp(np.log(scales).mean()))
        value = max(start + scale * reach, _SCALE_FLOOR)
        whole = msgspec.structs.replace(whole, kind="blocks", start=start, scale=scale, shape=0.0, value=value)
    return msgspec.structs.replace(whole, low=min(whole.value, *spread), high=max(whole.value, *spread))


def _block_tail(block: FloatArray) -> tuple[float, float]:
    """Start and mean excess of one block's own tail."""
    start = float(np.quantile(block, BLOCK_QUANTILE))
    excess = block[block > start] - start
    return start, max(float(excess.mean()) if len(excess) else 0.0, _SCALE_FLOOR)


def _pooled(
    blocks: Sequence[FloatArray], *, wished_rate: float, stride_s: float, length: int, wished: float
) -> Threshold:
    scores = np.concatenate(blocks)
    days = len(scores) * stride_s / SECONDS_PER_DAY
    start = float(np.quantile(scores, TAIL_QUANTILE))
    peaks = np.concatenate([_peaks(block, start, length) for block in blocks])
    shape, scale = _tail(peaks - start)
    expected = wished * days
    if wished_rate >= 1.0 - TAIL_QUANTILE:
        # So many alarms are wished that the bulk decides, with the windows counted one by one.
        kind, value = "rank", _quantile(scores, 1.0 - wished_rate)
    else:
        exceeded = min(expected / max(len(peaks), 1), 1.0)
        kind, value = "pareto", start + float(stats.genpareto.isf(exceeded, shape, scale=scale))
    value = max(value, _SCALE_FLOOR)
    return Threshold(
        value=value, kind=kind, false_alarms_per_day=wished, start=start, shape=shape, scale=scale,
        peaks_per_day=len(peaks) / days, peaks=len(peaks), observed_days=days, blocks=len(blocks), low=value,
        high=value,
    )  # fmt: skip


def _quantile(scores: FloatArray, level: float) -> float:
    return max(float(np.quantile(scores, max(level, 0.0))), _SCALE_FLOOR)


def _tail(excess: FloatArray) -> tuple[float, float]:
    """Shape and scale of the excesses' generalised Pareto distribution; exponential with too few of them."""
    if len(excess) < MIN_PEAKS:
        return 0.0, max(float(excess.mean()) if len(excess) else 0.0, _SCALE_FLOOR)
    shape, _, scale = stats.genpareto.fit(excess, floc=0.0)
    if abs(shape) <= SHAPE_LIMIT:
        return float(shape), float(scale)
    shape = float(np.clip(shape, -SHAPE_LIMIT, SHAPE_LIMIT))
    _, _, scale = stats.genpareto.fit(excess, f0=shape, floc=0.0)
    return shape, float(scale)


def _peaks(block: FloatArray, start: float, length: int) -> FloatArray:
    """The highest score of each cluster of exceedances; `length` windows at or below the start part two clusters."""
    above = np.flatnonzero(block > start)
    if not len(above):
        return np.empty(0)
    clusters = np.split(above, np.flatnonzero(np.diff(above) > length) + 1)
    return np.array([block[cluster].max() for cluster in clusters])
