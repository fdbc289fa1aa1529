"""SKAB: of each of the 34 experiments the first 400 rows train, and every further row is scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from edge_vae_train.data import Recording
from quality_protocols.figures import decisions, ranking
from quality_protocols.policy import POLICIES
from quality_protocols.task import Benchmark, Figures, Outcome, Points, Task, session

__all__ = ["SKAB", "TRAINING_ROWS"]

TRAINING_ROWS = 400
_FOLDERS = ("valve1", "valve2", "other")
_NO_CHANNELS = ("datetime", "anomaly", "changepoint")


def _tasks(data: Path) -> tuple[str, ...]:
    files = [file for folder in _FOLDERS for file in (data / "skab" / folder).glob("*.csv")]
    return tuple(f"{file.parent.name}-{file.stem}" for file in sorted(files, key=lambda f: (f.parent, int(f.stem))))


def _load(data: Path, name: str, seed: int) -> Task:  # noqa: ARG001 (the split is not random)
    table = pd.read_csv(data / "skab" / (name.replace("-", "/") + ".csv"), sep=";")
    channels = tuple(column for column in table.columns if column not in _NO_CHANNELS)
    values, labels = table[list(channels)].to_numpy(np.float64), table["anomaly"].to_numpy() > 0
    policy = POLICIES["skab"]
    return Task(
        name=name,
        training=Recording((session(name, values[:TRAINING_ROWS]),), channels, policy.rate_hz),
        tests=(session(name, values, labels),),
        policy=policy,
        first_row=TRAINING_ROWS,
    )


def _measure(task: Task, outcome: Outcome) -> Figures:
    points = Points.of(task, outcome)
    return ranking(points) | decisions(points)


SKAB = Benchmark(
    name="skab",
    title="SKAB, rows of 34 files pooled",
    tasks=_tasks,
    load=_load,
    measure=_measure,
    pooled=True,
)
