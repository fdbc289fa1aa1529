"""What the quantizer sees: normal windows, and as many faulty ones."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_vae_converters.representative import (
    CALIBRATION_SEVERITY,
    CALIBRATIONS,
    MAX_GAIN,
    faulty,
    representative,
)
from edge_vae_train.prepare import WindowSet

CLIP = 8.0
WINDOWS = np.random.default_rng(0).normal(size=(120, 16, 3)).astype(np.float32)


NO_CONDITION = np.zeros((120, 0), np.float32)


def made(calibration: str, *, seed: int = 1, windows: NDArray[np.float32] = WINDOWS) -> NDArray[np.float32]:
    found = representative(WindowSet(windows, NO_CONDITION), calibration=calibration, clip=CLIP, seed=seed)
    assert found.conditions.shape == (len(found), 0)
    return found.windows


def moded() -> WindowSet:
    """Windows of three modes far apart, so that a window tells its mode whatever fault it has."""
    mode = np.arange(120) % 3
    level = np.array([-100.0, 0.0, 100.0])[mode][:, None, None]
    return WindowSet((WINDOWS + level).astype(np.float32), np.eye(3, dtype=np.float32)[mode])


def test_a_faulty_window_keeps_the_condition_of_the_window_that_it_was_made_of() -> None:
    found = faulty(moded(), count=300, severity=CLIP, clip=1000.0, seed=3)
    assert found.windows.shape == (300, 16, 3)
    level = np.median(found.windows, axis=(1, 2))
    np.testing.assert_array_equal(found.conditions, np.eye(3, dtype=np.float32)[np.digitize(level, [-50.0, 50.0])])
    assert (found.conditions.sum(axis=0) > 60).all()


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_what_the_quantizer_sees_keeps_each_windows_condition(calibration: str) -> None:
    windows = moded()
    found = representative(windows, calibration=calibration, clip=1000.0, seed=3)
    np.testing.assert_array_equal(found.conditions[:120], windows.conditions)
    if calibration == "stress":
        made_of = faulty(windows, count=120, severity=CALIBRATION_SEVERITY * 1000.0, clip=1000.0, seed=3)
        np.testing.assert_array_equal(found.windows[120:240], made_of.windows)
        np.testing.assert_array_equal(found.conditions[120:240], made_of.conditions)
        np.testing.assert_array_equal(found.conditions[240:], windows.conditions)


def test_normal_calibration_is_the_normal_windows_alone() -> None:
    np.testing.assert_array_equal(made("normal"), WINDOWS)


def test_stress_calibration_is_the_normal_windows_and_as_many_faulty_and_amplified_ones() -> None:
    stress = made("stress")
    assert stress.shape == (360, 16, 3)
    assert stress.dtype == np.float32
    np.testing.assert_array_equal(stress[:120], WINDOWS)
    assert (stress[120:240] != WINDOWS).any(axis=(1, 2)).mean() > 0.99
    assert stress[120:240].std() > 1.2 * WINDOWS.std()


def test_an_amplified_window_has_all_its_samples_grown_by_one_gain_and_stays_inside_the_clip() -> None:
    gains = []
    for window, amplified in zip(WINDOWS, made("stress")[240:], strict=True):
        inside = np.abs(amplified) < CLIP
        ratios = (amplified / window)[inside]
        np.testing.assert_allclose(ratios, ratios[0], rtol=1e-4)
        assert (np.abs(window * ratios[0])[~inside] >= CLIP * (1 - 1e-4)).all()
        gains.append(float(ratios[0]))
    assert 1.0 <= min(gains) < 1.3
    assert 3.7 < max(gains) <= MAX_GAIN + 1e-4


def test_stress_windows_leave_the_normal_range_and_stay_inside_the_clip() -> None:
    stress = made("stress")
    assert np.abs(WINDOWS).max() < CALIBRATION_SEVERITY * CLIP + 1.5
    assert CALIBRATION_SEVERITY * CLIP < np.abs(stress).max() <= CLIP


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_windows_are_clipped(calibration: str) -> None:
    wild = WINDOWS.copy()
    wild[3, 4, 1], wild[5, 6, 2] = 1e6, -1e6
    found = made(calibration, windows=wild)
    assert found.max() == CLIP
    assert found.min() == -CLIP


def test_faults_follow_from_the_seed() -> None:
    np.testing.assert_array_equal(made("stress"), made("stress"))
    assert (made("stress") != made("stress", seed=2)).any()


def test_the_windows_themselves_stay_as_they_are() -> None:
    before = WINDOWS.copy()
    made("stress")
    np.testing.assert_array_equal(WINDOWS, before)
