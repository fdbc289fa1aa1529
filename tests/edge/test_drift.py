"""When a slow change of normal operation is told, and when it is not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_vae.drift import Drifted, DriftTest
from edge_vae.sample import FloatArray

STRIDE_S = 10.0
HOURS = 2.0
WINDOWS = int(HOURS * 3600 / STRIDE_S)
ABOVE, BELOW = 4.0, 1.0


def watching(hours: float = HOURS) -> DriftTest:
    return DriftTest(start=3.0, hours=hours, stride_s=STRIDE_S)


def told(test: DriftTest, scores: FloatArray, *, at: int = 0) -> list[tuple[int, Drifted]]:
    """Number of the window with which drift was told, and what."""
    found = []
    for i, score in enumerate(scores, start=at):
        level = np.array([float(score), 1.0])
        drifted = test.push(
            float(score), shares=level / level.sum(), values=level, expected=0 * level, start_s=i - 3.0, end_s=float(i)
        )
        if drifted is not None:
            found.append((i, drifted))
    return found


def with_share(share: float, count: int, *, seed: int = 0) -> FloatArray:
    return np.where(np.random.default_rng(seed).random(count) < share, ABOVE, BELOW)


@pytest.mark.parametrize("seed", range(5))
def test_normal_share_is_never_told(seed: int) -> None:
    assert told(watching(), with_share(0.05, 20 * WINDOWS, seed=seed)) == []


def test_share_of_a_quarter_is_told_after_the_hours_and_once() -> None:
    regular = np.tile([ABOVE, BELOW, BELOW, BELOW], 2 * WINDOWS)
    ((window, _),) = told(watching(), regular)
    assert window == pytest.approx(WINDOWS, abs=10)


def test_larger_share_is_told_sooner() -> None:
    (half, _), *_ = told(watching(), np.tile([ABOVE, BELOW], 2 * WINDOWS))
    (whole, _), *_ = told(watching(), np.full(2 * WINDOWS, ABOVE))
    assert WINDOWS / 10 < whole < half < WINDOWS / 3


def test_burst_that_passes_is_not_told() -> None:
    burst = np.concatenate([np.full(WINDOWS // 10, ABOVE), with_share(0.05, 2 * WINDOWS)])
    assert told(watching(), np.tile(burst, 5)) == []


def test_drift_that_ended_can_begin_again() -> None:
    test = watching()
    drifting, normal = np.full(WINDOWS, ABOVE), np.full(WINDOWS, BELOW)
    assert len(told(test, drifting)) == 1
    assert test.active
    assert told(test, drifting) == []
    assert told(test, normal) == []
    assert not test.active
    assert len(told(test, drifting)) == 1


def test_drift_holds_the_means_of_the_windows_since_it_began() -> None:
    scores = np.concatenate([np.full(50, BELOW), np.tile([ABOVE, 6.0, BELOW], WINDOWS)])
    (window, drifted), *_ = told(watching(), scores)
    since = scores[50 : window + 1]
    assert drifted.windows == len(since)
    assert drifted.score == pytest.approx(since.mean())
    np.testing.assert_allclose(drifted.values, [since.mean(), 1.0])
    np.testing.assert_allclose(drifted.shares, [(since / (since + 1)).mean(), (1 / (since + 1)).mean()])
    assert (drifted.start_s, drifted.end_s) == (47.0, float(window))


def test_restart_forgets_what_has_drifted() -> None:
    test = watching()
    told(test, np.full(WINDOWS // 10, ABOVE))
    test.restart()
    assert told(test, np.full(WINDOWS // 10, ABOVE)) == []


def test_few_windows_are_never_enough() -> None:
    assert told(watching(1e-9), np.full(11, ABOVE)) == []
    assert len(told(watching(1e-9), np.full(13, ABOVE))) == 1


def test_score_that_is_no_number_counts_as_normal() -> None:
    assert told(watching(), np.full(3 * WINDOWS, math.nan)) == []
