"""Protocols on small synthetic copies: what trains, what is tested, what counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quality_protocols.ceiling_fan import ANOMALIES, NORMAL
from quality_protocols.methods import windows
from quality_protocols.registry import BENCHMARKS
from quality_protocols.task import Outcome, Points, Task
from quality_protocols.telemetry import pointwise
from quality_protocols.tep import FAULT_ROW

SEEDS = range(5)
MILLING = ("milling-published", "milling-honest")


def loaded(data: Path, benchmark: str, task: str | None = None, seed: int = 0) -> Task:
    found = BENCHMARKS[benchmark]
    return found.load(data, task or found.tasks(data)[0], seed)


def spread(task: Task) -> Outcome:
    """A detector that finds these sets' faults: the spread of a window."""
    seen = windows(task)
    return Outcome(seen.rows, tuple(test.std(axis=(1, 2)) for test in seen.tests), 2.0)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_training_data_has_no_labels_and_all_its_rows_are_normal(data: Path, name: str) -> None:
    for task in BENCHMARKS[name].tasks(data):
        found = loaded(data, name, task)
        assert all(session.labels is None for session in found.training.sessions)
        usable = np.concatenate([s.values[np.isfinite(s.values).all(axis=1)] for s in found.training.sessions])
        assert usable.std(axis=0) == pytest.approx(np.ones(usable.shape[1]), abs=0.15)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_detector_that_finds_the_faults_gets_high_figures_on_every_task(data: Path, name: str) -> None:
    benchmark = BENCHMARKS[name]
    tasks = benchmark.tasks(data)
    for task in (loaded(data, name, task) for task in tasks if task != "P-2"):  # whose labels are not at its fault
        figures = benchmark.measure(task, spread(task))
        assert figures["roc_auc"] is not None
        assert figures["roc_auc"] > 0.85


@pytest.mark.parametrize("name", BENCHMARKS)
def test_same_seed_gives_the_same_split(data: Path, name: str) -> None:
    one, two = (loaded(data, name, seed=3) for _ in range(2))
    assert [s.name for s in one.training.sessions] == [s.name for s in two.training.sessions]
    for a, b in zip(one.tests, two.tests, strict=True):
        np.testing.assert_array_equal(a.values, b.values)


@pytest.mark.parametrize("name", [*MILLING, "fan"])
def test_another_seed_gives_another_split(data: Path, name: str) -> None:
    one, two = (loaded(data, name, seed=seed).training.sessions for seed in (0, 1))
    assert [s.name for s in one] != [s.name for s in two] or not np.array_equal(one[0].values, two[0].values)


# SKAB


def test_skab_has_its_labelled_files_in_order_and_not_the_healthy_one(data: Path) -> None:
    assert BENCHMARKS["skab"].tasks(data) == ("other-1", "valve1-0", "valve1-2", "valve1-10")


def test_skab_trains_on_the_first_400_rows_and_scores_every_other_row(data: Path) -> None:
    task = loaded(data, "skab", "valve1-0")
    np.testing.assert_array_equal(task.training.sessions[0].values, task.tests[0].values[:400])
    points = Points.of(task, spread(task))
    np.testing.assert_array_equal(points.labels, np.asarray(task.tests[0].labels)[400:])


# milling


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", MILLING)
def test_milling_trains_on_a_healthy_tool_alone_and_a_failed_one_is_positive(data: Path, name: str, seed: int) -> None:
    healthy, failed = {f"cut {i}" for i in (0, 2, 3, 4, 7, 8, 9, 10, 11)}, {"cut 6", "cut 13"}
    task = loaded(data, name, seed=seed)
    assert {s.name for s in task.training.sessions} <= healthy
    assert {s.name for s in task.tests if np.all(s.labels)} == failed
    assert not any(np.any(s.labels) for s in task.tests if s.name not in failed)


@pytest.mark.parametrize("seed", SEEDS)
def test_honest_split_has_no_cut_on_both_sides_and_trains_on_every_mode(data: Path, seed: int) -> None:
    task = loaded(data, "milling-honest", seed=seed)
    training, tests = ({s.name for s in sessions} for sessions in (task.training.sessions, task.tests))
    assert not training & tests
    assert len(training | tests) == 13
    modes = [{tuple(s.modes[0]) for s in ss if s.modes is not None} for ss in (task.training.sessions, task.tests)]
    assert modes[0] >= modes[1]
    assert len(training) == 2 + 3  # 60 % of the 4 and of the 5 healthy cuts of either mode


