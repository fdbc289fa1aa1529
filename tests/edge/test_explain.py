"""Which channel made a window anomalous: each method on cases whose answer is known by hand."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_vae.bundle import Channel, WindowShape
from edge_vae.detector import Detector
from edge_vae.explain import METHODS, Explained, Explanation, Method, log_errors
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


def test_normalised_names_the_channel_whose_error_is_unusual_for_it_and_not_the_largest_error() -> None:
    # Errors 0.25 and 1: usual for the second channel, ten standard deviations for the first.
    centre = ((math.log(0.25) - 5.0, 0.0, -6.0),)
    spread = ((0.5, 0.5, 0.5),)
    windows = constant(0.5, 1.0, 5.0)
    assert explained(BLIND, windows, method="share").shares[0].argmax() == 1
    found = explained(BLIND, windows, method="normalised", centre=centre, spread=spread)
    assert found.shares[0].argmax() == 0
    assert found.shares[0, 0] > 0.99


def test_normalised_adds_the_squares_in_standard_deviations_and_leaves_out_errors_below_the_usual() -> None:
    windows = constant(1.0, 1.0, 5.0)
    usual = math.log(1.0 + 1e-3)  # the floor below which errors are noise
    centre = ((usual - 2.0, usual - 2.0, 9.0),)
    found = explained(BLIND, windows, method="normalised", centre=centre, spread=((1.0, 0.5, 1.0),))
    assert found.shares[0].tolist() == pytest.approx([4 / 20, 16 / 20, 0.0], abs=1e-6)


FOLLOWED = detector([math.sqrt(0.82), 0.3, 0.3])
"""One cause drives a strong channel and two weak ones that are correlated with it. The model follows the strong one."""


def test_imputation_names_the_faulty_channel_of_correlated_ones_where_shares_blame_its_witnesses() -> None:
    windows = constant(4.0, 0.0, 0.0)  # the strong channel moves, and the others do not confirm it
    assert explained(FOLLOWED, windows, method="share").shares[0].argmax() != 0
    assert explained(FOLLOWED, windows, method="imputation").shares[0].argmax() == 0


@pytest.mark.parametrize("faulty", [0, 1, 2])
def test_imputation_finds_a_channel_that_leaves_two_like_it_and_expects_what_they_show(faulty: int) -> None:
    levels = [1.0, 1.0, 1.0]
    levels[faulty] = 7.0
    alike = detector([1 / math.sqrt(3)] * 3)
    found = explained(alike, constant(*levels), method="imputation")
    assert found.shares[0].argmax() == faulty
    # Round one: the mean of 7, 1 and 1. Round two: the mean of that, 1 and 1.
    assert found.expected[0, faulty] == pytest.approx((3.0 + 1.0 + 1.0) / 3)


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
        score=(Term("features.mse", Tail(0.0, 1.0)),),
        explanation=Explanation("imputation", (), (), {}),
    )
    sevens = PrincipalRuntime({"lag_mean": np.full(2, 7.0), "lag_components": np.array([[1.0, 0.0]]) * 0.0})
    windows = np.random.default_rng(0).normal(3.0, 1.0, (1, length, 2))
    found = Detector(manifest, {"features": sevens}).explain(windows, np.zeros((1, 0), np.float32))
    assert found.expected.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("method", METHODS)
def test_shares_of_each_window_sum_to_one_and_windows_do_not_disturb_each_other(method: Method) -> None:
    windows = np.random.default_rng(0).normal(0, 2, (6, LENGTH, 3))
    numbers: dict[str, Any] = {"centre": ((-1.0,) * 3,), "spread": ((0.5,) * 3,)}
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


def test_log_errors_are_of_each_view_and_channel() -> None:
    found = log_errors(BLIND.see(constant(2.0, 1.0, 5.0), np.zeros((1, 0), np.float32)))
    assert found.shape == (1, 1, 3)
    assert found[0, 0].tolist() == pytest.approx([math.log(4.001), math.log(1.001), math.log(0.001)])


@pytest.mark.parametrize(
    ("centre", "spread"), [(((0.0,),), ()), (((0.0,),), ((0.0,),)), (((0.0,),), ((-1.0,),)), ((), ((1.0,),))]
)
def test_tables_that_cannot_be_divided_by_are_refused(centre: Any, spread: Any) -> None:
    with pytest.raises(ValueError, match="expected a centre and a spread above zero"):
        Explanation("normalised", centre, spread, {})
