"""A bundle around a .tflite that somebody else built: it reconstructs what that file does, and is calibrated."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema

import foreign_code
from edge_vae.bundle import Bundle
from edge_vae.cli import run
from edge_vae.detector import load
from edge_vae.runtime import TFLiteRuntime
from edge_vae.sample import FloatArray
from edge_vae_converters.tflite_window import Flatbuffer, read
from edge_vae_train import data as recorded

pytestmark = pytest.mark.keras

Windows = tuple[NDArray[np.float32], FloatArray]
Tflite = Callable[[str, str], Path]
NO_MODES = np.zeros((40, 0), np.float32)


@pytest.fixture(scope="module")
def tflite(
    theirs: Callable[[str], Path], rig_windows: Windows, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Path]:
    """The `.tflite` file of a model and precision, as TensorFlow's own converter writes it."""
    folder = tmp_path_factory.mktemp("tflite")

    def path(name: str, precision: str) -> Path:
        file = folder / f"{name}.{precision}.tflite"
        if not file.exists():
            file.write_bytes(_converted(theirs(name), precision, rig_windows))
        return file

    return path


def _converted(path: Path, precision: str, rig_windows: Windows) -> bytes:
    model = keras.models.load_model(path, custom_objects={"Sampling": foreign_code.Sampling}, compile=False)
    standardised, raw = rig_windows
    low, high = raw.min(axis=(0, 1)), raw.max(axis=(0, 1))
    given = (raw - low) / (high - low) if path.stem == "minmax" else standardised
    given = given.reshape(len(given), *model.input_shape[1:]).astype(np.float32)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if precision == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([window[None]] for window in given[::8])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter's own, of statistics that full quantization does not ask for
        converted: bytes = converter.convert()
    return converted


