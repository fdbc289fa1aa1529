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
from edge_vae.bundle import Bundle, Channel, Manifest, Training, WindowShape
from edge_vae.detector import Detector, load
from edge_vae.runtime import Outputs
from edge_vae.sample import FloatArray
from edge_vae.scale import Baseline
from edge_vae.score import Tail, Term, fuse
from edge_vae.stream import Scored, Stream, join
from edge_vae.threshold import Threshold
from edge_vae.window import segment_starts, sliding

LENGTH, STRIDE, PERIOD_S = 5, 2, 0.5
NAN = float("nan")
FIELDS = Scored.__slots__


class MeanRuntime:
    """A model that expects every channel to rest at its mean."""

    def __call__(self, windows: NDArray[np.float32]) -> Outputs:
        return {"reconstruction": np.broadcast_to(windows.mean(axis=1, keepdims=True), windows.shape).copy()}


def detector(*, baseline: int = 0, stride: int = STRIDE) -> Detector:
    tail = Tail((-2.0, -1.0, 0.0), 0.4)
    described = Manifest(
        format=1, name="two", version=1, created="", channels=(Channel("a", 1.0, 2.0), Channel("b", -1.0, 0.5)),
        rate_hz=1 / PERIOD_S, window=WindowShape(LENGTH, stride), clip=8.0, baseline=baseline, models=(),
        score=(Term("window.nll", (0.5, 0.5), tail), Term("z", (1.0, 1.0), tail)),
        threshold=Threshold(3.0, "rank", 1.0, 2.0, 0.0, 0.4, 9.0, 40, 4.4, 5, 2.8, 3.3), alarm=AlarmRules(),
        training=Training("conv", 1, 1.0, 7, 1, 1, 1, 1, 1, 0.0, 0.0), calibration="", parity=(),
    )  # fmt: skip
    return Detector(described, MeanRuntime())


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
            found["score"].append(float(used(scaled)[0].score[0]))
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


@settings(max_examples=60)
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
    expected = fuse(used.manifest.score, windows, used.reconstruct(windows))
    found = scored(Stream(used), values, times)
    np.testing.assert_array_equal(found.score, expected.score)
    np.testing.assert_array_equal(found.shares, expected.shares)


def test_a_broken_sensor_scores_high_and_finite() -> None:
    values, times = recording(12)
    values[6:, 1] = 1e30
    found = scored(Stream(detector()), values, times)
    assert np.isfinite(found.score).all()
    assert found.score[-1] > 10 * found.score[0]
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
