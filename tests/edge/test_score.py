"""Statistics, their tails on normal data, and their sum."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vae.sample import FloatArray
from edge_vae.score import LIMIT_SIGMA, STATISTICS, VARIANCE_FLOOR, Tail, Term, fit_terms, fuse

NORMAL = np.random.default_rng(0).normal(0, 1, (300, 8, 3))
RECONSTRUCTION = 0.7 * NORMAL
VARIANCE = np.array([0.5, 1.0, 2.0])
TERMS = fit_terms(("window.nll", "z"), NORMAL, RECONSTRUCTION, variance=VARIANCE)


def statistic_slowly(name: str, window: FloatArray, reconstruction: FloatArray, variance: FloatArray) -> list[float]:
    parts = []
    length, channels = window.shape
    for c in range(channels):
        total = 0.0
        for t in range(length):
            error = window[t, c] - reconstruction[t, c]
            total += (
                abs(window[t, c]) if name == "z" else error * error / (variance[c] if name == "window.nll" else 1.0)
            )
        parts.append(total / length)
    return parts


def tail_slowly(tail: Tail, statistic: float) -> float:
    """-log p by hand: linear between the quantiles in the bulk, exponential in the log beyond."""
    log, quantiles = math.log(max(statistic, 1e-9)), tail.quantiles
    step = 0.9 / (len(quantiles) - 1)
    if log >= quantiles[-1]:
        return -math.log(0.1) + (log - quantiles[-1]) / tail.scale
    if log <= quantiles[0]:
        return 0.0
    above = next(i for i, q in enumerate(quantiles) if q > log)
    part = (log - quantiles[above - 1]) / (quantiles[above] - quantiles[above - 1])
    return -math.log(1.0 - step * (above - 1 + part))


@pytest.mark.parametrize("name", sorted(STATISTICS))
def test_each_statistic_equals_its_slow_twin(name: str) -> None:
    parts = STATISTICS[name](NORMAL, RECONSTRUCTION, VARIANCE)
    slow = [statistic_slowly(name, NORMAL[i], RECONSTRUCTION[i], VARIANCE) for i in (0, 1, 299)]
    np.testing.assert_allclose(parts[[0, 1, 299]], slow, rtol=1e-12)


@pytest.mark.parametrize("statistic", [0.0, 1e-12, 0.2, 0.9, 1.0, 1.7, 3.0, 1e4])
def test_a_tail_equals_its_slow_twin(statistic: float) -> None:
    tail = Tail.fit(np.random.default_rng(1).gamma(4.0, 0.3, 5_000))
    assert tail(np.array([statistic]))[0] == pytest.approx(tail_slowly(tail, statistic), rel=1e-9, abs=1e-12)


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=60), st.lists(st.floats(0, 1e12), min_size=2, max_size=60))
def test_a_tail_never_falls_and_is_finite_and_never_negative(fitted: list[float], asked: list[float]) -> None:
    surprise = Tail.fit(np.array(fitted))(np.sort(asked))
    assert np.isfinite(surprise).all()
    assert surprise[0] >= 0
    assert (np.diff(surprise) >= 0).all()


def test_surprise_is_the_log_of_how_rare_the_statistic_was() -> None:
    statistic = np.random.default_rng(2).gamma(4.0, 0.3, 100_000)
    tail = Tail.fit(statistic)
    for level in (0.5, 0.8, 0.9):
        assert tail(np.quantile(statistic, [level]))[0] == pytest.approx(-math.log(1 - level), rel=1e-3)
    # Far out the exponential in the log extrapolates: the 99.9 % quantile is a surprise of about log(1000).
    assert tail(np.quantile(statistic, [0.999]))[0] == pytest.approx(math.log(1000), rel=0.35)


def test_a_constant_statistic_has_a_tail() -> None:
    tail = Tail.fit(np.full(50, 2.0))
    assert tail(np.array([1.0]))[0] == 0.0
    assert tail(np.array([3.0]))[0] > 100


def test_terms_hold_the_floor_of_the_variance() -> None:
    terms = fit_terms(("window.nll",), NORMAL, NORMAL, variance=np.array([1e-9, 1.0, 2.0]))
    assert terms[0].variance == (VARIANCE_FLOOR, 1.0, 2.0)


def test_the_score_is_the_sum_of_its_terms() -> None:
    by_term = [fuse([term], NORMAL, RECONSTRUCTION).score for term in TERMS]
    np.testing.assert_allclose(fuse(TERMS, NORMAL, RECONSTRUCTION).score, by_term[0] + by_term[1], rtol=1e-12)


@given(st.integers(0, 2**32 - 1), st.floats(0, 1e6), st.integers(0, 12))
def test_scores_are_at_least_zero_and_shares_sum_to_one(seed: int, size: float, windows: int) -> None:
    generator = np.random.default_rng(seed)
    found = fuse(TERMS, generator.normal(0, size, (windows, 8, 3)), generator.normal(0, size, (windows, 8, 3)))
    assert found.score.shape == (windows,)
    assert found.shares.shape == (windows, 3)
    assert (found.score >= 0).all()
    assert (found.shares >= 0).all()
    np.testing.assert_allclose(found.shares.sum(axis=1), 1.0, rtol=1e-9)


@pytest.mark.parametrize("reading", [1e308, -1e308, float("inf"), float("-inf"), 1e4])
def test_huge_readings_give_finite_scores_and_shares(reading: float) -> None:
    windows = NORMAL[:4].copy()
    windows[1:, 3:, 1] = reading
    found = fuse(TERMS, windows, RECONSTRUCTION[:4])
    assert np.isfinite(found.score).all()
    assert np.isfinite(found.shares).all()
    assert found.score[1] > found.score[0]
    assert found.shares[1].argmax() == 1


def test_a_reading_beyond_the_limit_counts_as_the_limit() -> None:
    at, beyond = NORMAL[:1].copy(), NORMAL[:1].copy()
    at[0, 2, 0], beyond[0, 2, 0] = LIMIT_SIGMA, 50 * LIMIT_SIGMA
    assert fuse(TERMS, beyond, RECONSTRUCTION[:1]).score == fuse(TERMS, at, RECONSTRUCTION[:1]).score


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_the_disturbed_channel_has_the_largest_share_and_the_score_rises(channel: int) -> None:
    disturbed = NORMAL[:1].copy()
    disturbed[0, :, channel] += 9.0
    before, after = fuse(TERMS, NORMAL[:1], RECONSTRUCTION[:1]), fuse(TERMS, disturbed, RECONSTRUCTION[:1])
    assert after.score[0] > before.score[0]
    assert after.shares[0].argmax() == channel
    assert after.shares[0, channel] > 0.8


def test_a_window_below_everything_normal_scores_zero_with_even_shares_of_what_is_there() -> None:
    found = fuse(TERMS, np.zeros((1, 8, 3)), np.zeros((1, 8, 3)))
    assert found.score[0] == 0.0
    np.testing.assert_allclose(found.shares, 1 / 3)


def test_terms_survive_the_way_through_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(TERMS), type=tuple[Term, ...]) == TERMS
