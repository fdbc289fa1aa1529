"""The threshold that follows the tail: equal to the bundle's without evidence, right with it, within bounds always."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vae.adapt import BUNDLE_PEAKS, MEMORY_DAYS, Adaptation, TailState
from edge_vae.sample import FloatArray
from edge_vae.threshold import SECONDS_PER_DAY
from plain_bundle import plain_threshold

STRIDE_S = 60.0
PER_DAY = SECONDS_PER_DAY / STRIDE_S


def adaptation(
    *,
    limit: float = 0.9,
    overlap: int = 1,
    on_delay: tuple[int, int] = (1, 1),
    state: TailState | None = None,
    **threshold: Any,
) -> Adaptation:
    return Adaptation(
        plain_threshold(**threshold), limit=limit, stride_s=STRIDE_S, overlap=overlap, on_delay=on_delay, state=state
    )


def fed(made: Adaptation, scores: FloatArray) -> float:
    for score in scores:
        made.push(float(score))
    return made.threshold


def exponential(days: float, *, scale: float, share: float, seed: int = 1) -> FloatArray:
    """Scores of which this share is above 3, by exponential heights of this scale."""
    generator = np.random.default_rng(seed)
    count = int(days * PER_DAY)
    above = generator.random(count) < share
    return np.where(above, 3.0 + generator.exponential(scale, count), 1.0)


@pytest.mark.parametrize("shape", [0.0, 0.2, -0.15])
def test_threshold_without_evidence_is_that_of_the_bundle(shape: float) -> None:
    assert adaptation(shape=shape).threshold == pytest.approx(8.0, rel=1e-12)


@pytest.mark.parametrize("scale", [0.7, 1.0, 1.3])
def test_threshold_comes_to_where_the_machines_own_tail_is_exceeded_once_a_day(scale: float) -> None:
    share = math.exp(5.0) / PER_DAY
    right = 3.0 + scale * math.log(share * PER_DAY)
    found = [fed(adaptation(), exponential(21, scale=scale, share=share, seed=seed)) for seed in range(3)]
    # About 1000 peaks are remembered, beside 30 of the bundle's: 3 % each.
    assert np.mean(found) == pytest.approx(right, rel=0.04)
    assert np.std(found) < 0.04 * right


def test_a_peak_is_what_would_have_raised_an_alarm() -> None:
    """2 of 3: single high scores are no evidence; of two together the lower one counts."""
    single, pairs = adaptation(overlap=4, on_delay=(2, 3)), adaptation(overlap=4, on_delay=(2, 3))
    fed(single, np.array(5 * [9.0, *7 * [1.0]]))
    fed(pairs, np.array(5 * [7.5, 4.5, *7 * [1.0]]))
    assert single.state.peaks == 0
    assert pairs.state.peaks == pytest.approx(5.0, rel=0.01)
    assert pairs.state.excess == pytest.approx(5 * 1.5, rel=0.01)


def test_an_interrupted_run_leaves_no_score_behind() -> None:
    made = adaptation(overlap=1, on_delay=(2, 3))
    made.push(7.0)
    made.interrupt()
    fed(made, np.array([7.0, 1.0, 1.0, 1.0, 1.0]))
    assert made.state.peaks == 0


def test_more_peaks_raise_the_threshold_and_fewer_lower_it() -> None:
    share = math.exp(5.0) / PER_DAY
    thresholds = [fed(adaptation(), exponential(20, scale=1.0, share=share * part)) for part in (0.2, 1.0, 1.8)]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] < 7.0
    assert thresholds[2] > 8.3


@pytest.mark.parametrize(("scale", "bound"), [(0.1, 6.0), (30.0, 10.0)])
def test_threshold_never_leaves_its_bounds(scale: float, bound: float) -> None:
    made = adaptation(limit=0.25)
    moved = [made.push(float(score)) for score in exponential(30, scale=scale, share=0.5)]
    assert 6.0 <= min(moved) <= max(moved) <= 10.0
    assert moved[-1] == bound


def test_threshold_never_falls_below_the_start_of_the_tail() -> None:
    assert fed(adaptation(limit=0.99), np.full(int(200 * PER_DAY), 1.0)) >= 3.0


def test_height_of_a_peak_beyond_the_threshold_makes_no_difference() -> None:
    some = exponential(10, scale=1.0, share=0.3)
    low, high = some.copy(), some.copy()
    low[::500], high[::500] = 11.0, 1e6
    assert fed(adaptation(), low) == fed(adaptation(), high)


def test_exceedances_that_share_samples_are_one_peak() -> None:
    made = adaptation(overlap=3)
    fed(made, np.array([4.0, 1.0, 1.0, 5.0, 4.5, 1.0, 1.0, 1.0, 4.0, 1.0, 1.0, 1.0]))
    assert made.state.peaks == pytest.approx(2.0, rel=1e-2)
    assert made.state.excess == pytest.approx(2.0 + 1.0, rel=1e-2)


def test_run_that_is_interrupted_does_not_count() -> None:
    made = adaptation(overlap=2)
    fed(made, np.array([4.0, 5.0, 6.0]))
    made.interrupt()
    fed(made, np.array([1.0, 1.0, 1.0]))
    assert made.state.peaks == 0.0


def test_evidence_is_forgotten_exponentially() -> None:
    made = adaptation()
    fed(made, exponential(5, scale=1.0, share=0.3))
    before = made.state
    fed(made, np.full(int(MEMORY_DAYS * PER_DAY), 1.0))
    assert made.state.peaks == pytest.approx(before.peaks / math.e, rel=1e-6)
    assert made.state.days == pytest.approx(before.days / math.e + MEMORY_DAYS * (1 - 1 / math.e), rel=1e-3)


def test_slow_plain_twin_gives_the_same_threshold() -> None:
    scores = exponential(9, scale=1.2, share=0.4)
    heights = [(i, score - 3.0) for i, score in enumerate(scores) if score > 3.0]
    age = {i: math.exp(-(len(scores) - 2 - i) / PER_DAY / MEMORY_DAYS) for i, _ in heights}
    made = adaptation()
    thresholds = [8.0, *(made.push(float(score)) for score in scores)]
    # A peak is over with the first window below the start, one window later, by the threshold of that time.
    runs: list[tuple[int, float]] = []
    for i, height in heights:
        if runs and runs[-1][0] == i - 1:
            runs[-1] = (i, max(height, runs[-1][1]))
        else:
            runs.append((i, height))
    ended = [(i, height) for i, height in runs if i + 1 < len(scores)]
    weights = np.array([age[i] for i, _ in ended])
    caps = np.array([thresholds[i + 1] - 3.0 for i, _ in ended])
    tall = np.array([height for _, height in ended])
    days = sum(math.exp(-k / PER_DAY / MEMORY_DAYS) for k in range(len(scores))) / PER_DAY
    whole = (weights * (tall <= caps)).sum()
    scale = (BUNDLE_PEAKS + (weights * np.minimum(tall, caps)).sum()) / (BUNDLE_PEAKS + whole)
    rate = (BUNDLE_PEAKS + weights.sum()) / (BUNDLE_PEAKS / math.exp(5.0) + days)
    assert made.threshold == pytest.approx(3.0 + scale * math.log(rate), rel=1e-9)


def test_adaptation_goes_on_from_a_state_that_was_kept() -> None:
    scores = exponential(6, scale=1.5, share=0.3)
    whole, first = adaptation(), adaptation()
    fed(whole, scores)
    half = len(scores) // 2
    while scores[half - 1] > 3.0:  # a run that has not ended is not kept
        half += 1
    fed(first, scores[:half])
    kept = msgspec.json.decode(msgspec.json.encode(first.state), type=TailState)
    second = adaptation(state=kept)
    assert second.threshold == first.threshold
    assert fed(second, scores[half:]) == pytest.approx(whole.threshold, rel=1e-12)


def test_forgetting_begins_again_with_the_bundle() -> None:
    made = adaptation()
    assert fed(made, exponential(6, scale=2.0, share=0.4)) > 8.5
    made.forget()
    assert (made.threshold, made.state) == (adaptation().threshold, TailState())


@settings(max_examples=50)
@given(st.lists(st.one_of(st.floats(0, 20), st.sampled_from([math.inf, math.nan, 1e300])), max_size=60))
def test_no_score_makes_the_threshold_or_what_is_kept_unreadable(scores: list[float]) -> None:
    made = adaptation(limit=0.5)
    for score in scores:
        assert 4.0 <= made.push(score) <= 12.0
    assert msgspec.json.decode(msgspec.json.encode(made.state), type=TailState) == made.state


@pytest.mark.parametrize(
    "threshold", [{"value": 2.0, "kind": "rank"}, {"value": 5.0}, {"shape": 1.5}, {"shape": -0.5, "value": 9.0}]
)
def test_threshold_that_cannot_be_followed_is_refused(threshold: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected a threshold that at least 20 separate peaks"):
        adaptation(**threshold)


@pytest.mark.parametrize("limit", [0.0, 1.0, math.nan])
def test_limit_is_a_part_of_the_threshold(limit: float) -> None:
    with pytest.raises(ValueError, match="expected a limit above 0 and below 1"):
        adaptation(limit=limit)


@pytest.mark.parametrize("numbers", [(-1.0, 0, 0, 0), (0, math.nan, 0, 0), (0, 1.0, 2.0, 0), (0, 0, 0, math.inf)])
def test_evidence_that_cannot_be_is_refused(numbers: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected finite evidence"):
        TailState(*numbers)
