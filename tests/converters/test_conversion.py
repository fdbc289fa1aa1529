"""Run folder to bundle: what judges is fitted on the converted model's own outputs, and a run gives the same bytes."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from edge_vae.bundle import Bundle
from edge_vae.detector import load
from edge_vae.errors import InferenceError
from edge_vae.explain import METHODS
from edge_vae.runtime import Runtime, TFLiteRuntime
from edge_vae.sample import FloatArray
from edge_vae.score import fuse
from edge_vae.view import Seen, View
from edge_vae_converters import conversion
from edge_vae_converters.conversion import Conversion, convert, stress_windows, write
from edge_vae_converters.parity import failures
from edge_vae_converters.representative import faulty
from edge_vae_converters.small_components import with_small_components
from edge_vae_converters.tflite import INT8_SAFE
from edge_vae_train.data import Recording, Session
from edge_vae_train.judge import judge, keras_runtimes, reference_thresholds, seen_by
from edge_vae_train.prepare import WindowSet
from edge_vae_train.run_folder import Run
from edge_vae_train.settings import Settings, WindowSettings
from edge_vae_train.training import train

pytestmark = pytest.mark.keras

VIEWS = ("window", "features")
"""Those with a model; the third, of the PCA, has arrays instead."""
MOST_BYTES = 120 << 10
"""Of a bundle with the models of the window and of its features, of seven channels: 103 KiB are measured, most of
them int8 weights, which do not compress."""


@pytest.fixture(scope="module")
def trained(run_folder: Path) -> Run:
    return Run.read(run_folder)


@pytest.fixture(scope="module")
def stress(trained: Run) -> Conversion:
    return convert(trained, name="rig")


@pytest.fixture(scope="module")
def normal(trained: Run) -> Conversion:
    return convert(trained, name="rig", calibration="normal", simpler={})


@pytest.fixture(scope="module")
def float32(trained: Run) -> Conversion:
    return convert(trained, name="rig", precision="float32")


def converted(made: Conversion) -> dict[str, Runtime]:
    """The int8 models, running."""
    runtimes: dict[str, Runtime] = {}
    for view in made.bundle.manifest.views:
        if view.model is not None:
            runtimes[view.name] = TFLiteRuntime(made.parts.models[view.name], outputs=view.model.outputs)
    return runtimes


def parity(made: Conversion) -> dict[str, float]:
    return {row.measure: row.value for row in made.parity}


def test_the_int8_model_passes_the_gate_and_is_small(stress: Conversion) -> None:
    assert failures(stress.parity) == []
    assert stress.fallbacks == ()
    found = parity(stress)
    assert found["score Spearman, stress and normal windows"] >= 0.999
    assert found["decisions that agree"] >= 0.99
    for view in VIEWS:
        assert found[f"{view}: tensors that are neither int8 nor int32"] == 0
        assert found[f"{view}: operators outside the int8-safe list"] == 0
    assert len(stress.bundle.pack()) <= MOST_BYTES


def test_the_manifest_says_what_the_model_is(trained: Run, stress: Conversion) -> None:
    manifest, record = stress.bundle.manifest, trained.record
    assert manifest.name == "rig"
    assert manifest.created == record.created
    assert manifest.channels == record.channels
    assert manifest.training == record.training
    assert manifest.calibration == "stress"
    assert [view.name for view in manifest.views] == [*VIEWS, "pca"]
    assert list(stress.parts.models) == list(VIEWS)
    assert manifest.precision == "int8"
    assert manifest.views[2] == record.views[2]
    for view, recorded in zip(manifest.views[:2], record.views[:2], strict=True):
        assert view.model is not None
        sha256 = hashlib.sha256(stress.parts.models[view.name]).hexdigest()
        assert (view.model.precision, view.model.sha256) == ("int8", sha256)
        assert set(view.model.operators) <= INT8_SAFE
        assert msgspec.structs.replace(view, model=None) == recorded
    names = ["window.max", "features.nll", "features.level", "pca", "features.mahalanobis"]
    assert [term.name for term in manifest.score] == [term.name for term in record.terms] == names
    assert manifest.explanation.method in METHODS
    assert manifest.explanation.hits.keys() == set(METHODS)


def test_terms_and_threshold_are_fitted_on_the_converted_models_own_outputs(trained: Run, stress: Conversion) -> None:
    manifest = stress.bundle.manifest
    wish = manifest.threshold.false_alarms_per_day
    runtimes = converted(stress)
    held_out = WindowSet.joined(trained.held_out)
    stored, _ = with_small_components(trained, normal=held_out, stress=stress_windows(trained))
    own = judge(stored, seen_by(stored, runtimes, held_out), wish)
    assert tuple(own.terms) == stress.parts.manifest.score
    assert [term.tail for term in own.terms] == [term.tail for term in manifest.score]
    assert own.threshold == manifest.threshold
    assert judge(trained, seen_by(trained, keras_runtimes(trained), held_out), wish).threshold != manifest.threshold


def test_golden_windows_are_normal_and_faulty_and_reproduce_their_scores(trained: Run, stress: Conversion) -> None:
    golden = stress.bundle.golden
    normal = {window.astype(np.float16).tobytes() for window in WindowSet.joined(trained.held_out).windows}
    assert golden["windows"].dtype == np.float16
    kinds = [window.tobytes() in normal for window in golden["windows"]]
    assert kinds == [True] * 4 + [False] * 4
    assert golden["conditions"].shape == (8, 0)
    windows = golden["windows"].astype(np.float64)
    by_graph, by_parts = (load(bundle, path="rig.evb") for bundle in (stress.bundle, stress.parts))
    scores, _ = by_parts(windows, golden["conditions"])
    np.testing.assert_allclose(scores.score, golden["score"], rtol=1e-6)  # kept in float32
    again = fuse(stress.parts.manifest.score, windows, by_parts.see(windows, golden["conditions"]))
    np.testing.assert_array_equal(again.score, scores.score)
    np.testing.assert_allclose(by_graph(windows, golden["conditions"])[0].score, golden["score"], rtol=1e-4)


def test_one_graph_holds_all_models_and_says_by_how_much_it_differs(stress: Conversion) -> None:
    assert list(stress.bundle.models) == ["scoring"]
    assert parity(stress)["one graph: largest difference of a score"] < 1e-3
    assert stress.bundle.manifest.views == stress.parts.manifest.views


def test_int8_ends_leave_the_models_separate_and_the_same_run_gives_the_same_bytes(
    trained: Run, stress: Conversion
) -> None:
    made = convert(trained, name="rig", io="int8")
    assert made.bundle is made.parts
    assert made.bundle.pack() == stress.parts.pack()


def test_the_pca_and_the_thresholds_of_both_baselines_travel_along(trained: Run, stress: Conversion) -> None:
    reference, wish = stress.parts.reference, trained.record.settings.calibration.false_alarms_per_day
    of_the_term, of_the_baseline = (
        {"lag_mean", "lag_components", "lag_steps"},
        {"mean", "components", "variance", "t2", "q"},
    )
    assert reference.keys() == {*of_the_term, *of_the_baseline, "z_threshold", "pca_threshold"}
    for name, value in reference_thresholds(trained, wish).items():
        assert reference[name] == value
    assert stress.bundle.reference.keys() == reference.keys() - of_the_term  # the graph holds these


def window_view(trained: Run, runtime: Runtime, windows: WindowSet) -> Seen:
    return seen_by(trained, {"window": runtime}, windows)["window"]


def window_nll(seen: Seen) -> FloatArray:
    return np.asarray((np.square(seen.target - seen.reconstruction) / seen.variance).mean(axis=(1, 2)))


def test_a_window_model_calibrated_on_normal_windows_alone_loses_faulty_windows(
    trained: Run, stress: Conversion, normal: Conversion
) -> None:
    assert normal.bundle.manifest.calibration == "normal"
    assert all(normal.parts.models[view] != stress.parts.models[view] for view in VIEWS)
    held_out, clip = WindowSet.joined(trained.held_out), trained.record.clip
    faults = faulty(held_out, count=400, severity=clip, clip=clip, seed=99)
    graph = keras_runtimes(trained)["window"]
    usual, before = (window_view(trained, graph, windows) for windows in (held_out, faults))
    error = np.square(usual.target - usual.reconstruction).mean()
    noise, ranks = {}, {}
    for made in (stress, normal):
        after = window_view(trained, converted(made)["window"], faults)
        calibration = made.bundle.manifest.calibration
        noise[calibration] = np.square(after.reconstruction - before.reconstruction).mean() / error
        ranks[calibration] = spearmanr(window_nll(before), window_nll(after)).statistic
    # Measured: noise 0.005 and 0.65 of the normal error, rank correlations 0.9999 and 0.9987.
    assert noise["stress"] < 0.05 < 0.2 < noise["normal"]
    assert ranks["stress"] > 0.9995 > ranks["normal"]


def test_both_calibrations_are_compared_on_the_same_windows(stress: Conversion, normal: Conversion) -> None:
    for measure in ("ROC-AUC stress against normal, float", "normal windows above the threshold, float"):
        assert parity(stress)[measure] == parity(normal)[measure]


def test_a_float32_bundle_computes_what_was_trained_and_is_not_held_to_integers(
    stress: Conversion, float32: Conversion
) -> None:
    manifest = float32.bundle.manifest
    assert manifest.precision == "float32"
    assert manifest.calibration == ""
    assert float32.parts.models == float32.float32 == stress.float32
    found = parity(float32)
    assert found["score Spearman, stress and normal windows"] > 0.999999
    for view in VIEWS:
        assert found[f"{view}: quantization noise / normal error"] < 1e-6
        assert found[f"{view}: tensors that are neither int8 nor int32"] > 0
    assert failures(float32.parity) == []
    load(float32.bundle, path="rig.evb")


def test_a_larger_wish_lowers_the_threshold(trained: Run, stress: Conversion) -> None:
    made = convert(trained, name="rig", false_alarms_per_day=50.0)
    wished = made.bundle
    assert wished.manifest.threshold.false_alarms_per_day == 50.0
    assert wished.manifest.threshold.value < stress.bundle.manifest.threshold.value
    assert wished.reference["z_threshold"] < stress.bundle.reference["z_threshold"]
    assert made.parts.models == stress.parts.models


def test_a_conversion_is_written_with_both_models_beside_the_run(
    run_folder: Path, stress: Conversion, tmp_path: Path
) -> None:
    copied = Run.read(Path(shutil.copytree(run_folder, tmp_path / "run")))
    output = tmp_path / "new" / "folder" / "rig.evb"
    written = write(stress, output, copied)
    assert written[0] == output
    assert {file.name for file in written[1:]} == {
        "window.int8.tflite", "features.int8.tflite", "window.float32.tflite", "features.float32.tflite",
    }  # fmt: skip
    assert {file.parent for file in written[1:]} == {copied.folder}
    assert Bundle.read(output).manifest == stress.bundle.manifest
    for view in VIEWS:
        assert (copied.folder / f"{view}.int8.tflite").read_bytes() == stress.parts.models[view]
        assert (copied.folder / f"{view}.float32.tflite").read_bytes() == stress.float32[view]


@pytest.fixture
def features_saturate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quantizer sees a fiftieth of what the model of the features will."""
    whole = conversion._given

    def saturated(view: View, windows: WindowSet, clip: float) -> list[NDArray[np.float32]]:
        given, conditions = whole(view, windows, clip)
        return [given / 50.0 if view.name == "features" else given, conditions]

    monkeypatch.setattr(conversion, "_given", saturated)


