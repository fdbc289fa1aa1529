"""edge-vae score: the CSV of the contract, from a bundle or a run, or one clear line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest

from edge_vae.bundle import Bundle
from edge_vae.cli import run
from edge_vae.detector import load
from edge_vae.stream import Stream
from edge_vae_train.data import Columns, read
from edge_vae_train.metrics import alarm_states
from edge_vae_train.scoring import as_scored_session, score_session, subject

CHANNELS = ["current_a", "speed_rpm", "vibration_x_g", "vibration_y_g", "pressure_bar", "flow_l_min", "temperature_c"]
HEADER = ["session", "row", "time", "score", "threshold", "alarm", *(f"share_{name}" for name in CHANNELS)]


@pytest.fixture
def faulty(rig: Path) -> Path:
    return rig / "faulty" / "bearing.csv"


@pytest.fixture
def scored(bundle_path: Path, tmp_path: Path) -> Callable[..., list[dict[str, str]]]:
    """Runs `edge-vae score BUNDLE ARGUMENTS`; the lines it wrote."""

    def score(*arguments: object) -> list[dict[str, str]]:
        output = tmp_path / "scores" / "s.csv"
        assert run(["score", str(bundle_path), *map(str, arguments), "-o", str(output)]) == 0
        with output.open(newline="") as file:
            lines = csv.DictReader(file)
            assert lines.fieldnames == HEADER
            return list(lines)

    return score


Score = Callable[..., "list[dict[str, str]]"]


def failed(capsys: pytest.CaptureFixture[str], *arguments: object, status: int) -> str:
    assert run([str(argument) for argument in arguments]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    *_, line = err.splitlines()
    assert line.startswith("edge-vae: ")
    assert "expected " in line
    assert "received " in line
    return line


def numbers(lines: list[dict[str, str]], column: str) -> list[float]:
    return [float(line[column]) for line in lines]


def test_each_window_is_one_line_of_the_contract(scored: Score, faulty: Path, bundle_path: Path) -> None:
    lines = scored(faulty)
    threshold = Bundle.read(bundle_path).manifest.threshold.value
    assert numbers(lines, "row") == list(range(31, 2400, 4))
    assert {line["session"] for line in lines} == {"bearing.csv"}
    assert min(numbers(lines, "score")) >= 0
    assert numbers(lines, "threshold") == pytest.approx([threshold] * len(lines), rel=1e-5)
    assert {line["alarm"] for line in lines} == {"0", "1"}
    shares = np.array([numbers(lines, name) for name in HEADER[6:]])
    assert shares.min() >= 0
    np.testing.assert_allclose(shares.sum(axis=0), 1.0, atol=7 * 0.5e-4)  # seven shares of four decimals


def test_the_time_is_that_of_the_windows_last_row(scored: Score, faulty: Path) -> None:
    lines = scored(faulty)
    times = pd.read_csv(faulty)["time"]
    for line in (lines[0], lines[-1]):
        assert line["time"] == times[int(line["row"])]
        assert datetime.fromisoformat(line["time"].replace("Z", "+00:00")).tzinfo is not None


def test_scores_and_alarms_are_those_of_the_agents_path(scored: Score, faulty: Path, bundle_path: Path) -> None:
    lines = scored(faulty, "--label", "anomaly")
    bundle = Bundle.read(bundle_path)
    (session,) = read([faulty], Columns(label="anomaly", channels=bundle.manifest.channel_names)).sessions
    found = Stream(load(bundle, path="rig.evb")).push(session.values, session.times)
    assert numbers(lines, "score") == pytest.approx(found.score.tolist(), rel=1e-5)
    states = alarm_states(
        as_scored_session(session, found), threshold=bundle.manifest.threshold.value, rules=bundle.manifest.alarm
    )
    assert [line["alarm"] == "1" for line in lines] == states.tolist()


def test_a_fault_scores_higher_than_what_was_before_it(scored: Score, faulty: Path) -> None:
    lines = scored(faulty)
    anomalous = pd.read_csv(faulty)["anomaly"].to_numpy()[[int(line["row"]) for line in lines]]
    score = np.array(numbers(lines, "score"))
    assert np.median(score[anomalous == 1]) > 2 * np.median(score[anomalous == 0])


def test_stride_one_scores_every_row_after_the_first_full_window(scored: Score, faulty: Path) -> None:
    every, usual = scored(faulty, "--stride", 1), scored(faulty)
    assert numbers(every, "row") == list(range(31, 2400))
    by_row = {line["row"]: line["score"] for line in every}
    assert all(by_row[line["row"]] == line["score"] for line in usual)


def test_sessions_of_a_folder_are_named_by_their_path_in_it(scored: Score, rig: Path) -> None:
    lines = scored(rig, "--stride", 400)
    names = sorted({line["session"] for line in lines})
    assert names[0] == "faulty/bearing.csv"
    assert names[-1] == "healthy/run-3.csv"
    assert len(names) == 10


def test_columns_are_taken_by_name_and_others_are_left_out(scored: Score, faulty: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(faulty)
    turned = frame[frame.columns[::-1]].assign(note="text")
    turned.to_csv(tmp_path / "bearing.csv", index=False, sep=";")
    assert scored(tmp_path / "bearing.csv") == scored(faulty)


def test_arrays_are_sessions_by_their_number_and_have_no_time(scored: Score, faulty: Path, tmp_path: Path) -> None:
    values = pd.read_csv(faulty)[CHANNELS].to_numpy()
    np.savez(tmp_path / "a.npz", X=values[:2000].reshape(2, 1000, 7), channels=np.array(CHANNELS))
    lines = scored(tmp_path / "a.npz")
    assert [line["session"] for line in lines] == ["a.npz#0"] * 243 + ["a.npz#1"] * 243
    assert {line["time"] for line in lines} == {""}
    whole = {line["row"]: line["score"] for line in scored(faulty)}
    assert all(whole[line["row"]] == line["score"] for line in lines[:243])


def test_no_window_crosses_a_missing_reading(scored: Score, faulty: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(faulty)
    frame.loc[100, "flow_l_min"] = np.nan
    frame.to_csv(tmp_path / "a.csv", index=False)
    rows = numbers(scored(tmp_path / "a.csv"), "row")
    assert not set(rows) & set(range(100, 132))
    assert 132 in rows


def test_json_is_one_document_on_stdout(
    bundle_path: Path, faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["score", str(bundle_path), str(faulty), "--json", "-o", str(tmp_path / "s.csv")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["sessions"] == 1
    assert document["rows"] == 2400
    assert document["windows"] == 593
    assert document["alarms"] > 0
    assert document["output"] == str(tmp_path / "s.csv")
    assert run(["score", str(bundle_path), str(faulty), "-o", str(tmp_path / "s.csv")]) == 0
    assert capsys.readouterr().out.startswith("scored 593 windows of 2400 rows in 1 sessions, ")


@pytest.mark.keras
def test_a_run_scores_in_float_much_as_its_bundle_does(run_folder: Path, bundle_path: Path, faulty: Path) -> None:
    scores = []
    for path in (run_folder, bundle_path):
        judged = subject(path)
        manifest = judged.detector.manifest
        (session,) = read([faulty], Columns(channels=manifest.channel_names)).sessions
        scores.append(score_session(Stream(judged.detector), session).score)
        assert judged.kind == ("int8" if path == bundle_path else "float32, Keras")
        assert {"z_threshold", "pca_threshold", "components"} <= set(judged.reference)
    float32, int8 = scores
    ranks = [np.argsort(np.argsort(score)) for score in scores]
    assert np.corrcoef(*ranks)[0, 1] > 0.999  # the gate's own measure
    assert (float32 != int8).any()


# What cannot be scored: one line, the right status


def test_a_missing_channel_is_refused(
    bundle_path: Path, faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.read_csv(faulty).drop(columns="flow_l_min").to_csv(tmp_path / "a.csv", index=False)
    line = failed(capsys, "score", bundle_path, tmp_path / "a.csv", "-o", tmp_path / "s.csv", status=1)
    assert line.startswith(f"edge-vae: {tmp_path / 'a.csv'}: channels are missing: flow_l_min: expected the channels ")
    assert line.endswith("Add the columns, or give them the names that are expected.")
    assert not (tmp_path / "s.csv").exists()


def test_another_rate_is_refused(
    bundle_path: Path, faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.read_csv(faulty)[::3].to_csv(tmp_path / "a.csv", index=False)
    line = failed(capsys, "score", bundle_path, tmp_path / "a.csv", "-o", tmp_path / "s.csv", status=1)
    assert "expected 10 Hz as the model was trained at, received 3.333 Hz" in line
    np.savez(tmp_path / "a.npz", X=np.zeros((99, 7)), channels=np.array(CHANNELS))
    line = failed(capsys, "score", bundle_path, tmp_path / "a.npz", "--rate", 5, "-o", tmp_path / "s.csv", status=1)
    assert "--rate: another sampling rate: expected 10 Hz as the model was trained at, received 5 Hz" in line


def test_data_shorter_than_a_window_is_refused(
    bundle_path: Path, faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.read_csv(faulty)[:10].to_csv(tmp_path / "a.csv", index=False)
    line = failed(capsys, "score", bundle_path, tmp_path / "a.csv", "-o", tmp_path / "s.csv", status=1)
    assert "nothing can be scored: expected a session that holds a window of 32 rows without a break" in line
    assert "received 1 sessions, the longest with 10 rows" in line


def test_a_session_too_short_for_a_window_is_told(
    scored: Score, faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_csv(faulty)
    frame[:500].to_csv(tmp_path / "a.csv", index=False)
    frame[:10].to_csv(tmp_path / "b.csv", index=False)
    assert {line["session"] for line in scored(tmp_path / "a.csv", tmp_path / "b.csv")} == {"a.csv"}
    assert "b.csv: not scored, its 10 usable rows hold no window of 32 rows" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "empty"])
@pytest.mark.parametrize("command", ["score", "evaluate", "inspect"])
def test_a_damaged_bundle_is_refused_with_status_78(
    bundle_path: Path, faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str, command: str
) -> None:
    packed = bundle_path.read_bytes()
    damaged = tmp_path / "damaged.evb"
    middle = len(packed) // 2
    contents = {
        "truncated": packed[:middle],
        "flipped": packed[:middle] + bytes([packed[middle] ^ 0x10]) + packed[middle + 1 :],
        "empty": b"",
    }
    if damage in contents:
        damaged.write_bytes(contents[damage])
    rest = {"score": [faulty, "-o", tmp_path / "s.csv"], "evaluate": [faulty, "--label", "anomaly"], "inspect": []}
    line = failed(capsys, command, damaged, *rest[command], status=78)
    assert line.startswith(f"edge-vae: {damaged}: ")
    assert "expected " in line
    assert not (tmp_path / "s.csv").exists()


def test_a_process_of_its_own_scores_and_writes_nothing_else_on_stdout(
    edge_vae: Callable[..., CompletedProcess[str]], bundle_path: Path, faulty: Path, tmp_path: Path
) -> None:
    done = edge_vae("score", bundle_path, faulty, "-o", tmp_path / "s.csv", "--json")
    assert json.loads(done.stdout)["windows"] == 593
    assert done.stderr == ""
