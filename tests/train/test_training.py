"""From recorded data to a bundle that scores: any window length, one channel, a baseline; same seed, same bytes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_vae.bundle import Bundle
from edge_vae.cli import run
from edge_vae.features import feature_names, features
from edge_vae_train.prepare import WindowSet
from edge_vae_train.run_folder import Run
from edge_vae_train.views import features_view

pytestmark = pytest.mark.keras


def recorded(file: Path, *, channels: int = 2, rows: int = 500, seed: int = 0, level: float = 0.0) -> Path:
    """A CSV at 10 Hz of noisy sines, the last channel constant where there are three."""
    t = np.arange(rows)
    noise = np.random.default_rng(seed).normal(0, 0.1, (rows, channels))
    values = np.sin(t[:, None] / 5.0 + np.arange(channels)) + noise + level
    if channels == 3:
        values[:, 2] = 4.0
    names = ",".join("abc"[:channels])
    lines = (f"{i / 10:.1f}," + ",".join(f"{v:.4f}" for v in row) for i, row in enumerate(values))
    file.write_text(f"time,{names}\n" + "\n".join(lines) + "\n")
    return file


def edge_vae(*arguments: object) -> None:
    assert run([str(argument) for argument in arguments]) == 0


@pytest.mark.parametrize(("length", "stride", "channels", "baseline", "epochs"), [(30, 4, 3, 60, 2), (33, 40, 1, 0, 1)])
def test_a_window_of_any_length_is_trained_converted_and_scored(
    tmp_path: Path, length: int, stride: int, channels: int, baseline: int, epochs: int
) -> None:
    data, folder, bundle = tmp_path / "data", tmp_path / "run", tmp_path / "out" / "rig.evb"
    data.mkdir()
    for i in range(3):
        recorded(data / f"{i}.csv", channels=channels, seed=i, level=3.0 * i if baseline else 0.0)
    window = ["--window", length, "--stride", stride, "--baseline", baseline, "--epochs", epochs]
    edge_vae("train", data, *window, "--latent", 2, "-o", folder)
    edge_vae("convert", folder, "--no-gate", "-o", bundle)
    edge_vae("score", bundle, data, "-o", tmp_path / "s.csv")

    manifest = Bundle.read(bundle).manifest
    assert (manifest.window.length, manifest.window.stride, manifest.baseline) == (length, stride, baseline)
    assert manifest.channel_names == tuple("abc"[:channels])
    assert manifest.rate_hz == pytest.approx(10.0)
    with (tmp_path / "s.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    first = baseline + length - 1
    assert [int(line["row"]) for line in lines] == list(range(first, 500, stride)) * 3
    assert all(float(line["score"]) >= 0 for line in lines)
    notes = Run.read(folder).record.notes
    assert any("constant in normal data" in note and note.endswith(": c") for note in notes) == (channels == 3)


def test_training_tells_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(2):
        recorded(tmp_path / f"{i}.csv", seed=i, level=9.0 * i)
    file = tmp_path / "edge-vae.toml"
    file.write_text("[window]\nlength = 16\n[training]\nepochs = 9\nseed = 5\n[model]\nlatent = 2\n")
    edge_vae("train", tmp_path, "--config", file, "--epochs", 3, "-o", tmp_path / "run", "--json")
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["run"] == str(tmp_path / "run")
    assert {name: fit["epochs"] for name, fit in document["training"]["fits"].items()} == {"window": 3, "features": 3}
    assert document["training"]["seed"] == 5
    assert document["training"]["sessions"] == 2
    assert document["shift"].keys() == {"a", "b"}
    assert "2 sessions, 1000 rows, 2 channels, 10 Hz" in err
    assert "window: epoch 1/3 loss " in err
    assert "features: epoch 3/3 loss " in err
    assert "--baseline N" in err
    record = Run.read(tmp_path / "run").record
    assert (record.settings.window.length, record.settings.training.epochs) == (16, 3)
    assert msgspec.to_builtins(record.training) == document["training"]
    assert (tmp_path / "run" / "loss.png").exists()


def test_features_that_wander_are_expected_further_away_and_the_windows_errors_are_not(tmp_path: Path) -> None:
    for i in range(2):
        recorded(tmp_path / f"{i}.csv", seed=i, level=9.0 * i)
    edge_vae("train", tmp_path, "--window", 16, "--epochs", 3, "--latent", 2, "-o", tmp_path / "run")
    variances = {view.name: np.array(view.variance) for view in Run.read(tmp_path / "run").record.views}
    # The mean is -1 in the first half and 1 in the second: steps of 2 and of 0, 2, 0, so a wander of 16 / 9.
    level = feature_names(16).index("mean")
    assert (variances["features"][level] > 16 / 9 * 0.95).all()
    assert (np.delete(variances["features"], level, axis=0) < 1.2).all()
    assert (variances["window"] < 1.0).all()


TRAIN = """
import sys
from edge_vae.cli import run
data, out, *seeds = sys.argv[1:]
for seed in seeds:
    assert run(["train", data, "--window", "16", "--epochs", "2", "--seed", seed, "-o", f"{out}/{seed}"]) == 0
