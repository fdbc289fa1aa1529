"""When a slow change of normal operation is told, and when it is not."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from edge_vae.drift import Drifted, DriftState, DriftTest
from edge_vae.sample import FloatArray

STRIDE_S = 10.0
HOURS = 2.0
WINDOWS = int(HOURS * 3600 / STRIDE_S)
ABOVE, BELOW = 4.0, 1.0


def watching(hours: float = HOURS, *, state: DriftState | None = None) -> DriftTest:
    return DriftTest(start=3.0, hours=hours, stride_s=STRIDE_S, state=state)


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


def kept(state: DriftState) -> DriftState:
    """The state after its way through a file."""
    return msgspec.json.decode(msgspec.json.encode(state), type=DriftState)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.3, 1.0])
def test_test_that_goes_on_from_its_state_says_the_same_as_one_that_never_ended(share: float) -> None:
    scores = with_share(share, 3 * WINDOWS)
    whole, parted = watching(), watching()
    expected, found = told(whole, scores), []
    for at in range(0, len(scores), 97):
        found += told(parted, scores[at : at + 97], at=at)
        parted = watching(state=kept(parted.state))
    assert found == expected
    assert parted.state == whole.state


def test_drift_that_was_told_is_not_told_again_after_a_restart_and_can_end() -> None:
    before = watching()
    assert len(told(before, np.full(WINDOWS, ABOVE))) == 1
    again = watching(state=kept(before.state))
    assert again.active
    assert told(again, np.full(WINDOWS, ABOVE)) == []
    assert told(again, np.full(WINDOWS, BELOW)) == []
    assert not again.active


def test_evidence_beyond_a_limit_that_was_lowered_is_told_with_the_next_window() -> None:
    long = watching(24.0)
    assert told(long, np.full(WINDOWS // 2, ABOVE)) == []
    ((window, drifted),) = told(watching(0.5, state=kept(long.state)), np.full(3, ABOVE), at=WINDOWS // 2)
    assert (window, drifted.windows) == (WINDOWS // 2, WINDOWS // 2 + 1)


def test_windows_without_time_have_none_after_a_restart_either() -> None:
    level, test = np.ones(1), watching(1e-9)
    found = [
        test.push(ABOVE, shares=level, values=level, expected=level, start_s=math.nan, end_s=math.nan)
        for _ in range(11)
    ]
    assert found == [None] * 11
    drifted = kept(test.state).drifted
    assert drifted is not None
    assert (drifted.windows, drifted.start_s, drifted.end_s) == (11, None, None)


def test_few_windows_are_never_enough() -> None:
    assert told(watching(1e-9), np.full(11, ABOVE)) == []
    assert len(told(watching(1e-9), np.full(13, ABOVE))) == 1


def test_score_that_is_no_number_counts_as_normal() -> None:
    assert told(watching(), np.full(3 * WINDOWS, math.nan)) == []
