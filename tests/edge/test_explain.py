"""Which channel made a window anomalous: each method on cases whose answer is known by hand."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_vae.bundle import Channel, WindowShape
from edge_vae.detector import Detector
from edge_vae.explain import METHODS, Explained, Explanation, Method
from edge_vae.principal import PrincipalRuntime
from edge_vae.sample import FloatArray
from edge_vae.score import Tail, Term
from edge_vae.view import View
from plain_bundle import plain_manifest

LENGTH = 4
SHARE = Explanation("share", (), (), {})


def detector(*components: list[float], explanation: Explanation = SHARE, term: str = "window.mse") -> Detector:
    """One that expects of every sample what is left of it after a projection on these orthonormal components."""
    channels = len(components[0])
    views = () if term == "z" else (View("window", "window", (), (), ((1.0,) * channels,), 0, (), None),)
    manifest = plain_manifest(
        channels=tuple(Channel(f"c{i}", 0.0, 1.0) for i in range(channels)),
        views=views,
        score=(Term(term, Tail(math.log(1e-3), 1.0)),),
        explanation=explanation,
    )
    arrays = {"lag_mean": np.zeros(channels), "lag_components": np.array(components)}
    return Detector(manifest, {"window": PrincipalRuntime(arrays)} if views else {})


def constant(*levels: float) -> FloatArray:
    """A window (1, length, channels) that stays at these levels."""
    return np.tile(np.array(levels), (1, LENGTH, 1))


def explained(made: Detector, windows: FloatArray, *, method: Method, **numbers: Any) -> Explained:
    wanted = msgspec.structs.replace(made.manifest.explanation, method=method, **numbers)
    manifest = msgspec.structs.replace(made.manifest, explanation=wanted)
    return Detector(manifest, made._runtimes).explain(windows, np.zeros((len(windows), 0), np.float32))


BLIND = detector([0.0, 0.0, 1.0])  # expects 0 of the first two channels, and of the third what it shows


def test_a_share_is_the_part_of_the_score_and_what_is_expected_is_the_models() -> None:
    found = explained(BLIND, constant(2.0, 1.0, 5.0), method="share")
    assert found.shares[0].tolist() == pytest.approx([0.8, 0.2, 0.0], abs=1e-6)
    assert found.expected[0].tolist() == pytest.approx([0.0, 0.0, 5.0])


def test_surprise_names_the_channel_whose_part_is_unusual_for_it_and_not_the_largest() -> None:
    # Errors 0.25 and 1: ten times its scale above the median for the first channel, usual for the second.
    windows = constant(0.5, 1.0, 5.0)
    assert explained(BLIND, windows, method="share").shares[0].argmax() == 1
    found = explained(
        BLIND, windows, method="surprise", centre=((math.log(0.25) - 5.0, 0.0, 0.0),), spread=((0.5, 0.5, 0.5),)
    )
    assert found.shares[0].tolist() == pytest.approx([10.0 / (10.0 + math.log(2.0)), 0.0645, 0.0], abs=1e-3)


def test_surprise_adds_the_terms_of_the_score() -> None:
    views = (View("window", "window", (), (), ((1.0, 1.0),), 0, (), None),)
    terms = (Term("z", Tail(0.0, 1.0)), Term("window.mse", Tail(0.0, 1.0)))
    manifest = plain_manifest(
        channels=(Channel("a", 0.0, 1.0), Channel("b", 0.0, 1.0)),
        views=views,
        score=terms,
        explanation=Explanation("surprise", ((0.0, 0.0), (-1.0, 2.0)), ((1.0, 2.0), (0.5, 1.0)), {}),
    )
    found = Detector(manifest, {}).explain(constant(2.0, 3.0), np.zeros((1, 0), np.float32)).shares[0]
    # Levels 2 and 3 in the first term, their squares as errors in the second.
    first = np.logaddexp(0.0, np.log([2.0, 3.0]) / [1.0, 2.0])
    second = np.logaddexp(0.0, (np.log([4.0, 9.0]) - [-1.0, 2.0]) / [0.5, 1.0])
    np.testing.assert_allclose(found, (first + second) / (first + second).sum(), rtol=1e-6)


FOLLOWED = detector([math.sqrt(0.82), 0.3, 0.3])
"""One cause drives a strong channel and two weak ones that are correlated with it. The model follows the strong one."""


def test_imputation_names_the_faulty_channel_of_correlated_ones_where_shares_blame_its_witnesses() -> None:
    windows = constant(4.0, 0.0, 0.0)  # the strong channel moves, and the others do not confirm it
    assert explained(FOLLOWED, windows, method="share").shares[0].argmax() != 0
    assert explained(FOLLOWED, windows, method="imputation").shares[0].argmax() == 0


@pytest.mark.parametrize("faulty", [0, 1, 2])
def test_imputation_finds_a_channel_that_leaves_two_like_it(faulty: int) -> None:
    levels = [1.0, 1.0, 1.0]
    levels[faulty] = 7.0
    alike = detector([1 / math.sqrt(3)] * 3)
    assert explained(alike, constant(*levels), method="imputation").shares[0].argmax() == faulty


def test_imputation_shares_are_the_falls_of_the_score() -> None:
    windows = constant(2.0, 1.0, 5.0)
    no_mode = np.zeros((1, 0), np.float32)
    whole = BLIND(windows, no_mode)[0].score[0]
    repaired = [constant(0.0, 1.0, 5.0), constant(2.0, 0.0, 5.0), windows]
    falls = np.array([whole - BLIND(window, no_mode)[0].score[0] for window in repaired])
    found = explained(BLIND, windows, method="imputation")
    np.testing.assert_allclose(found.shares[0], falls / falls.sum(), atol=1e-6)


@pytest.mark.parametrize("method", ["share", "imputation"])
def test_a_score_without_a_model_is_explained_by_levels_and_expects_the_mean(method: Method) -> None:
    found = explained(detector([1.0, 0.0], term="z"), constant(0.5, -3.0), method=method)
    assert found.shares[0].argmax() == 1
    assert found.expected.tolist() == [[0.0, 0.0]]


def test_imputation_takes_no_feature_for_a_sample() -> None:
    length = 10  # which has as many features as samples
    table = ((0.0, 0.0),) * length
    view = View("features", "features", table, ((1.0, 1.0),) * length, ((1.0, 1.0),), 0, (), None)
    manifest = plain_manifest(
        channels=(Channel("a", 0.0, 1.0), Channel("b", 0.0, 1.0)),
        window=WindowShape(length, 1),
        views=(view,),
        score=(Term("z", Tail(-3.0, 1.0)), Term("features.mse", Tail(99.0, 1.0))),
        explanation=Explanation("imputation", (), (), {}),
    )
    sevens = PrincipalRuntime({"lag_mean": np.full(2, 7.0), "lag_components": np.array([[1.0, 0.0]]) * 0.0})
    windows = np.zeros((1, length, 2))
    windows[:, :, 1] = 3.0
    found = Detector(manifest, {"features": sevens}).explain(windows, np.zeros((1, 0), np.float32))
    # Replaced by zeros the second falls back to normal; replaced by sevens neither would.
    assert found.shares[0].tolist() == pytest.approx([0.0, 1.0], abs=1e-6)


COVARIANCE = np.array([[1.0, 0.9, 0.1], [0.9, 1.0, 0.1], [0.1, 0.1, 1.0]])
RELATED: dict[str, Any] = {
    "means": ((1.0, -1.0, 0.5),),
    "precision": tuple(map(tuple, np.linalg.inv(COVARIANCE).tolist())),
}


def regressed(levels: list[float], channel: int, asked: list[int]) -> float:
    """The conditional mean, by the covariance: the slow plain twin of what is computed by the precision."""
    centre = np.array(RELATED["means"][0])
    weights = np.linalg.solve(COVARIANCE[np.ix_(asked, asked)], COVARIANCE[asked, channel]) if asked else np.empty(0)
    return float(centre[channel] + weights @ (np.array(levels) - centre)[asked])


def test_what_is_expected_of_the_faulty_channel_follows_from_the_others_and_not_from_what_it_shows() -> None:
    blind = detector([0.0, 0.0, 0.0])
    for wrong in (6.0, 8.0, -7.0):
        levels = [wrong, 0.2, 0.5]
        found = explained(blind, constant(*levels), method="share", **RELATED)
        assert found.shares[0].argmax() == 0
        assert found.expected[0, 0] == pytest.approx(regressed(levels, 0, [1, 2]))


def test_the_faulty_channel_says_nothing_of_what_is_expected_of_the_others() -> None:
    levels = [6.0, 0.2, 0.4]
    found = explained(detector([0.0, 0.0, 0.0]), constant(*levels), method="share", **RELATED)
    assert found.expected[0, 1] == pytest.approx(regressed(levels, 1, [2]))
    assert found.expected[0, 2] == pytest.approx(regressed(levels, 2, [1]))


def test_where_all_others_are_suspects_the_mean_is_expected() -> None:
    found = explained(detector([0.0, 0.0, 0.0]), constant(3.0, 4.0, 4.0), method="share", **RELATED)
    assert found.shares[0, 1:].sum() > 0.5 > found.shares[0, 1:].max()
    assert found.expected[0, 0] == pytest.approx(RELATED["means"][0][0])


def test_a_reading_that_is_far_out_does_not_carry_the_others_with_it() -> None:
    near, far = (
        explained(detector([0.0, 0.0, 0.0]), constant(900.0, level, 0.5), method="share", **RELATED).expected[0]
        for level in (8.0, 300.0)
    )
    assert near.tolist() == pytest.approx(far.tolist())


@pytest.mark.parametrize("method", METHODS)
def test_shares_of_each_window_sum_to_one_and_windows_do_not_disturb_each_other(method: Method) -> None:
    windows = np.random.default_rng(0).normal(0, 2, (6, LENGTH, 3))
    numbers: dict[str, Any] = {"centre": ((-1.0,) * 3,), "spread": ((0.5,) * 3,), **RELATED}
    before = windows.copy()
    together = explained(FOLLOWED, windows, method=method, **numbers)
    np.testing.assert_array_equal(windows, before)
    np.testing.assert_allclose(together.shares.sum(axis=1), 1.0)
    assert (together.shares >= 0).all()
    for i in range(len(windows)):
        alone = explained(FOLLOWED, windows[i : i + 1], method=method, **numbers)
        np.testing.assert_array_equal(alone.shares[0], together.shares[i])
        np.testing.assert_array_equal(alone.expected[0], together.expected[i])


def test_a_manifest_says_which_method_its_detector_uses() -> None:
    windows, no_mode = constant(4.0, 0.0, 0.0), np.zeros((1, 0), np.float32)
    for method in ("share", "imputation"):
        made = detector([math.sqrt(0.82), 0.3, 0.3], explanation=Explanation(method, (), (), {}))
        expected = explained(FOLLOWED, windows, method=method)
        np.testing.assert_array_equal(made.explain(windows, no_mode).shares, expected.shares)


@pytest.mark.parametrize(
    ("centre", "spread"), [(((0.0,),), ()), (((0.0,),), ((0.0,),)), (((0.0,),), ((-1.0,),)), ((), ((1.0,),))]
)
def test_tables_that_cannot_be_divided_by_are_refused(centre: Any, spread: Any) -> None:
    with pytest.raises(ValueError, match="expected a centre and a spread above zero"):
        Explanation("surprise", centre, spread, {})


@pytest.mark.parametrize(
    ("means", "precision"),
    [((), ((1.0,),)), (((0.0,),), ()), (((0.0,), (0.0,)), ((1.0,),)), (((0.0,),), ((1.0,), (1.0,)))],
)
def test_means_without_a_square_precision_are_refused(means: Any, precision: Any) -> None:
    with pytest.raises(ValueError, match="square precision"):
        Explanation("share", (), (), {}, means=means, precision=precision)
