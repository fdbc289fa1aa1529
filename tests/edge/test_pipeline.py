from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_vae.adapt import TailState
from edge_vae.alarm import AlarmRules
from edge_vae.alarm_memory import Active, Seen, Word
from edge_vae.annunciator import Annunciation, Notice
from edge_vae.bundle import Bundle, Channel, Manifest, Modes, WindowShape
from edge_vae.detector import Detector, load
from edge_vae.event import Cause
from edge_vae.explain import Explained
from edge_vae.found import Drift, Found
from edge_vae.limits import Limit
from edge_vae.pipeline import HOLD_OFF, PIECE_BYTES, Pipeline
from edge_vae.sample import Block, FloatArray
from edge_vae.score import Scores
from edge_vae.sources.recording import open_recording
from plain_bundle import plain_manifest, plain_threshold

AT_ONCE = AlarmRules(on_delay=(1, 1), off_delay=(1, 1), deadband=0.0)
PERIOD_S = 0.1


# With the real model.


@pytest.fixture(scope="module")
def detector(bundle_path: Path) -> Detector:
    return load(Bundle.read(bundle_path), path=str(bundle_path))


@pytest.fixture(scope="module")
def faulty(rig: Path, detector: Detector) -> list[Block]:
    """Every faulty session of the rig, whole."""
    found = []
    for file in sorted((rig / "faulty").glob("*.csv")):
        rows = [piece.rows for piece in open_recording(file, detector.manifest.channel_names).pieces()]
        values, times = np.concatenate([r.values for r in rows]), np.concatenate([r.times for r in rows])
        found.append(Block(values, times, 0, starts_session=True))
    return found


def cut(block: Block, at: list[int]) -> list[Block]:
    """The block in pieces; the session begins with the first."""
    edges = [0, *sorted(i for i in at if i < len(block.times)), len(block.times)]
    return [
        Block(block.values[a:b], block.times[a:b], 0, starts_session=a == 0 and block.starts_session)
        for a, b in pairwise(edges)
        if b > a
    ]


def pushed(pipeline: Pipeline, block: Block) -> list[Notice]:
    """The notices that a block brings; it brings nothing else."""
    found = pipeline.push(block)
    notices = [one for one in found if isinstance(one, Notice)]
    assert notices == found
    return notices


def alarm_of(notice: Notice) -> Active:
    assert notice.alarm is not None
    return notice.alarm


def seen_by(notice: Notice) -> Seen:
    return alarm_of(notice).seen


def check_same(received: list[Notice], expected: list[Notice]) -> None:
    assert [(n.kind, seen_by(n).end_s, seen_by(n).sample) for n in received] == [
        (n.kind, seen_by(n).end_s, seen_by(n).sample) for n in expected
    ]
    for look in (lambda notice: seen_by(notice).score, lambda notice: alarm_of(notice).peak):
        assert [look(n) for n in received] == pytest.approx([look(n) for n in expected], rel=1e-9)


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 6),
    st.lists(st.integers(1, 2399), max_size=40),
    st.sets(st.integers(0, 2399), max_size=5),
    st.integers(0, 2399),
)
def test_sizes_of_pieces_never_change_a_notice(
    detector: Detector, faulty: list[Block], which: int, at: list[int], missing: set[int], gap: int
) -> None:
    session = faulty[which]
    values, times = session.values.copy(), session.times.copy()
    values[list(missing), 0] = math.nan
    times[gap:] += 3600.0
    damaged = Block(values, times, 0, starts_session=True)
    whole, pieces = Pipeline(detector, rules=AT_ONCE), Pipeline(detector, rules=AT_ONCE)
    expected = pushed(whole, damaged)
    check_same([turn for piece in cut(damaged, at) for turn in pushed(pieces, piece)], expected)
    assert pieces.windows == whole.windows > 0
    assert pieces.removed == whole.removed == len(missing)


