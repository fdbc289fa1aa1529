"""Somebody's Keras autoencoder to a bundle: what it reconstructs is what the model reconstructs, in its own scaling."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray

import foreign_code
from edge_vae.bundle import Bundle
from edge_vae.cli import run
from edge_vae.detector import load
from edge_vae.errors import ModelError
from edge_vae.sample import FloatArray
from edge_vae_converters.keras_model import window_length

pytestmark = pytest.mark.keras

CODE = Path(foreign_code.__file__)
Windows = tuple[NDArray[np.float32], FloatArray]
NO_MODES = np.zeros((50, 0), np.float32)


def converted(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[str, str]:
    """What a conversion that succeeds prints on standard output and error."""
    assert run(["convert", *map(str, arguments)]) == 0, capsys.readouterr().err
    return capsys.readouterr()


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 1) -> str:
    """The one line that a refused conversion says."""
    assert run(["convert", *map(str, arguments)]) == status
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_a_flat_autoencoder_becomes_an_ordinary_bundle(
    theirs: Callable[[str], Path], rig: Path, rig_windows: Windows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "flat.evb"
    out, _ = converted(capsys, theirs("flat"), "--data", rig / "healthy", "--window", 32, "-o", output, "--no-gate")
    assert out.splitlines()[-1] == f"wrote {output} ({output.stat().st_size} bytes)"
    assert list(tmp_path.iterdir()) == [output]
    bundle = Bundle.read(output)
    manifest = bundle.manifest
    assert [view.name for view in manifest.views] == ["window"]
    assert [term.name for term in manifest.score] == ["window.max"]
    assert manifest.precision == "int8"
    assert manifest.window.length == 32
    assert manifest.threshold.false_alarms_per_day == 0.5
    windows = rig_windows[0][:50].astype(np.float64)
    seen = load(bundle, path=str(output)).see(windows, NO_MODES)["window"]
    model = keras.models.load_model(theirs("flat"))
    given = np.clip(windows, -8, 8).reshape(50, -1).astype(np.float32)
    expected = np.asarray(model(given)).reshape(windows.shape)
    assert np.abs(seen.reconstruction - expected).mean() < 0.03  # int8
    assert manifest.training.fits["window"].held_out_loss < 0.9

    scores = tmp_path / "scores.csv"
    assert run(["score", str(output), str(rig / "faulty"), "--label", "anomaly", "-o", str(scores)]) == 0
    assert scores.read_text().startswith("session,row,time,score,threshold,alarm,share_")
    assert run(["inspect", str(output)]) == 0
    assert "view       window: made elsewhere, int8" in capsys.readouterr().out
    pictures = tmp_path / "pictures"
    labelled = [str(output), str(rig / "faulty"), "--label", "anomaly", "-o", str(pictures), "--json"]
    assert run(["evaluate", *labelled]) == 0
    assert json.loads(capsys.readouterr().out)


def test_pooling_and_upsampling_pass_the_gate_in_int8(
    theirs: Callable[[str], Path], rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (
        theirs("conv"),
        "--data",
        rig / "healthy",
        "--score",
        "window.nll",
        "-o",
        tmp_path / "conv.evb",
        "--strict",
    )
    converted(capsys, *given)
    manifest = Bundle.read(tmp_path / "conv.evb").manifest
    model = manifest.views[0].model
    assert model is not None
    assert model.precision == "int8"
    assert manifest.window.length == 32  # the model's input says it
    assert {"MAX_POOL_2D", "TILE"} <= set(model.operators)
    assert set(model.outputs) == {"reconstruction"}
    assert all(row.passed is not False for row in manifest.parity)


def test_a_model_of_another_scaling_is_refused_then_taken_with_its_own_numbers(
    theirs: Callable[[str], Path], rig: Path, rig_windows: Windows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--data", rig / "healthy", "--window", 32)
    given = (theirs("minmax"), *data, "-o", tmp_path / "m.evb", "--precision", "float32")
    assert "trained with another scaling" in (line := refused(capsys, *given))
    assert "Give --scaling minmax; --scaling standard takes the model as it is." in line
    converted(capsys, *given, "--scaling", "minmax")
    standardised, raw = (part[:50] for part in rig_windows)
    manifest = Bundle.read(tmp_path / "m.evb").manifest
    rows = Bundle.read(tmp_path / "m.evb").manifest.scaler
    low, high = _extremes(rig)
    between = (raw - low) / (high - low)
    inside = (np.abs(standardised) < 8).all(axis=(1, 2))
    expected = np.asarray(keras.models.load_model(theirs("minmax"))(between.reshape(50, -1))).reshape(raw.shape)
    expected = rows(expected * (high - low) + low)
    detector = load(Bundle.read(tmp_path / "m.evb"), path="m.evb")
    found = detector.see(rows(raw), NO_MODES)["window"].reconstruction
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-3)
    assert manifest.precision == "float32"
    _, err = converted(capsys, *given, "--scaling", "standard")
    assert "probably trained with --scaling minmax" in err


def _extremes(rig: Path) -> tuple[FloatArray, FloatArray]:
    from edge_vae_train import data as recorded

    rows = np.concatenate([session.values for session in recorded.read([rig / "healthy"]).sessions])
    return rows.min(axis=0), rows.max(axis=0)


@pytest.mark.parametrize("name", ["dictionary", "subclassed"])
def test_a_vae_scores_with_its_mean_and_its_latent(
    theirs: Callable[[str], Path], rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    output = tmp_path / "vae.evb"
    terms = ("--score", "window.nll,window.kl,features.level")
    given = (theirs(name), "--module", CODE, "--data", rig / "healthy", "--window", 32, *terms, "-o", output)
    _, err = converted(capsys, *given)
    assert "draws random numbers: their mean takes their place" in err
    assert "are the posterior's mean and log variance" in err
    manifest = Bundle.read(output).manifest
    assert [term.name for term in manifest.score] == ["window.nll", "window.kl", "features.level"]
    assert manifest.training.fits["window"].latent == {"dictionary": 6, "subclassed": 5}[name]
    before = output.read_bytes()
    converted(capsys, *given)
    again = Bundle.read(output)
    assert again.models == Bundle.unpack(before, path="before").models


def test_operators_without_an_int8_form_fall_back_and_say_why(
    theirs: Callable[[str], Path], rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = converted(capsys, theirs("elu"), "--data", rig / "healthy", "-o", tmp_path / "elu.evb")
    assert "elu has no int8 form" in err
    assert "'bend'" in err
    assert "view window: " in out
    assert Bundle.read(tmp_path / "elu.evb").manifest.precision != "int8"


def test_a_recurrent_model_is_refused_in_int8_and_taken_in_float32(
    theirs: Callable[[str], Path], rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (theirs("recurrent"), "--data", rig / "healthy", "-o", tmp_path / "r.evb")
    line = refused(capsys, *given)
    assert "layer 'loop' is recurrent, and its int8 form crashes TFLite" in line
    assert "Give --precision float32" in line
    converted(capsys, *given, "--precision", "float32")
    assert Bundle.read(tmp_path / "r.evb").manifest.precision == "float32"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--window", "16"], "expected an input of shape (16, 7) or (112,) without the batch, received (224,)"),
        (["--window", "32", "--channels", "Current"], "another window than that of the data"),
        ([], "expected --window N, or a model whose input says it, received an input of shape (224,)"),
        (["--window", "32", "--score", "features.nll"], "expected a term of the model"),
        (["--window", "32", "--score", "window.kl"], "without a latent neither window.kl nor window.t2"),
        (["--window", "32", "--score", "features.level"], "received none of the model"),
    ],
)
def test_what_does_not_fit_the_model_is_one_line(
    theirs: Callable[[str], Path],
    rig: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    channels = _channels(rig)
    words = [word if word != "Current" else channels for word in arguments]
    line = refused(capsys, theirs("flat"), "--data", rig / "healthy", *words, "-o", tmp_path / "x.evb")
    assert said in line
    assert len(line.splitlines()) == 1
    assert not (tmp_path / "x.evb").exists()


def _channels(rig: Path) -> str:
    """Three of the rig's channels."""
    header = next((rig / "healthy").glob("*.csv")).read_text().splitlines()[0].split(",")
    return ",".join(header[1:4])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing option '--data'"),
        (["--data", "{rig}", "--window", "32", "--score", "window.nonsense"], "--score: expected terms out of"),
        (["--data", "{rig}", "--scaling", "log"], "'log' is not one of"),
    ],
)
def test_wrong_usage_ends_with_status_2(
    theirs: Callable[[str], Path],
    rig: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    words = [word.format(rig=rig / "healthy") for word in arguments]
    assert said in refused(capsys, theirs("flat"), *words, "-o", tmp_path / "x.evb", status=2)


def test_a_run_folder_has_no_use_for_the_options_of_a_keras_file(
    run_folder: Path, rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, run_folder, "--data", rig / "healthy", "-o", tmp_path / "x.evb", status=2)
    assert "--data is for a .keras file" in line


def built(*shape: int | None, batch: int | None = None) -> Any:
    return keras.Sequential([layers.Input(shape, batch_size=batch), layers.Activation("linear")])


def two_inputs() -> Any:
    inputs = [layers.Input((4,)), layers.Input((4,))]
    return keras.Model(inputs, layers.Add()(inputs))


@pytest.mark.parametrize(
    ("shape", "channels", "given", "expected"),
    [
        ((32, 3), 3, None, 32), ((96,), 3, 32, 32), ((32, 1), 1, None, 32), ((32,), 1, None, 32),
        ((32, 3, 1), 3, None, 32), ((None, 3), 3, 20, 20), ((32, 3), 3, 32, 32),
    ],
)  # fmt: skip
def test_the_length_of_a_window_is_what_the_input_says(
    shape: tuple[int | None, ...], channels: int, given: int | None, expected: int
) -> None:
    assert window_length("theirs", built(*shape), channels=channels, given=given) == expected


@pytest.mark.parametrize(
    ("model", "channels", "given", "said"),
    [
        (lambda: built(32, 3), 4, None, r"\(32, 4\) or \(128,\) .* received \(32, 3\)"),
        (lambda: built(32, 3), 3, 16, r"\(16, 3\) or \(48,\) .* received \(32, 3\)"),
        (lambda: built(None, 3), 3, None, "--window N"),
        (lambda: built(96), 3, None, "--window N"),
        (lambda: built(32, 3, batch=8), 3, None, "batches of 8"),
        (two_inputs, 4, 4, "one input"),
    ],
)  # fmt: skip
def test_an_input_that_is_no_window_says_what_was_expected(
    model: Callable[[], Any], channels: int, given: int | None, said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        window_length("theirs", model(), channels=channels, given=given)