assert run(["convert", f"{out}/1", "--no-gate", "-o", f"{out}/rig.evb"]) == 0
"""


def test_the_same_seed_gives_the_same_bundle_in_another_process_and_another_seed_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = recorded(tmp_path / "a.csv", rows=300)
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1600000000")
    command = [sys.executable, "-c", TRAIN, str(data), str(second), "2", "1"]
    usual = {name: value for name, value in os.environ.items() if not name.endswith("_THREADS")}  # a thread a core
    with subprocess.Popen(command, env=usual, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        edge_vae("train", data, "--window", 16, "--epochs", 2, "--seed", 1, "-o", first / "1")
        edge_vae("convert", first / "1", "--no-gate", "-o", first / "rig.evb")
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output.decode()

    packed = (first / "rig.evb").read_bytes()
    assert packed == (second / "rig.evb").read_bytes()
    assert Bundle.unpack(packed, path="first").manifest.created == "2020-09-13T12:26:40Z"
    for name in (
        "run.json",
        "held_out.npz",
        "calibration.npz",
        "reference.npz",
        "window.float32.tflite",
        "features.float32.tflite",
        "loss.png",
    ):
        assert (first / "1" / name).read_bytes() == (second / "1" / name).read_bytes(), name
    losses = [Run.read(second / seed).record.training.fits for seed in ("1", "2")]
    for view in ("window", "features"):
        assert losses[0][view].held_out_loss != losses[1][view].held_out_loss


def test_a_score_without_a_model_is_trained_converted_inspected_and_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder, bundle = recorded(tmp_path / "a.csv"), tmp_path / "run", tmp_path / "z.evb"
    edge_vae("train", data, "--window", 16, "--epochs", 2, "-o", folder)  # whose models and picture must not stay
    assert {"features.keras", "loss.png", "window.keras"} <= {file.name for file in folder.iterdir()}
    (tmp_path / "edge-vae.toml").write_text("[window]\nlength = 16\n[calibration]\nscore = ['z']\n")
    edge_vae("train", data, "--config", tmp_path / "edge-vae.toml", "-o", folder)
    edge_vae("convert", folder, "-o", bundle)
    edge_vae("score", bundle, data, "-o", tmp_path / "s.csv")
    edge_vae("score", folder, data, "-o", tmp_path / "float.csv")
    edge_vae("inspect", bundle)
    assert "score      z\n" in capsys.readouterr().out
    manifest = Bundle.read(bundle).manifest
    assert (manifest.views, manifest.precision, manifest.training.fits) == ((), "", {})
    assert {file.suffix for file in folder.iterdir()} == {".json", ".npz"}
    assert (tmp_path / "s.csv").read_bytes() == (tmp_path / "float.csv").read_bytes()


def two_modes(file: Path, *, seed: int, order: str, swapped: str = "") -> Path:
    """A CSV at 10 Hz of runs of 150 rows: recipe 1 around 0, recipe 2 around 50; those in `swapped` at the other level.

    `order` names the recipe of each run, `swapped` the numbers of runs, counted from 0.
    """
    generator = np.random.default_rng(seed)
    lines = ["time,a,b,recipe"]
    for i, recipe in enumerate(order):
        level = 50.0 * ((recipe == "2") ^ (str(i) in swapped))
        for a, b in level + generator.normal(0, 1.0, (150, 2)):
            lines.append(f"{(len(lines) - 1) / 10:.1f},{a:.3f},{b:.3f},{recipe}")
    file.write_text("\n".join(lines) + "\n")
    return file


def test_the_features_of_each_mode_have_a_centre_and_a_spread_of_their_own() -> None:
    generator = np.random.default_rng(0)
    counts, modes = (4, 30), np.eye(2, dtype=np.float32)
    windows = generator.normal(size=(sum(counts), 8, 2)).astype(np.float32)
    windows[4:] *= 3.0
    conditions = np.repeat(modes, counts, axis=0)
    view = features_view(WindowSet(windows, conditions), ((1.0, 1.0),))
    raw = features(windows.astype(np.float64))
    names = feature_names(8)
    assert (view.input, np.shape(view.centre), np.shape(view.scale)) == (
        "features",
        (2 * len(names), 2),
        (2 * len(names), 2),
    )
    assert view.conditions == ((0.0, 1.0), (1.0, 0.0))  # in rising order
    for mode, own in ((0, raw[4:]), (1, raw[:4])):
        for f, c in np.ndindex(len(names), 2):
            mean = sum(own[:, f, c]) / len(own)
            variances = [float(np.var(part[:, f, c])) for part in (raw[:4], raw[4:])]
            pooled = (4 * variances[0] + 30 * variances[1]) / 34
            leaning = (len(own) * float(np.var(own[:, f, c])) + 10 * pooled) / (len(own) + 10)
            assert view.centre[mode * len(names) + f][c] == pytest.approx(mean, rel=1e-5, abs=1e-6)
            assert view.scale[mode * len(names) + f][c] == pytest.approx(np.sqrt(leaning), rel=1e-5)
    target = view.target(windows.astype(np.float64), conditions)
    for part in (target[:4], target[4:]):
        np.testing.assert_allclose(part.mean(axis=0), 0.0, atol=1e-5)
    assert 0.9 < target[4:].std() < 1.1


def test_a_feature_that_never_varies_has_a_spread_to_divide_by() -> None:
    windows = WindowSet(np.ones((20, 8, 1), np.float32), np.zeros((20, 0), np.float32))
    view = features_view(windows, ((1.0,),))
    assert view.conditions == ()
    assert set(np.ravel(view.scale)) == {1e-3}


def test_with_modes_the_level_of_one_is_normal_in_it_and_an_anomaly_in_the_other(tmp_path: Path) -> None:
    (data := tmp_path / "data").mkdir()
    for seed in range(3):
        two_modes(data / f"{seed}.csv", seed=seed, order="1212")
    watched = two_modes(tmp_path / "watched.csv", seed=9, order="12123", swapped="23")
    folder, bundle = tmp_path / "run", tmp_path / "rig.evb"
    window = ["--window", 16, "--stride", 4, "--latent", 2, "--epochs", 3]
    edge_vae("train", data, "--modes", "recipe", *window, "-o", folder)
    edge_vae("convert", folder, "--no-gate", "-o", bundle)
    edge_vae("score", bundle, watched, "-o", tmp_path / "s.csv")

    manifest = Bundle.read(bundle).manifest
    assert manifest.channel_names == ("a", "b")
    assert manifest.modes is not None
    assert (manifest.modes.columns, manifest.modes.values, manifest.conditions) == (("recipe",), ((1.0,), (2.0,)), 2)
    # Each try after a collapse has a quarter of the beta before.
    assert {fit.beta * 4**fit.retries for fit in manifest.training.fits.values()} == {4.0}
    assert not [row for row in manifest.parity if "operators outside" in row.measure and row.value]
    with (tmp_path / "s.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    rows, score = (np.array([float(line[name]) for line in lines]) for name in ("row", "score"))
    run_of = rows // 150
    assert set(run_of) == {0, 1, 2, 3}  # recipe 3 is unknown, so it has no score
    assert set(rows[run_of == 1] - 150) == set(range(15, 150, 4))  # a run's windows hold none of the rows before
    normal, anomalous = score[run_of < 2], score[run_of >= 2]
    assert (normal > manifest.threshold.value).mean() < 0.05
    assert (anomalous > manifest.threshold.value).all()
    assert anomalous.min() > 3 * np.median(normal)