def test_faults_of_the_rig_raise_alarms_with_all_channels_the_largest_share_first(
    detector: Detector, faulty: list[Block]
) -> None:
    pipeline = Pipeline(detector, rules=AT_ONCE)
    notices = [notice for session in faulty for notice in pushed(pipeline, session)]
    assert kinds(notices[:2]) == ["raised", "cleared"]
    for notice in notices:
        seen = seen_by(notice)
        shares = [channel.share for channel in seen.channels]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1.0)
        assert {channel.name for channel in seen.channels} == set(detector.manifest.channel_names)
        assert seen.end_s - seen.start_s == pytest.approx((detector.manifest.window.length - 1) * PERIOD_S, abs=1e-5)
        assert (seen.score > pipeline.threshold) is (notice.kind == "raised")
        assert alarm_of(notice).peak >= max(seen.score, pipeline.threshold)


# With a scorer whose scores are plain to see.


class Level:
    """A scorer whose score is the mean of a window of four samples of one channel; it remembers how many it got."""

    def __init__(
        self, manifest: Manifest, *, baseline: int = 0, length: int = 4, stride: int = 1, **threshold: Any
    ) -> None:
        self.manifest = msgspec.structs.replace(
            manifest,
            channels=(Channel("level", 0.0, 1.0),),
            rate_hz=1 / PERIOD_S,
            window=WindowShape(length, stride),
            baseline=baseline,
            threshold=plain_threshold(value=5.0, **threshold),
        )
        self.batches: list[int] = []

    def __call__(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> tuple[Scores, FloatArray]:
        self.batches.append(len(scaled))
        level, ones = scaled.mean(axis=(1, 2)), np.ones((len(scaled), 1))
        return Scores.of(level, ones, level[:, None], level[:, None, None]), np.zeros((len(scaled), 1))

    def explain(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> Explained:
        return Explained(np.ones((len(scaled), 1)), np.zeros((len(scaled), 1)))


@pytest.fixture
def manifest() -> Manifest:
    return plain_manifest()


def block(levels: list[float], *, start_s: float = 0.0, starts_session: bool = False) -> Block:
    values: NDArray[np.float64] = np.asarray(levels, float)[:, None]
    return Block(values, start_s + PERIOD_S * np.arange(len(levels)), 7, starts_session=starts_session)


def kinds(found: list[Found]) -> list[str]:
    return [each.kind if isinstance(each, Notice) else "drift" for each in found]


def test_notice_says_which_window_did_it(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest), rules=AT_ONCE)
    pipeline.push(block([0, 0], starts_session=True))
    (notice,) = pushed(pipeline, block([0, 0, 0, 0, 10, 10, 10], starts_session=True))
    seen = seen_by(notice)
    assert (seen.start_s, seen.end_s) == pytest.approx((0.3, 0.6))
    assert (seen.score, seen.sample) == (7.5, 2 + 6)
    assert (seen.channels[0].value, seen.channels[0].expected) == (7.5, 0.0)


def test_state_follows_learning_and_alarm(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest, baseline=10), rules=AT_ONCE)
    assert (pipeline.state, pipeline.score) == ("learning", None)
    pipeline.push(block([0.0] * 9, starts_session=True))
    assert pipeline.state == "learning"
    pipeline.push(block([0.0] * 5, start_s=0.9))
    assert (pipeline.state, pipeline.score) == ("normal", 0.0)
    pipeline.push(block([10.0] * 4, start_s=1.4))
    assert (pipeline.state, pipeline.score) == ("alarm", 10.0)


def test_state_is_fault_once_a_windows_length_of_samples_was_of_no_use(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest, baseline=10), rules=AT_ONCE)
    pipeline.push(block([math.nan] * 3, starts_session=True))
    assert pipeline.state == "learning"
    pipeline.push(block([math.nan], start_s=0.3))
    assert pipeline.state == "fault"
    pipeline.push(block([0.0], start_s=0.4))
    assert pipeline.state == "learning"
    pipeline.push(block([0.0] * 9 + [10.0] * 4 + [math.nan] * 9, start_s=0.5))
    assert pipeline.state == "alarm"


def test_configured_baseline_replaces_that_of_the_bundle(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest, baseline=400), rules=AT_ONCE, baseline=3)
    assert kinds(pipeline.push(block([100.0] * 7 + [110.0] * 4, starts_session=True))) == ["raised"]
    assert pipeline.windows == 5


