import numpy as np
import pytest

from edge_vae.sources.sample_clock import SampleClock
from edge_vae.window import GAP_PERIODS

BOOT_S = 1.7e9
"""Seconds since 1970 when the monotonic clock was at 0."""


def gaps(times: np.ndarray, *, rate_hz: float) -> int:
    steps = np.diff(times)
    return int(((steps > GAP_PERIODS / rate_hz) | (steps < 0)).sum())


def bursts(clock: SampleClock, arrivals: np.ndarray, *, samples: int, boot_s: float = BOOT_S) -> np.ndarray:
    made = [clock.times(samples, monotonic_s=at, wall_s=at + boot_s) for at in arrivals]
    return np.concatenate(made)


def test_the_last_sample_of_the_first_burst_is_as_old_as_its_arrival() -> None:
    times = SampleClock(10.0).times(3, monotonic_s=5.0, wall_s=BOOT_S + 5.0)

    assert times.tolist() == pytest.approx([BOOT_S + 4.8, BOOT_S + 4.9, BOOT_S + 5.0])


@pytest.mark.parametrize(("rate_hz", "samples"), [(1.0, 1), (100.0, 10), (20_000.0, 1000)])
def test_arrivals_that_jitter_give_even_times_without_a_gap(rate_hz: float, samples: int) -> None:
    generator = np.random.default_rng(1)
    due = np.arange(1, 400) * samples / rate_hz
    times = bursts(SampleClock(rate_hz), due + generator.uniform(0, 0.2, len(due)), samples=samples)

    assert gaps(times, rate_hz=rate_hz) == 0
    late_s = times[samples - 1 :: samples] - BOOT_S - due
    assert np.abs(late_s).max() < 0.2


@pytest.mark.parametrize("wrong", [0.98, 1.02])
def test_a_sensor_whose_rate_is_not_quite_right_is_followed(wrong: float) -> None:
    due = np.arange(1, 2000) * 10 / (100.0 * wrong)
    times = bursts(SampleClock(100.0), due, samples=10)

    assert gaps(times, rate_hz=100.0) == 0
    assert abs(times[-1] - BOOT_S - due[-1]) < 0.05


@pytest.mark.parametrize("set_by_s", [-7200.0, 7200.0, 1.7e9])
def test_a_system_clock_that_is_set_makes_one_gap_and_is_right_after_it(set_by_s: float) -> None:
    clock, due = SampleClock(10.0), np.arange(1, 50) / 10.0
    before = bursts(clock, due, samples=1)
    after = bursts(clock, due + 4.9, samples=1, boot_s=BOOT_S + set_by_s)

    times = np.concatenate([before, after])
    assert gaps(times, rate_hz=10.0) == 1
    np.testing.assert_allclose(after, due + 4.9 + BOOT_S + set_by_s, rtol=0, atol=1e-4)


def test_a_pause_is_a_gap_and_the_times_after_it_are_right() -> None:
    clock, due = SampleClock(10.0), np.arange(1, 50) / 10.0
    before, after = bursts(clock, due, samples=1), bursts(clock, due + 60.0, samples=1)

    assert gaps(np.concatenate([before, after]), rate_hz=10.0) == 1
    assert after[0] == pytest.approx(BOOT_S + 60.1)


def test_no_samples_have_no_times() -> None:
    assert SampleClock(1.0).times(0, monotonic_s=0.0, wall_s=0.0).shape == (0,)
