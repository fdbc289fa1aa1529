"""Run to ONNX: the same outputs, scores and decisions in ONNX Runtime, and the same bytes for the same run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_vae.bundle import Bundle, Manifest, npz_to_arrays
from edge_vae.detector import Detector
from edge_vae.errors import GateError, MissingExtraError
from edge_vae.principal import PrincipalRuntime
from edge_vae_converters import onnx
from edge_vae_converters.onnx import OnnxRuntime, need_onnx_extra, onnx_files, onnx_model
from edge_vae_train.judge import judge, keras_runtimes, seen_by
from edge_vae_train.prepare import WindowSet
from edge_vae_train.run_folder import Run

pytestmark = pytest.mark.keras

installed = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None or importlib.util.find_spec("tf2onnx") is None,
    reason="the extra onnx is not installed",
)


@pytest.fixture(scope="module")
def trained(run_folder: Path) -> Run:
    return Run.read(run_folder)


@pytest.fixture(scope="module")
def files(trained: Run, parts_path: Path) -> dict[str, bytes]:
    return onnx_files(trained, Bundle.read(parts_path))


@installed
def test_every_view_is_a_file_and_what_scoring_needs_lies_beside(files: dict[str, bytes], trained: Run) -> None:
    models = {f"{view}.onnx" for view in trained.record.training.fits}
    assert set(files) == models | {"scoring.json", "golden.npz", "reference.npz"}
    manifest = msgspec.json.decode(files["scoring.json"], type=Manifest)
    assert manifest.precision == "float32"
    assert all(row.passed is not False for row in manifest.parity)
    worst = {row.measure: row.value for row in manifest.parity}
    assert max(worst[f"{view}: largest difference, sigmas"] for view in trained.record.training.fits) < 1e-4
    assert worst["decisions that agree"] == 1.0


@installed
def test_the_files_alone_give_the_golden_scores(files: dict[str, bytes]) -> None:
    manifest = msgspec.json.decode(files["scoring.json"], type=Manifest)
    runtimes: dict[str, Any] = {
        view.name: OnnxRuntime(files[f"{view.name}.onnx"]) for view in manifest.views if view.model
    }
    detector = Detector(manifest, {**runtimes, "pca": PrincipalRuntime(npz_to_arrays(files["reference.npz"]))})
    golden = npz_to_arrays(files["golden.npz"])
    scores = detector(golden["windows"].astype(np.float64), golden["conditions"])[0].score
    np.testing.assert_allclose(scores, golden["score"], rtol=1e-5)


@installed
def test_terms_and_threshold_are_those_of_the_float_models(files: dict[str, bytes], trained: Run) -> None:
    manifest = msgspec.json.decode(files["scoring.json"], type=Manifest)
    runtimes = keras_runtimes(trained)
    judged = judge(trained, seen_by(trained, runtimes, WindowSet.joined(trained.held_out)), 0.5)
    assert manifest.threshold == judged.threshold
    assert manifest.score == tuple(judged.terms)


@installed
def test_the_same_run_gives_the_same_files(files: dict[str, bytes], trained: Run, parts_path: Path) -> None:
    assert onnx_files(trained, Bundle.read(parts_path)) == files


@installed
def test_a_model_takes_any_number_of_windows_and_names_its_outputs(trained: Run) -> None:
    graph = trained.graph("window")
    runtime = OnnxRuntime(onnx_model("window", graph))
    windows = WindowSet.joined(trained.held_out)
    for count in (1, 7):
        given = windows.windows[:count]
        found, expected = runtime(given, windows.conditions[:count]), graph(given)
        assert set(found) == {"reconstruction", "posterior_mean", "posterior_log_variance"}
        for name, output in found.items():
            np.testing.assert_allclose(output, np.asarray(expected[name]), atol=1e-4)


@installed
def test_models_with_operating_modes_have_two_inputs() -> None:
    from edge_vae_train.models import Architecture, build, scoring_graph

    graph = scoring_graph(build(Architecture(length=16, channels=2, family="dense", latent=3, width=16, modes=2)))
    runtime, generator = OnnxRuntime(onnx_model("window", graph)), np.random.default_rng(1)
    window = generator.normal(size=(5, 16, 2)).astype(np.float32)
    condition = np.eye(2, dtype=np.float32)[[0, 1, 0, 1, 1]]
    expected = np.asarray(graph([window, condition])["reconstruction"])
    np.testing.assert_allclose(runtime(window, condition)["reconstruction"], expected, atol=1e-5)


@installed
def test_a_model_that_does_not_score_as_keras_does_is_refused(
    trained: Run, parts_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx, "MAX_DIFFERENCE", 1e-12)
    with pytest.raises(GateError, match=r"does not score as Keras does: .*largest difference, sigmas <= 1e-12"):
        onnx_files(trained, Bundle.read(parts_path))


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edge-vae\[onnx\]'"):
        need_onnx_extra()