def test_session_learns_its_baseline_anew_and_no_window_reaches_back(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest, baseline=4), rules=AT_ONCE)
    assert pipeline.push(block([50.0] * 8, starts_session=True)) == []
    assert pipeline.push(block([90.0] * 8, start_s=0.8, starts_session=True)) == []
    assert pipeline.windows == 2
    assert kinds(pipeline.push(block([130.0] * 4, start_s=1.6))) == ["raised"]


def test_alarm_outlives_a_session_until_windows_clear_it(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest), rules=AT_ONCE)
    assert kinds(pipeline.push(block([10.0] * 4, starts_session=True))) == ["raised"]
    assert pipeline.push(block([0.0] * 3, start_s=100.0, starts_session=True)) == []
    assert pipeline.state == "alarm"
    assert kinds(pipeline.push(block([0.0], start_s=100.3))) == ["cleared"]


@pytest.mark.parametrize(
    "after",
    [block([10.0] * 4, start_s=60.0), block([math.nan, *[10.0] * 4], start_s=0.4)],
    ids=["gap", "missing reading"],
)
def test_windows_on_both_sides_of_an_interruption_do_not_raise_together(manifest: Manifest, after: Block) -> None:
    pipeline = Pipeline(Level(manifest), rules=AlarmRules(on_delay=(2, 2)))
    assert pipeline.push(block([10.0] * 4, starts_session=True)) == []
    assert pipeline.push(after) == []
    assert kinds(pipeline.push(block([10.0], start_s=after.times[-1] + PERIOD_S))) == ["raised"]


def test_samples_with_missing_readings_are_counted_and_left_out(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest), rules=AT_ONCE)
    pipeline.push(block([0.0] * 5 + [math.nan, math.inf] + [0.0] * 4, starts_session=True))
    assert (pipeline.removed, pipeline.windows) == (2, 3)


@pytest.mark.parametrize(
    ("length", "most"), [(8, PIECE_BYTES // 64), (PIECE_BYTES // 80, 10), (PIECE_BYTES // 8, 1), (PIECE_BYTES // 2, 1)]
)
def test_windows_that_are_scored_together_take_bounded_memory(manifest: Manifest, length: int, most: int) -> None:
    scorer = Level(manifest, length=length, stride=length)
    pipeline = Pipeline(scorer, rules=AT_ONCE)
    pipeline.push(block([0.0] * length * (2 * most + 1), starts_session=True))
    assert max(scorer.batches) == most
    assert pipeline.windows == 2 * most + 1


# What is told of alarms.


def test_pipeline_goes_on_with_the_alarms_of_the_one_before(manifest: Manifest) -> None:
    first = Pipeline(Level(manifest), rules=AT_ONCE, new_id=lambda: "A")
    assert kinds(first.push(block([30.0, 10.0, 10.0, 10.0], starts_session=True))) == ["raised"]
    second = Pipeline(Level(manifest), rules=AT_ONCE, new_id=lambda: "B")
    second.resume(first.memory, now_ns=0)
    assert second.state == "alarm"
    assert second.push(block([10.0] * 4, start_s=60.0, starts_session=True)) == []
    (cleared,) = pushed(second, block([0.0] * 3, start_s=60.4))
    assert (cleared.kind, alarm_of(cleared).alarm_id, alarm_of(cleared).peak) == ("cleared", "A", 15.0)


def test_shelved_asset_says_so_and_learns_nothing_from_its_alarm(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest), rules=AT_ONCE, drift_hours=SLOW)
    pipeline.shelve(Word(None, None, 0.0, 60.0))
    assert pipeline.push(block([9.0] * 200, starts_session=True)) == []
    assert pipeline.state == "shelved"
    assert kinds(pipeline.tick(60 * 10**9)) == ["unshelved", "raised"]
    assert pipeline.state == "alarm"


def test_severity_of_an_alarm_is_that_of_its_peak(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest), rules=AT_ONCE, annunciation=Annunciation(critical_ratio=2.0))
    notices = pushed(pipeline, block([8.0] * 4 + [20.0] * 4 + [0.0] * 4, starts_session=True))
    assert [alarm_of(notice).severity for notice in notices] == ["warning", "critical"]


# Limits beside the model.

HOT = Limit("high", "level", 50.0, severity="critical")


