"""Windows and segments: the same windows however the samples arrive, and never one across a break."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vae.sample import FloatArray
from edge_vae.window import GAP_PERIODS, Windower, sample_period_s, segment_starts, sliding

NAN = float("nan")


def numbered(samples: int, channels: int = 2) -> FloatArray:
    """Every reading is another number, so that no two windows are alike."""
    return np.arange(samples * channels, dtype=np.float64).reshape(samples, channels)


def seconds(samples: int) -> FloatArray:
    """Times of samples at 2 Hz."""
    return np.arange(samples) / 2


def windows_slowly(values: FloatArray, length: int, stride: int) -> list[list[list[float]]]:
    return [values[at : at + length].tolist() for at in range(0, len(values) - length + 1, stride)]


def starts(times: list[float], usable: list[bool] | None = None, **options: float) -> list[bool]:
    kept = np.ones(len(times), np.bool_) if usable is None else np.array(usable)
    found: list[bool] = segment_starts(np.array(times), kept, **{"period_s": 1.0, **options}).tolist()
    return found


@pytest.mark.parametrize(("length", "stride"), [(4, 1), (4, 4), (4, 7), (1, 1), (5, 3)])
@pytest.mark.parametrize("samples", [0, 3, 4, 5, 40])
def test_sliding_windows_are_the_slices_at_every_stride(samples: int, length: int, stride: int) -> None:
    values = numbered(samples)
    found = sliding(values, length=length, stride=stride)
    assert found.shape[1:] == (length, 2)
    assert found.tolist() == windows_slowly(values, length, stride)


@given(
    length=st.integers(1, 9),
    stride=st.integers(1, 14),
    pieces=st.lists(st.integers(0, 60), max_size=12),
    restart_after=st.integers(0, 12),
)
def test_a_windower_gives_the_windows_of_the_whole_segment_for_any_pieces(
    length: int, stride: int, pieces: list[int], restart_after: int
) -> None:
    values = numbered(sum(pieces))
    windower = Windower(length=length, stride=stride, channels=2)
    for size in pieces[:restart_after]:  # whatever an earlier segment left behind must not matter
        windower.push(-numbered(size), numbered(size), -seconds(size))
    windower.reset()

    ends: list[int] = []
    windows: list[FloatArray] = []
    scaled: list[FloatArray] = []
    start_times: list[float] = []
    end_times: list[float] = []
    at = 0
    for size in pieces:
        piece = slice(at, at + size)
        found = windower.push(values[piece], -values[piece], seconds(len(values))[piece])
        assert found.values.shape == found.scaled.shape == (len(found.ends), length, 2)
        ends += (at + found.ends).tolist()
        windows += list(found.values)
        scaled += list(found.scaled)
        start_times += found.start_times.tolist()
        end_times += found.end_times.tolist()
        at += size

    expected = sliding(values, length=length, stride=stride)
    assert ends == [length - 1 + i * stride for i in range(len(expected))]
    assert start_times == [i * stride / 2 for i in range(len(expected))]
    assert end_times == [end / 2 for end in ends]
    np.testing.assert_array_equal(np.array(windows).reshape(expected.shape), expected)
    np.testing.assert_array_equal(np.array(scaled).reshape(expected.shape), -expected)


def test_a_piece_much_larger_than_the_buffer_gives_every_window() -> None:
    values = numbered(50_000)
    found = Windower(length=16, stride=5, channels=2).push(values, values, seconds(50_000))
    np.testing.assert_array_equal(found.values, sliding(values, length=16, stride=5))
    assert found.ends[-1] == 15 + 5 * (len(found.ends) - 1)
    np.testing.assert_array_equal(found.start_times, (found.ends - 15) / 2)


@pytest.mark.parametrize("samples", [1, 4, 5_000])
@pytest.mark.parametrize("restarted", [False, True])
def test_windows_handed_out_earlier_keep_their_values(samples: int, *, restarted: bool) -> None:
    windower = Windower(length=4, stride=1, channels=2)
    first = windower.push(numbered(6), numbered(6), seconds(6))
    kept = [array.copy() for array in first]
    if restarted:
        windower.reset()
    for _ in range(100):
        windower.push(-numbered(samples), -numbered(samples), -seconds(samples))
    for array, before in zip(first, kept, strict=True):
        np.testing.assert_array_equal(array, before)


def test_the_buffer_holds_windows_not_the_recording() -> None:
    windower = Windower(length=8, stride=2, channels=1)
    windower.push(numbered(100_000, 1), numbered(100_000, 1), seconds(100_000))
    for _ in range(1_000):
        windower.push(numbered(1, 1), numbered(1, 1), seconds(1))
        assert windower._values.nbytes == windower._scaled.nbytes < 1_000


@pytest.mark.parametrize("wrong", [{"length": 0}, {"stride": 0}, {"channels": 0}])
def test_a_windower_of_nothing_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Windower(**{"length": 4, "stride": 1, "channels": 1, **wrong})


def test_steady_times_are_one_segment() -> None:
    assert starts([10, 11, 12, 13]) == [False] * 4


def test_a_gap_longer_than_five_periods_starts_a_segment() -> None:
    assert starts([0, 1, 1 + GAP_PERIODS, 2 + GAP_PERIODS]) == [False] * 4
    assert starts([0, 1, 1.1 + GAP_PERIODS, 2.1 + GAP_PERIODS]) == [False, False, True, False]


def test_a_clock_that_steps_back_starts_a_segment() -> None:
    assert starts([10, 11, 5, 6]) == [False, False, True, False]


def test_a_repeated_time_is_no_break() -> None:
    assert starts([10, 11, 11, 12]) == [False] * 4


def test_missing_times_never_make_a_gap() -> None:
    assert starts([0, NAN, 1000, NAN, NAN, 2000]) == [False] * 6
    assert starts([0, 1000], previous_s=NAN) == [False, True]


def test_the_first_row_is_measured_against_the_row_before_it() -> None:
    assert starts([10, 11], previous_s=9) == [False, False]
    assert starts([10, 11], previous_s=1) == [True, False]
    assert starts([10, 11], previous_s=12) == [True, False]


def test_the_row_after_a_removed_one_starts_a_segment_and_removed_rows_never_do() -> None:
    assert starts([0, 1, 2, 3, 4], [True, False, False, True, True]) == [False, False, False, True, False]
    assert starts([0, 1, 100], [True, True, False]) == [False, False, False]


def test_no_rows_have_no_starts() -> None:
    assert starts([]) == []


def test_the_period_of_stamps_cut_to_whole_seconds_is_the_true_mean() -> None:
    """A logger at 0.95 Hz that writes whole seconds: every twentieth step is two seconds, the median step one."""
    stamps = np.floor(np.arange(2_000) / 0.95)
    assert np.median(np.diff(stamps)) == 1.0
    assert sample_period_s(stamps) == pytest.approx(1 / 0.95, rel=1e-3)


def test_gaps_and_steps_back_do_not_count_for_the_period() -> None:
    times = np.concatenate([np.arange(0, 100, 0.1), np.arange(5_000, 5_100, 0.1), np.arange(50, 80, 0.1), [NAN, NAN]])
    assert sample_period_s(times) == pytest.approx(0.1)


@pytest.mark.parametrize("times", [[], [1.0], [NAN, NAN], [3.0, 3.0], [5.0, 4.0]])
def test_without_two_usable_times_there_is_no_period(times: list[float]) -> None:
    assert np.isnan(sample_period_s(np.array(times)))


@given(st.integers(1, 9), st.integers(1, 12), st.lists(st.integers(1, 30), min_size=1, max_size=20))
def test_the_next_window_is_complete_with_the_samples_that_are_awaited(
    length: int, stride: int, pieces: list[int]
) -> None:
    windower = Windower(length=length, stride=stride, channels=1)

    def completed(samples: int) -> int:
        return len(windower.push(np.zeros((samples, 1)), np.zeros((samples, 1)), np.zeros(samples)).ends)

    for piece in pieces:
        completed(piece)
        awaited = windower.awaited
        assert awaited >= 1
        assert completed(awaited - 1) == 0
        assert completed(1) == 1
