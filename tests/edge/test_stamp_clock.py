import numpy as np
import pytest

from edge_vae.sources.stamp_clock import StampClock

BOOT_NS = 1_700_000_000_000_000_000
"""Nanoseconds since 1970 when the clock of the stamps was at 0."""


def at(clock: StampClock, stamps_s: list[float], *, boot_ns: int = BOOT_NS, slow_ns: int = 0) -> list[float]:
    """Times of samples with these stamps, read just after the last one."""
    stamps = np.array([round(stamp * 1e9) for stamp in stamps_s], np.int64)
    now_ns = int(stamps[-1])
    return clock.times(
        len(stamps), stamps, clock_ns=now_ns, wall_ns=now_ns + boot_ns + slow_ns, monotonic_s=now_ns / 1e9
    ).tolist()


def test_stamps_of_the_system_clock_are_the_times() -> None:
    stamps = np.array([BOOT_NS, BOOT_NS + 500_000_000], np.int64)
    times = StampClock(10.0).times(2, stamps, clock_ns=BOOT_NS, wall_ns=BOOT_NS + 200, monotonic_s=5.0)

    assert times.tolist() == [1.7e9, 1.7e9 + 0.5]


def test_stamps_since_boot_become_times_that_a_slow_reader_does_not_shake() -> None:
    clock = StampClock(10.0)

    assert at(clock, [1.0, 1.1]) == pytest.approx([1.7e9 + 1.0, 1.7e9 + 1.1], abs=1e-6)
    assert at(clock, [1.2, 1.3], slow_ns=400_000_000) == pytest.approx([1.7e9 + 1.2, 1.7e9 + 1.3], abs=1e-6)


def test_a_system_clock_that_is_set_is_followed() -> None:
    clock = StampClock(10.0)
    at(clock, [1.0])

    assert at(clock, [1.1], boot_ns=BOOT_NS + 7_200_000_000_000) == pytest.approx([1.7e9 + 7201.1], abs=1e-6)


@pytest.mark.parametrize("stamps", [None, np.array([0, 0], np.int64)])
def test_samples_without_stamps_or_with_wrong_ones_have_times_by_the_rate(stamps: np.ndarray | None) -> None:
    times = StampClock(10.0).times(2, stamps, clock_ns=BOOT_NS, wall_ns=BOOT_NS, monotonic_s=5.0)

    assert times.tolist() == pytest.approx([1.7e9 - 0.1, 1.7e9])


def test_stamps_of_a_clock_that_is_not_known_are_not_taken() -> None:
    times = StampClock(10.0).times(1, np.array([5], np.int64), clock_ns=None, wall_ns=BOOT_NS, monotonic_s=5.0)

    assert times.tolist() == [1.7e9]
