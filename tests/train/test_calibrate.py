"""Thresholds keep the wish: where the tail can be fitted, where data is little, and where the bulk decides."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edge_vae.alarm import Alarm, AlarmRules, Change
from edge_vae.sample import FloatArray
from edge_vae.threshold import SECONDS_PER_DAY, Threshold
from edge_vae_train.calibrate import BLOCK_QUANTILE, MIN_PEAKS, TAIL_QUANTILE, fit_threshold

STRIDE_S = 10.0
PER_DAY = SECONDS_PER_DAY / STRIDE_S  # windows


def fitted(blocks: list[FloatArray], wish: float, *, length: int = 1, terms: int = 0) -> Threshold:
    return fit_threshold(blocks, stride_s=STRIDE_S, length=length, false_alarms_per_day=wish, terms=terms)


def exponential(windows: int, *, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).exponential(1.0, windows)


def heavy(windows: int, *, seed: int = 0, shape: float = 0.25) -> FloatArray:
    found: FloatArray = stats.genpareto.rvs(shape, size=windows, random_state=seed)
    return found


def fused(windows: int, *, terms: int, common: float, seed: int = 0) -> FloatArray:
    """Fused scores of `terms` calibrated terms, whose normal deviates have this correlation."""
    generator = np.random.default_rng(seed)
    shared, own = generator.standard_normal((windows, 1)), generator.standard_normal((windows, terms))
    unlikely = -stats.norm.logsf(math.sqrt(common) * shared + math.sqrt(1 - common) * own)
    return np.asarray(np.log1p(unlikely).sum(axis=1))


def alarms_a_day(scores: FloatArray, threshold: float) -> float:
    """What the agent raises, with its own rules."""
    alarm = Alarm(AlarmRules(), threshold=threshold)
    raised = sum(alarm.push(score) is Change.RAISED for score in scores.tolist())
    return raised / len(scores) * PER_DAY


@pytest.mark.parametrize("wish", [4.0, 20.0])
@pytest.mark.parametrize("draw", [exponential, heavy], ids=["exponential", "pareto"])
def test_a_fitted_tail_keeps_the_wish_in_alarms_of_the_agent(draw: object, wish: float) -> None:
    assert callable(draw)
    blocks = [draw(20_000, seed=i) for i in range(8)]  # 18 days
    threshold = fitted(blocks, wish)
    assert threshold.kind == "pareto"
    achieved = alarms_a_day(draw(8_640 * 60, seed=99), threshold.value)
    # Some 900 peaks fix the tail to a few percent, and 240 alarms at least are counted.
    assert achieved == pytest.approx(wish, rel=0.35)


def test_windows_that_overlap_raise_as_many_alarms_as_wished() -> None:
    def smooth(seed: int) -> FloatArray:
        return np.asarray(np.convolve(exponential(20_000, seed=seed), np.ones(8) / 8, "valid"))

    threshold = fitted([smooth(i) for i in range(6)], 20.0, length=8)
    assert threshold.kind == "pareto"
    assert alarms_a_day(np.concatenate([smooth(50 + i) for i in range(20)]), threshold.value) == pytest.approx(20, 0.35)


def test_a_wish_beyond_the_data_is_extrapolated() -> None:
    blocks = [exponential(8_640, seed=i) for i in range(4)]
    threshold = fitted(blocks, 0.01)
    # Two of three windows above: some 2 p^2 alarms a window, so that p is the root of 0.01 / (2 * 8640).
    second_highest = max(float(np.sort(block)[-2]) for block in blocks)
    assert threshold.value == pytest.approx(0.5 * math.log(2 * PER_DAY / 0.01), rel=0.2)
    assert alarms_a_day(np.concatenate(blocks), threshold.value) == 0.0
    assert threshold.value < second_highest  # a single high window raises no alarm


def test_what_the_threshold_was_fitted_on_is_kept() -> None:
    blocks = [exponential(8_640, seed=i) for i in range(6)]
    threshold = fitted(blocks, 2.0)
    assert threshold.false_alarms_per_day == 2.0
    assert threshold.blocks == 6
    assert threshold.observed_days == pytest.approx(6.0)
    assert threshold.start == pytest.approx(np.quantile(np.concatenate(blocks), TAIL_QUANTILE))
    assert threshold.peaks >= MIN_PEAKS
    assert threshold.peaks_per_day == pytest.approx(threshold.peaks / 6.0)
    assert threshold.low <= threshold.value <= threshold.high


def test_windows_closer_than_they_overlap_are_one_peak() -> None:
    block = np.zeros(8_000)
    for at, score in ((0, 5.0), (1, 7.0), (5, 6.0), (6, 6.0)):
        block[at::100] = score
    assert fitted([block], 1.0, length=5).peaks == 80
    assert fitted([block], 1.0, length=2).peaks == 160


def test_a_single_high_window_is_no_peak() -> None:
    block = np.zeros(8_000)
    block[::100] = 5.0
    assert fitted([block], 1.0).peaks == 0


def test_a_peak_does_not_reach_from_one_block_into_the_next() -> None:
    first, second = np.zeros(1_000), np.zeros(1_000)
    first[-3:], second[:3] = 9.0, 9.0
    assert fitted([first, second], 1.0, length=8).peaks == 2


def test_leaving_out_an_odd_block_shows_in_the_spread() -> None:
    blocks = [exponential(5_000, seed=i) for i in range(6)]
    odd = [*blocks, 4.0 * exponential(5_000, seed=6)]
    calm, shaken = fitted(blocks, 2.0), fitted(odd, 2.0)
    assert calm.kind == shaken.kind == "pareto"
    assert (shaken.high - shaken.low) > 2 * (calm.high - calm.low)


@pytest.mark.parametrize("scales", [(1.0,), (1.0, 1.0, 1.0, 1.0), (0.5, 1.0, 1.0, 3.0)])
def test_with_few_peaks_the_wish_is_kept_on_average_over_the_blocks(scales: tuple[float, ...]) -> None:
    wished = 1 / 200  # a window
    achieved = []
    for seed in range(30):
        blocks = [scale * exponential(60, seed=100 * seed + i) for i, scale in enumerate(scales)]
        threshold = fitted(blocks, wished * PER_DAY)
        assert threshold.kind == "blocks"
        achieved.append(np.mean([math.exp(-threshold.value / scale) for scale in scales]))
    # A mean excess of six windows is chance, and those that are too small raise more than those too large spare.
    assert wished / 2 < np.mean(achieved) < wished * 3


def test_a_block_in_another_condition_does_not_hide_every_fault_but_shows_in_the_spread() -> None:
    blocks = [exponential(60, seed=i) for i in range(7)]
    usual, odd = fitted(blocks, 2.0), fitted([*blocks[:-1], 30.0 + blocks[-1]], 2.0)
    assert usual.kind == odd.kind == "blocks"
    assert usual.peaks < MIN_PEAKS
    assert odd.value == pytest.approx(usual.value, rel=0.35)
    assert odd.high > odd.value + 20


def test_conditions_that_share_the_blocks_evenly_all_count() -> None:
    blocks = [exponential(60, seed=i) for i in range(4)]
    assert fitted([*blocks[:2], *(30.0 + block for block in blocks[2:])], 2.0).value > 30.0


@pytest.mark.parametrize("common", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("terms", [1, 3, 6])
def test_little_fused_data_is_extrapolated_alike_for_any_terms(terms: int, common: float) -> None:
    wished = 1e-3
    thresholds = [
        fitted([fused(100, terms=terms, common=common, seed=seed)], wished * PER_DAY, terms=terms) for seed in range(20)
    ]
    assert {threshold.kind for threshold in thresholds} == {"blocks"}
    new = fused(200_000, terms=terms, common=common, seed=99)
    # The exponential tail is exact for one term, and errs towards silence for independent ones.
    assert wished / 6 < (new > np.median([threshold.value for threshold in thresholds])).mean() < wished * 2


def test_the_usual_tail_steadies_the_threshold_of_few_windows() -> None:
    few = [fused(5, terms=4, common=0.5, seed=seed) for seed in range(40)]
    many = [fused(500, terms=4, common=0.5, seed=seed) for seed in range(10)]
    spread_of_few = np.std([fitted([block], 0.5, terms=4).value for block in few])
    spread_of_own = np.std([fitted([block], 0.5).value for block in few])
    assert spread_of_few < 0.7 * spread_of_own
    narrow, wide = (fitted([factor * block for block in many], 0.5, terms=4).value for factor in (0.5, 1.0))
    assert narrow < 0.7 * wide  # many windows decide for themselves


def test_one_block_of_little_data_has_a_spread_too() -> None:
    threshold = fitted([fused(5, terms=4, common=0.5)], 0.5, terms=4)
    assert threshold.low < 0.9 * threshold.value
    assert threshold.high > 1.1 * threshold.value


def test_blocks_of_single_windows_are_judged_together() -> None:
    scores = fused(48, terms=3, common=0.5)
    apart, joined = fitted(np.split(scores, 48), 20.0, terms=3), fitted(np.split(scores, 6), 20.0, terms=3)
    assert apart.blocks == 48
    assert apart.value == pytest.approx(joined.value, rel=0.2)


@pytest.mark.parametrize("terms", [0, 4])
def test_the_device_is_told_an_exponential_tail_through_start_and_threshold(terms: int) -> None:
    blocks = [fused(60, terms=4, common=0.5, seed=i) for i in range(5)]
    threshold = fitted(blocks, 2.0, terms=terms)
    ratio = (1 - BLOCK_QUANTILE) * PER_DAY / 2.0
    assert threshold.shape == 0.0
    assert threshold.value == pytest.approx(threshold.start + threshold.scale * math.log(ratio))
    assert np.mean(np.concatenate(blocks) > threshold.start) == pytest.approx(1 - BLOCK_QUANTILE, abs=0.05)


def test_a_wish_in_the_bulk_is_a_quantile() -> None:
    scores = exponential(20_000)
    threshold = fitted(np.split(scores, 4), 0.3 * PER_DAY)
    assert threshold.kind == "rank"
    assert np.mean(scores > threshold.value) == pytest.approx(0.3, abs=1e-3)


@pytest.mark.parametrize("terms", [0, 2])
def test_a_wish_for_more_alarms_than_windows_is_the_lowest_score(terms: int) -> None:
    threshold = fitted([exponential(500)], 10 * PER_DAY, terms=terms)
    assert threshold.kind == "rank"
    assert threshold.value <= 0.02


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 1_000),
    windows=st.integers(20, 1_500),
    count=st.integers(1, 6),
    length=st.integers(1, 12),
    smooth=st.sampled_from([1, 5, 20]),
    terms=st.sampled_from([0, 1, 5]),
)
def test_a_larger_wish_never_has_a_higher_threshold(
    seed: int, windows: int, count: int, length: int, smooth: int, terms: int
) -> None:
    generator = np.random.default_rng(seed)
    blocks = [
        np.convolve(generator.exponential(generator.uniform(0.5, 3), windows), np.ones(smooth) / smooth, "same")
        for _ in range(count)
    ]
    wishes = np.geomspace(1e-3, 3 * PER_DAY, 16)
    values = [fitted(blocks, float(wish), length=length, terms=terms).value for wish in wishes]
    assert (np.diff(values) <= 1e-9).all()
    assert min(values) > 0


@pytest.mark.parametrize("scores", [np.zeros(100), np.full(3_000, 2.5), np.array([1.0]), np.array([0.0, 3.0])])
@pytest.mark.parametrize("wish", [0.01, 1.0, 1e4, 1e6])
@pytest.mark.parametrize("terms", [0, 4])
def test_constant_and_tiny_blocks_still_have_a_threshold(scores: FloatArray, wish: float, terms: int) -> None:
    threshold = fitted([scores, scores], wish, terms=terms)
    assert math.isfinite(threshold.value)
    assert threshold.scale > 0
    assert threshold.low <= threshold.value <= threshold.high


def test_a_threshold_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="above zero"):
        Threshold(0.0, "rank", 1.0, 0.0, 0.0, 1.0, 1.0, 1, 1.0, 1, 0.0, 0.0)
