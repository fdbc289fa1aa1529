"""What a model is shown of a window, and what is kept of its answer."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_vae.features import feature_names, features
from edge_vae.runtime import Outputs
from edge_vae.sample import FloatArray
from edge_vae.view import LIMIT_SIGMA, OUTPUTS, Model, Seen, View, see, to_rows

LENGTH, CHANNELS, LATENT, CLIP = 8, 2, 3, 4.0
STEPS = len(feature_names(LENGTH))
CENTRE = np.random.default_rng(1).normal(0, 1, (STEPS, CHANNELS))
SCALE = np.random.default_rng(2).uniform(0.5, 2.0, (STEPS, CHANNELS))
ONES = ((1.0,) * CHANNELS,)
WINDOW = View("window", "window", (), (), ONES, 0, (), None)
FEATURES = View("features", "features", to_rows(CENTRE), to_rows(SCALE), ONES * STEPS, 0, (), None)
SCALED = np.random.default_rng(3).normal(0, 3, (6, LENGTH, CHANNELS))
NO_CONDITIONS = np.zeros((6, 0), np.float32)


class Recorder:
    """A model that halves what it sees, and remembers what it was given."""

    def __init__(self, bias: float = 0.0) -> None:
        self.bias = bias
        self.seen: list[NDArray[np.float32]] = []
        self.conditions: list[NDArray[np.float32]] = []

    def __call__(self, windows: NDArray[np.float32], conditions: NDArray[np.float32]) -> Outputs:
        self.seen.append(windows)
        self.conditions.append(conditions)
        latent = np.full((len(windows), LATENT), self.bias, np.float32)
        return {
            "reconstruction": windows / 2 + np.float32(self.bias),
            "posterior_mean": latent,
            "posterior_log_variance": latent - 1,
        }


def test_a_view_of_the_window_is_the_window_within_the_limits() -> None:
    scaled = SCALED.copy()
    scaled[0, 0] = [1e300, -np.inf]
    target = WINDOW.target(scaled, NO_CONDITIONS)
    assert target[0, 0].tolist() == [LIMIT_SIGMA, -LIMIT_SIGMA]
    np.testing.assert_array_equal(target.reshape(-1)[2:], SCALED.reshape(-1)[2:])
    assert np.isinf(scaled[0, 0, 1])


def test_a_view_of_features_is_their_distance_from_the_centre_in_scales() -> None:
    target = FEATURES.target(SCALED, NO_CONDITIONS)
    assert target.shape == (6, STEPS, CHANNELS)
    raw = features(SCALED)
    for w, f, c in np.ndindex(target.shape):
        # Centre and scale were rounded to seven digits on their way into the view.
        assert target[w, f, c] == pytest.approx((raw[w, f, c] - CENTRE[f, c]) / SCALE[f, c], rel=1e-5, abs=1e-5)


def test_features_are_taken_of_the_window_within_the_limits_and_kept_within_them() -> None:
    at, beyond = SCALED.copy(), SCALED.copy()
    at[:, 3, 1], beyond[:, 3, 1] = LIMIT_SIGMA, np.inf
    np.testing.assert_array_equal(FEATURES.target(beyond, NO_CONDITIONS), FEATURES.target(at, NO_CONDITIONS))
    narrow = msgspec.structs.replace(FEATURES, scale=to_rows(1e-6 * SCALE))
    extremes = narrow.target(SCALED, NO_CONDITIONS)
    assert extremes.max() == LIMIT_SIGMA
    assert extremes.min() == -LIMIT_SIGMA


OF_MODES = msgspec.structs.replace(
    FEATURES,
    centre=to_rows(np.concatenate([CENTRE, CENTRE + 1, CENTRE - 2])),
    scale=to_rows(np.concatenate([SCALE, 3 * SCALE, SCALE / 2])),
    conditions=to_rows(np.eye(3)),
)


@pytest.mark.parametrize("lag", [1, 3, LENGTH])
def test_a_view_of_lag_vectors_holds_every_run_of_lag_samples_one_after_the_other(lag: int) -> None:
    view = msgspec.structs.replace(WINDOW, lag=lag)
    scaled = SCALED.copy()
    scaled[0, 0, 0] = np.inf
    target = view.target(scaled, NO_CONDITIONS)
    assert target.shape == (6, view.steps(LENGTH), CHANNELS)
    for w, window in enumerate(np.clip(scaled, -LIMIT_SIGMA, LIMIT_SIGMA)):
        runs = [sample for start in range(LENGTH - lag + 1) for sample in window[start : start + lag].tolist()]
        assert target[w].tolist() == runs


def test_features_are_measured_from_the_centre_of_each_windows_own_mode() -> None:
    modes = [2, 0, 1, 1, 0, 2]
    conditions = np.eye(3, dtype=np.float32)[modes]
    target = OF_MODES.target(SCALED, conditions)
    for w, mode in enumerate(modes):
        rows = slice(mode * STEPS, (mode + 1) * STEPS)
        alone = msgspec.structs.replace(FEATURES, centre=OF_MODES.centre[rows], scale=OF_MODES.scale[rows])
        np.testing.assert_array_equal(target[w], alone.target(SCALED[w : w + 1], NO_CONDITIONS[:1])[0])
        np.testing.assert_allclose(OF_MODES.raw(target, conditions)[w], features(SCALED)[w], rtol=1e-9, atol=1e-9)


def test_raw_features_are_the_inverse_of_the_target() -> None:
    target = FEATURES.target(SCALED, NO_CONDITIONS)
    np.testing.assert_allclose(FEATURES.raw(target, NO_CONDITIONS), features(SCALED), rtol=1e-9, atol=1e-9)


def test_a_view_without_a_model_expects_the_centre() -> None:
    runtimes = {"window": Recorder()}
    seen = see((WINDOW, FEATURES), runtimes, SCALED, clip=CLIP, conditions=NO_CONDITIONS)
    assert list(seen) == ["window", "features"]
    found = seen["features"]
    np.testing.assert_array_equal(found.target, FEATURES.target(SCALED, NO_CONDITIONS))
    assert found.reconstruction.shape == found.target.shape
    assert not found.reconstruction.any()
    assert found.mean.shape == found.log_variance.shape == (6, 0)


def test_models_see_their_view_clipped_and_the_target_stays_unclipped() -> None:
    runtimes = {"window": Recorder(), "features": Recorder(0.25)}
    seen = see((WINDOW, FEATURES), runtimes, SCALED, clip=CLIP, conditions=NO_CONDITIONS)
    assert list(seen) == ["window", "features"]
    for view in (WINDOW, FEATURES):
        target = view.target(SCALED, NO_CONDITIONS)
        (shown,) = runtimes[view.name].seen
        assert shown.dtype == np.float32
        assert np.abs(target).max() > CLIP
        np.testing.assert_array_equal(shown, np.clip(target, -CLIP, CLIP).astype(np.float32))
        np.testing.assert_array_equal(seen[view.name].target, target)


def test_a_pca_of_lag_vectors_sees_them_within_the_limits_alone() -> None:
    lagged = View("pca", "window", (), (), ONES, 2, (), None)
    runtime, far = Recorder(), SCALED.copy()
    far[0, 0] = 2 * LIMIT_SIGMA
    see((lagged,), {"pca": runtime}, far, clip=CLIP, conditions=NO_CONDITIONS)
    (shown,) = runtime.seen
    np.testing.assert_array_equal(shown, lagged.target(far, NO_CONDITIONS).astype(np.float32))
    assert np.abs(shown[1:]).max() > CLIP
    assert np.abs(shown).max() == LIMIT_SIGMA


def test_what_a_model_answers_is_kept_with_the_views_variance() -> None:
    runtimes = {"window": Recorder(), "features": Recorder(0.25)}
    found = see((WINDOW, FEATURES), runtimes, SCALED, clip=CLIP, conditions=NO_CONDITIONS)["features"]
    np.testing.assert_array_equal(found.reconstruction, runtimes["features"].seen[0] / 2 + np.float32(0.25))
    np.testing.assert_array_equal(found.mean, np.full((6, LATENT), 0.25))
    np.testing.assert_array_equal(found.log_variance, np.full((6, LATENT), -0.75))
    np.testing.assert_array_equal(found.variance, np.ones((STEPS, CHANNELS)))
    assert {found.target.dtype, found.reconstruction.dtype, found.mean.dtype} == {np.dtype(np.float64)}


def test_every_model_is_told_the_operating_modes() -> None:
    conditions = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]
    runtimes = {"window": Recorder(), "features": Recorder()}
    see((WINDOW, FEATURES), runtimes, SCALED, clip=CLIP, conditions=conditions)
    for runtime in runtimes.values():
        np.testing.assert_array_equal(runtime.conditions[0], conditions)


def test_without_views_nothing_is_seen() -> None:
    assert see((), {}, SCALED, clip=CLIP, conditions=NO_CONDITIONS) == {}


def test_some_of_the_windows_can_be_chosen() -> None:
    numbers = np.arange(6.0)
    whole = Seen(numbers[:, None, None], 2 * numbers[:, None, None], 3 * numbers[:, None], -numbers[:, None], SCALE)
    for chosen in (slice(1, 3), np.array([1, 2]), np.arange(6) // 2 * 2 + 1 == 99):
        part = whole[chosen]
        np.testing.assert_array_equal(part.target[:, 0, 0], numbers[chosen])
        np.testing.assert_array_equal(part.reconstruction[:, 0, 0], 2 * numbers[chosen])
        np.testing.assert_array_equal(part.mean[:, 0], 3 * numbers[chosen])
        np.testing.assert_array_equal(part.log_variance[:, 0], -numbers[chosen])
        assert part.variance is SCALE


@pytest.mark.parametrize(
    "change",
    [
        {"variance": ((1.0, 0.0),)},
        {"variance": ((1.0, -1.0),)},
        {"variance": ()},
        {"scale": ((0.0,) * CHANNELS,) * STEPS},
        {"scale": ()},
        {"scale": ONES},
        {"centre": ()},
        {"centre": ONES},
        {"centre": (), "scale": ()},
        {"input": "window"},
        {"lag": 2},
        {"lag": -1},
        {"conditions": ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.0, 0.0))},
    ],
)
def test_a_view_whose_tables_do_not_fit_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^expected .* in view 'features'$"):
        msgspec.structs.replace(FEATURES, **change)


@pytest.mark.parametrize("outputs", [{}, dict.fromkeys(OUTPUTS[:2], "a"), dict.fromkeys([*OUTPUTS, "further"], "a")])
def test_a_model_with_other_outputs_is_refused(outputs: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected a model with the outputs reconstruction, posterior_mean"):
        Model("0" * 64, "int8", outputs, {})


def test_an_autoencoder_without_a_latent_is_seen_with_an_empty_one() -> None:
    view = View("window", "window", (), (), ONES[:1], 0, (), Model("0" * 64, "int8", {OUTPUTS[0]: "a"}, {}))
    scaled = np.random.default_rng(0).normal(size=(3, 4, len(ONES[0])))

    def half(windows: NDArray[np.float32], conditions: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        return {"reconstruction": windows / 2}

    seen = see([view], {"window": half}, scaled, clip=8.0, conditions=np.zeros((3, 0), np.float32))["window"]
    np.testing.assert_allclose(seen.reconstruction, scaled / 2, rtol=1e-6)
    assert seen.mean.shape == seen.log_variance.shape == (3, 0)


def test_tables_keep_seven_digits() -> None:
    numbers: FloatArray = np.array([[123456789.0, -1.23456789e-9], [0.1, 0.0]])
    assert to_rows(numbers) == ((123456800.0, -1.234568e-09), (0.1, 0.0))
    float32 = np.random.default_rng(0).normal(0, 100, (4, 3)).astype(np.float32)
    # Seven digits are half a unit of the last: 5e-7 of a number at worst.
    np.testing.assert_allclose(to_rows(float32.astype(np.float64)), float32, rtol=5e-7)
