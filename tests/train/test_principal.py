"""The PCA of lag vectors, against scikit-learn's on vectors put together by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from edge_vae.sample import FloatArray
from edge_vae.view import View
from edge_vae_train.prepare import WindowSet
from edge_vae_train.principal import MAX_COMPONENTS, VARIANCE, fit_principal, lag, principal_statistic

Windows = NDArray[np.float32]
CLIP = 8.0


def view(lagged: int, *, channels: int) -> View:
    return View("pca", "window", (), (), ((1.0,) * channels,), lagged, (), None)


def window_set(windows: FloatArray) -> WindowSet:
    return WindowSet(windows.astype(np.float32), np.zeros((len(windows), 0), np.float32))


def moving(count: int, *, seed: int, length: int = 8) -> FloatArray:
    """Two channels of one slow cause, each with noise of its own."""
    generator = np.random.default_rng(seed)
    cause = np.cumsum(generator.normal(size=(count, length)), axis=1)
    levels = np.array([1.0, 2.0])
    return levels + np.stack([cause, -0.5 * cause], axis=2) + 0.2 * generator.normal(size=(count, length, 2))


def vectors_slowly(windows: FloatArray, lagged: int) -> FloatArray:
    """(windows, lag vectors, lag * channels)."""
    length = windows.shape[1]
    return np.array(
        [
            [[value for row in window[at : at + lagged] for value in row] for at in range(length - lagged + 1)]
            for window in windows
        ]
    )


# Four times the same windows: the means of halves and quarters are equal, so that nothing wanders.
TRAINING, HELD_OUT = np.tile(moving(20, seed=0), (4, 1, 1)), moving(20, seed=1)
VIEW = view(3, channels=2)
FITTED = fit_principal(VIEW, window_set(TRAINING), clip=CLIP, seed=7)


def test_mean_and_axes_are_scikit_learns_up_to_their_signs() -> None:
    vectors = np.clip(vectors_slowly(TRAINING, 3), -CLIP, CLIP).reshape(-1, 6)
    expected = PCA(svd_solver="full").fit(vectors)
    np.testing.assert_allclose(FITTED["lag_mean"], expected.mean_, atol=1e-5)
    components = FITTED["lag_components"].astype(float)
    assert len(components) == np.flatnonzero(np.cumsum(expected.explained_variance_ratio_) >= VARIANCE)[0] + 1
    cosines = np.abs(np.sum(components * expected.components_[: len(components)], axis=1))
    np.testing.assert_allclose(cosines, 1.0, atol=2e-3)  # kept in float16: three digits


def test_levels_that_wander_together_come_first_among_the_components() -> None:
    generator = np.random.default_rng(6)
    known = generator.normal(size=(400, 8, 6)) * [1.7, 1.0, 1.0, 1.0, 1.0, 1.0]
    known[:, :, 4:] += np.linspace(-1.5, 1.5, 400)[:, None, None] * [1.0, -1.0]
    fits = [
        fit_principal(view(1, channels=6), window_set(windows), clip=CLIP, seed=0)["lag_components"][0].astype(float)
        for windows in (known, generator.permutation(known))
    ]
    assert np.square(fits[0][4:]).sum() > 0.8
    assert np.square(fits[1][0]) > 0.8


def test_the_statistic_is_the_mean_squared_residual_of_all_lag_vectors_of_a_window() -> None:
    vectors = np.clip(vectors_slowly(TRAINING, 3), -CLIP, CLIP).reshape(-1, 6)
    expected = PCA(len(FITTED["lag_components"]), svd_solver="full").fit(vectors)
    found = principal_statistic(VIEW, FITTED, window_set(HELD_OUT))
    for window, statistic in zip(vectors_slowly(HELD_OUT, 3), found, strict=True):
        clipped = np.clip(window, -CLIP, CLIP)
        residual = window - expected.inverse_transform(expected.transform(clipped))
        assert statistic == pytest.approx(np.square(residual).mean(), rel=0.02)  # axes kept in float16


def test_a_broken_correlation_stands_out_and_a_larger_swing_of_both_does_not() -> None:
    usual, broken, larger = HELD_OUT, HELD_OUT.copy(), HELD_OUT.copy()
    broken[:, :, 1] = 4.0 - broken[:, :, 1]
    larger = 1.5 * larger - [0.5, 1.0]
    found = [
        np.median(principal_statistic(VIEW, FITTED, window_set(np.clip(windows, -CLIP, CLIP))))
        for windows in (usual, broken, larger)
    ]
    assert found[1] > 5 * found[0]
    assert found[2] < 3 * found[0]


@pytest.mark.parametrize(
    ("windows", "length", "channels", "expected"),
    [
        (0, 8, 2, 1),
        (5, 8, 2, 1),
        (12, 8, 2, 2),
        (17, 8, 2, 2),
        (18, 8, 2, 3),
        (48, 8, 2, 8),
        (10_000, 8, 2, 8),
        (600, 64, 20, 10),
        (600, 64, 300, 1),
        (600, 64, 1, 64),
    ],
)
def test_a_lag_vector_is_as_long_as_the_training_windows_support(
    windows: int, length: int, channels: int, expected: int
) -> None:
    assert lag(windows, length=length, channels=channels) == expected


@pytest.mark.parametrize(("lagged", "channels"), [(1, 4), (2, 2), (3, 1), (1, 2)])
def test_a_residual_is_left_where_all_cells_vary_alike(lagged: int, channels: int) -> None:
    noise = np.random.default_rng(0).normal(size=(200, 6, channels))
    made = view(lagged, channels=channels)
    arrays = fit_principal(made, window_set(noise), clip=CLIP, seed=0)
    assert arrays["lag_components"].shape == (lagged * channels - 1, lagged * channels)
    statistic = principal_statistic(made, arrays, window_set(noise))
    assert np.mean(statistic) == pytest.approx(1 / (lagged * channels), rel=0.15)  # the one axis of all that is left


def test_components_are_orthonormal_point_one_way_and_are_at_most_64() -> None:
    noise = np.random.default_rng(0).normal(size=(300, 4, 70))
    made = view(1, channels=70)
    components = fit_principal(made, window_set(noise), clip=CLIP, seed=0)["lag_components"].astype(float)
    assert components.shape == (MAX_COMPONENTS, 70) == (64, 70)
    np.testing.assert_allclose(components @ components.T, np.eye(64), atol=2e-3)
    assert all(component[np.abs(component).argmax()] > 0 for component in components)


def test_samples_beyond_the_clip_count_as_at_it() -> None:
    far, at = TRAINING.copy(), TRAINING.copy()
    far[3, 2, 0], at[3, 2, 0] = 1e6, CLIP
    fits = [fit_principal(VIEW, window_set(windows), clip=CLIP, seed=7) for windows in (far, at)]
    for name in ("lag_mean", "lag_components"):
        np.testing.assert_array_equal(fits[0][name], fits[1][name])


def test_data_that_never_varies_has_a_fit_too() -> None:
    arrays = fit_principal(VIEW, window_set(np.ones((9, 8, 2))), clip=CLIP, seed=0)
    statistic = principal_statistic(VIEW, arrays, window_set(np.ones((2, 8, 2))))
    assert statistic == pytest.approx([0.0, 0.0], abs=1e-9)


def test_of_many_lag_vectors_a_seed_draws_some() -> None:
    many = window_set(np.random.default_rng(0).normal(size=(2_600, 8, 2)))
    made = view(1, channels=2)
    first, again, other = (fit_principal(made, many, clip=CLIP, seed=seed)["lag_mean"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
