"""The whole command on small synthetic data: results, resuming, interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASELINES = ("mean|z|", "PCA T2 + Q")
SETS = ("skab", "milling-honest", "fan", "msl")
SEEDS = 15
"""More tasks than are done while the interruption is on its way."""


def command(data: Path, folder: Path, *words: str) -> list[str]:
    script = str(ROOT / "benchmarks" / "quality.py")
    return [sys.executable, script, "--data", str(data), "--resume", str(folder), "--tasks", "1", *words]


def done(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="module")
def results(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The folder and the output of a run of two baselines on every set."""
    folder = tmp_path_factory.mktemp("results") / "kept"
    return folder, done(*command(data, folder, "--only", *SETS, "--methods", *BASELINES, "--json"))


@pytest.mark.keras
def test_one_document_and_nothing_else_is_printed(
    results: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, run = results
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    assert {name: [row["name"] for row in rows] for name, rows in document["sets"].items()} == {
        name: list(BASELINES) for name in SETS
    }
    assert all(row["figures"]["roc_auc"]["mean"] > 0.8 for rows in document["sets"].values() for row in rows)
    assert document["failures"] == []
    assert len(list(folder.glob("*/*/seed0/*.json"))) == len(SETS) * len(BASELINES)


@pytest.mark.keras
def test_a_second_run_takes_everything_from_the_folder(
    data: Path, results: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    folder, first = results
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*.json")}
    again = done(*command(data, folder, "--only", *SETS, "--methods", *BASELINES, "--json"))
    assert json.loads(again.stdout) == json.loads(first.stdout)
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*.json")} == before
    assert f"{len(SETS)} of {len(SETS)} tasks" in again.stderr


@pytest.mark.keras
def test_ours_is_trained_converted_and_scored_in_float_and_in_int8(data: Path, tmp_path: Path) -> None:
    run = done(*command(data, tmp_path / "kept", "--only", "skab", "--methods", "ours", "--json"))
    assert run.returncode == 0, run.stderr
    rows = {row["name"]: row for row in json.loads(run.stdout)["sets"]["skab"]}
    assert {"fused, float", "fused, int8", "features.nll, int8"} < set(rows)
    assert rows["fused, int8"]["figures"]["roc_auc"]["mean"] > 0.9


@pytest.mark.keras
def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    words = command(data, folder, "--only", "skab", "--seeds", str(SEEDS), "--methods", "mean|z|")
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert running.stderr is not None
    told = []
    for line in running.stderr:
        told.append(line)
        if line.startswith("[1/"):
            os.killpg(running.pid, signal.SIGINT)
            break
    output, rest = running.communicate(timeout=60)
    assert (running.returncode, output) == (130, ""), rest
    assert rest.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in rest
    kept = {file for file in folder.glob("*/*/seed*/*.json") if json.loads(file.read_bytes())}
    assert 1 <= len(kept) < SEEDS
    finished = done(*words)
    assert finished.returncode == 0, finished.stderr
    assert kept < set(folder.glob("*/*/seed*/*.json"))
    assert f"{len(kept)} of {SEEDS} tasks" in finished.stderr
    assert "must hold" in finished.stdout


def test_a_missing_set_is_told_in_one_line_with_what_to_do(tmp_path: Path) -> None:
    run = done(*command(tmp_path, tmp_path / "kept", "--only", "tep"))
    assert run.returncode == 1
    assert run.stdout == ""
    assert "--only" in run.stderr
    assert "Traceback" not in run.stderr
