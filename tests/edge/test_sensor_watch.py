"""Faults of sensors and sources: what begins, what ends, and that pieces of any size never change either."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from edge_vae.channel_fault import ChannelRules
from edge_vae.evidence import Delays
from edge_vae.sample import FloatArray
from edge_vae.sensor_fault import FAULT_KINDS, SensorFault
from edge_vae.sensor_watch import SensorRules, SensorWatch
from edge_vae.time_fault import TimeRules

CHANNELS = ("flow", "level", "valve", "switch")
RULES = SensorRules(
    channels=(
        ChannelRules("flow", low=0.0, high=10.0, still=8),
        ChannelRules("level", least=-5.0, most=5.0, still=8),
        ChannelRules("valve", still=12),
        ChannelRules("switch"),
    ),
    time=TimeRules(rate_hz=10.0, gap_s=1.0, tolerance=1.25, rate_steps=8, repeats=5),
    delays=Delays(on=3, spread=6, off=10),
    silent_s=30.0,
)
SAMPLES = 200


def healthy(samples: int = SAMPLES) -> tuple[FloatArray, FloatArray]:
    """Readings that all vary but those of the switch, and times at 10 Hz."""
    values = np.random.default_rng(1).normal(size=(samples, 4)) * 0.1 + [5.0, 0.0, 50.0, 0.0]
    values[:, 3] = np.arange(samples) > samples / 2
    return values, 1000.0 + np.arange(samples) / 10.0


def found(values: FloatArray, times: FloatArray, *, rules: SensorRules = RULES) -> list[tuple[str, int, bool]]:
    """Key, sample and whether it begins, of all faults of a session."""
    return [(fault.key, fault.sample, fault.begins) for fault in SensorWatch(rules).push(values, times, 0.0)]


def keys(values: FloatArray, times: FloatArray) -> list[str]:
    return [key for key, _, begins in found(values, times) if begins]


def test_healthy_samples_have_no_fault() -> None:
    assert found(*healthy()) == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_channel_without_readings_is_missing_until_they_are_whole_again(bad: float) -> None:
    values, times = healthy()
    values[50:70, 2] = bad
    assert found(values, times) == [("missing valve", 52, True), ("missing valve", 79, False)]


def test_channels_that_go_missing_together_are_one_fault_and_one_that_stays_away_is_told_then() -> None:
    values, times = healthy()
    values[50:70] = math.nan
    values[70:100, 2] = math.nan
    faults = SensorWatch(RULES).push(values, times, 0.0)
    assert [(fault.key, fault.sample, fault.begins) for fault in faults] == [
        ("missing", 52, True), ("missing", 79, False), ("missing valve", 81, True), ("missing valve", 109, False),
    ]  # fmt: skip
    assert faults[0].together == CHANNELS


def test_one_missing_reading_now_and_then_is_no_fault_and_one_in_every_window_is() -> None:
    values, times = healthy()
    values[::20, 2] = math.nan
    assert keys(values, times) == []
    values[::5, 2] = math.nan
    assert keys(values, times) == ["missing valve"]


def test_a_reading_that_does_not_change_is_stuck_and_one_glitch_does_not_free_it() -> None:
    values, times = healthy()
    values[50:90, 2] = 50.0
    values[70, 2] = 51.0
    assert found(values, times) == [("stuck valve", 61, True), ("stuck valve", 101, False)]


def test_a_channel_that_may_rest_is_never_stuck() -> None:
    values, times = healthy()
    values[:, 3] = 1.0
    assert keys(values, times) == []


def test_readings_at_the_end_of_the_range_are_at_the_rail_and_not_stuck() -> None:
    values, times = healthy()
    values[50:90, 0] = 10.0
    assert found(values, times) == [("rail flow", 52, True), ("rail flow", 99, False)]


def test_a_channel_that_rests_where_no_normal_reading_was_is_at_a_rail_that_nobody_told_of() -> None:
    values, times = healthy()
    values[50:90, 1] = 5.5
    assert found(values, times) == [("rail level", 57, True), ("rail level", 97, False)]
    values[50:90, 1] = 4.5
    assert found(values, times) == [("stuck level", 57, True), ("stuck level", 97, False)]


def test_channels_that_stop_together_are_one_fault() -> None:
    values, times = healthy()
    values[50:90] = values[49]
    faults = SensorWatch(RULES).push(values, times, 0.0)
    assert [(fault.key, fault.begins) for fault in faults] == [("stuck", True), ("stuck", False)]
    assert faults[0].together == ("flow", "level", "valve")


def test_a_channel_that_is_still_stuck_when_the_others_move_again_is_told_then() -> None:
    values, times = healthy()
    values[50:90] = values[49]
    values[90:120, 2] = values[49, 2]
    assert found(values, times) == [
        ("stuck", 52, True), ("stuck", 93, False), ("stuck valve", 93, True), ("stuck valve", 131, False),
    ]  # fmt: skip


def test_a_long_step_in_time_is_a_gap() -> None:
    values, times = healthy()
    times[50:] += 5.0
    (begin, end) = SensorWatch(RULES).push(values, times, 0.0)
    assert (begin.key, begin.sample, begin.value) == ("gap", 50, pytest.approx(5.1))
    assert (end.key, end.sample, end.begins) == ("gap", 60, False)


@pytest.mark.parametrize(("factor", "rate_hz"), [(2.0, 5.0), (0.5, 20.0)])
def test_samples_at_another_rate_are_told_with_the_rate(factor: float, rate_hz: float) -> None:
    values, times = healthy()
    times[50:150] = times[50] + factor * (times[50:150] - times[50])
    times[150:] += times[149] - times[150] + 0.1
    begin, end = SensorWatch(RULES).push(values, times, 0.0)
    assert (begin.key, begin.value, begin.begins) == ("wrong_rate", pytest.approx(rate_hz), True)
    assert (end.key, end.begins) == ("wrong_rate", False)


def test_a_logger_that_truncates_to_whole_seconds_has_no_fault() -> None:
    values, times = healthy()
    rules = replace(RULES, time=replace(RULES.time, rate_steps=100, repeats=20))
    assert found(values, np.floor(times), rules=rules) == []


def test_times_that_go_back_again_and_again_are_out_of_order_and_one_step_back_is_not() -> None:
    values, times = healthy()
    once = times.copy()
    once[50:] -= 3600.0
    assert keys(values, once) == []
    times[50:80] = times[50:80].reshape(-1, 2)[:, ::-1].ravel()
    assert "out_of_order" in keys(values, times)


def test_a_clock_that_stands_still_is_told_and_not_taken_for_a_rate() -> None:
    values, times = healthy()
    times[50:90] = times[50]
    times[90:] = times[50] + 0.1 * np.arange(1, 111)
    assert keys(values, times) == ["repeated_time"]


def test_samples_without_times_have_no_fault_of_time() -> None:
    values, _ = healthy()
    assert found(values, np.full(SAMPLES, math.nan)) == []


def test_no_step_leads_from_one_session_to_the_next_and_no_run_of_equal_readings_either() -> None:
    values, times = healthy()
    watch = SensorWatch(RULES)
    values[-6:, 2] = values[:6, 2] = 50.0
    assert watch.push(values, times, 0.0) == []
    watch.interrupt()
    assert watch.push(values, times - 86400.0, 0.0) == []


def test_what_is_not_watched_is_not_told() -> None:
    values, times = healthy()
    values[50:90] = math.nan
    times[100:] += 100.0
    assert found(values, times, rules=replace(RULES, watched=())) == []


def ticked(watch: SensorWatch, start_s: float, stop_s: float) -> list[SensorFault]:
    """What ticks twice a second bring."""
    return [fault for i in range(round(2 * (stop_s - start_s))) for fault in watch.tick(start_s + (i + 1) / 2)]


def test_a_source_is_silent_when_nothing_came_for_too_long_and_heard_again_once_samples_keep_coming() -> None:
    watch, (values, times) = SensorWatch(RULES), healthy()
    assert ticked(watch, 100.0, 130.0) == []
    (fault,) = ticked(watch, 130.0, 200.0)
    assert (fault.key, fault.begins, fault.value, fault.limit) == ("silent", True, 30.0, 30.0)
    for now_s in (200.0, 205.0):
        assert watch.push(values[:1], times[:1], now_s) == []
    (fault,) = watch.push(values[:1], times[:1] + 0.1, 210.0)
    assert (fault.key, fault.begins) == ("silent", False)


def test_a_sample_now_and_then_does_not_end_a_silence() -> None:
    watch, (values, times) = SensorWatch(RULES), healthy()
    told = ticked(watch, 0.0, 40.0)
    for i in range(5):
        told += watch.push(values[i : i + 1], times[i : i + 1], 40.0 * (i + 1))
        told += ticked(watch, 40.0 * (i + 1), 40.0 * (i + 2))
    assert [fault.key for fault in told] == ["silent"]


def test_whoever_was_held_up_has_heard_no_silence() -> None:
    watch = SensorWatch(RULES)
    assert ticked(watch, 0.0, 20.0) + watch.tick(3600.0) == []
    assert [fault.key for fault in ticked(watch, 3600.0, 3610.0)] == ["silent"]


def test_faults_go_on_after_a_restart_and_end_when_samples_end_them() -> None:
    values, times = healthy()
    kinds = [SensorFault(kind, None, begins=True, sample=0) for kind in FAULT_KINDS[3:]]
    kinds += [SensorFault("missing", "switch", True, 0), SensorFault("rail", "flow", True, 0)]
    kinds += [
        SensorFault("rail", "level", True, 0),
        SensorFault("stuck", "valve", True, 0),
        SensorFault("stuck", None, True, 0),
    ]
    watch = SensorWatch(RULES)
    watch.resume(kinds)
    assert set(watch.active) == {fault.key for fault in kinds}
    told = [fault for at in range(0, SAMPLES, 8) for fault in watch.push(values[at : at + 8], times[at : at + 8], at)]
    assert {fault.key for fault in told} == {fault.key for fault in kinds}
    assert not any(fault.begins for fault in told)
    assert not watch.active


def test_faults_that_are_not_looked_for_any_more_are_not_resumed() -> None:
    watch = SensorWatch(replace(RULES, watched=("gap",)))
    watch.resume([SensorFault("missing", "flow", True, 0), SensorFault("silent", None, True, 0)])
    watch.resume([SensorFault("stuck", "gone", True, 0), SensorFault("out_of_order", None, True, 0)])
    assert not watch.active


@st.composite
def disturbed(draw: st.DrawFn) -> tuple[FloatArray, FloatArray]:
    """A session in which several things are wrong with channels and times."""
    values, times = healthy(120)
    steps = np.diff(times, prepend=times[0] - 0.1)
    for _ in range(draw(st.integers(0, 6))):
        start, length = draw(st.integers(0, 119)), draw(st.integers(1, 60))
        rows, channel = slice(start, start + length, draw(st.integers(1, 3))), draw(st.integers(0, 3))
        match draw(
            st.sampled_from(["missing", "stuck", "all stuck", "rail", "infinite", "untimed", "step", "repeat", "back"])
        ):
            case "missing":
                values[rows, channel] = math.nan
            case "infinite":
                values[rows, channel] = math.inf
            case "stuck":
                values[rows, channel] = values[start, channel]
            case "all stuck":
                values[rows] = values[start]
            case "rail":
                values[rows, channel] = 99.0
            case "untimed":
                steps[rows] = math.nan
            case "step":
                steps[rows] = draw(st.sampled_from([0.3, 0.05, 2.0]))
            case "repeat":
                steps[rows] = 0.0
            case "back":
                steps[rows] = -0.1
    untimed = np.isnan(steps)
    times = 1000.0 + np.cumsum(np.where(untimed, 0.1, steps))
    times[untimed] = math.nan
    return values, times


@settings(deadline=None)
@given(session=disturbed(), cuts=st.lists(st.integers(1, 119), max_size=30))
def test_pieces_of_any_size_find_the_same_and_begin_and_end_alternate(
    session: tuple[FloatArray, FloatArray], cuts: Sequence[int]
) -> None:
    values, times = session
    whole = SensorWatch(RULES).push(values, times, 0.0)
    watch, pieces = SensorWatch(RULES), []
    edges = sorted({0, *cuts, len(times)})
    for at, end in pairwise(edges):
        pieces += [replace(fault, sample=at + fault.sample) for fault in watch.push(values[at:end], times[at:end], 0.0)]
    assert repr(pieces) == repr(whole)  # of NaN too
    for key in {fault.key for fault in whole}:
        turns = [fault.begins for fault in whole if fault.key == key]
        assert turns == [i % 2 == 0 for i in range(len(turns))]
        assert (key in watch.active) == turns[-1]
