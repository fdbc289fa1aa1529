"""Which way of explaining suits a model: decided by faults whose channel is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_vae.bundle import Channel
from edge_vae.detector import Detector
from edge_vae.explain import METHODS, explain
from edge_vae.principal import PrincipalRuntime
from edge_vae.sample import FloatArray
from edge_vae.score import Tail, Term
from edge_vae.view import View
from edge_vae_train.explaining import (
    EXPLAINED_FAULTS,
    MIN_SEEN,
    SEVERITIES,
    Hits,
    choose,
    count_hits,
    single_channel_faults,
)
from edge_vae_train.prepare import WindowSet
from plain_bundle import plain_manifest

LENGTH, SEED = 8, 5


def detector(*components: list[float], terms: tuple[str, ...] = ("window.mse",)) -> Detector:
    """One that expects of every sample its projection on these orthonormal components."""
    channels = len(components[0])
    seen = any(term != "z" for term in terms)
    manifest = plain_manifest(
        channels=tuple(Channel(f"c{i}", 0.0, 1.0) for i in range(channels)),
        views=(View("window", "window", (), (), ((1.0,) * channels,), 0, (), None),) if seen else (),
        score=tuple(Term(term, Tail(math.log(1e-2), 1.0)) for term in terms),
    )
    arrays = {"lag_mean": np.zeros(channels), "lag_components": np.array(components)}
    return Detector(manifest, {"window": PrincipalRuntime(arrays)} if seen else {})


def normal(mixing: list[float], noise: list[float], *, count: int = 80) -> WindowSet:
    """Windows of one cause that drives the channels as `mixing` says, each with noise of its own."""
    generator = np.random.default_rng(1)
    cause = generator.normal(size=(count, 1, 1)) + 0.3 * generator.normal(size=(count, LENGTH, 1))
    own = generator.normal(size=(count, LENGTH, len(noise))) * np.array(noise)
    return WindowSet((cause * np.array(mixing) + own).astype(np.float32), np.zeros((count, 0), np.float32))


STRONG = [math.sqrt(0.72), math.sqrt(0.14), math.sqrt(0.14)]
FOLLOWED = detector(STRONG), normal([2 * part for part in STRONG], [0.05] * 3)
"""The model follows the strong channel wherever it goes, and the errors are those of its witnesses."""
UNEQUAL = detector([0.0, 0.0, 1.0]), normal([0.0, 0.0, 1.0], [3.0, 0.1, 0.1])
"""The first channel is never reconstructed well, and a fault of another is smaller than its usual error."""


@pytest.mark.parametrize(
    ("case", "better", "worse"), [(FOLLOWED, "imputation", "share"), (UNEQUAL, "surprise", "share")]
)
def test_the_method_that_names_more_faulty_channels_is_chosen(
    case: tuple[Detector, WindowSet], better: str, worse: str
) -> None:
    found = choose(*case, seed=SEED)
    assert found.method == better
    assert found.hits[better] == max(found.hits.values())
    assert found.hits[better] > found.hits[worse] + 0.1


def test_faults_that_the_score_sees_count_as_much_as_all_of_them_together() -> None:
    found = choose(*FOLLOWED, seed=SEED)
    assert found.seen.keys() == set(METHODS)
    assert found.method == max(METHODS, key=lambda method: found.hits[method] + found.seen[method])
    assert found.seen["share"] != found.hits["share"]


def test_hits_are_the_parts_of_the_faults_whose_channel_comes_first() -> None:
    made, windows = UNEQUAL
    found = choose(made, windows, seed=SEED)
    faults = single_channel_faults(windows, count=200, seed=SEED)
    shares = explain(made, faults.faulty.windows.astype(np.float64), faults.faulty.conditions, found).shares
    named = [int(row.argmax()) == channel for row, channel in zip(shares, faults.channels, strict=True)]
    assert count_hits(made, found, faults)[found.method].first.tolist() == named
    assert count_hits(made, found, faults)[found.method].rate == pytest.approx(sum(named) / 200)


def hits(before: list[float], after: list[float], first: list[bool]) -> Hits:
    return Hits(np.array(first), np.array(before), np.array(after))


def test_a_fault_passes_a_level_where_the_window_does_and_did_not_before() -> None:
    found = hits([1.0, 1.0, 3.0, 3.0, 2.0], [1.5, 3.0, 4.0, 1.0, 2.0], [True] * 5)
    assert found.passes(2.0).tolist() == [False, True, False, False, False]


def test_a_fault_is_seen_where_it_lifts_a_window_above_nineteen_of_twenty_normal_ones() -> None:
    before = [float(i) for i in range(1, 101)]
    found = hits(before, [95.0] * 10 + [96.0] * 90, [True] * 10 + [False] * 60 + [True] * 30)
    # The quantile lies between 95 and 96, and the last five passed it before.
    assert found.are_seen.tolist() == [False] * 10 + [True] * 85 + [False] * 5
    assert found.seen == pytest.approx(25 / 85)
    assert found.rate == pytest.approx(0.4)


def test_a_rate_of_few_seen_faults_is_not_told() -> None:
    for count in (MIN_SEEN - 1, MIN_SEEN):
        found = hits([0.0] * 100, [1.0] * count + [0.0] * (100 - count), [True] * 100)
        assert (found.seen is None) == (count < MIN_SEEN)


def test_scores_before_and_after_are_those_of_the_window_without_and_with_the_fault() -> None:
    made, windows = UNEQUAL
    faults = single_channel_faults(windows, count=20, seed=SEED)
    found = count_hits(made, choose(made, windows, seed=SEED), faults)["share"]
    for part, scores in ((faults.normal, found.before), (faults.faulty, found.after)):
        np.testing.assert_array_equal(made(part.windows.astype(np.float64), part.conditions)[0].score, scores)


def test_what_is_usual_is_taken_from_all_normal_windows_and_tried_on_faults_of_the_later_half() -> None:
    made, windows = UNEQUAL
    found = choose(made, windows, seed=SEED)
    logs = np.log(np.maximum(made(windows.windows.astype(np.float64), windows.conditions)[0].parts, 1e-9))
    np.testing.assert_allclose(found.centre, np.median(logs, axis=0), rtol=1e-6)
    later = WindowSet(windows.windows[40:], windows.conditions[40:])
    quiet = WindowSet(np.zeros_like(windows.windows[:40]), windows.conditions[:40])
    other = choose(made, WindowSet.joined([quiet, later]), seed=SEED)
    assert other.hits["share"] == found.hits["share"]
    assert other.hits["surprise"] != found.hits["surprise"]


def test_what_is_expected_of_a_channel_is_the_regression_on_the_others() -> None:
    mixing, noise = [1.0, 1.0, 0.0], [0.3, 0.3, 1.0]
    windows = normal(mixing, noise, count=400)
    found = choose(detector([0.0, 0.0, 0.0]), windows, seed=SEED)
    levels = np.tile([6.0, 1.5, 0.3], (1, LENGTH, 1))
    shown = explain(detector([0.0, 0.0, 0.0]), levels, np.zeros((1, 0), np.float32), found)
    means = windows.windows.mean(axis=1).astype(np.float64)
    design = np.column_stack([means[:, 1:], np.ones(len(means))])
    weights = np.linalg.lstsq(design, means[:, 0], rcond=None)[0]
    # The ridge pulls it towards the mean, by about a tenth of a variance that is about one.
    assert shown.expected[0, 0] == pytest.approx(np.array([1.5, 0.3, 1.0]) @ weights, abs=0.25)
    assert shown.expected[0, 0] > 1.0


def test_where_no_other_method_names_more_shares_are_kept() -> None:
    still = detector([0.0, 0.0]), normal([0.0, 0.0], [0.0, 0.0])
    found = choose(*still, seed=SEED)
    assert min(found.hits.values()) == max(found.hits.values()) > 0.85
    assert found.method == "share"


def test_where_there_is_one_channel_there_is_nothing_to_choose() -> None:
    found = choose(detector([1.0]), normal([1.0], [0.1]), seed=SEED)
    assert (found.method, found.centre, found.spread, found.hits, found.seen) == ("share", (), (), {}, {})


def test_a_score_without_a_model_is_explained_too() -> None:
    found = choose(detector([1.0, 0.0], terms=("z",)), normal([1.0, 0.1], [0.1, 0.1]), seed=SEED)
    assert found.hits.keys() == set(METHODS)
    assert found.method == "surprise"  # a channel that hardly moves is named when it does


def test_the_same_seed_chooses_the_same() -> None:
    assert choose(*FOLLOWED, seed=SEED) == choose(*FOLLOWED, seed=SEED)
    assert choose(*FOLLOWED, seed=SEED).hits != choose(*FOLLOWED, seed=SEED + 1).hits


def changed(window: FloatArray, others: FloatArray) -> list[int]:
    """The channels in which a window differs from the one of the others that it is most like."""
    differs = (window != others).any(axis=1)
    return list(np.flatnonzero(differs[differs.sum(axis=1).argmin()]))


def test_a_synthetic_fault_is_on_one_channel_of_a_normal_window_in_its_own_mode() -> None:
    windows = normal([1.0, 0.5, 0.2], [0.1] * 3, count=40)
    modes = np.eye(40, dtype=np.float32)  # a mode for each window, to know it again
    faults = single_channel_faults(WindowSet(windows.windows, modes), count=60, seed=SEED)
    assert faults.faulty.windows.shape == (60, LENGTH, 3)
    assert set(faults.channels) == {0, 1, 2}
    for i, (window, mode, channel) in enumerate(
        zip(faults.faulty.windows, faults.faulty.conditions, faults.channels, strict=True)
    ):
        assert changed(window, windows.windows) == [channel]
        np.testing.assert_array_equal(faults.normal.windows[i], windows.windows[mode.argmax()])
        other = [c for c in range(3) if c != channel]
        np.testing.assert_array_equal(window[:, other], faults.normal.windows[i][:, other])


def test_synthetic_faults_are_those_that_an_operator_should_not_need_to_search_for() -> None:
    quiet = WindowSet(np.zeros((9, LENGTH, 2), np.float32), np.zeros((9, 0), np.float32))
    faults = single_channel_faults(quiet, count=200, seed=SEED)
    assert set(faults.faults) == set(EXPLAINED_FAULTS)
    assert "stuck" not in EXPLAINED_FAULTS
    moved = np.abs(np.take_along_axis(faults.faulty.windows, faults.channels[:, None, None], axis=2)).max(axis=(1, 2))
    assert moved.max() <= 3 * SEVERITIES[1]
    assert (moved > 0).mean() > 0.5  # a gain changes nothing of a channel that stands still
