"""What is measured on a device: which windows, which calls, and that the figures belong together."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_vae import bench
from edge_vae.bundle import Bundle, Modes
from edge_vae.cli import run
from edge_vae.detector import load
from edge_vae.latency import ROUNDS, WARM_UP, in_turns
from edge_vae.trial import decider, golden_samples, recording
from plain_bundle import write_plain_bundle


@pytest.fixture(scope="module")
def bundle(parts_path: Path) -> Bundle:
    return Bundle.read(parts_path)


@pytest.fixture(scope="module")
def measured(parts_path: Path) -> bench.Benchmark:
    return bench.measure(parts_path, windows=20, seconds=0.2)


def test_every_call_and_every_model_has_a_row(measured: bench.Benchmark, bundle: Bundle) -> None:
    stride = bundle.manifest.window.stride
    assert [row.name for row in measured.latencies] == [
        "window to decision", f"samples to decision, {stride} at a time", *(f"invoke {view}" for view in bundle.models),
    ]  # fmt: skip
    assert len(bundle.models) == 2


def test_figures_of_a_row_belong_together(measured: bench.Benchmark) -> None:
    for row in measured.latencies:
        assert 0 < row.p50_us <= row.p99_us
        assert row.per_second == pytest.approx(1e6 / row.mean_us)
        assert 1 <= row.calls <= 20
    assert measured.bulk.windows == 20
    assert measured.bulk.per_second > 0


def test_shares_of_the_bare_invokes_are_about_one_together(measured: bench.Benchmark) -> None:
    shares = [row.per_invoke for row in measured.latencies if row.name.startswith("invoke ")]
    assert all(share is not None and 0 < share < 1.5 for share in shares)


def test_golden_windows_come_back_in_sensor_units_and_are_decided_as_they_were(bundle: Bundle) -> None:
    samples = golden_samples(bundle)
    windows, scaler = bundle.golden["windows"], bundle.manifest.scaler
    for sample, window in zip(samples, windows, strict=True):
        np.testing.assert_allclose(scaler(sample.values[0]), window, rtol=1e-6, atol=1e-6)
    decide = decider(load(bundle, path="rig.evb"), samples)
    expected = bundle.golden["score"] > bundle.manifest.threshold.value
    assert [decide(i) for i in range(2 * len(samples))] == [*expected, *expected]
    assert 0 < expected.sum() < len(expected)


def test_golden_windows_of_a_mode_take_its_own_scaler(bundle: Bundle) -> None:
    channels = len(bundle.manifest.channels)
    modes = Modes(("load",), ((1.0,), (5.0,)), ((0.0,) * channels, (100.0,) * channels), ((1.0,) * channels,) * 2)
    manifest = msgspec.structs.replace(bundle.manifest, modes=modes)
    golden = {**bundle.golden, "conditions": modes.conditions[[0, 1] * (len(bundle.golden["windows"]) // 2)]}
    samples = golden_samples(Bundle(manifest, bundle.models, golden, bundle.reference))
    assert [sample.mode for sample in samples[:2]] == [(1.0,), (5.0,)]
    np.testing.assert_allclose(samples[1].values[0], bundle.golden["windows"][1].astype(float) + 100.0, rtol=1e-6)
    rows = recording(manifest, samples, rows=500)
    assert rows.shape == (500, channels + 1)
    assert set(rows[:, -1]) == {1.0}
    np.testing.assert_array_equal(rows[:32, :-1], samples[0].values[0])
    np.testing.assert_array_equal(rows[32:64, :-1], samples[2].values[0])


def test_every_turn_calls_everything_and_counts_upwards() -> None:
    called: dict[str, list[int]] = {"a": [], "b": []}
    timed = in_turns({name: seen.append for name, seen in called.items()}, calls_each=12, seconds=5.0)
    assert {name: [len(turn) for turn in turns] for name, turns in timed.items()} == {"a": [2] * 5, "b": [2] * 5}
    assert called["a"] == called["b"] == [*range(WARM_UP), *[0, 1] * 5]


def test_times_are_nanoseconds_and_a_turn_ends_when_its_time_is_over() -> None:
    timed = in_turns({"nap": lambda _: time.sleep(0.02)}, calls_each=5000, seconds=0.1)
    calls = [len(turn) for turn in timed["nap"]]
    assert calls == [1] * ROUNDS  # each part of the time is over with the first
    assert all(took >= 20e6 for turn in timed["nap"] for took in turn)


def test_a_bundle_without_a_model_has_no_invoke_to_compare_with(tmp_path: Path) -> None:
    found = bench.measure(write_plain_bundle(tmp_path / "plain.evb"), windows=3, seconds=0.1)
    assert [row.per_invoke for row in found.latencies] == [None, None]
    assert [row.calls for row in found.latencies] == [3, 3]
    assert (found.bulk.rows, found.bulk.windows) == (6, 3)


LOADS = Modes(("load",), ((1.0,), (5.0,)), ((0.0,), (9.0,)), ((1.0,), (2.0,)))


@pytest.mark.parametrize("changes", [{"baseline": 50}, {"modes": LOADS}], ids=["baseline", "modes"])
def test_every_window_is_scored_with_a_baseline_and_with_modes(changes: dict[str, Any], tmp_path: Path) -> None:
    found = bench.measure(write_plain_bundle(tmp_path / "plain.evb", **changes), windows=5, seconds=0.1)
    assert [row.calls for row in found.latencies] == [5, 5]
    assert (found.bulk.rows, found.bulk.windows) == (8, 5)


def test_people_read_every_row_and_what_the_numbers_include(measured: bench.Benchmark) -> None:
    told = bench.text(measured)
    for row in measured.latencies:
        assert re.search(rf"^{re.escape(row.name)} +[\d.]+ +[\d.]+ +[\d.]+ +\d+$", told, flags=re.MULTILINE)
    for words in ("golden windows", "shared libraries in full", "ai_edge_litert", "load "):
        assert words in told


def test_a_file_that_is_no_bundle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "no.evb").write_bytes(b"nothing")
    assert run(["bench", str(tmp_path / "no.evb")]) == 78
    assert "no.evb: not a whole bundle: expected the unchanged output of edge-vae convert" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--windows", "--seconds", "--threads"])
def test_nothing_to_measure_is_wrong_usage(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "pump.evb", option, "0"]) == 2
    assert option in capsys.readouterr().err
