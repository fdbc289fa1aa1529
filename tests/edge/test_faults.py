"""Synthetic faults do what their names say, to the channels they are told, and follow from a seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_vae.faults import FAULTS, inject, stress
from edge_vae.sample import FloatArray

LENGTH = 64
CLIP = 8.0
T = np.arange(LENGTH)
NORMAL = np.column_stack([np.sin(T / 5.0), np.cos(T / 3.0) + 0.5, T / LENGTH, np.sin(T / 2.0) * 0.3])
ALL = np.ones(4, np.bool_)


def faulty(fault: str, severity: float, *, seed: int = 0, channels: list[bool] | None = None) -> FloatArray:
    chosen = ALL if channels is None else np.array(channels)
    return inject(NORMAL, fault=fault, channels=chosen, severity=severity, generator=np.random.default_rng(seed))


def changed(fault: str, severity: float = 4.0, **options: int) -> FloatArray:
    return faulty(fault, severity, **options) - NORMAL


def level_moves(window: FloatArray, severity: float) -> bool:
    return bool(np.allclose(np.abs(window - NORMAL), severity))


def deviation_grows(window: FloatArray, severity: float) -> bool:
    return np.allclose(window.mean(axis=0), NORMAL.mean(axis=0)) and np.allclose(
        window.std(axis=0), (1 + severity / 2) * NORMAL.std(axis=0)
    )


def ramps(window: FloatArray, severity: float) -> bool:
    return bool(np.allclose(np.abs(window - NORMAL), severity * T[:, None] / (LENGTH - 1)))


def one_sample_is_off(window: FloatArray, severity: float) -> bool:
    off = np.abs(window - NORMAL)
    return bool((np.count_nonzero(off, axis=0) == 1).all() and np.allclose(off.max(axis=0), 2 * severity))


def is_noisier(window: FloatArray, severity: float) -> bool:
    added = (window - NORMAL) / (severity / 2)
    neighbours = (added[1:] * added[:-1]).mean()
    # 256 values: the spread of their standard deviation is 4 %, of the mean product of neighbours 6 %.
    return bool(abs(added.std() - 1) < 0.2 and abs(neighbours) < 0.25)


def is_constant(window: FloatArray, severity: float) -> bool:
    return bool((window == window[0]).all() and (window[0] == NORMAL).any(axis=0).all())


def rests_low(window: FloatArray, severity: float) -> bool:
    low = NORMAL.mean(axis=0) - severity
    resting = np.isclose(window, low).all(axis=1)
    onset = int(np.argmax(resting))
    return bool(resting[onset:].all() and (window[:onset] == NORMAL[:onset]).all() and onset < LENGTH // 2)


def comes_late(window: FloatArray, severity: float) -> bool:
    late = int(severity * LENGTH / 16)
    return bool((window[late:] == NORMAL[:-late]).all())


def moves_against_itself(window: FloatArray, severity: float) -> bool:
    without_drift = window - np.sign(window[-1] - (2 * NORMAL.mean(axis=0) - NORMAL)[-1]) * (
        severity / 2 * T[:, None] / (LENGTH - 1)
    )
    return bool(np.allclose(without_drift + NORMAL, 2 * NORMAL.mean(axis=0)))


def swings(window: FloatArray, severity: float) -> bool:
    added = window - NORMAL
    energy = np.abs(np.fft.rfft(added * np.hanning(LENGTH)[:, None], axis=0)) ** 2
    peak = energy.argmax(axis=0)
    near = sum(energy[np.clip(peak + k, 0, len(energy) - 1), range(4)] for k in (-2, -1, 0, 1, 2))
    return bool(np.abs(added).max() <= severity and (near > 0.9 * energy.sum(axis=0)).all() and peak.max() <= 17)


def changes_mode(window: FloatArray, severity: float) -> bool:
    onset = int(np.argmax((window != NORMAL).any(axis=1)))
    moved = window[onset:] - NORMAL.mean(axis=0)
    halved = (NORMAL[onset:] - NORMAL.mean(axis=0)) / 2
    return bool(np.allclose(np.abs(moved - halved), severity) and onset < LENGTH // 2)


SAYS: dict[str, Callable[[FloatArray, float], bool]] = {
    "offset": level_moves,
    "gain": deviation_grows,
    "drift": ramps,
    "spike": one_sample_is_off,
    "noise": is_noisier,
    "stuck": is_constant,
    "dropout": rests_low,
    "lag": comes_late,
    "correlation-break": moves_against_itself,
    "oscillation": swings,
    "mode-change": changes_mode,
}


def test_every_fault_is_described_here() -> None:
    assert sorted(SAYS) == sorted(FAULTS)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("severity", [1.0, 5.0])
@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_fault_does_what_it_says(fault: str, severity: float, seed: int) -> None:
    assert SAYS[fault](faulty(fault, severity, seed=seed), severity)


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_no_description_fits_a_normal_window(fault: str) -> None:
    assert not SAYS[fault](NORMAL.copy(), 3.0)


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_fault_changes_the_chosen_channels_alone_and_leaves_the_window_itself(fault: str) -> None:
    before = NORMAL.copy()
    window = faulty(fault, 3.0, channels=[False, True, False, True])
    np.testing.assert_array_equal(window[:, [0, 2]], NORMAL[:, [0, 2]])
    assert (window[:, [1, 3]] != NORMAL[:, [1, 3]]).any(axis=0).all()
    np.testing.assert_array_equal(NORMAL, before)


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_the_same_seed_gives_the_same_fault(fault: str) -> None:
    np.testing.assert_array_equal(faulty(fault, 2.0, seed=5), faulty(fault, 2.0, seed=5))


@pytest.mark.parametrize(
    "fault", ["offset", "gain", "drift", "spike", "noise", "dropout", "oscillation", "mode-change"]
)
def test_a_worse_fault_lies_further_from_normal(fault: str) -> None:
    mild, severe = (float(np.abs(changed(fault, severity)).max()) for severity in (1.0, 6.0))
    assert severe > 2 * mild


@pytest.mark.parametrize("fault", sorted(FAULTS))
@pytest.mark.parametrize("length", [4, 5])
def test_a_fault_fits_the_shortest_windows(fault: str, length: int) -> None:
    window = inject(NORMAL[:length], fault=fault, channels=ALL, severity=3.0, generator=np.random.default_rng(1))
    assert window.shape == (length, 4)
    assert np.isfinite(window).all()


def stressed(seed: int, *, count: int = 400, severity: float = CLIP, sources: int = 50) -> NDArray[np.float32]:
    windows = np.random.default_rng(9).normal(0, 1, (sources, 16, 3)).astype(np.float32)
    windows = windows[np.arange(count) % sources]
    return stress(windows, severity=severity, clip=CLIP, generator=np.random.default_rng(seed))


def test_stress_windows_stay_inside_the_clip_and_reach_it() -> None:
    windows = stressed(0)
    assert windows.shape == (400, 16, 3)
    assert windows.dtype == np.float32
    assert np.abs(windows).max() == CLIP
    assert windows.min() == -CLIP


def test_every_window_is_disturbed_itself_and_left_as_it_is() -> None:
    levels = np.linspace(-0.7, 0.7, 60, dtype=np.float32)
    windows = np.random.default_rng(9).normal(levels[:, None, None], 1e-3, (60, 16, 3)).astype(np.float32)
    before = windows.copy()
    made = stress(windows, severity=0.0, clip=CLIP, generator=np.random.default_rng(0))
    np.testing.assert_array_equal(windows, before)
    # Without severity every fault but a late, a stuck and a reversed reading leaves a sample near its window's level.
    np.testing.assert_allclose(made, np.broadcast_to(levels[:, None, None], made.shape), atol=0.02)
    assert (made != windows).any(axis=(1, 2)).mean() > 0.25


def test_no_windows_give_no_stress() -> None:
    assert stressed(0, count=0).shape == (0, 16, 3)


def test_stress_follows_from_its_generator() -> None:
    np.testing.assert_array_equal(stressed(3), stressed(3))
    assert (stressed(3) != stressed(4)).any(axis=(1, 2)).mean() > 0.9


def test_milder_stress_leaves_the_clip_alone() -> None:
    mild, severe = stressed(0, severity=0.5), stressed(0)
    assert np.abs(mild).max() < CLIP  # normal windows reach 4, an amplified one 5
    assert np.abs(mild).mean() < 0.5 * np.abs(severe).mean()


def test_stress_disturbs_single_channels_and_all_of_them() -> None:
    windows = np.random.default_rng(9).normal(0, 1, (1, 16, 3)).astype(np.float32)
    made = stressed(0, count=300, sources=1)
    disturbed = (made != windows).any(axis=1).sum(axis=1)
    assert set(disturbed.tolist()) >= {1, 2, 3}
