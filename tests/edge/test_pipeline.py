from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_vae.alarm import AlarmRules, Change
from edge_vae.bundle import Bundle, Channel, Manifest, WindowShape
from edge_vae.detector import Detector, load
from edge_vae.pipeline import PIECE_BYTES, Pipeline, Turn
from edge_vae.sample import Block, FloatArray
from edge_vae.score import Scores
from edge_vae.sources.recording import open_recording

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


def check_same(received: list[Turn], expected: list[Turn]) -> None:
    assert [(t.change, t.end_s) for t in received] == [(t.change, t.end_s) for t in expected]
    assert [t.score for t in received] == pytest.approx([t.score for t in expected], rel=1e-9)
    assert [t.peak_score for t in received] == pytest.approx([t.peak_score for t in expected], rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 6),
    st.lists(st.integers(1, 2399), max_size=40),
    st.sets(st.integers(0, 2399), max_size=5),
    st.integers(0, 2399),
)
def test_sizes_of_pieces_never_change_a_turn(
    detector: Detector, faulty: list[Block], which: int, at: list[int], missing: set[int], gap: int
) -> None:
    session = faulty[which]
    values, times = session.values.copy(), session.times.copy()
    values[list(missing), 0] = math.nan
    times[gap:] += 3600.0
    damaged = Block(values, times, 0, starts_session=True)
    whole, pieces = Pipeline(detector, rules=AT_ONCE), Pipeline(detector, rules=AT_ONCE)
    expected = whole.push(damaged)
    check_same([turn for piece in cut(damaged, at) for turn in pieces.push(piece)], expected)
    assert pieces.windows == whole.windows > 0
    assert pieces.removed == whole.removed == len(missing)


def test_faults_of_the_rig_raise_alarms_with_all_channels_the_largest_share_first(
    detector: Detector, faulty: list[Block]
) -> None:
    pipeline = Pipeline(detector, rules=AT_ONCE)
    turns = [turn for session in faulty for turn in pipeline.push(session)]
    assert [turn.change for turn in turns[:2]] == [Change.RAISED, Change.CLEARED]
    for turn in turns:
        shares = [channel.share for channel in turn.channels]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1.0)
        assert {channel.name for channel in turn.channels} == set(detector.manifest.channel_names)
        assert turn.end_s - turn.start_s == pytest.approx((detector.manifest.window.length - 1) * PERIOD_S, abs=1e-5)
        assert (turn.score > pipeline.threshold) is (turn.change is Change.RAISED)
        assert turn.peak_score >= max(turn.score, pipeline.threshold)


# With a scorer whose scores are plain to see.


class Level:
    """A scorer whose score is the mean of a window of four samples of one channel; it remembers how many it got."""

    def __init__(self, manifest: Manifest, *, baseline: int = 0, length: int = 4, stride: int = 1) -> None:
        self.manifest = msgspec.structs.replace(
            manifest,
            channels=(Channel("level", 0.0, 1.0),),
            rate_hz=1 / PERIOD_S,
            window=WindowShape(length, stride),
            baseline=baseline,
            score=tuple(msgspec.structs.replace(term, variance=(1.0,)) for term in manifest.score),
            threshold=msgspec.structs.replace(manifest.threshold, value=5.0),
        )
        self.batches: list[int] = []

    def __call__(self, scaled: FloatArray) -> tuple[Scores, FloatArray]:
        self.batches.append(len(scaled))
        return Scores(scaled.mean(axis=(1, 2)), np.ones((len(scaled), 1))), np.zeros_like(scaled)


@pytest.fixture
def manifest(bundle_path: Path) -> Manifest:
    return Bundle.read(bundle_path).manifest


def block(levels: list[float], *, start_s: float = 0.0, starts_session: bool = False) -> Block:
    values: NDArray[np.float64] = np.asarray(levels, float)[:, None]
    return Block(values, start_s + PERIOD_S * np.arange(len(levels)), 7, starts_session=starts_session)


def kinds(turns: list[Turn]) -> list[str]:
    return [turn.change.value for turn in turns]


def test_turn_says_which_window_did_it_and_when_its_samples_arrived(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest), rules=AT_ONCE)
    (turn,) = pipeline.push(block([0, 0, 0, 0, 10, 10, 10], starts_session=True))
    assert (turn.start_s, turn.end_s) == pytest.approx((0.3, 0.6))
    assert (turn.score, turn.arrived_ns) == (7.5, 7)
    assert (turn.channels[0].value, turn.channels[0].expected) == (7.5, 0.0)


def test_state_follows_learning_and_alarm(manifest: Manifest) -> None:
    pipeline = Pipeline(Level(manifest, baseline=10), rules=AT_ONCE)
    assert (pipeline.state, pipeline.score) == ("learning", None)
    pipeline.push(block([0.0] * 9, starts_session=True))
    assert pipeline.state == "learning"
    pipeline.push(block([0.0] * 5, start_s=0.9))
    assert (pipeline.state, pipeline.score) == ("normal", 0.0)
    pipeline.push(block([10.0] * 4, start_s=1.4))
    assert (pipeline.state, pipeline.score) == ("alarm", 10.0)


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


@pytest.mark.parametrize(("length", "most"), [(8, PIECE_BYTES // 64), (PIECE_BYTES // 8, 1), (PIECE_BYTES // 2, 1)])
def test_windows_that_are_scored_together_take_bounded_memory(manifest: Manifest, length: int, most: int) -> None:
    scorer = Level(manifest, length=length, stride=length)
    pipeline = Pipeline(scorer, rules=AT_ONCE)
    pipeline.push(block([0.0] * length * (2 * most + 1), starts_session=True))
    assert max(scorer.batches) == most
    assert pipeline.windows == 2 * most + 1
