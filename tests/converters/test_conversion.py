"""Run folder to bundle: what judges is fitted on the converted model's own outputs, and a run gives the same bytes."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_vae.bundle import Bundle
from edge_vae.detector import load
from edge_vae.runtime import TFLiteRuntime
from edge_vae.score import fuse
from edge_vae_converters.conversion import Conversion, convert, write
from edge_vae_converters.parity import failures
from edge_vae_converters.tflite import INT8_SAFE
from edge_vae_train.judge import judge, reference_thresholds
from edge_vae_train.run_folder import Run

pytestmark = pytest.mark.keras


@pytest.fixture(scope="module")
def trained(run_folder: Path) -> Run:
    return Run.read(run_folder)


@pytest.fixture(scope="module")
def stress(trained: Run) -> Conversion:
    return convert(trained, name="rig")


@pytest.fixture(scope="module")
def normal(trained: Run) -> Conversion:
    return convert(trained, name="rig", calibration="normal")


@pytest.fixture(scope="module")
def float32(trained: Run) -> Conversion:
    return convert(trained, name="rig", precision="float32")


def parity(conversion: Conversion) -> dict[str, float]:
    return {row.measure: row.value for row in conversion.parity}


def test_the_same_run_gives_the_same_bytes(trained: Run, stress: Conversion) -> None:
    assert convert(trained, name="rig").bundle.pack() == stress.bundle.pack()


def test_the_int8_model_passes_the_gate_and_is_small(stress: Conversion) -> None:
    assert failures(stress.parity) == []
    found = parity(stress)
    assert found["score Spearman, stress and normal windows"] >= 0.999
    assert found["decisions that agree"] >= 0.99
    assert found["tensors that are neither int8 nor int32"] == 0
    assert len(stress.bundle.pack()) <= 128 << 10


def test_the_manifest_says_what_the_model_is(trained: Run, stress: Conversion) -> None:
    manifest, record = stress.bundle.manifest, trained.record
    (model,) = manifest.models
    assert manifest.name == "rig"
    assert manifest.created == record.created
    assert manifest.channels == record.channels
    assert manifest.training == record.training
    assert manifest.calibration == "stress"
    assert (model.precision, model.sha256) == ("int8", hashlib.sha256(stress.bundle.model).hexdigest())
    assert set(model.operators) <= INT8_SAFE
    assert [term.name for term in manifest.score] == ["window.nll", "z"]
    assert manifest.score[0].variance == record.variance


def test_terms_and_threshold_are_fitted_on_the_converted_models_own_outputs(trained: Run, stress: Conversion) -> None:
    manifest = stress.bundle.manifest
    runtime = TFLiteRuntime(stress.bundle.model, outputs=manifest.models[0].outputs)
    held_out = np.clip(np.concatenate(trained.held_out), -manifest.clip, manifest.clip)
    own = judge(trained, runtime(held_out)["reconstruction"], manifest.threshold.false_alarms_per_day)
    assert tuple(own.terms) == manifest.score
    assert own.threshold == manifest.threshold
    graph = trained.graph().predict(held_out, verbose=0)["reconstruction"]
    assert judge(trained, graph, manifest.threshold.false_alarms_per_day).threshold != manifest.threshold


def test_golden_windows_are_normal_and_faulty_and_reproduce_their_scores(trained: Run, stress: Conversion) -> None:
    golden = stress.bundle.golden
    normal = {window.tobytes() for window in np.concatenate(trained.held_out)}
    kinds = [window.tobytes() in normal for window in golden["windows"]]
    assert kinds == [True] * 4 + [False] * 4
    scores, reconstruction = load(stress.bundle, path="rig.evb")(golden["windows"].astype(np.float64))
    np.testing.assert_allclose(scores.score, golden["score"], rtol=1e-6)  # kept in float32
    again = fuse(stress.bundle.manifest.score, golden["windows"].astype(np.float64), reconstruction)
    np.testing.assert_array_equal(again.score, scores.score)


def test_the_pca_and_the_thresholds_of_both_baselines_travel_along(trained: Run, stress: Conversion) -> None:
    reference, wish = stress.bundle.reference, trained.record.settings.calibration.false_alarms_per_day
    assert reference.keys() == {"mean", "components", "variance", "t2", "q", "z_threshold", "pca_threshold"}
    for name, value in reference_thresholds(trained, wish).items():
        assert reference[name] == value


def test_calibrating_on_normal_windows_alone_gives_another_and_no_better_model(
    stress: Conversion, normal: Conversion
) -> None:
    assert normal.bundle.manifest.calibration == "normal"
    assert normal.bundle.model != stress.bundle.model
    measure = "score Spearman, stress and normal windows"
    assert parity(normal)[measure] <= parity(stress)[measure]


def test_both_calibrations_are_compared_on_the_same_windows(stress: Conversion, normal: Conversion) -> None:
    for measure in ("ROC-AUC stress against normal, float", "normal windows above the threshold, float"):
        assert parity(stress)[measure] == parity(normal)[measure]


def test_a_float32_bundle_computes_what_was_trained_and_is_not_held_to_integers(
    stress: Conversion, float32: Conversion
) -> None:
    manifest = float32.bundle.manifest
    assert manifest.models[0].precision == "float32"
    assert manifest.calibration == ""
    assert float32.bundle.model == float32.float32 == stress.float32
    found = parity(float32)
    assert found["score Spearman, stress and normal windows"] > 0.999999
    assert found["quantization noise / normal error"] < 1e-6
    assert found["tensors that are neither int8 nor int32"] > 0
    assert failures(float32.parity) == []
    load(float32.bundle, path="rig.evb")


def test_a_larger_wish_lowers_the_threshold(trained: Run, stress: Conversion) -> None:
    wished = convert(trained, name="rig", false_alarms_per_day=50.0).bundle
    assert wished.manifest.threshold.false_alarms_per_day == 50.0
    assert wished.manifest.threshold.value < stress.bundle.manifest.threshold.value
    assert wished.reference["z_threshold"] < stress.bundle.reference["z_threshold"]
    assert wished.model == stress.bundle.model


def test_a_conversion_is_written_with_both_models_beside_the_run(
    run_folder: Path, stress: Conversion, tmp_path: Path
) -> None:
    copied = Run.read(Path(shutil.copytree(run_folder, tmp_path / "run")))
    output = tmp_path / "new" / "folder" / "rig.evb"
    written = write(stress, output, copied)
    assert written == [output, copied.folder / "window.int8.tflite", copied.folder / "window.float32.tflite"]
    assert Bundle.read(output).manifest == stress.bundle.manifest
    assert written[1].read_bytes() == stress.bundle.model
    assert written[2].read_bytes() == stress.float32
