"""Features of a window: each equals its formula, and none of them overflows."""

from __future__ import annotations

import cmath
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vae.features import MAX_BANDS, feature_names, features
from edge_vae.sample import FloatArray
from edge_vae.view import LIMIT_SIGMA

LENGTHS = [4, 5, 16, 17, 32, 33]


def some_windows(length: int, *, seed: int = 0, windows: int = 5, channels: int = 3) -> FloatArray:
    generator = np.random.default_rng(seed)
    return generator.normal(0.5, 2.0, (windows, length, channels)) + np.linspace(0, 1, length)[:, None]


def features_slowly(samples: list[float]) -> dict[str, float]:
    """The features of one channel of one window, sample by sample."""
    length = len(samples)
    mean = sum(samples) / length
    quarter = max(1, length // 4)
    differences = [abs(b - a) for a, b in pairwise(samples)]
    named = {
        "mean": mean,
        "log_std": math.log(math.sqrt(sum((s - mean) ** 2 for s in samples) / length) + 1e-3),
        "log_mean_difference": math.log(sum(differences) / len(differences) + 1e-3),
        "log_peak_to_peak": math.log(max(samples) - min(samples) + 1e-3),
        "slope": sum(samples[-quarter:]) / quarter - sum(samples[:quarter]) / quarter,
    }
    return named | {f"log_band_{i}": math.log(p + 1e-5) for i, p in enumerate(band_powers_slowly(samples, mean), 1)}


def band_powers_slowly(samples: list[float], mean: float) -> list[float]:
    """Mean power of the bins of each band: a Hann window and a Fourier sum, bin by bin."""
    length = len(samples)
    tapered = [(s - mean) * (0.5 - 0.5 * math.cos(2 * math.pi * t / (length - 1))) for t, s in enumerate(samples)]
    bins = length // 2
    powers = [
        abs(sum(s * cmath.exp(-2j * math.pi * k * t / length) for t, s in enumerate(tapered))) ** 2
        for k in range(1, bins + 1)
    ]
    bands = min(8, bins)
    edges = [bins * i // bands for i in range(bands + 1)]
    return [sum(powers[a:b]) / (b - a) for a, b in pairwise(edges)]


@pytest.mark.parametrize("length", LENGTHS)
def test_features_equal_their_slow_twin(length: int) -> None:
    windows = some_windows(length)
    found = features(windows)
    for i, window in enumerate(windows):
        for c in range(windows.shape[2]):
            slow = features_slowly(window[:, c].tolist())
            assert feature_names(length) == tuple(slow)
            # The same sums in another order; the powers of a band are sums of products of up to 33 samples.
            np.testing.assert_allclose(found[i, :, c], list(slow.values()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("length", LENGTHS)
def test_every_feature_has_a_name_of_its_own(length: int) -> None:
    names = feature_names(length)
    assert features(some_windows(length)).shape == (5, len(names), 3)
    assert len(set(names)) == len(names) == 5 + min(MAX_BANDS, length // 2)
    assert names[0] == "mean"


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("level", [0.0, 7.3, LIMIT_SIGMA, -LIMIT_SIGMA])
def test_a_constant_window_has_its_level_and_the_floors(length: int, level: float) -> None:
    found = dict(zip(feature_names(length), features(np.full((1, length, 1), level))[0, :, 0].tolist(), strict=True))
    assert found.pop("mean") == pytest.approx(level)
    assert found.pop("slope") == pytest.approx(0.0, abs=1e-9)
    bands = [found.pop(name) for name in feature_names(length) if name.startswith("log_band")]
    assert list(found.values()) == pytest.approx([math.log(1e-3)] * 3)
    assert bands == pytest.approx([math.log(1e-5)] * len(bands))


@pytest.mark.parametrize("length", LENGTHS)
def test_windows_that_jump_between_the_limits_have_finite_features(length: int) -> None:
    jumping = LIMIT_SIGMA * np.where(np.arange(length) % 2, 1.0, -1.0)
    windows = np.stack([jumping, np.sort(jumping), -jumping])[:, :, None]
    found = features(windows)
    assert np.isfinite(found).all()
    assert found[:, 0].max() <= LIMIT_SIGMA
    np.testing.assert_allclose(found[:, 3], math.log(2 * LIMIT_SIGMA), rtol=1e-6)


@given(st.integers(4, 40), st.integers(0, 99), st.lists(st.floats(-LIMIT_SIGMA, LIMIT_SIGMA), max_size=6))
def test_any_window_within_the_limits_has_finite_features(length: int, seed: int, spikes: list[float]) -> None:
    windows = some_windows(length, seed=seed, windows=1, channels=1)
    windows[0, : len(spikes[:length]), 0] = spikes[:length]
    assert np.isfinite(features(windows)).all()


def test_a_window_has_the_same_features_alone_and_among_others() -> None:
    windows = some_windows(33, windows=9)
    np.testing.assert_array_equal(features(windows), np.concatenate([features(window[None]) for window in windows]))


def test_a_channel_has_the_same_features_whatever_its_neighbours_do() -> None:
    windows = some_windows(16)
    disturbed = windows.copy()
    disturbed[:, :, 1] *= 100
    found, after = features(windows), features(disturbed)
    np.testing.assert_array_equal(after[:, :, [0, 2]], found[:, :, [0, 2]])
    assert (after[:, :, 1] != found[:, :, 1]).any(axis=0).all()


@pytest.mark.parametrize("cycles", [1, 6, 14])
def test_a_tone_is_loudest_in_the_band_of_its_frequency(cycles: int) -> None:
    length = 32
    tone = np.sin(2 * np.pi * cycles * np.arange(length) / length)[None, :, None]
    bands = features(tone)[0, 5:, 0]
    assert int(bands.argmax()) == (cycles - 1) // 2  # sixteen bins, two to a band, from bin 1


def test_features_leave_the_windows_as_they_are_and_no_windows_have_none() -> None:
    windows = some_windows(16)
    before = windows.copy()
    features(windows)
    np.testing.assert_array_equal(windows, before)
    assert features(windows[:0]).shape == (0, 13, 3)
