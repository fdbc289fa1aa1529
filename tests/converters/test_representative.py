"""What the quantizer sees: normal windows, and as many faulty ones."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_vae_converters.representative import CALIBRATION_SEVERITY, CALIBRATIONS, representative

CLIP = 8.0
WINDOWS = np.random.default_rng(0).normal(size=(120, 16, 3)).astype(np.float32)


def made(calibration: str, *, seed: int = 1, windows: NDArray[np.float32] = WINDOWS) -> NDArray[np.float32]:
    return representative(windows, calibration=calibration, clip=CLIP, seed=seed)


def test_normal_calibration_is_the_normal_windows_alone() -> None:
    np.testing.assert_array_equal(made("normal"), WINDOWS)


def test_stress_calibration_is_the_normal_windows_and_as_many_faulty_ones() -> None:
    stress = made("stress")
    assert stress.shape == (240, 16, 3)
    assert stress.dtype == np.float32
    np.testing.assert_array_equal(stress[:120], WINDOWS)
    assert (stress[120:] != WINDOWS).any(axis=(1, 2)).mean() > 0.99
    assert stress[120:].std() > 1.2 * WINDOWS.std()


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
