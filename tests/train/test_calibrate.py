"""Thresholds keep the wish: where the tail can be fitted, where it cannot, and where the bulk decides."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edge_vae.sample import FloatArray
from edge_vae.threshold import SECONDS_PER_DAY, Threshold
from edge_vae_train.calibrate import BLOCK_QUANTILE, MIN_PEAKS, TAIL_QUANTILE, fit_threshold

STRIDE_S = 10.0
PER_DAY = SECONDS_PER_DAY / STRIDE_S  # windows


def fitted(blocks: list[FloatArray], wish: float, *, length: int = 1) -> Threshold:
    return fit_threshold(blocks, stride_s=STRIDE_S, length=length, false_alarms_per_day=wish)


def exponential(windows: int, *, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).exponential(1.0, windows)


def heavy(windows: int, *, seed: int = 0, shape: float = 0.25) -> FloatArray:
    found: FloatArray = stats.genpareto.rvs(shape, size=windows, random_state=seed)
    return found


def alarms_a_day(scores: FloatArray, threshold: float) -> float:
    """Separate exceedances: with independent scores and a cluster length of 1, runs with a window between them."""
    above = np.flatnonzero(scores > threshold)
    return (1 + np.count_nonzero(np.diff(above) > 1)) / len(scores) * PER_DAY if len(above) else 0.0


@pytest.mark.parametrize("wish", [1.0, 4.0, 20.0])
@pytest.mark.parametrize("draw", [exponential, heavy], ids=["exponential", "pareto"])
def test_a_fitted_tail_keeps_the_wish_on_new_data(draw: object, wish: float) -> None:
    assert callable(draw)
    blocks = [draw(20_000, seed=i) for i in range(8)]  # 18 days
    threshold = fitted(blocks, wish)
    assert threshold.kind == "pareto"
    achieved = alarms_a_day(draw(8_640 * 300, seed=99), threshold.value)
    # Some 7,000 peaks fix the tail to a few percent, and at 1/400 of the peaks its quantile's rate to about 20 %.
    assert achieved == pytest.approx(wish, rel=0.35)


def test_a_wish_beyond_the_data_is_extrapolated() -> None:
    blocks = [exponential(8_640, seed=i) for i in range(4)]
    threshold = fitted(blocks, 0.01)
    highest = max(block.max() for block in blocks)
    assert threshold.value > highest
    # The true quantile is log(8640 / 0.01) = 13.7; a shape that is off by 0.05 moves it by some 15 %.
    assert threshold.value == pytest.approx(math.log(PER_DAY / 0.01), rel=0.3)


def test_what_the_threshold_was_fitted_on_is_kept() -> None:
    blocks = [exponential(4_320, seed=i) for i in range(6)]
    threshold = fitted(blocks, 2.0)
    assert threshold.false_alarms_per_day == 2.0
    assert threshold.blocks == 6
    assert threshold.observed_days == pytest.approx(3.0)
    assert threshold.start == pytest.approx(np.quantile(np.concatenate(blocks), TAIL_QUANTILE))
    assert threshold.peaks >= MIN_PEAKS
    assert threshold.peaks_per_day == pytest.approx(threshold.peaks / 3.0)
    assert threshold.low <= threshold.value <= threshold.high


def test_windows_that_overlap_are_one_peak() -> None:
    block = np.zeros(4_000)
    block[::100] = 5.0
    block[1::100] = 7.0
    block[3::100] = 6.0
    assert fitted([block], 1.0, length=2).peaks == 40
    assert fitted([block], 1.0, length=1).peaks == 80


def test_a_peak_does_not_reach_from_one_block_into_the_next() -> None:
    first, second = np.zeros(1_000), np.zeros(1_000)
    first[-3:], second[:3] = 9.0, 9.0
    assert fitted([first, second], 1.0, length=8).peaks == 2


def test_leaving_out_an_odd_block_shows_in_the_spread() -> None:
    blocks = [exponential(2_000, seed=i) for i in range(6)]
    odd = [*blocks, 4.0 * exponential(2_000, seed=6)]
    calm, shaken = fitted(blocks, 2.0), fitted(odd, 2.0)
    assert calm.kind == shaken.kind == "pareto"
    assert (shaken.high - shaken.low) > 2 * (calm.high - calm.low)


def test_with_few_peaks_the_typical_block_decides_not_the_odd_one() -> None:
    blocks = [exponential(60, seed=i) for i in range(7)]
    usual, odd = fitted(blocks, 2.0), fitted([*blocks[:-1], 30.0 + blocks[-1]], 2.0)
    assert usual.kind == odd.kind == "blocks"
    assert usual.peaks < MIN_PEAKS
    assert odd.value == pytest.approx(usual.value, rel=0.25)
    assert odd.high > odd.value + 20


def test_the_threshold_of_a_typical_block_is_an_exponential_tail() -> None:
    blocks = [exponential(60, seed=i) for i in range(7)]
    threshold = fitted(blocks, 2.0)
    starts = [np.quantile(block, BLOCK_QUANTILE) for block in blocks]
    scales = [
        np.mean([score - start for score in block if score > start])
        for block, start in zip(blocks, starts, strict=True)
    ]
    assert threshold.start == pytest.approx(np.median(starts))
    assert threshold.scale == pytest.approx(math.exp(np.mean(np.log(scales))))
    reach = math.log((1 - BLOCK_QUANTILE) * PER_DAY / 2.0)
    assert threshold.value == pytest.approx(threshold.start + threshold.scale * reach)
    assert threshold.low == pytest.approx(min(s + c * reach for s, c in zip(starts, scales, strict=True)))


def test_a_wish_in_the_bulk_is_a_quantile() -> None:
    scores = exponential(20_000)
    threshold = fitted(np.split(scores, 4), 0.3 * PER_DAY)
    assert threshold.kind == "rank"
    assert np.mean(scores > threshold.value) == pytest.approx(0.3, abs=1e-3)


def test_a_wish_for_more_alarms_than_windows_is_the_lowest_score() -> None:
    threshold = fitted([exponential(500)], 10 * PER_DAY)
    assert threshold.kind == "rank"
    assert threshold.value <= 0.02


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1_000),
    windows=st.integers(20, 1_500),
    count=st.integers(1, 6),
    length=st.integers(1, 12),
    smooth=st.sampled_from([1, 5, 20]),
)
def test_a_larger_wish_never_has_a_higher_threshold(
    seed: int, windows: int, count: int, length: int, smooth: int
) -> None:
    generator = np.random.default_rng(seed)
    blocks = [
        np.convolve(generator.exponential(generator.uniform(0.5, 3), windows), np.ones(smooth) / smooth, "same")
        for _ in range(count)
    ]
    wishes = np.geomspace(1e-3, 3 * PER_DAY, 40)
    values = [fitted(blocks, float(wish), length=length).value for wish in wishes]
    assert (np.diff(values) <= 1e-12).all()
    assert min(values) > 0


@pytest.mark.parametrize("scores", [np.zeros(100), np.full(3_000, 2.5), np.array([1.0]), np.array([0.0, 3.0])])
@pytest.mark.parametrize("wish", [0.01, 1.0, 1e4, 1e6])
def test_constant_and_tiny_blocks_still_have_a_threshold(scores: FloatArray, wish: float) -> None:
    threshold = fitted([scores, scores], wish)
    assert math.isfinite(threshold.value)
    assert threshold.low <= threshold.value <= threshold.high


def test_a_threshold_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="above zero"):
        Threshold(0.0, "rank", 1.0, 0.0, 0.0, 1.0, 1.0, 1, 1.0, 1, 0.0, 0.0)