@pytest.mark.usefixtures("features_saturate")
def test_a_view_whose_converted_model_is_broken_is_refused_by_its_name(trained: Run) -> None:
    made = convert(trained, name="rig", simpler={})
    refused = {row.measure for row in failures(made.parity)}
    assert "features: quantization noise / normal error" in refused
    assert not [measure for measure in refused if measure.startswith("window: ")]
    assert made.bundle.manifest.precision == "int8"


@pytest.mark.usefixtures("features_saturate")
def test_a_view_whose_converted_model_is_broken_falls_back_alone(trained: Run, stress: Conversion) -> None:
    made = convert(trained, name="rig")
    (line,) = made.fallbacks
    assert line.startswith("view features: dynamic instead of int8, quantization noise / normal error ")
    assert line.endswith(" where <= 0.02 is expected")
    models = {view.name: view.model for view in made.bundle.manifest.views if view.model}
    assert {name: model.precision for name, model in models.items()} == {"window": "int8", "features": "dynamic"}
    assert made.parts.models["window"] == stress.parts.models["window"]
    assert made.parts.models["features"] not in (stress.parts.models["features"], stress.float32["features"])
    assert failures(made.parity) == []
    assert made.bundle.manifest.calibration == "stress"
    load(made.bundle, path="rig.evb")


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run trained on one channel that never varies: some activations of its int8 models have no range."""
    session = Session("still", np.full((600, 1), -1.0), np.full(600, np.nan), None)
    settings = Settings(window=WindowSettings(length=16, stride=4))
    folder = tmp_path_factory.mktemp("still") / "run"
    return train(Recording((session,), ("level",), 1.0), settings, folder, progress=lambda *_: None)[0]


def test_a_model_that_the_runtime_refuses_falls_back_and_the_bundle_tells_what_changes(still: Run) -> None:
    made = convert(still, name="still")
    assert any(" instead of int8, " in line and "refuses the model" in line for line in made.fallbacks)
    assert failures(made.parity) == []
    detector = load(made.bundle, path="still.evb")
    nothing = np.zeros((2, 0), np.float32)
    quiet, moved = np.zeros((2, 16, 1)), np.full((2, 16, 1), 3.0)
    threshold = made.bundle.manifest.threshold.value
    assert (detector(quiet, nothing)[0].score < threshold).all()
    assert (detector(moved, nothing)[0].score > threshold).all()


def test_a_model_that_the_runtime_refuses_is_an_error_where_nothing_may_take_its_place(still: Run) -> None:
    with pytest.raises(InferenceError, match="refuses the model"):
        convert(still, name="still", simpler={})
