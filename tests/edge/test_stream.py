"""Samples to scores: the same scores however the samples arrive, nothing across a break, nothing from the baseline."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_vae.alarm import AlarmRules
from edge_vae.bundle import FORMAT, Bundle, Channel, Fit, Manifest, Modes, Training, WindowShape
from edge_vae.detector import Detector, load
from edge_vae.explain import Explanation
from edge_vae.features import feature_names
from edge_vae.runtime import Outputs
from edge_vae.sample import FloatArray
from edge_vae.scale import Baseline
from edge_vae.score import Tail, Term, fuse
from edge_vae.stream import Scored, Stream, UnknownMode, join
from edge_vae.threshold import Threshold
from edge_vae.view import Rows, View
from edge_vae.window import segment_starts, sliding

LENGTH, STRIDE, PERIOD_S = 5, 2, 0.5
NAN = float("nan")
FIELDS = Scored.__slots__
MODES = Modes(
    columns=("recipe", "load"),
    values=((1.0, 0.5), (2.0, 0.5), (2.0, 7.25)),
    centre=((1.0, -1.0), (40.0, 3.0), (-7.0, 0.0)),
    scale=((2.0, 0.5), (1.0, 5.0), (0.3, 0.3)),
)


class MeanRuntime:
    """A model that expects every channel to rest at its mean, and raised by a tenth of the first condition."""

    def __call__(self, windows: NDArray[np.float32], conditions: NDArray[np.float32]) -> Outputs:
        mean = windows.mean(axis=1, keepdims=True)
        if conditions.shape[1]:
            mean = mean + conditions[:, :1, None] / np.float32(10)
        latent = np.concatenate([windows[:, 0], windows[:, -1]], axis=1)
        return {
            "reconstruction": np.broadcast_to(mean, windows.shape).copy(),
            "posterior_mean": latent,
            "posterior_log_variance": -np.abs(latent),
        }


def table(rows: int, number: float) -> Rows:
    return ((number, number),) * rows


def detector(*, baseline: int = 0, stride: int = STRIDE, modes: Modes | None = None) -> Detector:
    tail, steps = Tail(0.0, 0.4), len(feature_names(LENGTH))
    latent = (0.1, -0.2, 0.3, 0.0), tuple(tuple(2.0 if i == j else 0.3 for j in range(4)) for i in range(4))
    described = Manifest(
        format=FORMAT, name="two", version=1, created="", channels=(Channel("a", 1.0, 2.0), Channel("b", -1.0, 0.5)),
        rate_hz=1 / PERIOD_S, window=WindowShape(LENGTH, stride), clip=8.0, baseline=baseline, modes=modes,
        views=(
            View("window", "window", (), (), table(1, 0.5), 0, (), None),
            View("features", "features", table(steps, 0.1), table(steps, 1.5), table(steps, 0.7), 0, (), None),
        ),
        graph=None,
        score=(
            Term("window.nll", tail), Term("z", tail), Term("window.t2", tail, (latent[0],), latent[1]),
            Term("features.nll", tail), Term("features.logm", tail, table(1, 0.0), ((2.0, 0.5), (0.5, 1.0))),
        ),
        threshold=Threshold(3.0, "rank", 1.0, 2.0, 0.0, 0.4, 9.0, 40, 4.4, 5, 2.8, 3.3),
        explanation=Explanation("share", (), (), {}), alarm=AlarmRules(),
        training=Training(7, 1, 1, 1, 1, dict.fromkeys(("window", "features"), Fit("conv", 1, 1, 1.0, 0, 1, 0.0, 0.0))),
        calibration="", parity=(),
    )  # fmt: skip
    return Detector(described, {"window": MeanRuntime(), "features": MeanRuntime()})


def recording(samples: int, *, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    generator = np.random.default_rng(seed)
    return generator.normal([1.0, -1.0], [2.0, 0.5], (samples, 2)), 1e9 + PERIOD_S * np.arange(samples)


def scored(stream: Stream, values: FloatArray, times: FloatArray, pieces: list[int] | None = None) -> Scored:
    edges = np.cumsum([0, *(pieces or [len(values)])])
    return join([stream.push(values[a:b], times[a:b]) for a, b in pairwise(edges)])


def at_once(
    values: FloatArray, times: FloatArray, *, baseline: int = 0, stride: int = STRIDE
) -> dict[str, list[float]]:
    """The slow twin: all segments of the whole session cut first, then every window by itself."""
    used = detector(baseline=baseline, stride=stride)
    usable = np.isfinite(values).all(axis=1)
    learned = Baseline(samples=baseline, model=used.manifest.scaler)
    learned.push(values[usable])
    if learned.scaler is None:
        return {"rows": [], "score": [], "starts": [], "ends": []}
    kept = np.flatnonzero(usable)
    breaks = segment_starts(times, usable, period_s=PERIOD_S)
    found: dict[str, list[float]] = {"rows": [], "score": [], "starts": [], "ends": []}
    segments = np.split(kept, np.flatnonzero(breaks[kept]))
    for segment in segments:
        rows = segment[segment >= (kept[baseline] if baseline < len(kept) else len(values))]
        for window in sliding(rows[:, None].astype(float), length=LENGTH, stride=stride)[:, :, 0].astype(int):
            scaled = learned.scaler(values[window])[None]
            found["score"].append(float(used(scaled, np.zeros((1, 0), np.float32))[0].score[0]))
            found["rows"].append(int(window[-1]))
            found["starts"].append(float(times[window[0]]))
            found["ends"].append(float(times[window[-1]]))
    return found


def test_every_stride_th_window_is_scored_with_its_row_and_its_times() -> None:
    values, times = recording(12)
    found = scored(Stream(detector()), values, times)
    assert found.rows.tolist() == [4, 6, 8, 10]
    np.testing.assert_array_equal(found.ends, times[[4, 6, 8, 10]])
    np.testing.assert_array_equal(found.starts, times[[0, 2, 4, 6]])
    assert found.after_break.tolist() == [True, False, False, False]
    assert found.score.tolist() == at_once(values, times)["score"]


def test_values_and_expected_values_are_window_means_in_sensor_units() -> None:
    values, times = recording(7)
    found = scored(Stream(detector()), values, times)
    np.testing.assert_allclose(found.values, [values[0:5].mean(axis=0), values[2:7].mean(axis=0)])
    # float32 inside the model: seven digits of numbers of size 1.
    np.testing.assert_allclose(found.expected, found.values, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_pieces_give_the_scores_of_the_whole_session(data: st.DataObject) -> None:
    pieces = data.draw(st.lists(st.integers(0, 25), min_size=1, max_size=8))
    samples = sum(pieces)
    values, times = recording(samples, seed=data.draw(st.integers(0, 99)))
    for row in data.draw(st.lists(st.integers(0, max(samples - 1, 0)), max_size=4)) if samples else []:
        values[row, data.draw(st.integers(0, 1))] = data.draw(st.sampled_from([NAN, np.inf, -np.inf]))
    for row in data.draw(st.lists(st.integers(0, max(samples - 1, 0)), max_size=3)) if samples else []:
        times[row:] += data.draw(st.sampled_from([60.0, -3.0]))
    if data.draw(st.booleans()):
        times[:] = NAN
    baseline, stride = data.draw(st.sampled_from([0, 1, 7, 30])), data.draw(st.sampled_from([1, 2, 9]))

    whole = scored(Stream(detector(baseline=baseline, stride=stride)), values, times)
    found = scored(Stream(detector(baseline=baseline, stride=stride)), values, times, pieces)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(found, field), getattr(whole, field), err_msg=field)
    for field, expected in at_once(values, times, baseline=baseline, stride=stride).items():
        np.testing.assert_array_equal(getattr(found, field), expected, err_msg=field)


def test_a_row_with_a_missing_reading_ends_the_segment_and_is_counted() -> None:
    values, times = recording(20)
    values[9, 1] = NAN
    stream = Stream(detector(stride=1))
    found = scored(stream, values, times)
    assert found.rows.tolist() == [4, 5, 6, 7, 8, 14, 15, 16, 17, 18, 19]
    assert found.rows[found.after_break].tolist() == [4, 14]
    assert stream.removed == 1


def test_a_gap_in_time_and_a_step_back_end_the_segment() -> None:
    values, times = recording(30)
    times[10:] += 100.0
    times[20:] -= 50.0
    found = scored(Stream(detector(stride=1)), values, times)
    assert found.rows[found.after_break].tolist() == [4, 14, 24]
    assert not set(found.rows.tolist()) & {10, 11, 12, 13, 20, 21, 22, 23}


def test_a_segment_shorter_than_a_window_has_no_score_and_the_break_is_still_told() -> None:
    values, times = recording(20)
    values[[6, 10], 0] = NAN
    found = scored(Stream(detector(stride=1)), values, times)
    assert found.rows.tolist() == [4, 5, 15, 16, 17, 18, 19]
    assert found.after_break.tolist() == [True, False, True, False, False, False, False]


def test_rows_of_the_baseline_have_no_score_and_no_window_reaches_into_them() -> None:
    values, times = recording(30)
    stream = Stream(detector(baseline=11, stride=1))
    assert stream.learning == 11
    assert len(scored(stream, values[:11], times[:11]).rows) == 0
    assert stream.learning == 0
    assert stream.push(values[11:], times[11:]).rows.tolist() == list(range(15, 30))


def test_removed_rows_do_not_teach_the_baseline() -> None:
    values, times = recording(30)
    values[3] = NAN
    stream = Stream(detector(baseline=10, stride=1))
    found = scored(stream, values, times)
    assert found.rows[0] == 15  # ten usable rows end with row 10; the first window is rows 11 to 15


def test_a_baseline_hides_a_shift_between_sessions_that_the_model_would_alarm_on() -> None:
    values, times = recording(200)
    shifted = values + np.array([50.0, -30.0])
    usual, moved, learned = (
        float(np.median(scored(Stream(detector(baseline=n)), rows, times).score))
        for n, rows in ((0, values), (0, shifted), (100, shifted))
    )
    assert moved > 2 * usual
    assert learned == pytest.approx(usual, rel=0.2)  # a scale learned from 100 samples is good to about a tenth


def test_a_new_session_starts_from_row_zero_and_learns_anew() -> None:
    values, times = recording(40)
    stream = Stream(detector(baseline=12))
    first = scored(stream, values, times)
    stream.start_session()
    assert stream.learning == 12
    again = scored(stream, values, times)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(again, field), getattr(first, field), err_msg=field)


def test_a_new_session_shares_no_window_with_the_one_before() -> None:
    values, times = recording(10)
    stream = Stream(detector(stride=1))
    stream.push(values[:4], times[:4])
    stream.start_session()
    assert stream.push(values[4:8], times[4:8]).rows.tolist() == []
    assert stream.push(values[8:9], times[8:9]).rows.tolist() == [4]


def test_stride_and_baseline_of_the_bundle_can_be_overruled() -> None:
    values, times = recording(30)
    stream = Stream(detector(baseline=3), stride=1, baseline=8)
    assert scored(stream, values, times).rows.tolist() == list(range(12, 30))
    assert scored(Stream(detector(baseline=3), baseline=0), values, times).rows[0] == LENGTH - 1


def test_no_samples_and_only_removed_samples_give_no_windows() -> None:
    stream = Stream(detector())
    empty = stream.push(np.empty((0, 2)), np.empty(0))
    assert empty.rows.shape == (0,)
    assert empty.shares.shape == empty.values.shape == empty.expected.shape == (0, 2)
    removed = stream.push(np.full((7, 2), NAN), np.full(7, NAN))
    assert len(removed.rows) == 0
    assert stream.removed == 7


def test_scores_are_the_fused_terms_of_scaled_windows() -> None:
    values, times = recording(9)
    used = detector()
    windows = sliding(used.manifest.scaler(values), length=LENGTH, stride=STRIDE)
    expected = fuse(used.manifest.score, windows, used.see(windows, np.zeros((len(windows), 0), np.float32)))
    found = scored(Stream(used), values, times)
    np.testing.assert_array_equal(found.score, expected.score)
    np.testing.assert_array_equal(found.shares, expected.shares)
    np.testing.assert_array_equal(found.terms, expected.terms)
    assert found.terms.shape == (3, 5)


def test_a_broken_sensor_scores_high_and_finite() -> None:
    values, times = recording(12)
    values[6:, 1] = 1e30
    found = scored(Stream(detector()), values, times)
    assert np.isfinite(found.score).all()
    assert np.isfinite(found.terms).all()
    assert np.isfinite(found.shares).all()
    surprise = np.expm1(found.terms).sum(axis=1)  # a term adds log(1 + its own)
    assert surprise[-1] > 10 * surprise[0]
    assert found.score[-1] > 3 * found.score[0]
    assert (found.terms[-1] > found.terms[0]).all()
    assert found.shares[-1, 1] > 0.9


def test_the_int8_model_gives_the_same_scores_for_any_pieces(bundle_path: Path) -> None:
    loaded = load(Bundle.read(bundle_path), path="rig.evb")
    scaler = loaded.manifest.scaler
    values = scaler.inverse(np.random.default_rng(0).normal(size=(150, len(scaler.centre))))
    times = np.full(150, NAN)
    whole = scored(Stream(loaded), values, times)
    found = scored(Stream(loaded), values, times, [1] * 60 + [33, 0, 57])
    assert len(whole.rows) == 30
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(found, field), getattr(whole, field), err_msg=field)


# Operating modes.


def with_modes(values: FloatArray, numbers: list[int]) -> FloatArray:
    """The samples with the columns of their modes; -1 is a mode that the model does not know."""
    known = [(*MODES.values, (3.0, 0.5))[number] for number in numbers]
    return np.column_stack([values, known])


def mode_detector(*, baseline: int = 0, stride: int = 1) -> Detector:
    return detector(baseline=baseline, stride=stride, modes=MODES)


def sample_by_sample(
    values: FloatArray, times: FloatArray, numbers: list[int], used: Detector
) -> dict[str, list[object]]:
    """The slow twin: one sample after the other, one window after the other, each with its own mode."""
    length, stride, wanted = LENGTH, used.manifest.window.stride, used.manifest.baseline
    found: dict[str, list[object]] = {"rows": [], "score": [], "after_break": []}
    mode: int | None = None
    learned: list[FloatArray] = []
    segment: list[int] = []
    fresh = True
    for row, (sample, number) in enumerate(zip(values, numbers, strict=True)):
        step = times[row] - times[row - 1] if row else 0.0
        if number != mode:
            mode = number
            segment, fresh, learned = [], True, [] if number >= 0 else learned
        if number < 0 or not np.isfinite(sample).all() or step > 5 * PERIOD_S or step < 0:
            segment, fresh = [], True
        if number < 0 or not np.isfinite(sample).all():
            continue
        if len(learned) < wanted:
            learned.append(sample)
            continue
        baseline = Baseline(samples=wanted, model=MODES.scaler(number))
        baseline.push(np.array(learned).reshape(-1, 2))
        segment.append(row)
        if len(segment) < length or (len(segment) - length) % stride:
            continue
        assert baseline.scaler is not None
        scaled = baseline.scaler(values[segment[-length:]])[None]
        found["score"].append(float(used(scaled, MODES.conditions[[number]])[0].score[0]))
        found["rows"].append(row)
        found["after_break"].append(fresh)
        fresh = False
    return found


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_pieces_give_the_scores_of_the_whole_session_with_modes_too(data: st.DataObject) -> None:
    runs = data.draw(st.lists(st.tuples(st.integers(-1, 2), st.integers(1, 30)), min_size=1, max_size=6))
    numbers = [number for number, length in runs for _ in range(length)]
    samples = len(numbers)
    values, times = recording(samples, seed=data.draw(st.integers(0, 99)))
    for row in data.draw(st.lists(st.integers(0, samples - 1), max_size=3)):
        values[row, data.draw(st.integers(0, 1))] = data.draw(st.sampled_from([NAN, np.inf]))
    for row in data.draw(st.lists(st.integers(0, samples - 1), max_size=2)):
        times[row:] += data.draw(st.sampled_from([60.0, -3.0]))
    used = mode_detector(baseline=data.draw(st.sampled_from([0, 1, 7])), stride=data.draw(st.sampled_from([1, 2, 9])))
    cuts = sorted(data.draw(st.lists(st.integers(0, samples), max_size=8)))
    pieces = np.diff([0, *cuts, samples]).tolist()

    columns = with_modes(values, numbers)
    whole, in_pieces = Stream(used), Stream(used)
    at_once, found = scored(whole, columns, times), scored(in_pieces, columns, times, pieces)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(found, field), getattr(at_once, field), err_msg=field)
    assert in_pieces.removed == whole.removed
    assert in_pieces.learning == whole.learning
    assert in_pieces.mode == whole.mode == numbers[-1]

    slow = sample_by_sample(values, times, numbers, used)
    for field in ("rows", "score", "after_break"):
        np.testing.assert_array_equal(getattr(found, field), slow[field], err_msg=field)
    unusable = ~np.isfinite(values).all(axis=1) | (np.array(numbers) < 0)
    assert whole.removed == int(unusable.sum())


def test_a_change_of_mode_ends_the_segment_and_the_next_is_scaled_as_its_own_mode() -> None:
    values, times = recording(20)
    numbers = [0] * 8 + [2] * 12
    found = scored(Stream(mode_detector()), with_modes(values, numbers), times)
    assert found.rows.tolist() == [4, 5, 6, 7, *range(12, 20)]
    assert found.rows[found.after_break].tolist() == [4, 12]
    windows = MODES.scaler(2)(sliding(values[8:], length=LENGTH, stride=1))
    conditions = np.repeat(MODES.conditions[[2]], len(windows), axis=0)
    scores, expected = mode_detector()(windows, conditions)
    np.testing.assert_array_equal(found.score[4:], scores.score)
    np.testing.assert_array_equal(found.expected[4:], MODES.scaler(2).inverse(expected))
    np.testing.assert_allclose(found.values[4:], sliding(values[8:], length=LENGTH, stride=1).mean(axis=1))


def test_the_models_are_told_the_mode_of_each_window() -> None:
    values, times = recording(20)
    centred = values - np.array([1.0, -1.0])
    # The same scaled samples in two modes: the expectation moves by a tenth of a scale with the first condition alone.
    first, second = (
        scored(Stream(mode_detector()), with_modes(MODES.scaler(n).inverse(centred), [n] * 20), times) for n in (0, 1)
    )
    moved = MODES.scaler(0)(first.expected) - MODES.scaler(1)(second.expected)
    np.testing.assert_allclose(moved, 0.1, atol=1e-5)
    assert (first.score != second.score).all()


def test_a_change_of_mode_restarts_the_baseline_and_a_return_does_so_again() -> None:
    values, times = recording(40)
    stream = Stream(mode_detector(baseline=6))
    columns = with_modes(values, [0] * 15 + [1] * 10 + [0] * 15)
    assert stream.learning == 6
    assert scored(stream, columns[:15], times[:15]).rows.tolist() == [10, 11, 12, 13, 14]
    assert scored(stream, columns[15:16], times[15:16]).rows.tolist() == []
    assert stream.learning == 5
    # Ten samples of mode 1 are six of a baseline and four that are no window; then mode 0 is learned anew.
    assert scored(stream, columns[16:], times[16:]).rows.tolist() == [35, 36, 37, 38, 39]
    assert stream.learning == 0


def test_the_baseline_of_a_mode_is_never_narrower_than_that_modes_scale() -> None:
    values, times = recording(60)
    quiet = values * 1e-6
    stream = Stream(mode_detector(baseline=30))
    found = scored(stream, with_modes(quiet, [1] * 60), times)
    centre = Baseline(samples=30, model=MODES.scaler(1))
    centre.push(quiet[:30])
    assert centre.scaler is not None
    assert centre.scaler.scale.tolist() == [1.0, 5.0]
    scaled = centre.scaler(sliding(quiet[30:], length=LENGTH, stride=1))
    expected = mode_detector()(scaled, np.repeat(MODES.conditions[[1]], len(scaled), axis=0))[0]
    np.testing.assert_array_equal(found.score, expected.score)


@pytest.mark.parametrize("unknown", [(3.0, 0.5), (1.0, 7.25)])
def test_an_unknown_mode_scores_nothing_and_its_samples_are_counted_as_removed(unknown: tuple[float, float]) -> None:
    values, times = recording(30)
    columns = with_modes(values, [0] * 30)
    columns[10:17, 2:] = unknown
    stream = Stream(mode_detector())
    assert len(scored(stream, columns[:12], times[:12]).rows) == 6
    assert stream.mode == -1
    found = scored(stream, columns[12:], times[12:])
    assert found.rows.tolist() == list(range(21, 30))
    assert found.after_break.tolist() == [True] + [False] * 8
    assert stream.removed == 7
    assert stream.mode == 0


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_missing_reading_of_the_mode_is_as_one_of_a_channel(data: st.DataObject) -> None:
    runs = data.draw(st.lists(st.tuples(st.integers(-1, 2), st.integers(1, 20)), min_size=1, max_size=5))
    numbers = [number for number, length in runs for _ in range(length)]
    values, times = recording(len(numbers), seed=data.draw(st.integers(0, 99)))
    # Not the first row of a run: that its mode is another one is known from its next row only.
    within = [row for row in range(1, len(numbers)) if numbers[row] == numbers[row - 1]]
    rows = data.draw(st.lists(st.sampled_from(within), max_size=8)) if within else []
    cuts = np.diff([0, *sorted(data.draw(st.lists(st.integers(0, len(numbers)), max_size=4))), len(numbers)]).tolist()
    lost, silent = with_modes(values, numbers), with_modes(values, numbers)
    for row in rows:
        lost[row, data.draw(st.integers(0, 1))] = NAN
        silent[row, data.draw(st.integers(2, 3))] = data.draw(st.sampled_from([NAN, np.inf]))
    used = mode_detector(baseline=data.draw(st.sampled_from([0, 6])))
    one, other = Stream(used), Stream(used)
    expected, found = scored(one, lost, times, cuts), scored(other, silent, times, cuts)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field), err_msg=field)
    for name in ("removed", "unusable", "mode", "learning"):
        assert getattr(other, name) == getattr(one, name), name
    assert other.take_unknown() == one.take_unknown()


def test_a_missing_reading_of_the_mode_ends_the_segment_and_no_more() -> None:
    values, times = recording(40)
    columns = with_modes(values, [1] * 40)
    columns[25, 2] = NAN
    stream = Stream(mode_detector(baseline=10))
    found = scored(stream, columns, times)
    assert found.rows.tolist() == [*range(14, 25), *range(30, 40)]
    assert found.rows[found.after_break].tolist() == [14, 30]
    assert (stream.removed, stream.mode, stream.learning, stream.take_unknown()) == (1, 1, 0, [])


def test_samples_before_the_first_reading_of_the_mode_are_left_out() -> None:
    values, times = recording(20)
    columns = with_modes(values, [2] * 20)
    columns[:5, 2:] = NAN
    stream = Stream(mode_detector())
    found = scored(stream, columns, times, [3, 17])
    assert (found.rows.tolist(), stream.removed) == (list(range(9, 20)), 5)
    windows = MODES.scaler(2)(sliding(values[5:], length=LENGTH, stride=1))
    scores = mode_detector()(windows, np.repeat(MODES.conditions[[2]], len(windows), axis=0))[0]
    np.testing.assert_array_equal(found.score, scores.score)


@given(usable=st.lists(st.booleans(), max_size=20), cuts=st.lists(st.integers(0, 20), max_size=4))
def test_samples_in_a_row_of_no_use_are_counted_whatever_the_pieces(usable: list[bool], cuts: list[int]) -> None:
    values, times = recording(len(usable))
    values[~np.array(usable, bool), 0] = NAN
    stream = Stream(detector())
    scored(stream, values, times, np.diff([0, *sorted(min(c, len(usable)) for c in cuts), len(usable)]).tolist())
    latest = max((row + 1 for row, good in enumerate(usable) if good), default=0)
    assert stream.unusable == len(usable) - latest
    stream.start_session()
    assert stream.unusable == 0


def test_a_session_wholly_in_an_unknown_mode_gives_no_windows() -> None:
    values, times = recording(30)
    stream = Stream(mode_detector(baseline=4))
    found = scored(stream, with_modes(values, [-1] * 30), times, [10, 0, 20])
    assert found.rows.shape == (0,)
    assert found.shares.shape == found.values.shape == found.expected.shape == (0, 2)
    assert found.terms.shape == (0, 5)
    assert (stream.removed, stream.mode, stream.learning) == (30, -1, 4)


def test_mode_is_that_of_the_latest_sample() -> None:
    values, times = recording(6)
    stream = Stream(mode_detector())
    assert stream.mode == 0
    for row, number in enumerate([1, 2, -1, -1, 0, 2]):
        stream.push(with_modes(values[row : row + 1], [number]), times[row : row + 1])
        assert stream.mode == number
    stream.push(np.empty((0, 4)), np.empty(0))
    assert stream.mode == 2
    assert Stream(detector()).mode == 0


def test_a_new_session_returns_to_the_first_mode() -> None:
    values, times = recording(25)
    stream = Stream(mode_detector(baseline=3))
    columns = with_modes(values, [0] * 25)
    first = scored(stream, columns, times)
    stream.push(with_modes(values, [2] * 25), times + 100)
    stream.start_session()
    assert (stream.mode, stream.learning) == (0, 3)
    again = scored(stream, columns, times)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(again, field), getattr(first, field), err_msg=field)


def test_a_session_that_starts_in_another_mode_is_scaled_as_that_one() -> None:
    values, times = recording(12)
    found = scored(Stream(mode_detector()), with_modes(values, [1] * 12), times)
    windows = MODES.scaler(1)(sliding(values, length=LENGTH, stride=1))
    expected = mode_detector()(windows, np.repeat(MODES.conditions[[1]], len(windows), axis=0))[0]
    np.testing.assert_array_equal(found.score, expected.score)
    assert found.after_break.tolist() == [True] + [False] * 7


@given(cuts=st.lists(st.integers(0, 12), max_size=6))
def test_every_unknown_mode_is_told_once_a_session_whatever_the_pieces(cuts: list[int]) -> None:
    values, times = recording(12)
    columns = with_modes(values, [0] * 12)
    columns[2:, 2] = [3.0, 3.0, NAN, 4.0, 3.0, 1.0, 4.0, np.inf, 5.0, 5.0]
    stream = Stream(mode_detector())
    scored(stream, columns, times, np.diff([0, *sorted(cuts), 12]).tolist())
    assert stream.take_unknown() == [
        UnknownMode((3.0, 0.5), times[2]), UnknownMode((4.0, 0.5), times[5]), UnknownMode((5.0, 0.5), times[10]),
    ]  # fmt: skip
    assert stream.take_unknown() == []
    stream.push(columns[2:3], times[-1:] + 1)
    assert stream.take_unknown() == []
    stream.start_session()
    stream.push(columns[2:3], times[2:3])
    assert stream.take_unknown() == [UnknownMode((3.0, 0.5), times[2])]


def test_each_window_of_the_latest_push_can_be_asked_for_as_it_was_scored() -> None:
    values, times = recording(30)
    stream = Stream(mode_detector(baseline=2))
    stream.push(with_modes(values[:10], [0] * 10), times[:10])
    found = stream.push(with_modes(values[10:], [0] * 5 + [1] * 10 + [-1] * 5), times[10:])
    assert len(found.rows) > 6
    for i in range(len(found.rows)):
        scaled, conditions, scaler = stream.window(i)
        scores, expected = mode_detector()(scaled, conditions)
        assert scores.score[0] == found.score[i]
        np.testing.assert_array_equal(scaler.inverse(expected)[0], found.expected[i])
        last = int(found.rows[i])
        np.testing.assert_array_equal(scaled[0], scaler(values[last - LENGTH + 1 : last + 1]))
    for beyond in (len(found.rows), 99):
        with pytest.raises(IndexError):
            stream.window(beyond)
    stream.push(np.empty((0, 4)), np.empty(0))
    with pytest.raises(IndexError):
        stream.window(0)
