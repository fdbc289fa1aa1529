"""Slots of a poll: even, never made good, and what a poll usually takes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vae.sources.poll_clock import PollClock


@pytest.mark.parametrize(
    ("ends_s", "next_s", "skipped"),
    [(100.0, 101.0, 0), (100.9, 101.0, 0), (101.0, 102.0, 1), (101.5, 102.0, 1), (105.25, 106.0, 5)],
)
def test_slots_that_begin_while_a_poll_runs_are_left_out_and_counted(
    ends_s: float, next_s: float, skipped: int
) -> None:
    clock = PollClock(1.0, 100.0)
    clock.polled(100.0, ends_s)

    assert (clock.next_s, clock.skipped) == (next_s, skipped)


@given(st.lists(st.floats(0, 3.5), min_size=1, max_size=50), st.sampled_from([0.1, 1.0, 1 / 3]))
def test_polls_are_on_slots_that_never_drift_and_each_is_polled_or_counted(takes: list[float], period_s: float) -> None:
    clock = PollClock(period_s, 7.0)
    for polled, took in enumerate(takes):
        slot = round((clock.next_s - 7.0) / period_s)
        assert clock.next_s == 7.0 + slot * period_s
        assert slot == polled + clock.skipped
        clock.polled(clock.next_s, clock.next_s + took * period_s)


def test_what_a_poll_usually_takes_is_told_by_several_and_not_by_the_one_that_was_held_up() -> None:
    clock = PollClock(1.0, 0.0)
    for took in [0.2, 0.2, 30.0, 0.2, 0.3, 0.2, 0.2, 0.3]:
        clock.polled(clock.next_s, clock.next_s + took)
        assert math.isnan(clock.usual_s)
    clock.polled(clock.next_s, clock.next_s + 0.2)

    assert clock.usual_s == pytest.approx(0.2)
