"""Cached results to rows of figures with mean and spread over seeds, and what compares them over all sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from quality_protocols.cache import Cache, Record
from quality_protocols.figures import decisions, mean, ranking, volume
from quality_protocols.names import FUSED_FLOAT, FUSED_INT8, OURS
from quality_protocols.policy import POLICIES
from quality_protocols.registry import BENCHMARKS
from quality_protocols.task import Benchmark, Figures, Points, Result
from quality_protocols.work import Unit

__all__ = ["Row", "Spread", "Summary", "summarise"]


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation over the seeds; the latter None with one seed."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of one set.

    Attributes:
        name: Method, or part of ours.
        baseline: True unless it is ours.
        figures: By name.
        complete: Every task and seed gave a result; otherwise nothing is concluded from the row.
        seconds_per_task: Mean time of the method, of all rows that it gives together.
        fell_back: Tasks, of all seeds, in which a model of it is not int8 because the gate refused that.
    """

    name: str
    baseline: bool
    figures: Mapping[str, Spread]
    complete: bool
    seconds_per_task: float
    fell_back: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Rows by set, in the order of the table."""

    rows: Mapping[str, tuple[Row, ...]]

    def figure(self, benchmark: str, row: str, figure: str) -> float | None:
        """Mean over the seeds; None where a complete row or the figure is missing."""
        found = [r for r in self.rows[benchmark] if r.name == row and r.complete and figure in r.figures]
        return found[0].figures[figure].mean if found else None

    def means(self, figure: str) -> dict[str, float]:
        """The mean over all sets, of each row that is complete on every one of them, best first."""
        names = dict.fromkeys(row.name for rows in self.rows.values() for row in rows)
        values = {name: [self.figure(benchmark, name, figure) for benchmark in self.rows] for name in names}
        known = {name: [v for v in found if v is not None] for name, found in values.items()}
        means = {name: float(np.mean(found)) for name, found in known.items() if len(found) == len(self.rows)}
        return dict(sorted(means.items(), key=lambda item: -item[1]))

    def leads(self, figure: str) -> dict[str, float]:
        """What the fused int8 score has more than each other complete row, in the mean over the sets of that row."""
        ours = {benchmark: self.figure(benchmark, FUSED_INT8, figure) for benchmark in self.rows}
        differences: dict[str, list[float]] = {}
        for benchmark, rows in self.rows.items():
            for row in rows:
                value, own = self.figure(benchmark, row.name, figure), ours[benchmark]
                if row.name not in (FUSED_INT8, FUSED_FLOAT) and value is not None and own is not None:
                    differences.setdefault(row.name, []).append(own - value)
        return {name: float(np.mean(found)) for name, found in differences.items()}

    def losses(self) -> dict[str, tuple[float, str]]:
        """By set: ROC-AUC that the fused int8 score lacks to the best baseline, below 0 where it wins; and that one."""
        found = {}
        for benchmark, rows in self.rows.items():
            ours = self.figure(benchmark, FUSED_INT8, "roc_auc")
            baselines = {r.name: r.figures["roc_auc"].mean for r in rows if r.baseline and r.complete}
            if ours is not None and baselines:
                best = max(baselines, key=lambda name: baselines[name])
                found[benchmark] = (baselines[best] - ours, best)
        return found

    def int8_changes(self) -> dict[str, float]:
        """By set: ROC-AUC of the fused score in int8 less that in float."""
        pairs = {b: [self.figure(b, row, "roc_auc") for row in (FUSED_INT8, FUSED_FLOAT)] for b in self.rows}
        return {b: pair[0] - pair[1] for b, pair in pairs.items() if pair[0] is not None and pair[1] is not None}


def summarise(units: Sequence[Unit], kept: Cache) -> Summary:
    """The rows of all units, from what is in the cache."""
    rows = {}
    for benchmark in dict.fromkeys(unit.benchmark for unit in units):
        own = [unit for unit in units if unit.benchmark == benchmark]
        methods = dict.fromkeys(method for unit in own for method in unit.methods)
        rows[benchmark] = tuple(row for m in methods for row in _rows(BENCHMARKS[benchmark], m, own, kept))
    return Summary(rows)


def _rows(benchmark: Benchmark, method: str, units: Sequence[Unit], kept: Cache) -> list[Row]:
    records = {unit: record for unit in units if (record := kept.read(unit.key(method)))}
    names = dict.fromkeys(name for record in records.values() for name in record.rows)
    return [_row(benchmark, name, method, units, records) for name in names]


def _row(benchmark: Benchmark, name: str, method: str, units: Sequence[Unit], records: Mapping[Unit, Record]) -> Row:
    found = {unit: record.rows[name] for unit, record in records.items() if name in record.rows}
    by_seed: dict[int, list[Result]] = {}
    for unit, result in found.items():
        by_seed.setdefault(unit.seed, []).append(result)
    figures = [_figures(benchmark, results, units[0]) for results in by_seed.values()]
    names = dict.fromkeys(key for one in figures for key in one)
    values = {key: [v for one in figures if (v := one.get(key)) is not None] for key in names}
    seconds = float(np.mean([record.seconds for record in records.values()]))
    return Row(
        name,
        baseline=method != OURS,
        figures={key: Spread.of(known) for key, known in values.items() if known},
        complete=len(found) == len(units),
        seconds_per_task=seconds,
        fell_back=sum(result.fell_back for result in found.values()),
    )


def _figures(benchmark: Benchmark, results: Sequence[Result], unit: Unit) -> Figures:
    """Figures of one seed."""
    if not benchmark.pooled:
        return mean([result.figures for result in results])
    labels = [result.labels for result in results if result.labels is not None]
    scores = [result.scores for result in results if result.scores is not None]
    points = Points.joined(labels, scores, [result.threshold for result in results])
    return ranking(points) | volume(points, max_buffer=POLICIES[unit.benchmark].length) | decisions(points)
