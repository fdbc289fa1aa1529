"""Limits of single channels and of their change, against a plain reading of the rules."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vae.alarm import Change
from edge_vae.limits import Crossing, Limit, Limits

PERIOD_S = 0.5
NAN = math.nan


def watched(*limits: Limit) -> Limits:
    return Limits(limits, channels=("level", "other"), period_s=PERIOD_S)


def push(limits: Limits, levels: list[float], *, times: list[float] | None = None) -> list[Crossing]:
    values = np.stack([np.asarray(levels, float), np.full(len(levels), 7.0)], axis=1)
    return limits.push(values, np.full(len(levels), NAN) if times is None else np.asarray(times, float))


def turns(found: list[Crossing]) -> list[tuple[str, int, float, float]]:
    return [
        (crossing.change.value, crossing.sample, crossing.value, crossing.peak)
        for crossing in found
        if crossing.change is not Change.NONE
    ]


HIGH = Limit("high", "level", 5.0)
LOW = Limit("low", "level", -5.0)
RATE = Limit("rate", "level", 4.0)


@pytest.mark.parametrize(
    ("limit", "levels", "expected"),
    [
        (HIGH, [1, 5, 6, 9, 5, 1], [("raised", 2, 6, 6), ("cleared", 4, 5, 9)]),
        (LOW, [-5, -6, -9, -5], [("raised", 1, -6, -6), ("cleared", 3, -5, -9)]),
        (Limit("high", "level", 5.0, deadband=2.0), [6, 4, 3.5, 3], [("raised", 0, 6, 6), ("cleared", 3, 3, 6)]),
        (Limit("low", "level", 0.0, deadband=2.0), [-1, 1, 2], [("raised", 0, -1, -1), ("cleared", 2, 2, -1)]),
        (Limit("high", "level", 5.0, on_delay=3), [6, 8, 1, 6, 7, 6], [("raised", 5, 6, 7)]),
        (Limit("high", "level", 5.0, off_delay=2), [6, 1, 6, 1, 1], [("raised", 0, 6, 6), ("cleared", 4, 1, 6)]),
        (Limit("high", "level", 5.0, on_delay=2), [6, NAN, 6, 6], [("raised", 3, 6, 6)]),
        (Limit("high", "level", 5.0, off_delay=2), [6, 1, NAN, 1, 1], [("raised", 0, 6, 6), ("cleared", 4, 1, 6)]),
        (HIGH, [math.inf, 1], [("raised", 0, math.inf, math.inf), ("cleared", 1, 1, math.inf)]),
        (HIGH, [6, 1, 7, 1], [("raised", 0, 6, 6), ("cleared", 1, 1, 6), ("raised", 2, 7, 7), ("cleared", 3, 1, 7)]),
        # A step of 3 in half a second is 6 units a second.
        (RATE, [0, 1, 4, 4], [("raised", 2, 6, 6), ("cleared", 3, 0, 6)]),
        (RATE, [4, 1, 1], [("raised", 1, 6, 6), ("cleared", 2, 0, 6)]),
        # The same over two periods is 3.
        (Limit("rate", "level", 2.5, span=2), [0, 0, 3, 3, 3], [("raised", 2, 3, 3), ("cleared", 4, 0, 3)]),
    ],
)
def test_alarm_is_raised_and_cleared_as_the_rules_say(
    limit: Limit, levels: list[float], expected: list[tuple[str, int, float, float]]
) -> None:
    assert turns(push(watched(limit), levels)) == expected


def test_rate_is_measured_by_the_samples_own_times_and_never_backwards() -> None:
    levels, times = [0.0, 10.0, 13.0, 40.0], [0.0, 10.0, 10.5, 9.0]
    assert turns(push(watched(RATE), levels, times=times)) == [("raised", 2, 6.0, 6.0)]


def test_alarm_that_goes_on_is_told_with_the_last_sample_of_every_block() -> None:
    limits = watched(HIGH)
    push(limits, [6.0])
    assert push(limits, [9.0, 7.0]) == [Crossing(HIGH, Change.NONE, 1, 7.0, 9.0)]


def test_limits_of_several_channels_are_told_in_the_order_of_the_samples() -> None:
    limits = watched(HIGH, LOW, Limit("low", "other", 8.0))
    found = push(limits, [0.0, -6.0, 6.0])
    assert [(c.limit.key, c.sample) for c in found if c.change is Change.RAISED] == [
        ("low other 8.0", 0),
        ("low level -5.0", 1),
        ("high level 5.0", 2),
    ]


def test_interruption_forgets_samples_and_keeps_the_alarm() -> None:
    limits = watched(Limit("high", "level", 5.0, on_delay=2), RATE)
    push(limits, [6.0])
    limits.interrupt()
    assert turns(push(limits, [6.0])) == []
    assert turns(push(limits, [6.0])) == [("raised", 0, 6.0, 6.0)]
    limits.interrupt()
    assert turns(push(limits, [1.0])) == [("cleared", 0, 1.0, 6.0)]


def test_alarm_of_before_a_restart_goes_on_with_its_peak() -> None:
    limits = watched(HIGH, LOW)
    limits.resume({HIGH.key: 9.0})
    assert turns(push(limits, [6.0, 1.0])) == [("cleared", 1, 1.0, 9.0)]


def test_no_limit_costs_nothing() -> None:
    assert push(watched(), [1e9]) == []


levels = st.lists(st.sampled_from([NAN, -9.0, -5.0, 0.0, 3.0, 4.0, 5.0, 6.0, 9.0, math.inf]), max_size=40)
limits = st.builds(
    Limit,
    st.sampled_from(["low", "high", "rate"]),
    st.just("level"),
    st.sampled_from([-5.0, 4.0, 5.0]),
    on_delay=st.integers(1, 4),
    off_delay=st.integers(1, 4),
    deadband=st.sampled_from([0.0, 1.0]),
    span=st.integers(1, 3),
)


@settings(max_examples=200, deadline=None)
@given(levels, limits, st.lists(st.integers(1, 39), max_size=8))
def test_limits_agree_with_a_slow_plain_twin_whatever_the_blocks(
    levels: list[float], limit: Limit, cuts: list[int]
) -> None:
    edges = [0, *sorted({cut for cut in cuts if cut < len(levels)}), len(levels)]
    watching, found = watched(limit), []
    for at, end in pairwise(edges):
        found += [
            (change, at + sample, value, peak) for change, sample, value, peak in turns(push(watching, levels[at:end]))
        ]
    assert found == twin(levels, limit)


def twin(levels: list[float], limit: Limit) -> list[tuple[str, int, float, float]]:
    """One sample after the other."""
    measured = levels
    if limit.kind == "rate":
        pairs = zip(levels, [NAN] * limit.span + levels, strict=False)
        measured = [abs(now - before) / (limit.span * PERIOD_S) for now, before in pairs]
    sign = -1.0 if limit.kind == "low" else 1.0
    found, peak, run, seen = [], None, 0, []
    for i, value in enumerate(measured):
        signed = sign * value
        beyond, back = signed > sign * limit.value, signed <= sign * limit.value - limit.deadband
        run = run + 1 if (back if peak is not None else beyond) else 0
        seen = [*seen, signed] if peak is not None or beyond else []
        if peak is None and run == limit.on_delay:
            peak, run = max(seen), 0
            found.append(("raised", i, value, sign * peak))
        elif peak is not None:
            peak = max([peak, *(one for one in seen if not math.isnan(one))])
            if run == limit.off_delay:
                found.append(("cleared", i, value, sign * peak))
                peak, run, seen = None, 0, []
    return found