def packed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command that succeeds prints on standard output."""
    capsys.readouterr()  # TensorFlow's own converter is chatty
    assert run(["pack", *map(str, arguments)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 1) -> str:
    assert run(["pack", *map(str, arguments)]) == status
    return capsys.readouterr().err


def theirs_says(path: Path, given: FloatArray) -> FloatArray:
    """What TensorFlow's own interpreter makes of windows in the model's scaling, (windows, ...)."""
    interpreter = tf.lite.Interpreter(model_content=path.read_bytes())
    interpreter.allocate_tensors()
    (entry,), (out,) = interpreter.get_input_details(), interpreter.get_output_details()
    answers = []
    for window in given.reshape(len(given), *entry["shape"]):
        scale, zero = entry["quantization"]
        stored = np.clip(np.rint(window / scale) + zero, -128, 127) if scale else window
        interpreter.set_tensor(entry["index"], stored.astype(entry["dtype"]))
        interpreter.invoke()
        answer = interpreter.get_tensor(out["index"]).astype(np.float64)
        scale, zero = out["quantization"]
        answers.append((answer - zero) * scale if scale else answer)
    return np.reshape(answers, given.shape)


@pytest.mark.parametrize(
    ("name", "precision"), [("flat", "float32"), ("flat", "int8"), ("conv", "float32"), ("conv", "int8")]
)
def test_the_bundle_reconstructs_what_the_file_does(
    tflite: Tflite,
    rig: Path,
    rig_windows: Windows,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    precision: str,
) -> None:
    path, output = tflite(name, precision), tmp_path / "p.evb"
    out = packed(capsys, path, "--data", rig / "healthy", "--window", 32, "-o", output)
    assert out.splitlines()[-1] == f"wrote {output} ({output.stat().st_size} bytes)"
    assert out.startswith("trained models to compare with")
    bundle = Bundle.read(output)
    windows = rig_windows[0][:40].astype(np.float64)
    found = load(bundle, path="p.evb").see(windows, NO_MODES)["window"].reconstruction
    expected = theirs_says(path, np.clip(windows, -8, 8))
    step = 0.02 if precision == "int8" else 1e-5  # another interpreter's kernels
    assert np.abs(found - expected).mean() < step
    assert bundle.manifest.precision == precision
    assert bundle.manifest.calibration == ""
    if name == "conv":
        assert bundle.models["window"] == path.read_bytes()
    assert run(["inspect", str(output)]) == 0
    assert ("calibrated where it was made" in capsys.readouterr().out) == (precision == "int8")
    scores = tmp_path / "scores.csv"
    assert run(["score", str(output), str(rig / "faulty"), "--label", "anomaly", "-o", str(scores)]) == 0


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_model_of_another_scaling_gets_its_own_numbers(
    tflite: Tflite, rig: Path, rig_windows: Windows, tmp_path: Path, capsys: pytest.CaptureFixture[str], precision: str
) -> None:
    path = tflite("minmax", precision)
    given = (path, "--data", rig / "healthy", "--window", 32, "-o", tmp_path / "m.evb")
    assert "expected --window N, or a model whose input says it" in refused(capsys, *given[:3], *given[5:])
    assert "Give --scaling minmax; --scaling standard takes the model as it is." in refused(capsys, *given)
    packed(capsys, *given, "--scaling", "minmax")
    bundle = Bundle.read(tmp_path / "m.evb")
    rows = np.concatenate([session.values for session in recorded.read([rig / "healthy"]).sessions])
    low, high = rows.min(axis=0), rows.max(axis=0)
    raw, scaler = rig_windows[1][:40], bundle.manifest.scaler
    expected = scaler(theirs_says(path, (raw - low) / (high - low)) * (high - low) + low)
    inside = (np.abs(scaler(raw)) < 8).all(axis=(1, 2))
    found = load(bundle, path="m.evb").see(scaler(raw), NO_MODES)["window"].reconstruction
    assert np.abs(found - expected)[inside].mean() < (0.05 if precision == "int8" else 1e-4)
    assert bundle.manifest.precision == precision


def test_json_is_one_document_and_nothing_else(
    tflite: Tflite, rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = packed(
        capsys, tflite("conv", "int8"), "--data", rig / "healthy", "-o", tmp_path / "p.evb", "--json",
        "--false-alarms", 2,
    )  # fmt: skip
    document = json.loads(out)
    assert document["bundle"] == str(tmp_path / "p.evb")
    assert document["threshold"]["false_alarms_per_day"] == 2
    assert {row["passed"] for row in document["parity"]} == {None}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--window", "16"], "expected an input of shape (1, 16, 7) or (1, 112), received (1, 32, 7)"),
        (["--score", "window.t2"], "without a latent neither window.kl nor window.t2"),
    ],
)
def test_what_does_not_fit_the_model_is_one_line(
    tflite: Tflite, rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    output = tmp_path / "x.evb"
    line = refused(capsys, tflite("conv", "int8"), "--data", rig / "healthy", *arguments, "-o", output)
    assert said in line
    assert len(line.splitlines()) == 1
    assert not output.exists()


def changed(path: Path, change: Callable[[Any], None]) -> bytes:
    """The file with something in it changed."""
    model = read(path)
    change(model.root)
    return Flatbuffer("changed", model.root).pack()


def _unknown_operator(root: Any) -> None:
    code = root.operatorCodes[0]
    code.builtinCode = schema.BuiltinOperator.CUSTOM
    code.deprecatedBuiltinCode, code.customCode = code.builtinCode, b"FlexNonsense"


def _batch_of_eight(root: Any) -> None:
    graph = root.subgraphs[0]
    graph.tensors[graph.inputs[0]].shape = np.array([8, 32, 7], np.int32)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_unknown_operator, "does not run the model: expected a model of TFLite's own operators, received"),
        (_batch_of_eight, "expected one input of shape (1, window, channels) or (1, window * channels), received"),
    ],
)
def test_a_model_that_cannot_run_is_refused_with_one_line(
    tflite: Tflite,
    rig: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Any], None],
    said: str,
) -> None:
    path = tmp_path / "bad.tflite"
    path.write_bytes(changed(tflite("conv", "float32"), change))
    line = refused(capsys, path, "--data", rig / "healthy", "--window", 32, "-o", tmp_path / "x.evb")
    assert said in line
    assert len(line.splitlines()) == 1


def test_a_model_that_draws_is_refused(rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    @tf.function(input_signature=[tf.TensorSpec((1, 32, 7))])
    def noisy(window: Any) -> Any:
        return window + tf.random.normal((1, 32, 7))

    converter = tf.lite.TFLiteConverter.from_concrete_functions([noisy.get_concrete_function()])
    path = tmp_path / "noisy.tflite"
    path.write_bytes(converter.convert())
    line = refused(capsys, path, "--data", rig / "healthy", "-o", tmp_path / "x.evb")
    assert "draws random numbers" in line


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), (b"hello, world", "without its mark, TFL3"), (b"\x00\x00\x00\x80TFL3xx", "damaged")],
)
def test_what_is_no_tflite_model_says_so(
    rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, said: str
) -> None:
    path = tmp_path / "x.tflite"
    if content is not None:
        path.write_bytes(content)
    assert said in refused(capsys, path, "--data", rig / "healthy", "-o", tmp_path / "x.evb")


def test_it_is_nothing_that_could_be_fine_tuned(
    tflite: Tflite, rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed(capsys, tflite("conv", "int8"), "--data", rig / "healthy", "-o", tmp_path / "p.evb")
    tuned = ["train", str(rig / "healthy"), "--from", str(tmp_path / "p.evb"), "-o", str(tmp_path / "run")]
    assert run(tuned) == 1
    assert "received one that was made elsewhere" in capsys.readouterr().err


def test_normal_data_must_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Missing option '--data'" in refused(capsys, "x.tflite", "-o", tmp_path / "x.evb", status=2)


def test_ends_are_rebuilt_without_touching_what_lies_between(tflite: Tflite, rig_windows: Windows) -> None:
    windows = rig_windows[0][:40]
    model = read(tflite("flat", "int8"))
    before = model.operators
    model.take_window(32, 7)
    tensor = model.give_window(0, 32, 7, None)
    added = {name: count - before.get(name, 0) for name, count in model.operators.items()}
    assert {name: count for name, count in added.items() if count} == {"RESHAPE": 2}
    found = TFLiteRuntime(model.pack(), outputs={"y": tensor})(windows, NO_MODES)["y"]
    plain = TFLiteRuntime(
        tflite("flat", "int8").read_bytes(), outputs={"y": read(tflite("flat", "int8")).outputs[0]}
    )(windows.reshape(40, -1), NO_MODES)["y"]  # fmt: skip
    np.testing.assert_array_equal(found.reshape(40, -1), plain)
