"""`edge-vae convert` on the session's tiny run: what it writes, what it refuses, and that it repeats itself exactly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from conftest import Command
from edge_vae.bundle import Bundle
from edge_vae.faults import stress
from edge_vae_converters import parity
from edge_vae_converters.representative import representative
from edge_vae_converters.tflite import INT8_SAFE

pytestmark = pytest.mark.keras


def test_converting_twice_gives_the_same_bytes(
    edge_vae: Command, run_folder: Path, bundle_path: Path, tmp_path: Path
) -> None:
    again = tmp_path / bundle_path.name
    edge_vae("convert", run_folder, "-o", again)
    assert again.read_bytes() == bundle_path.read_bytes()


def test_every_tensor_of_the_int8_model_is_an_integer(bundle_path: Path) -> None:
    interpreter = Interpreter(model_content=Bundle.read(bundle_path).model)
    interpreter.allocate_tensors()
    assert {details["dtype"] for details in interpreter.get_tensor_details()} <= {np.int8, np.int32}


def test_the_bundle_holds_only_operators_of_the_safe_list(bundle_path: Path) -> None:
    assert set(Bundle.read(bundle_path).manifest.models[0].operators) <= INT8_SAFE


def test_the_json_document_stands_alone_and_says_what_the_bundle_says(
    edge_vae: Command, run_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "rig.evb"
    document = json.loads(edge_vae("convert", run_folder, "-o", path, "--json").stdout)
    manifest = Bundle.read(path).manifest
    assert document["passed"] is True
    assert document["bytes"] == path.stat().st_size
    assert document["threshold"]["value"] == manifest.threshold.value
    assert [row["measure"] for row in document["parity"]] == [row.measure for row in manifest.parity]


def test_a_wish_for_fewer_false_alarms_raises_the_threshold(
    edge_vae: Command, run_folder: Path, tmp_path: Path
) -> None:
    thresholds = []
    for wish in (50, 0.05):
        path = tmp_path / f"{wish}.evb"
        edge_vae("convert", run_folder, "-o", path, "--false-alarms", wish)
        thresholds.append(Bundle.read(path).manifest.threshold.value)
    assert thresholds[0] < thresholds[1]


def test_a_float32_bundle_scores_recorded_data(edge_vae: Command, run_folder: Path, rig: Path, tmp_path: Path) -> None:
    path = tmp_path / "float.evb"
    edge_vae("convert", run_folder, "-o", path, "--precision", "float32")
    edge_vae("score", path, rig / "faulty", "-o", tmp_path / "scores.csv")
    assert len((tmp_path / "scores.csv").read_text().splitlines()) > 1
    assert Bundle.read(path).manifest.models[0].precision == "float32"


def test_a_folder_that_is_no_run_is_refused_in_one_line(edge_vae: Command, tmp_path: Path) -> None:
    done = edge_vae("convert", tmp_path, "-o", tmp_path / "x.evb", status=1)
    assert done.stderr.count("\n") == 1
    assert "edge-vae train" in done.stderr


def test_normal_calibration_gives_another_model(
    edge_vae: Command, run_folder: Path, bundle_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "normal.evb"
    edge_vae("convert", run_folder, "-o", path, "--calibration", "normal", "--no-gate")
    normal, stressed = Bundle.read(path), Bundle.read(bundle_path)
    assert normal.manifest.calibration == "normal"
    assert normal.model != stressed.model


def test_stress_calibration_reaches_beyond_the_normal_windows() -> None:
    windows = np.random.default_rng(0).normal(size=(200, 16, 3)).astype(np.float32)
    normal = representative(windows, calibration="normal", clip=8.0, seed=1)
    stressed = representative(windows, calibration="stress", clip=8.0, seed=1)
    assert len(stressed) == 2 * len(normal)
    assert np.array_equal(stressed[: len(normal)], normal)
    assert np.abs(stressed).max() > np.abs(normal).max()
    assert np.abs(stressed).max() <= 8.0


def test_stress_is_the_same_for_the_same_seed() -> None:
    windows = np.zeros((10, 16, 3), np.float32)
    made = [stress(windows, count=20, severity=8.0, clip=8.0, generator=np.random.default_rng(5)) for _ in range(2)]
    assert np.array_equal(*made)


def test_the_gate_refuses_what_misses_a_limit_and_nothing_else() -> None:
    rows = [
        parity.ParityRow("a", 0.9, ">= 0.99", passed=False),
        parity.ParityRow("b", 1.0, ">= 0.99", passed=True),
        parity.ParityRow("c", 5.0, "", passed=None),
    ]
    assert [row.measure for row in parity.failures(rows)] == ["a"]
