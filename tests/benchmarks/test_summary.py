"""Cached results to the table and to what must hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quality_protocols.cache import Cache, Record
from quality_protocols.checks import Check, checks
from quality_protocols.names import FUSED_FLOAT, FUSED_INT8, OURS
from quality_protocols.summary import Summary, summarise
from quality_protocols.table import table
from quality_protocols.task import Result
from quality_protocols.work import Unit

METHODS = ("mean|z|", OURS)


def unit(benchmark: str, task: str, seed: int = 0) -> Unit:
    return Unit(benchmark, task, seed, METHODS)


def given(folder: Path, figures: dict[Unit, dict[str, float]], figure: str = "roc_auc") -> Summary:
    """The summary of rows that have this one figure on each unit."""
    kept = Cache(folder, {"hash": "same"})
    for at, rows in figures.items():
        for method in METHODS:
            own = {n: Result({figure: v, "ap": v}) for n, v in rows.items() if (n == "mean|z|") == (method != OURS)}
            if own:
                kept.write(at.key(method), Record(own, 2.0))
    return summarise(list(figures), kept)


def check(summary: Summary, words: str) -> Check:
    return next(one for one in checks(summary) if words in one.what)


def test_figures_are_means_over_tasks_and_then_over_seeds(tmp_path: Path) -> None:
    values = {("P-1", 0): 0.2, ("P-2", 0): 0.4, ("P-1", 1): 0.6, ("P-2", 1): 0.8}
    found = given(tmp_path, {unit("smap", t, s): {"mean|z|": v} for (t, s), v in values.items()}, "vus_pr")
    (row,) = found.rows["smap"]
    assert row.figures["vus_pr"].mean == pytest.approx(0.5)
    assert row.figures["vus_pr"].std == pytest.approx(np.std([0.3, 0.7], ddof=1))
    assert row.baseline
    assert row.seconds_per_task == 2.0


def test_points_of_a_pooled_set_are_ranked_together(tmp_path: Path) -> None:
    kept = Cache(tmp_path, {"hash": "same"})
    labels = np.array([False] * 5 + [True] * 5)
    units = [unit("skab", "a"), unit("skab", "b")]
    for at, offset in zip(units, (0.0, 100.0), strict=True):
        result = Result({"roc_auc": 1.0}, offset + 0.5, labels, labels + offset)
        kept.write(at.key("mean|z|"), Record({"mean|z|": result}, 1.0))
    figures = summarise(units, kept).rows["skab"][0].figures
    assert figures["roc_auc"].mean == pytest.approx(0.75)  # b's normal points lie above a's anomalous ones
    assert figures["f1"].mean == 1.0  # but each file has its own threshold


def test_a_row_that_failed_on_a_task_is_told_and_not_compared(tmp_path: Path) -> None:
    rows = {"mean|z|": 0.9, FUSED_INT8: 0.8, FUSED_FLOAT: 0.8}
    found = given(tmp_path, {unit("smap", "P-1"): rows, unit("smap", "P-2"): {"mean|z|": 0.9}})
    assert FUSED_INT8 not in found.means("roc_auc")
    assert check(found, "mean roc_auc").holds is None
    assert "fused, int8 (some failed)" in table(found, heading="")


def test_a_view_is_compared_over_the_sets_that_have_it(tmp_path: Path) -> None:
    rows = {
        unit("smap", "P-1"): {"a, int8": 0.7, "b, int8": 0.5, FUSED_INT8: 0.8, FUSED_FLOAT: 0.9},
        unit("fan", "moving"): {"b, int8": 1.0, FUSED_INT8: 0.9, FUSED_FLOAT: 0.9},
    }
    found = given(tmp_path, rows)
    assert found.leads("roc_auc") == pytest.approx({"a, int8": 0.1, "b, int8": 0.1})
    rows[unit("smap", "P-1")]["a, int8"] = 0.85
    lost = check(given(tmp_path / "lost", rows), "mean roc_auc")
    assert (lost.holds, lost.against, lost.value) == (False, "a, int8", pytest.approx(-0.05))


def test_tasks_in_which_a_model_fell_back_are_counted(tmp_path: Path) -> None:
    kept, units = Cache(tmp_path, {"hash": "same"}), [unit("smap", task) for task in ("P-1", "P-2", "P-3")]
    for at, fell_back in zip(units, (True, False, True), strict=True):
        kept.write(at.key(OURS), Record({FUSED_INT8: Result({"roc_auc": 0.9, "ap": 0.9}, fell_back=fell_back)}, 1.0))
    found = summarise(units, kept)
    assert found.rows["smap"][0].fell_back == 2
    assert "fused, int8 (2 fell back) " in table(found, heading="")


@pytest.mark.parametrize(("fused", "holds"), [(0.90, True), (0.89, False)])
def test_fused_score_must_not_be_below_a_baseline_on_the_mean_over_sets(
    tmp_path: Path, fused: float, *, holds: bool
) -> None:
    rows = {
        unit("smap", "P-1"): {"mean|z|": 0.8, FUSED_INT8: fused, FUSED_FLOAT: fused},
        unit("fan", "moving"): {"mean|z|": 1.0, FUSED_INT8: 0.9, FUSED_FLOAT: 0.9},
    }
    found = check(given(tmp_path, rows), "mean roc_auc")
    assert (found.holds, found.against) == (holds, "mean|z|")


def test_fused_score_must_not_be_below_a_single_term(tmp_path: Path) -> None:
    rows = {unit("smap", "P-1"): {"mean|z|": 0.5, FUSED_INT8: 0.8, FUSED_FLOAT: 0.9, "window.nll, int8": 0.85}}
    found = check(given(tmp_path, rows), "mean roc_auc")
    assert (found.holds, found.against) == (False, "window.nll, int8")


@pytest.mark.parametrize(("fused", "holds"), [(0.871, True), (0.869, False)])
def test_worst_loss_to_the_best_baseline_is_found_over_all_sets(tmp_path: Path, fused: float, *, holds: bool) -> None:
    rows = {
        unit("smap", "P-1"): {"mean|z|": 0.5, FUSED_INT8: 0.9, FUSED_FLOAT: 0.9},
        unit("fan", "moving"): {"mean|z|": 0.9, FUSED_INT8: fused, FUSED_FLOAT: fused},
    }
    found = check(given(tmp_path, rows), "below the best baseline")
    assert (found.holds, found.against) == (holds, "fan: mean|z|")
    assert found.value == pytest.approx(0.9 - fused)


@pytest.mark.parametrize(("int8", "holds"), [(0.896, True), (0.894, False), (0.906, False)])
def test_int8_must_stay_close_to_float(tmp_path: Path, int8: float, *, holds: bool) -> None:
    rows = {unit("smap", "P-1"): {FUSED_INT8: int8, FUSED_FLOAT: 0.9}}
    assert check(given(tmp_path, rows), "int8 differs").holds is holds


def test_table_shows_floor_goal_and_whether_they_are_reached(tmp_path: Path) -> None:
    rows = {unit("smap", "P-1"): {FUSED_INT8: 0.25, FUSED_FLOAT: 0.25}}
    text = table(given(tmp_path, rows, "vus_pr"), heading="a heading")
    assert text.startswith("a heading")
    assert "holds    smap vus_pr: 0.250 against 0.183, goal 0.380 missed" in text
    bounds = {line.split()[0]: line.split()[-1] for line in text.splitlines() if line.startswith(("(floor)", "(goal)"))}
    assert bounds == {"(floor)": "0.183", "(goal)": "0.380"}
