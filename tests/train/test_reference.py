"""PCA T2 + Q, the baseline beside the model, against a slow twin."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_vae.view import LIMIT_SIGMA
from edge_vae_train.reference import MAX_CELLS, MAX_COMPONENTS, fit_pca, pca_score

Windows = NDArray[np.float32]


def correlated(windows: int, *, seed: int = 0) -> Windows:
    """Two hidden causes drive three channels of six samples."""
    generator = np.random.default_rng(seed)
    causes, mixing = generator.normal(size=(windows, 2)), np.random.default_rng(42).normal(size=(2, 18))
    return (causes @ mixing + 0.1 * generator.normal(size=(windows, 18))).reshape(windows, 6, 3).astype(np.float32)


FITTED = fit_pca(correlated(400), correlated(200, seed=1), seed=7)


def statistics_slowly(window: Windows) -> tuple[float, float]:
    centred = [float(v) - float(m) for v, m in zip(window.ravel(), FITTED["mean"], strict=True)]
    t2, rest = 0.0, list(centred)
    for component, variance in zip(FITTED["components"].tolist(), FITTED["variance"].tolist(), strict=True):
        score = sum(c * v for c, v in zip(component, centred, strict=True))
        t2 += score * score / variance
        rest = [r - score * c for r, c in zip(rest, component, strict=True)]
    return t2, sum(r * r for r in rest) / len(rest)


def test_the_score_equals_its_slow_twin() -> None:
    windows = correlated(3, seed=5)
    scores = pca_score(FITTED, windows.astype(np.float64))
    for window, score in zip(windows, scores, strict=True):
        t2, q = statistics_slowly(window)
        # The fit is kept in float32: seven digits.
        assert score == pytest.approx(t2 / FITTED["t2"][0] + q / FITTED["q"][0], rel=1e-5)


def test_a_normal_window_scores_two_on_average_and_a_broken_correlation_much_more() -> None:
    assert pca_score(FITTED, correlated(200, seed=1).astype(np.float64)).mean() == pytest.approx(2.0, rel=1e-3)
    broken = correlated(50, seed=2).astype(np.float64)
    broken[:, :, 0] *= -1
    assert np.median(pca_score(FITTED, broken)) > 50


def test_components_are_orthonormal_and_at_most_eight() -> None:
    assert len(FITTED["components"]) == MAX_COMPONENTS
    components = FITTED["components"].astype(np.float64)
    np.testing.assert_allclose(components @ components.T, np.eye(MAX_COMPONENTS), atol=1e-3)  # three digits of float16
    kinds = {name: array.dtype.name for name, array in FITTED.items()}
    assert kinds == dict.fromkeys(FITTED, "float32") | {"mean": "float16", "components": "float16"}


def test_few_windows_and_few_cells_give_fewer_components() -> None:
    assert len(fit_pca(correlated(3), correlated(5), seed=0)["components"]) == 3
    small = correlated(40)[:, :1, :2]
    assert fit_pca(small, small, seed=0)["components"].shape == (2, 2)


def test_a_window_with_too_many_cells_has_no_pca() -> None:
    large = np.zeros((4, MAX_CELLS + 1, 1), np.float32)
    assert fit_pca(large, large, seed=0) == {}


def test_no_windows_have_no_scores() -> None:
    assert pca_score(FITTED, np.empty((0, 6, 3))).shape == (0,)


def test_a_broken_sensor_gives_a_finite_score() -> None:
    windows = np.full((2, 6, 3), 1e300)
    at_limit = np.full(windows.shape, LIMIT_SIGMA)  # as many: the product of a single window may round otherwise
    scores = pca_score(FITTED, windows)
    assert np.isfinite(scores).all()
    assert scores[0] == pca_score(FITTED, at_limit)[0]


def test_the_same_seed_draws_the_same_windows_of_many() -> None:
    many = np.random.default_rng(0).normal(size=(6_500, 2, 2)).astype(np.float32)
    first, again, other = (fit_pca(many, many[:50], seed=seed)["mean"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_data_that_never_varies_has_a_score_too() -> None:
    still = np.ones((40, 6, 3), np.float32)
    scores = pca_score(fit_pca(still, still[:9], seed=7), np.concatenate([still[:1], still[:1] + 1.0]).astype(float))
    assert np.isfinite(scores).all()
    assert scores[0] == 0
    assert scores[1] > 1e6
