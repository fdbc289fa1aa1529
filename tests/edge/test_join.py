"""Readings of several sources to rows at one rate: the rules, on plain numbers and against a slow plain twin."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vae.sources.decode import Rows, joined
from edge_vae.sources.join import Joiner

NAN = math.nan


def rows(times: list[float], *columns: list[float]) -> Rows:
    return Rows(np.array(columns, np.float64).T.reshape(len(times), len(columns)), np.array(times, np.float64))


def joiner(
    sources: list[list[str]] | None = None,
    *,
    rate_hz: float = 1.0,
    late_s: float = 5.0,
    max_age_s: float = 100.0,
    join: dict[str, str] | None = None,
    recorded: tuple[bool, ...] = (False, False),
) -> Joiner:
    names = sources or [["fast"], ["slow"]]
    return Joiner(names, rate_hz=rate_hz, late_s=late_s, max_age_s=max_age_s, join=join or {}, recorded=recorded)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("hold", [0.0, 0.0, 20.0, 20.0, 40.0]),
        ("linear", [0.0, 10.0, 20.0, 30.0, 40.0]),
        ("mean", [0.0, 0.0, 20.0, 20.0, 40.0]),
    ],
)
def test_a_slow_source_is_held_or_bridged(way: str, expected: list[float]) -> None:
    made = joiner(join={"slow": way})
    made.push(0, rows([0, 1, 2, 3, 4], [1, 2, 3, 4, 5]))
    made.push(1, rows([0, 2, 4], [0, 20, 40]))

    taken = made.take()
    assert taken.times.tolist() == [0, 1, 2, 3, 4]
    assert taken.values.tolist() == [list(pair) for pair in zip([1, 2, 3, 4, 5], expected, strict=True)]


def test_a_fast_source_is_averaged_over_the_time_since_the_row_before() -> None:
    made = joiner(join={"fast": "mean"})
    made.push(0, rows([0, 0.5, 1.0, 1.5, 2.0], [1, 2, 4, 6, 8]))
    made.push(1, rows([0, 1, 2], [0, 0, 0]))

    assert made.take().values[:, 0].tolist() == [1.0, 3.0, 7.0]


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("hold", [False, False, True, True, False]),
        ("linear", [False, True, True, True, False]),
        ("mean", [False, False, True, True, False]),
    ],
)
def test_a_value_is_uncertain_when_a_reading_is_that_it_was_made_of(way: str, expected: list[bool]) -> None:
    made = joiner(join={"slow": way})
    made.push(0, rows([0, 1, 2, 3, 4], [1, 2, 3, 4, 5]))
    slow = rows([0, 2, 4], [0, 20, 40])
    made.push(1, Rows(slow.values, slow.times, np.array([[False], [True], [False]])))

    uncertain = made.take().uncertain
    assert uncertain is not None
    assert uncertain.T.tolist() == [[False] * 5, expected]


def test_rows_are_made_once_every_source_has_come_so_far() -> None:
    made = joiner()
    made.push(0, rows([0, 1, 2, 3], [1, 2, 3, 4]))
    assert len(made.take()) == 0
    made.push(1, rows([0.5], [9]))
    assert made.take().times.tolist() == [0]
    made.push(1, rows([2.5], [9]))
    assert made.take().times.tolist() == [1, 2]


def test_a_source_that_lags_is_not_waited_for_beyond_late_s_and_its_late_rows_are_dropped() -> None:
    made = joiner(late_s=2.0)
    made.push(1, rows([0], [7]))
    made.push(0, rows([0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]))

    assert made.take().times.tolist() == [0, 1, 2, 3]
    made.push(1, rows([3, 4], [8, 9]))
    made.push(0, rows([6], [7]))
    taken = made.take()
    assert (made.late, taken.times.tolist(), taken.values[:, 1].tolist()) == (1, [4], [9])


def test_a_reading_is_held_for_its_age_and_then_missing() -> None:
    made = joiner(late_s=0.0, max_age_s=2.0)
    made.push(1, rows([0], [7]))
    made.push(0, rows([0, 1, 2, 3, 4], [1, 2, 3, 4, 5]))

    np.testing.assert_array_equal(made.take().values[:, 1], [7, 7, 7, NAN, NAN])


def test_a_missing_reading_is_none_and_the_one_before_it_is_held() -> None:
    made = joiner(max_age_s=1.0)
    made.push(0, rows([0, 1, 2], [1, NAN, NAN]))
    made.push(1, rows([0, 1, 2], [5, 5, 5]))

    np.testing.assert_array_equal(made.take().values[:, 0], [1, 1, NAN])


def test_readings_that_come_out_of_order_are_sorted_in_while_their_row_waits() -> None:
    made = joiner()
    made.push(0, rows([0, 2, 1], [1, 3, 2]))
    made.push(1, rows([0, 1, 2], [0, 0, 0]))

    assert made.take().values[:, 0].tolist() == [1, 2, 3]


def test_rows_lie_on_one_grid_however_the_readings_jitter() -> None:
    generator = np.random.default_rng(1)
    made = joiner(rate_hz=10.0)
    times = 1.7e9 + np.arange(200) / 10 + generator.uniform(-0.02, 0.02, 200)
    made.push(0, rows(times.tolist(), [1.0] * 200))
    made.push(1, rows(times.tolist(), [1.0] * 200))

    np.testing.assert_allclose(np.diff(made.take().times), 0.1, atol=1e-6)


@pytest.mark.parametrize("rate_hz", [0.1, 10.0, 1000.0, 20_000.0])
def test_readings_on_the_grid_are_each_in_the_row_of_their_moment(rate_hz: float) -> None:
    times = (1.7e9 + np.arange(300) / rate_hz).tolist()
    made = joiner(rate_hz=rate_hz, late_s=1e4, max_age_s=1e4)
    made.push(0, rows(times, list(range(300))))
    made.push(1, rows(times, list(range(300))))

    assert made.take().values[:, 0].tolist() == list(range(300))


def test_a_time_without_readings_is_a_gap_and_not_filled() -> None:
    made = joiner(max_age_s=2.0)
    for source in (0, 1):
        made.push(source, rows([0, 1, 1e9, 1e9 + 1], [1, 2, 3, 4]))

    assert made.take().times.tolist() == [0, 1, 2, 3, 1e9, 1e9 + 1]


def test_a_clock_that_is_set_back_begins_anew() -> None:
    made = joiner(max_age_s=2.0)
    for source in (0, 1):
        made.push(source, rows([7200, 7201], [1, 2]))
    made.take()
    for source in (0, 1):
        made.push(source, rows([5, 6], [3, 4]))

    assert made.take().times.tolist() == [5, 6]
    assert made.late == 0


def test_one_time_far_ahead_costs_no_more_than_the_rows_until_the_next_reading() -> None:
    made = joiner(max_age_s=2.0, late_s=1.0)
    for second in range(10):
        for source in (0, 1):
            made.push(source, rows([1e9 if (source, second) == (0, 4) else float(second)], [second]))
        made.take()
    made.push(0, rows([10.0], [10]))
    made.push(1, rows([10.0], [10]))

    assert made.take().times.tolist() == [10]


def test_a_recording_is_waited_for_until_it_ends() -> None:
    made = joiner(late_s=0.0, recorded=(True, True))
    made.push(0, rows([0, 1, 2, 3], [1, 2, 3, 4]))
    assert len(made.take()) == 0
    made.push(1, rows([0, 1], [5, 6]))
    assert made.take().times.tolist() == [0, 1]
    assert made.lead_s(0) == 2.0
    made.end(1)
    assert made.take().values.tolist() == [[3, 6], [4, 6]]


def test_rows_without_a_time_are_late() -> None:
    made = joiner()
    made.push(0, rows([NAN, 1.0], [1, 2]))

    assert made.late == 1


def held_slowly(times: list[float], values: list[float], moment: float, max_age_s: float) -> float:
    before = [(time, value) for time, value in zip(times, values, strict=True) if time <= moment]
    return before[-1][1] if before and moment - before[-1][0] <= max_age_s else NAN


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=30, unique=True).map(sorted),
    st.lists(st.integers(0, 60), min_size=1, max_size=30, unique=True).map(sorted),
    st.integers(1, 20),
    st.integers(1, 7),
)
def test_held_values_are_those_of_a_plain_search_however_the_readings_are_cut_into_pieces(
    fast: list[int], slow: list[int], max_age_s: int, piece: int
) -> None:
    made = joiner(late_s=1e6, max_age_s=max_age_s)
    series = [[float(second) for second in fast], [float(second) for second in slow]]
    taken = [made.take()]
    for at in range(0, 30, piece):
        for source, times in enumerate(series):
            part = times[at : at + piece]
            made.push(source, rows(part, part))
        taken.append(made.take())
    for source in (0, 1):
        made.end(source)
    all_rows = joined([*taken, made.take()])

    assert len(all_rows)
    for moment, row in zip(all_rows.times, all_rows.values, strict=True):
        expected = [held_slowly(times, times, moment, max_age_s) for times in series]
        np.testing.assert_array_equal(row, expected)
    assert all_rows.times[-1] >= max(fast[-1], slow[-1]) - 1
