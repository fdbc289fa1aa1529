"""From recorded data to a bundle that scores: any window length, one channel, a baseline; same seed, same bytes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_vae.bundle import Bundle
from edge_vae.cli import run
from edge_vae_train.run_folder import Run

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
    assert document["training"]["epochs"] == 3
    assert document["training"]["seed"] == 5
    assert document["training"]["sessions"] == 2
    assert document["shift"].keys() == {"a", "b"}
    assert "2 sessions, 1000 rows, 2 channels, 10 Hz" in err
    assert "epoch 1/3 loss " in err
    assert "--baseline N" in err
    record = Run.read(tmp_path / "run").record
    assert (record.settings.window.length, record.settings.training.epochs) == (16, 3)
    assert record.training.held_out_loss == document["training"]["held_out_loss"]
    assert (tmp_path / "run" / "loss.png").exists()


TRAIN = """
import sys
from edge_vae.cli import run
data, out, *seeds = sys.argv[1:]
for seed in seeds:
    assert run(["train", data, "--window", "16", "--epochs", "1", "--seed", seed, "-o", f"{out}/{seed}"]) == 0
assert run(["convert", f"{out}/1", "--no-gate", "-o", f"{out}/rig.evb"]) == 0
"""


def test_the_same_seed_gives_the_same_bundle_in_another_process_and_another_seed_another_model(tmp_path: Path) -> None:
    data = recorded(tmp_path / "a.csv", rows=300)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1600000000"}
    first, second = tmp_path / "first", tmp_path / "second"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", TRAIN, data, out, *seeds],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for out, seeds in ((first, ["1"]), (second, ["2", "1"]))
    ]
    for process in running:
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output.decode()

    packed = (first / "rig.evb").read_bytes()
    assert packed == (second / "rig.evb").read_bytes()
    assert Bundle.unpack(packed, path="first").manifest.created == "2020-09-13T12:26:40Z"
    for name in ("run.json", "held_out.npz", "calibration.npz", "reference.npz", "window.float32.tflite", "loss.png"):
        assert (first / "1" / name).read_bytes() == (second / "1" / name).read_bytes(), name
    losses = [Run.read(second / seed).record.training.held_out_loss for seed in ("1", "2")]
    assert losses[0] != losses[1]