def test_limit_is_its_own_cause_while_the_baseline_is_learned(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest, baseline=100), rules=AT_ONCE, limits=[HOT])
    raised, cleared = pushed(pipeline, block([0.0, 60.0, 70.0, 1.0], starts_session=True))
    assert kinds([raised, cleared]) == ["raised", "cleared"]
    assert (alarm_of(raised).severity, seen_by(raised).sample, seen_by(raised).score) == ("critical", 1, None)
    assert seen_by(raised).cause == Cause(kind="high", channel="level", value=60.0, peak=60.0, limit=50.0)
    assert seen_by(cleared).cause == Cause(kind="high", channel="level", value=1.0, peak=70.0, limit=50.0)
    assert (seen_by(raised).start_s, seen_by(raised).end_s) == pytest.approx((0.1, 0.1))
    assert pipeline.state == "learning"


def test_limit_is_watched_in_an_unknown_mode(manifest: Manifest) -> None:
    scorer = Level(msgspec.structs.replace(manifest, modes=Modes(("recipe",), ((1.0,),), ((0.0,),), ((1.0,),))))
    pipeline = Pipeline(scorer, rules=AT_ONCE, limits=[HOT])
    found = pipeline.push(Block(np.array([[60.0, 2.0]]), np.zeros(1), 0, starts_session=True))
    assert [each.kind for each in found if isinstance(each, Notice)] == ["raised"]
    assert pipeline.state == "alarm"


def test_limit_and_model_are_two_alarms_and_a_limit_teaches_nothing(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest), rules=AT_ONCE, limits=[Limit("high", "level", 3.0)], drift_hours=SLOW)
    found = pushed(pipeline, block([4.0] * 200 + [9.0] * 4 + [0.0] * 4, starts_session=True))
    assert [(n.kind, seen_by(n).cause.kind) for n in found] == [
        ("raised", "high"), ("raised", "model"), ("cleared", "high"), ("cleared", "model"),
    ]  # fmt: skip
    assert len({alarm_of(n).alarm_id for n in found}) == 2


def test_alarm_of_a_limit_that_the_configuration_has_no_more_is_cleared(manifest: Manifest) -> None:
    first = Pipeline(Level(manifest), rules=AT_ONCE, limits=[HOT])
    first.push(block([60.0], starts_session=True))
    second = Pipeline(Level(manifest), rules=AT_ONCE, limits=[Limit("high", "level", 55.0)])
    second.resume(first.memory, now_ns=0)
    assert kinds([*second.tick(0)]) == ["cleared"]
    third = Pipeline(Level(manifest), rules=AT_ONCE, limits=[HOT])
    third.resume(first.memory, now_ns=0)
    assert pushed(third, block([60.0])) == []
    assert kinds(pushed(third, block([1.0]))) == ["cleared"]


# Baseline on command.


def test_command_learns_the_baseline_anew_in_the_middle_of_a_session(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest, baseline=4), rules=AT_ONCE)
    pipeline.push(block([50.0] * 8, starts_session=True))
    assert (pipeline.state, pipeline.windows) == ("normal", 1)
    assert pipeline.rebaseline() == 4
    assert pipeline.state == "learning"
    assert pipeline.push(block([90.0] * 8, start_s=0.8)) == []  # judged by the old baseline this would be an alarm
    assert (pipeline.state, pipeline.windows, pipeline.score) == ("normal", 2, 0.0)


def test_command_without_a_baseline_changes_nothing(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest), rules=AT_ONCE)
    pipeline.push(block([0.0] * 3, starts_session=True))
    assert pipeline.rebaseline() == 0
    pipeline.push(block([0.0], start_s=0.3))
    assert pipeline.windows == 1


def test_alarm_outlives_the_command_until_windows_of_the_new_baseline_clear_it(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest, baseline=4), rules=AlarmRules(on_delay=(1, 1), off_delay=(2, 2)))
    assert kinds(pipeline.push(block([0.0] * 8 + [30.0] * 4, starts_session=True))) == ["raised"]
    pipeline.rebaseline()
    assert pipeline.push(block([30.0] * 8, start_s=1.2)) == []
    assert pipeline.state == "alarm"
    assert kinds(pipeline.push(block([30.0], start_s=2.0))) == ["cleared"]


