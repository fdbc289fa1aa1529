"""edge-vae evaluate: figures of a run or bundle with the trivial baselines beside it, never fitted on the labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from edge_vae.bundle import Bundle
from edge_vae.cli import run
from edge_vae_train.data import Columns
from edge_vae_train.evaluation import draw, evaluate
from edge_vae_train.scoring import subject

METHODS = ["int8", "mean|z|", "PCA T2 + Q"]

Evaluate = Callable[..., dict[str, Any]]


@pytest.fixture
def evaluated(bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """Runs `edge-vae evaluate --json` on the bundle, or another model; the document."""

    def document(*arguments: object, model: Path = bundle_path) -> dict[str, Any]:
        capsys.readouterr()
        options = ["--label", "anomaly", "--json", "-o", str(tmp_path / "pictures")]
        assert run(["evaluate", str(model), *map(str, arguments), *options]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return document


def test_the_document_holds_the_figures_of_every_method(evaluated: Evaluate, rig: Path, bundle_path: Path) -> None:
    document = evaluated(rig / "faulty")
    assert document["model"] == str(bundle_path)
    assert document["model_precision"] == "int8"
    assert document["bytes"] == bundle_path.stat().st_size
    assert document["sessions"] == 7
    assert document["windows"] == 7 * 593
    assert document["events"] == 7
    assert document["microseconds_per_window"] > 0
    assert document["threshold"] == Bundle.read(bundle_path).manifest.threshold.value
    assert list(document["methods"]) == METHODS
    figures = {"roc_auc", "average_precision", "vus_pr", "f1", "far", "mar", "event_recall", "mean_delay_s"}
    figures |= {"first_alarm_inside", "false_alarms_per_day", "false_alarms", "windows", "threshold"}
    for row in document["methods"].values():
        assert figures <= set(row)
        assert 0 <= row["roc_auc"] <= 1
    assert all(document[name] == document["methods"]["int8"][name] for name in figures)


def test_thresholds_of_the_baselines_come_with_the_bundle(evaluated: Evaluate, rig: Path, bundle_path: Path) -> None:
    methods = evaluated(rig / "faulty" / "leak.csv")["methods"]
    reference = Bundle.read(bundle_path).reference
    assert methods["mean|z|"]["threshold"] == pytest.approx(float(reference["z_threshold"][0]))
    assert methods["PCA T2 + Q"]["threshold"] == pytest.approx(float(reference["pca_threshold"][0]))


def test_labels_decide_no_threshold(evaluated: Evaluate, rig: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(rig / "faulty" / "leak.csv")
    frame.assign(anomaly=1 - frame["anomaly"]).to_csv(tmp_path / "leak.csv", index=False)
    right, turned = evaluated(rig / "faulty" / "leak.csv"), evaluated(tmp_path / "leak.csv")
    for method in METHODS:
        assert right["methods"][method]["threshold"] == turned["methods"][method]["threshold"]
        assert right["methods"][method]["roc_auc"] == pytest.approx(1 - turned["methods"][method]["roc_auc"])


def test_the_figures_are_those_of_the_score_command(
    evaluated: Evaluate, rig: Path, bundle_path: Path, tmp_path: Path
) -> None:
    file = rig / "faulty" / "clogged-filter.csv"
    assert run(["score", str(bundle_path), str(file), "-o", str(tmp_path / "s.csv")]) == 0
    scored = pd.read_csv(tmp_path / "s.csv")
    labels = pd.read_csv(file)["anomaly"].to_numpy()[scored["row"]]
    document = evaluated(file)
    assert document["roc_auc"] == pytest.approx(
        roc_auc_score(labels, scored["score"]), abs=1e-4
    )  # six digits in the CSV
    assert document["far"] == pytest.approx(np.mean((scored["score"] > scored["threshold"])[labels == 0]), abs=1e-3)


def test_mean_z_is_what_it_says(evaluated: Evaluate, rig: Path, bundle_path: Path) -> None:
    file = rig / "faulty" / "imbalance.csv"
    manifest = Bundle.read(bundle_path).manifest
    frame = pd.read_csv(file)
    z = np.abs(manifest.scaler(frame[list(manifest.channel_names)].to_numpy())).mean(axis=1)
    rows = np.arange(31, 2400, 4)
    means = [z[row - 31 : row + 1].mean() for row in rows]
    expected = roc_auc_score(frame["anomaly"].to_numpy()[rows], means)
    assert evaluated(file)["methods"]["mean|z|"]["roc_auc"] == pytest.approx(expected, abs=1e-6)


def test_the_stride_can_be_overruled(evaluated: Evaluate, rig: Path) -> None:
    assert evaluated(rig / "faulty" / "leak.csv", "--stride", 1)["windows"] == 2400 - 31


@pytest.mark.keras
def test_a_run_is_evaluated_like_its_bundle(evaluated: Evaluate, rig: Path, run_folder: Path) -> None:
    float32, int8 = evaluated(rig / "faulty", model=run_folder), evaluated(rig / "faulty")
    assert float32["model_precision"] == "float32, Keras"
    assert float32["bytes"] is None
    assert list(float32["methods"]) == ["float32, Keras", *METHODS[1:]]
    assert int8["roc_auc"] == pytest.approx(float32["roc_auc"], abs=0.01)
    for method in METHODS[1:]:
        assert float32["methods"][method] == int8["methods"][method]


def test_the_table_fits_a_terminal_of_100_columns_and_names_the_pictures(
    bundle_path: Path, rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copied = Path("rig.evb")
    copied.write_bytes(bundle_path.read_bytes())
    assert run(["evaluate", "rig.evb", str(rig / "faulty"), "--label", "anomaly"]) == 0
    out, _ = capsys.readouterr()
    header, *lines = out.splitlines()
    assert header.split() == [
        "method",
        "ROC-AUC",
        "AP",
        "VUS-PR",
        "F1",
        "FAR",
        "MAR",
        "found",
        "1st",
        "in",
        "delay",
        "s",
        "false/day",
    ]
    assert [line[:16].strip() for line in lines[:3]] == METHODS
    assert max(map(len, out.splitlines())) <= 100
    assert "never on these labels" in out
    assert lines[-1] == "pictures: rig.evaluation/curves.png, rig.evaluation/scores.png"
    for name in ("curves.png", "scores.png"):
        assert (tmp_path / "rig.evaluation" / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.keras
def test_a_run_folder_can_be_evaluated_from_within(
    run_folder: Path, rig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_folder)
    pictures = ["-o", str(tmp_path)]
    file = str(rig / "faulty" / "leak.csv")
    assert run(["evaluate", ".", file, "--label", "anomaly", *pictures]) == 0
    assert (tmp_path / "scores.png").exists()


def test_data_whose_labels_are_all_normal_has_alarms_but_no_ranking(
    evaluated: Evaluate, rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], bundle_path: Path
) -> None:
    file = tmp_path / "healthy.csv"
    pd.read_csv(rig / "healthy" / "run-1.csv").assign(anomaly=0).to_csv(file, index=False)
    document = evaluated(file)
    assert document["roc_auc"] is None
    assert document["f1"] is None
    assert document["events"] == 0
    assert document["event_recall"] is None
    assert 0 <= document["far"] <= 1
    assert document["positive_share"] == 0
    assert [file.name for file in (tmp_path / "pictures").iterdir()] == ["scores.png"]
    assert run(["evaluate", str(bundle_path), str(file), "--label", "anomaly", "-o", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[1:5] == ["-"] * 4


def test_sessions_without_the_label_are_normal_beside_those_that_have_it(
    evaluated: Evaluate, rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_csv(rig / "healthy" / "run-1.csv")
    frame.to_csv(tmp_path / "healthy.csv", index=False)
    document = evaluated(tmp_path / "healthy.csv", rig / "faulty" / "leak.csv")
    assert document["sessions"] == 2
    assert document["windows"] == 2 * 593
    assert document["events"] == 1


def failed(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 1) -> str:
    assert run(["evaluate", *map(str, arguments)]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err.splitlines()[-1]


def test_data_without_labels_is_refused(
    bundle_path: Path, rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = rig / "faulty" / "leak.csv"
    line = failed(capsys, bundle_path, file, "--label", "fault")
    assert line.startswith(
        f"edge-vae: {file}: no labels: expected a 0/1 column 'fault' in at least one file, received none"
    )


def test_without_a_label_option_the_usage_is_told(
    bundle_path: Path, rig: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "Missing option '--label'" in failed(capsys, bundle_path, rig / "faulty", status=2)


def test_data_shorter_than_a_window_is_refused(
    bundle_path: Path, rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.read_csv(rig / "faulty" / "leak.csv")[:10].to_csv(tmp_path / "a.csv", index=False)
    line = failed(capsys, bundle_path, tmp_path / "a.csv", "--label", "anomaly")
    assert "nothing can be scored: expected a session that holds a window of 32 rows without a break" in line
    assert "received 1 sessions, the longest with 10 rows. Give longer recordings." in line


def test_a_session_too_short_for_a_window_has_no_figures_and_is_told(
    bundle_path: Path, rig: Path, tmp_path: Path
) -> None:
    frame = pd.read_csv(rig / "faulty" / "leak.csv")
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame[:10].to_csv(tmp_path / "b.csv", index=False)
    found = evaluate(subject(bundle_path), [tmp_path], Columns(label="anomaly"), stride=None)
    assert found.names == ("a.csv", "b.csv")
    assert found.rows[0].metrics.windows == 593
    assert any(note.startswith("b.csv: not scored") for note in found.notes)
    assert {file.name for file in draw(found, tmp_path / "pictures")} == {"curves.png", "scores.png"}
