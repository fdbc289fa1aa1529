"""Protocols on the real data: counts and published figures that the protocol alone decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quality_protocols.registry import BENCHMARKS
from quality_protocols.task import Outcome, Points

TASKS = {"skab": 34, "milling-published": 1, "milling-honest": 1, "fan": 1, "tep": 1, "smap": 54, "msl": 27}


def test_every_set_has_its_published_number_of_tasks(shared: Path) -> None:
    assert {name: len(benchmark.tasks(shared)) for name, benchmark in BENCHMARKS.items()} == TASKS


def test_an_alarm_on_every_row_of_skab_has_the_f1_that_its_documentation_tells(shared: Path) -> None:
    skab = BENCHMARKS["skab"]
    tasks = [skab.load(shared, name, 0) for name in skab.tasks(shared)]
    labels = np.concatenate([np.asarray(task.tests[0].labels)[task.first_row :] for task in tasks])
    assert 2 * labels.mean() / (1 + labels.mean()) == pytest.approx(0.698, abs=5e-4)


def test_spread_of_one_current_has_the_figures_on_the_honest_milling_split_that_its_documentation_tells(
    shared: Path,
) -> None:
    honest = BENCHMARKS["milling-honest"]
    found = []
    for seed in range(5):
        task = honest.load(shared, "cuts", seed)
        cuts = [test.values[:, 0].reshape(-1, 64) for test in task.tests]
        rows = tuple(63 + 64 * np.arange(len(cut)) for cut in cuts)
        outcome = Outcome(rows, tuple(cut.std(axis=1) for cut in cuts), None)
        found.append(honest.measure(task, outcome))
    assert np.mean([one["ap"] for one in found]) == pytest.approx(0.32, abs=0.03)
    assert np.mean([one["roc_auc"] for one in found]) == pytest.approx(0.79, abs=0.03)


def test_every_milling_cut_of_the_published_split_is_cut_into_all_its_windows(shared: Path) -> None:
    task = BENCHMARKS["milling-published"].load(shared, "windows", 0)
    tested = sum(int(np.isfinite(test.values[::64, 0]).sum()) for test in task.tests)
    assert tested == 11_570 - round(0.6 * 11_570)


def test_every_channel_of_the_spacecraft_has_labelled_and_normal_rows(shared: Path) -> None:
    for craft in ("smap", "msl"):
        for name in BENCHMARKS[craft].tasks(shared)[::9]:
            task = BENCHMARKS[craft].load(shared, name, 0)
            rows = np.arange(len(task.tests[0].values))
            points = Points.of(task, Outcome((rows,), (np.zeros(len(rows)),), None))
            assert 0 < points.labels.mean() < 1