def test_window_of_the_old_baseline_does_not_raise_together_with_one_of_the_new(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest, baseline=4), rules=AlarmRules(on_delay=(2, 2)))
    assert pipeline.push(block([0.0] * 4 + [30.0] * 4, starts_session=True)) == []
    pipeline.rebaseline()
    assert pipeline.push(block([0.0] * 4 + [30.0] * 4, start_s=0.8)) == []
    assert kinds(pipeline.push(block([30.0], start_s=1.6))) == ["raised"]


# Drift. A limit of 100 windows, the least: 12 windows above the start in a row are drift.

SLOW = 1e-6


def test_drift_is_told_once_with_the_means_of_what_has_drifted(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest), rules=AT_ONCE, drift_hours=SLOW)
    found = pipeline.push(block([0.0] * 10 + [4.0] * 40, starts_session=True))
    (drift,) = [each for each in found if isinstance(each, Drift)]
    assert kinds(found) == ["drift"]
    assert (drift.windows, drift.score, drift.threshold, drift.arrived_ns) == (12, 4.0, 5.0, 7)
    assert (drift.channels[0].name, drift.channels[0].value, drift.channels[0].expected) == ("level", 4.0, 0.0)
    # The first window that is wholly above starts with sample 10; twelve of them end with sample 24.
    assert (drift.start_s, drift.end_s) == pytest.approx((1.0, 2.4))


def test_windows_of_an_alarm_and_of_the_hold_off_after_it_are_no_drift(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest), rules=AT_ONCE, drift_hours=SLOW)
    hold_off = HOLD_OFF * 4
    pipeline.push(block([0.0] * 4, starts_session=True))
    assert kinds(pipeline.push(block([9.0] * 200, start_s=0.4))) == ["raised"]
    # The fourth window holds no sample of the alarm any more and clears it; the hold-off begins behind it.
    assert kinds(pipeline.push(block([4.0] * (hold_off + 11), start_s=20.4))) == ["cleared"]
    assert kinds(pipeline.push(block([4.0] * 8, start_s=20.4 + 0.1 * (hold_off + 11)))) == ["drift"]


def test_drift_that_nobody_wants_to_know_of_is_not_told(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest), rules=AT_ONCE, drift_hours=None)
    assert pipeline.push(block([4.0] * 1000, starts_session=True)) == []


def test_command_forgets_what_has_drifted(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest, baseline=4), rules=AT_ONCE, drift_hours=SLOW)
    pipeline.push(block([0.0] * 4 + [4.0] * 14, starts_session=True))
    pipeline.rebaseline()
    assert pipeline.push(block([0.0] * 4 + [4.0] * 14, start_s=1.8)) == []
    assert kinds(pipeline.push(block([4.0], start_s=3.6))) == ["drift"]


def test_drift_that_was_told_is_not_told_by_the_pipeline_that_goes_on(manifest: Manifest) -> None:
    first = Pipeline(Level(manifest), rules=AT_ONCE, drift_hours=SLOW)
    assert kinds(first.push(block([4.0] * 40, starts_session=True))) == ["drift"]
    second = Pipeline(Level(manifest), rules=AT_ONCE, drift_hours=SLOW, learned=first.learned)
    assert second.push(block([4.0] * 40, start_s=60.0, starts_session=True)) == []
    forgetful = Pipeline(Level(manifest), rules=AT_ONCE, drift_hours=SLOW)
    assert kinds(forgetful.push(block([4.0] * 40, start_s=60.0, starts_session=True))) == ["drift"]


def test_evidence_of_before_and_after_a_restart_is_one_drift(manifest: Manifest) -> None:
    first = Pipeline(Level(manifest), rules=AT_ONCE, drift_hours=SLOW)
    assert first.push(block([4.0] * 9, starts_session=True)) == []
    second = Pipeline(Level(manifest), rules=AT_ONCE, drift_hours=SLOW, learned=first.learned)
    (drift,) = second.push(block([4.0] * 9, start_s=60.0, starts_session=True))
    assert isinstance(drift, Drift)
    assert (drift.windows, drift.score) == (12, 4.0)
    assert (drift.start_s, drift.end_s) == pytest.approx((0.0, 60.8))


