"""How often an explanation is right: which windows are tried, and how the figures are told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import explanation
from edge_vae.bundle import Channel, WindowShape
from edge_vae.detector import Detector
from edge_vae_train.data import Recording
from plain_bundle import plain_manifest
from quality_protocols.policy import Policy
from quality_protocols.task import Task, session

ROW = explanation.Row(
    name="skab",
    chosen=("surprise", "share"),
    faults=10,
    alarms=4,
    seen=5,
    of_seen={"chosen": 0.65, "share": 0.4, "surprise": 0.7, "imputation": 0.25},
    of_alarms={"chosen": 0.75, "share": 0.5, "surprise": 0.75, "imputation": 0.25},
    of_all={"chosen": 0.4, "share": 0.3, "surprise": 0.5, "imputation": 0.2},
    kinds={"offset": (4, 0.75), "lag": (0, None)},
    off=0.25,
    moved=2.5,
)


def test_normal_windows_end_before_the_first_labelled_row_and_begin_after_those_that_trained() -> None:
    policy = Policy(length=4, stride=1, score_stride=1, rate_hz=1.0, reason="a test")
    rows = np.arange(20.0)[:, None]
    labels = np.arange(20) == 15
    tests = (session("a", rows, labels), session("b", 100.0 + rows, np.zeros(20, np.bool_)))
    task = Task(name="t", training=Recording((), ("level",), 1.0), tests=tests, policy=policy, first_row=8)
    detector = Detector(plain_manifest(channels=(Channel("level", 0.0, 1.0),), window=WindowShape(4, 1)), {})
    found = explanation._normal(task, detector).windows[:, :, 0]
    assert found.tolist() == [
        [at + i for i in range(4)] for start, end in ((8, 15), (108, 120)) for at in range(start, end - 3)
    ]


def test_only_cuts_with_a_healthy_tool_are_normal(data: Path) -> None:
    [task] = explanation.milling(data)
    names = {int(test.name.removeprefix("cut ")) for test in task.tests}
    assert names
    assert all(number % 7 < 5 for number in names)  # of seven cuts in a mode the last two are worn


def test_some_experiments_of_skab_stand_for_all(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explanation, "SKAB_EVERY", 2)
    assert [task.name for task in explanation.skab(data)] == ["other-1", "valve1-2"]


def test_the_rig_is_tried_on_a_run_that_it_was_not_trained_on(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explanation, "RIG_ROWS", 100)
    [task] = explanation.rig(data)
    [test] = task.tests
    assert all((trained.values != test.values).any() for trained in task.training.sessions)
    assert not np.any(test.labels)


def test_the_table_tells_all_rates_of_each_method_and_what_was_never_seen() -> None:
    lines = explanation.table([ROW]).splitlines()
    cells = ["75.0 / 65.0 / 40.0", "50.0 / 40.0 / 30.0", "75.0 / 70.0 / 50.0", "25.0 / 25.0 / 20.0"]
    assert " ".join(lines[2].split()) == " ".join(["skab 10 4 5", *cells])
    assert "skab      surprise, share; 0.25 (2.5) sigma" in lines
    assert lines[-2].split() == ["lag", "-", "(0)"]
    assert lines[-1].split() == ["offset", "75.0", "(4)"]


def test_a_missing_set_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["explanation.py", "--data", str(tmp_path), "--only", "tep", "--json"])
    monkeypatch.setattr(explanation, "single_threaded", lambda: None)
    assert explanation.main() == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "a data set is missing" in told.err
    assert "the files of tep" in told.err


def test_one_json_document_holds_the_rows(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["explanation.py", "--data", str(data), "--only", "fan", "--json"])
    monkeypatch.setattr(explanation, "single_threaded", lambda: None)
    monkeypatch.setattr(explanation, "measure", lambda name, tasks: ROW)
    assert explanation.main() == 0
    [row] = json.loads(capsys.readouterr().out)
    assert row["of_alarms"]["surprise"] == 0.75
    assert row["kinds"]["lag"] == [0, None]