@pytest.mark.parametrize("seed", SEEDS)
def test_published_split_has_each_window_on_one_side_and_60_percent_of_them_in_training(data: Path, seed: int) -> None:
    task = loaded(data, "milling-published", seed=seed)
    kept = [{s.name: np.isfinite(s.values[::64, 0]) for s in ss} for ss in (task.training.sessions, task.tests)]
    for cut in kept[0].keys() & kept[1].keys():
        assert not (kept[0][cut] & kept[1][cut]).any()
    tested = sum(int(w.sum()) for w in kept[1].values())
    assert tested == 13 * 10 - round(0.6 * 13 * 10)
    assert len(np.concatenate(windows(task).rows)) == tested


def test_windows_of_a_cut_are_those_of_64_samples_from_its_start(data: Path) -> None:
    task = loaded(data, "milling-published")
    with np.load(data / "milling" / "milling_5ch_int16.npz") as archive:
        volts, numbers = archive["X"] * archive["scale"], archive["cut_no"].tolist()
    for session, rows in zip(task.tests, windows(task).rows, strict=True):
        assert (rows % 64 == 63).all()
        steady = volts[numbers.index(int(session.name.removeprefix("cut ")))][128 : 128 + 640]
        usable = np.isfinite(session.values[:, 0])
        np.testing.assert_array_equal(session.values[usable], steady[usable])


# ceiling fan


@pytest.mark.parametrize("seed", SEEDS)
def test_fan_is_tested_on_a_fifth_of_the_normal_clips_and_on_the_five_other_speeds_and_weights(
    data: Path, seed: int
) -> None:
    with np.load(data / "ceiling_fan" / "ceiling_fan.npz") as archive:
        kinds = archive["label"]
    task = loaded(data, "fan", seed=seed)
    training, tests = ([int(s.name.split()[1]) for s in ss] for ss in (task.training.sessions, task.tests))
    assert set(kinds[training]) == {NORMAL}
    assert (len(training), len(tests)) == (40, 10 + 50)
    assert not set(training) & set(tests)
    assert set(kinds[tests]) == {NORMAL, *ANOMALIES}
    assert [bool(np.all(s.labels)) for s in task.tests] == [kind != NORMAL for kind in kinds[tests]]


# TEP


def test_tep_detection_rates_are_shares_of_faulty_rows_above_the_limit_of_the_normal_test(data: Path) -> None:
    task = loaded(data, "tep")
    rows = tuple(np.arange(47, len(test.values)) for test in task.tests)
    scores = [np.linspace(0.0, 1.0, len(r)) for r in rows]  # one in a hundred normal rows lies above 0.99
    for fault in range(1, 22):
        found = (rows[fault] >= FAULT_ROW) & (rows[fault] % 2 == 0)
        scores[fault] = np.where(found, 2.0, 0.0) * (fault not in (3, 9, 15))
    figures = BENCHMARKS["tep"].measure(task, Outcome(rows, tuple(scores), None))
    assert figures["FDR 18"] == pytest.approx(0.5)
    assert figures["FDR 21"] == pytest.approx(0.5 * 18 / 21)


# SMAP and MSL


def test_telemetry_labels_are_the_ranges_with_their_last_row_and_of_every_line_of_a_channel(data: Path) -> None:
    assert [BENCHMARKS[name].tasks(data) for name in ("smap", "msl")] == [("P-1", "P-2"), ("M-6",)]
    labels = np.asarray(loaded(data, "smap", "P-2").tests[0].labels)
    assert np.flatnonzero(labels).tolist() == [*range(100, 141), *range(500, 511)]


def test_a_rows_score_is_that_of_the_window_around_it() -> None:
    rows = np.arange(3, 10)
    scores = pointwise(rows, rows.astype(float), samples=10, length=4)
    assert scores.tolist() == [3, 3, 4, 5, 6, 7, 8, 9, 9, 9]  # row 2 lies in the middle of the window of rows 1 to 4


def test_nothing_is_written_beside_the_data(data: Path) -> None:
    before = sorted(data.rglob("*"))
    for name in BENCHMARKS:
        loaded(data, name)
    assert sorted(data.rglob("*")) == before
