"""Values that are told when they change, at an even rate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vae.sources.decode import Rows
from edge_vae.sources.hold import STEP_S, Change, Hold

NAN = math.nan
START_S = 1_800_000_000.0


class Teller:
    """Tells changes to a hold of two channels at 10 Hz; times count from its start, and its clock runs as ours."""

    def __init__(self, *, settle_s: float = 0.0) -> None:
        self.hold = Hold(2, rate_hz=10.0, settle_s=settle_s)
        self.set_s = 0.0

    def tell(self, told_s: float, *changes: Change) -> Rows:
        moved = [(channel, START_S + at_s, value) for channel, at_s, value in changes]
        return self.hold.push(moved, told_s=START_S + told_s, monotonic_s=told_s - self.set_s)


def times(rows: Rows) -> list[float]:
    return [round(at, 6) for at in (rows.times - START_S).tolist()]


def test_a_tick_has_the_last_value_at_or_before_it_and_keeps_it_until_the_next() -> None:
    teller = Teller()
    teller.tell(0.05, (0, -3600.0, 1.0), (1, 0.01, 10.0))
    rows = teller.tell(0.35, (0, 0.2, 2.0), (0, 0.29, 3.0))

    assert times(rows) == [0.1, 0.2, 0.3]
    np.testing.assert_array_equal(rows.values, [[1, 10], [2, 10], [3, 10]])


def test_ticks_go_on_while_nothing_changes() -> None:
    teller = Teller()
    teller.tell(0.05, (0, 0.0, 1.0), (1, 0.0, 10.0))
    rows = teller.tell(0.3)

    assert times(rows) == [0.1, 0.2, 0.3]
    np.testing.assert_array_equal(rows.values, [[1, 10]] * 3)


def test_a_channel_without_a_value_yet_is_missing_and_one_that_turns_bad_is_so_until_it_is_good_again() -> None:
    teller = Teller()
    teller.tell(0.05, (0, 0.0, 1.0))
    rows = teller.tell(0.45, (0, 0.2, NAN), (0, 0.35, 2.0))

    np.testing.assert_array_equal(rows.values, [[1, NAN], [NAN, NAN], [NAN, NAN], [2, NAN]])


def test_a_tick_waits_for_values_that_take_their_time() -> None:
    teller = Teller(settle_s=0.15)
    assert times(teller.tell(0.05, (0, 0.0, 1.0), (1, 0.0, 10.0))) == []
    assert times(teller.tell(0.2)) == []
    rows = teller.tell(0.26, (0, 0.1, 2.0))

    assert times(rows) == [0.1]
    np.testing.assert_array_equal(rows.values, [[2, 10]])


def test_a_value_that_comes_later_still_counts_from_the_next_tick() -> None:
    teller = Teller()
    teller.tell(0.05, (0, 0.0, 1.0), (1, 0.0, 10.0))
    teller.tell(0.3)
    rows = teller.tell(0.4, (0, 0.15, 2.0))

    np.testing.assert_array_equal(rows.values, [[2, 10]])


@pytest.mark.parametrize("at_s", [NAN, 3600.0])
def test_a_value_without_a_time_or_from_the_future_has_that_of_its_message(at_s: float) -> None:
    teller = Teller()
    teller.tell(0.05, (0, 0.0, 1.0), (1, 0.0, 10.0))
    teller.tell(0.15, (0, at_s, 2.0))
    rows = teller.tell(0.25)

    assert times(rows) == [0.2]
    np.testing.assert_array_equal(rows.values, [[2, 10]])


def test_values_of_a_channel_keep_their_order_whatever_their_times_say() -> None:
    teller = Teller()
    teller.tell(0.05, (0, 0.0, 1.0), (1, 0.0, 10.0))
    rows = teller.tell(0.15, (0, 0.08, 2.0), (0, 0.06, 3.0))

    np.testing.assert_array_equal(rows.values, [[3, 10]])


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0])
def test_ticks_follow_a_clock_that_was_set_and_make_nothing_up_between(step_s: float) -> None:
    teller = Teller()
    teller.tell(0.05, (0, 0.0, 1.0), (1, 0.0, 10.0))
    assert times(teller.tell(0.15)) == [0.1]
    teller.set_s = step_s
    assert times(teller.tell(0.25 + step_s)) == []
    rows = teller.tell(0.35 + step_s, (0, 0.28 + step_s, 2.0))

    assert times(rows) == [0.3 + step_s]
    np.testing.assert_array_equal(rows.values, [[2, 10]])


def test_a_message_that_was_long_on_its_way_is_no_set_clock() -> None:
    teller = Teller()
    teller.tell(0.05, (0, 0.0, 1.0), (1, 0.0, 10.0))
    teller.set_s = 0.9 * STEP_S

    assert len(teller.tell(1.05)) == 10


# 8 Hz and times in 64ths of a second: doubles hold their sums with 1.8e9 exactly.
sixty_fourths = st.integers(0, 800).map(lambda count: count / 64)


@settings(max_examples=50)
@given(
    steps=st.lists(st.integers(0, 30).map(lambda count: count / 64), min_size=1, max_size=30),
    changes=st.lists(st.tuples(st.integers(0, 1), sixty_fourths, st.integers(-9, 9).map(float)), max_size=40),
    settle_s=st.sampled_from([0.0, 0.125, 0.25]),
)
def test_however_changes_are_told_the_rows_are_those_of_the_slow_way(
    steps: list[float], changes: list[Change], settle_s: float
) -> None:
    hold = Hold(2, rate_hz=8.0, settle_s=settle_s)
    changes = sorted(changes, key=lambda change: change[1])
    told_s, told, values = 0.0, 0, []
    for step in [0.0, *steps]:
        told_s += step
        due = [change for change in changes[told:] if change[1] <= told_s]
        told += len(due)
        moved = [(channel, START_S + at_s, value) for channel, at_s, value in due]
        values.append(hold.push(moved, told_s=START_S + told_s, monotonic_s=told_s).values)

    ticks = [tick / 8 for tick in range(200) if tick / 8 <= told_s - settle_s]
    slowly = [
        [
            next((value for c, at_s, value in reversed(changes) if c == channel and at_s <= tick), NAN)
            for channel in (0, 1)
        ]
        for tick in ticks
    ]
    np.testing.assert_array_equal(np.concatenate(values), np.array(slowly).reshape(-1, 2))