def test_drift_without_times_has_none(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest), rules=AT_ONCE, drift_hours=SLOW)
    (drift,) = pipeline.push(Block(np.full((40, 1), 4.0), np.full(40, math.nan), 7, starts_session=True))
    assert isinstance(drift, Drift)
    assert math.isnan(drift.start_s)
    assert math.isnan(drift.end_s)


# A threshold that follows the tail.


def adapting(manifest: Manifest, *, drift_hours: float | None = None, **more: Any) -> Pipeline:
    scorer = Level(manifest, start=2.0, scale=0.5, **more)
    return Pipeline(scorer, rules=AT_ONCE, adapt_limit=0.5, drift_hours=drift_hours)


PEAKS = [0.0] * 8 + [4.0] * 4
"""One peak of height 2 above the start, four times what the bundle's tail has seen."""


def test_threshold_follows_the_tail_and_notices_say_what_they_were_judged_by(manifest: Manifest) -> None:
    pipeline = adapting(manifest)
    assert pipeline.threshold == 5.0
    pipeline.push(block(PEAKS * 5, starts_session=True))
    higher = pipeline.threshold
    assert 5.0 < higher <= 7.5
    (notice,) = pushed(pipeline, block([*PEAKS, *[8.0] * 4], start_s=6.0))
    assert (notice.kind, seen_by(notice).threshold) == ("raised", pipeline.threshold)
    assert seen_by(notice).threshold >= higher


def test_threshold_stands_still_in_an_alarm_and_in_the_hold_off_after_it(manifest: Manifest) -> None:
    pipeline = adapting(manifest)
    pipeline.push(block([0.0] * 8 + [20.0] * 4, starts_session=True))
    assert pipeline.state == "alarm"
    before, tail = pipeline.threshold, pipeline.learned.tail
    pipeline.push(block([20.0] * 50 + [0.0] * 4, start_s=1.2))
    assert pipeline.state == "normal"
    pipeline.push(block((PEAKS * 9)[: HOLD_OFF * 4 - 1], start_s=6.6))
    assert (pipeline.threshold, pipeline.learned.tail) == (before, tail)
    pipeline.push(block(PEAKS, start_s=20.0))
    assert pipeline.learned.tail != tail


def test_way_up_to_an_alarm_teaches_the_threshold_nothing(manifest: Manifest) -> None:
    pipeline = adapting(manifest)
    pipeline.push(block([0.0] * 8 + [3.0, 4.0, 4.5, 20.0, 20.0], starts_session=True))
    pipeline.push(block([0.0] * 200, start_s=1.3))
    assert pipeline.state == "normal"
    assert pipeline.learned.tail.peaks == 0.0


def test_threshold_stands_still_while_there_is_drift(manifest: Manifest) -> None:
    pipeline = adapting(manifest, drift_hours=SLOW)
    pipeline.push(block([4.0] * 30, starts_session=True))
    before, tail = pipeline.threshold, pipeline.learned.tail
    pipeline.push(block((PEAKS + [4.0] * 12) * 4, start_s=3.0))
    assert (pipeline.threshold, pipeline.learned.tail) == (before, tail)


def test_what_was_learned_before_is_in_force_from_the_first_window(manifest: Manifest) -> None:
    first = adapting(manifest)
    first.push(block(PEAKS * 20, starts_session=True))
    scorer = Level(manifest, start=2.0, scale=0.5)
    second = Pipeline(scorer, rules=AT_ONCE, adapt_limit=0.5, learned=first.learned)
    assert second.threshold == first.threshold > 5.0


def test_command_gives_the_bundles_threshold_back(manifest: Manifest) -> None:
    pipeline = adapting(manifest, baseline=4)
    pipeline.push(block([0.0] * 4 + PEAKS * 20, starts_session=True))
    assert pipeline.threshold > 5.0
    pipeline.rebaseline()
    assert (pipeline.threshold, pipeline.learned.tail) == (5.0, TailState())


def test_threshold_stays_where_it_is_not_to_adapt(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest, start=2.0, scale=0.5), rules=AT_ONCE)
    pipeline.push(block(PEAKS * 20, starts_session=True))
    assert (pipeline.threshold, pipeline.learned.tail) == (5.0, TailState())
