"""Faults of sensors in a pipeline: told as events of their own, and in the quality of all others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_vae.alarm import AlarmRules
from edge_vae.alarm_memory import Active, Memory
from edge_vae.annunciator import Annunciation, Notice
from edge_vae.bundle import Bundle, Channel, WindowShape
from edge_vae.channel_fault import ChannelRules
from edge_vae.detector import Detector, load
from edge_vae.evidence import Delays
from edge_vae.explain import Explained
from edge_vae.found import Found
from edge_vae.limits import Limit
from edge_vae.pipeline import Pipeline
from edge_vae.sample import Block, FloatArray
from edge_vae.score import Scores
from edge_vae.sensor_config import SensorConfig
from edge_vae.sensor_rules import sensor_rules
from edge_vae.sensor_watch import SensorRules
from edge_vae.sources.recording import open_recording
from edge_vae.time_fault import TimeRules
from plain_bundle import plain_manifest, plain_threshold

AT_ONCE = AlarmRules(on_delay=(1, 1), off_delay=(1, 1), deadband=0.0)
PERIOD_S = 0.1
RULES = SensorRules(
    (ChannelRules("flow", still=6), ChannelRules("level", high=50.0, still=6), ChannelRules("valve")),
    TimeRules(10.0, gap_s=1.0, tolerance=1.25, rate_steps=8, repeats=5),
    Delays(on=2, spread=8, off=8),
    silent_s=30.0,
)


class Levels:
    """A scorer of windows of four samples, whose score is the mean sum of flow and valve."""

    def __init__(self) -> None:
        self.manifest = plain_manifest(
            channels=tuple(Channel(name, 0.0, 1.0) for name in ("flow", "level", "valve")),
            window=WindowShape(4, 1), threshold=plain_threshold(value=5.0),
        )  # fmt: skip

    def __call__(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> tuple[Scores, FloatArray]:
        level = scaled[:, :, ::2].sum(axis=2).mean(axis=1)
        shares = np.full((len(scaled), 3), 1 / 3)
        return Scores.of(level, shares, level[:, None], np.zeros((len(scaled), 1, 3))), np.zeros((len(scaled), 3))

    def explain(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> Explained:
        shares = np.tile([0.7, 0.2, 0.1], (len(scaled), 1))
        return Explained(shares, np.zeros((len(scaled), 3)))


def made(**changes: Any) -> Pipeline:
    return Pipeline(Levels(), **{"rules": AT_ONCE, "sensors": RULES, **changes})


def lively(samples: int, *, start: int = 0) -> FloatArray:
    return np.random.default_rng(start).normal(size=(samples, 3)) * 0.1


def block(values: FloatArray, *, start: int = 0, starts_session: bool = False, **more: Any) -> Block:
    return Block(values, PERIOD_S * (start + np.arange(len(values))), 0, starts_session=starts_session, **more)


def told(found: Sequence[Any]) -> list[tuple[str, str, str | None]]:
    """What happened, to what, of which channel."""
    return [(n.kind, active(n).seen.cause.kind, active(n).seen.cause.channel) for n in found]


def active(found: Found) -> Active:
    assert isinstance(found, Notice)
    assert found.alarm is not None
    return found.alarm


def test_fault_is_raised_and_cleared_under_one_id_with_channel_value_and_quality() -> None:
    pipeline, values = made(), lively(40)
    values[10:20, 1] = 60.0
    begin, end = pipeline.push(block(values, starts_session=True))
    assert told([begin, end]) == [("raised", "rail", "level"), ("cleared", "rail", "level")]
    assert isinstance(begin, Notice)
    assert isinstance(end, Notice)
    assert active(begin).alarm_id == active(end).alarm_id is not None
    seen = active(begin).seen
    assert (seen.cause.value, seen.cause.limit, seen.sample, seen.quality) == (60.0, 50.0, 11, "bad")
    assert [(c.name, c.value, c.quality) for c in seen.channels] == [("level", 60.0, "bad")]
    assert active(end).seen.quality == "good"


def test_alarm_of_a_channel_whose_sensor_is_broken_is_uncertain_and_says_which() -> None:
    pipeline, values = made(), lively(40)
    values[10:, 0] = 20.0
    found = pipeline.push(block(values, starts_session=True))
    assert told(found)[:2] == [("raised", "model", None), ("raised", "stuck", "flow")]
    pipeline = made()
    values[20:, 2] = 30.0
    values[10:, 0] = 1.0
    found = pipeline.push(block(values, starts_session=True))
    assert told(found)[:2] == [("raised", "stuck", "flow"), ("raised", "model", None)]
    seen = active(found[1]).seen
    assert seen.quality == "uncertain"
    assert [(c.name, c.quality) for c in seen.channels] == [("flow", "bad"), ("level", "good"), ("valve", "good")]


def test_alarm_that_was_told_before_its_sensor_was_known_to_be_stuck_is_told_again() -> None:
    pipeline, values = made(annunciation=Annunciation(update_s=1.0)), lively(40)
    values[10:, 0] = 40.0
    found: list[Any] = []
    for at in range(0, 40, 10):
        found += pipeline.push(Block(values[at : at + 10], np.full(10, math.nan), at * 10**9, starts_session=at == 0))
    assert told(found) == [("raised", "model", None), ("raised", "stuck", "flow"), ("updated", "model", None)]
    assert (found[2].reason, active(found[2]).seen.quality) == ("quality", "uncertain")


def test_limit_on_a_broken_sensor_is_bad() -> None:
    pipeline, values = made(limits=[Limit("high", "flow", 3.0)]), lively(30)
    values[10:, 0] = 1.0
    values[20:, 0] = 4.0
    found = pipeline.push(block(values, starts_session=True))
    assert told(found)[:2] == [("raised", "stuck", "flow"), ("raised", "high", "flow")]
    assert [active(n).seen.quality for n in found[:2]] == ["bad", "bad"]


@pytest.mark.parametrize(("missing", "quality"), [(10, "good"), (14, "uncertain"), (15, "uncertain")])
def test_alarm_shortly_after_a_missing_reading_is_uncertain(missing: int, quality: str) -> None:
    pipeline, values = made(), lively(20)
    values[missing, 2] = math.nan
    values[18:] = [[100.0, 1.0, 1.0], [1.0, 2.0, 2.0]]
    (notice,) = pipeline.push(block(values, starts_session=True))
    assert active(notice).seen.sample == (19 if missing == 15 else 18)
    assert active(notice).seen.quality == quality


@pytest.mark.parametrize(("doubted", "quality"), [(13, "good"), (15, "uncertain"), (18, "uncertain"), (19, "good")])
def test_alarm_of_readings_that_the_source_doubts_is_uncertain(doubted: int, quality: str) -> None:
    pipeline, values = made(), lively(20)
    uncertain = np.zeros(values.shape, np.bool_)
    uncertain[doubted, 1] = True
    values[18] = [100.0, 49.0, 1.0]
    (notice,) = pipeline.push(block(values, starts_session=True, uncertain=uncertain))[:1]
    seen = active(notice).seen
    assert (seen.sample, seen.quality) == (18, quality)
    assert {c.name for c in seen.channels if c.quality == "uncertain"} == ({"level"} if quality != "good" else set())


def test_channels_that_fall_silent_together_are_named_in_one_event() -> None:
    pipeline, values = made(), lively(20)
    values[10:, :2] = math.nan
    (notice,) = pipeline.push(block(values, starts_session=True))
    assert told([notice]) == [("raised", "missing", None)]
    assert [c.name for c in active(notice).seen.channels] == ["flow", "level"]


def test_state_is_fault_where_nothing_can_be_scored_and_alarm_only_for_the_machine() -> None:
    pipeline, values = made(), lively(200)
    assert pipeline.push(block(values[:20], starts_session=True)) == []
    assert pipeline.state == "normal"
    broken = lively(30)
    broken[2::3, 0] = math.nan  # no window of four is whole, and no four samples in a row are missing
    assert told(pipeline.push(block(broken, start=20))) == [("raised", "missing", "flow")]
    assert pipeline.state == "fault"
    assert told(pipeline.push(block(values[100:], start=50))) == [("cleared", "missing", "flow")]
    assert pipeline.state == "normal"


def test_state_is_fault_while_the_source_is_silent() -> None:
    pipeline = made()
    found = [notice for half_s in range(62) for notice in pipeline.tick(half_s * 500_000_000)]
    assert (told(found), pipeline.state) == ([("raised", "silent", None)], "fault")
    assert active(found[0]).seen.cause.value == 30.0
    values = lively(20)
    for at in range(2):
        found += [
            n
            for n in pipeline.push(Block(values[at::2], PERIOD_S * np.arange(10.0), (40 + 10 * at) * 10**9))
            if isinstance(n, Notice)
        ]
    assert (told(found)[1:], pipeline.state) == ([("cleared", "silent", None)], "normal")


def test_fault_is_told_again_while_nobody_acknowledges_it() -> None:
    pipeline = made(annunciation=Annunciation(realarm_s=100.0))
    found = [notice for second in range(250) for notice in pipeline.tick(second * 10**9)]
    assert [(n.kind, n.reason) for n in found] == [("raised", None), ("updated", "repeated"), ("updated", "repeated")]


def test_faults_outlive_a_restart_and_end_under_their_id() -> None:
    first, values = made(new_id=iter("ABC").__next__), lively(40)
    values[10:, 1] = 60.0
    assert told(first.push(block(values, starts_session=True))) == [("raised", "rail", "level")]
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(first.memory), type=Memory)
    second = made()
    second.resume(kept, now_ns=0)
    assert second.tick(0) == second.push(block(values[10:20], starts_session=True)) == []
    (cleared,) = second.push(block(lively(20), start=10))
    assert told([cleared]) == [("cleared", "rail", "level")]
    assert active(cleared).alarm_id == "A"


def test_fault_that_is_not_looked_for_any_more_is_told_as_over() -> None:
    first, values = made(), lively(40)
    values[10:, :2] = math.nan
    first.push(block(values, starts_session=True))
    second = made(sensors=None)
    second.resume(first.memory, now_ns=0)
    assert told(second.tick(0)) == [("cleared", "missing", None)]


# With the real model.


@pytest.fixture(scope="module")
def detector(bundle_path: Path) -> Detector:
    return load(Bundle.read(bundle_path), path=str(bundle_path))


def rules_of(detector: Detector) -> SensorRules:
    manifest = detector.manifest
    return sensor_rules(
        SensorConfig(), manifest.channels, columns=manifest.source_columns, rate_hz=manifest.rate_hz,
        length=manifest.window.length,
    )  # fmt: skip


def session(rig: Path, detector: Detector, name: str) -> Block:
    rows = [piece.rows for piece in open_recording(rig / name, detector.manifest.channel_names).pieces()]
    values, times = np.concatenate([r.values for r in rows]), np.concatenate([r.times for r in rows])
    return Block(values, times, 0, starts_session=True)


def sensor_faults(rig: Path, detector: Detector, name: str) -> list[tuple[str, str, str | None]]:
    pipeline = Pipeline(detector, rules=AT_ONCE, sensors=rules_of(detector))
    found = [n for n in pipeline.push(session(rig, detector, name)) if isinstance(n, Notice)]
    return [one for one in told(found) if one[1] != "model"]


def test_a_frozen_transmitter_of_the_rig_is_stuck_and_nothing_else_of_it_is_a_sensor_fault(
    rig: Path, detector: Detector
) -> None:
    files = sorted(str(file.relative_to(rig)) for file in rig.rglob("*.csv"))
    found = {name: faults for name in files if (faults := sensor_faults(rig, detector, name))}
    assert found == {
        "faulty/sensor-stuck.csv": [("raised", "stuck", "pressure_bar"), ("cleared", "stuck", "pressure_bar")]
    }


@settings(max_examples=8, deadline=None)
@given(at=st.lists(st.integers(1, 2399), max_size=30), missing=st.integers(0, 2399), gap=st.integers(0, 2399))
def test_sizes_of_pieces_never_change_what_is_told(
    rig: Path, detector: Detector, at: list[int], missing: int, gap: int
) -> None:
    whole = session(rig, detector, "faulty/sensor-stuck.csv")
    values, times = whole.values.copy(), whole.times.copy()
    values[missing : missing + 40, :2] = math.nan
    times[gap:] += 3600.0
    edges = [0, *sorted({i for i in at if i < len(times)}), len(times)]

    def notices(edges: list[int]) -> list[Any]:
        pipeline = Pipeline(detector, rules=AT_ONCE, sensors=rules_of(detector))
        pieces = [Block(values[a:b], times[a:b], 0, starts_session=a == 0) for a, b in pairwise(edges)]
        found = [n for piece in pieces for n in pipeline.push(piece) if isinstance(n, Notice)]
        return [(n.kind, active(n).seen.cause.kind, active(n).seen.sample, active(n).seen.quality) for n in found]

    assert notices(edges) == notices([0, len(times)])
