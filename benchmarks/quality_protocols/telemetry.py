"""SMAP satellite and MSL rover: one detector for each of 54 + 27 channels, each row scored.

The first column is the telemetry value; the others are flags of the commands that were sent, which are no readings of
a machine and are left away.
"""

from __future__ import annotations

import ast
import csv
import io
import tarfile
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_vae.sample import FloatArray
from edge_vae_train.data import Recording
from quality_protocols.figures import decisions, period, ranking, volume
from quality_protocols.policy import POLICIES
from quality_protocols.task import Benchmark, Figures, Outcome, Points, Task, session

__all__ = ["MSL", "SMAP", "pointwise"]

_LABELS = "labeled_anomalies.csv"


@lru_cache(maxsize=1)
def _archive(file: Path) -> dict[str, bytes]:
    """Content of each file by its last two names, read in memory: nothing is written beside the data."""
    with tarfile.open(file) as archive:
        members = [member for member in archive if member.isfile()]
        opened = {"/".join(Path(member.name).parts[-2:]): archive.extractfile(member) for member in members}
        return {name: stream.read() for name, stream in opened.items() if stream is not None}


def _series(data: Path, part: str, channel: str) -> FloatArray:
    content = _archive(data / "smap_msl" / "smap_msl.txz")[f"{part}/{channel}.npy"]
    return np.asarray(np.load(io.BytesIO(content)), np.float64)


def _labelled(data: Path, craft: str) -> dict[str, list[tuple[int, int]]]:
    """First and last anomalous row of each range, by channel; a channel that is listed twice has the ranges of both."""
    found = _archive(data / "smap_msl" / "smap_msl.txz")
    table = next(content for name, content in found.items() if name.endswith(_LABELS)).decode()
    ranges: dict[str, list[tuple[int, int]]] = {}
    for row in csv.DictReader(io.StringIO(table)):
        if row["spacecraft"] == craft:
            ranges.setdefault(row["chan_id"], []).extend(map(tuple, ast.literal_eval(row["anomaly_sequences"])))
    return ranges


def _tasks(craft: str, data: Path) -> tuple[str, ...]:
    if not (data / "smap_msl" / "smap_msl.txz").is_file():
        return ()
    return tuple(sorted(_labelled(data, craft)))


def _load(craft: str, data: Path, name: str, seed: int) -> Task:  # noqa: ARG001 (the split is not random)
    training, test = (_series(data, part, name)[:, :1] for part in ("train", "test"))
    labels = np.zeros(len(test), np.bool_)
    for first, last in _labelled(data, craft)[name]:
        labels[first : last + 1] = True
    policy = POLICIES[craft.lower()]
    return Task(
        name=name,
        training=Recording((session(name, training),), ("telemetry",), policy.rate_hz),
        tests=(session(name, test, labels),),
        policy=policy,
    )


def pointwise(rows: NDArray[np.int64], scores: FloatArray, *, samples: int, length: int) -> FloatArray:
    """(samples,) a score for each row: that of the window around it, at either end that of the nearest window.

    So does the TSB-AD leaderboard, whose figures are the ones to beat. A device would know the score half a window
    later; the other protocols give a window's score to its last row.
    """
    return np.interp(np.arange(samples), rows - length // 2, scores)


def _measure(task: Task, outcome: Outcome) -> Figures:
    test = task.tests[0]
    scores = pointwise(outcome.rows[0], outcome.scores[0], samples=len(test.values), length=task.policy.length)
    labels = np.zeros(len(scores), np.bool_) if test.labels is None else test.labels
    points = Points.joined([labels], [scores], [outcome.threshold])
    return volume(points, max_buffer=period(test.values[:, 0])) | ranking(points) | decisions(points)


SMAP = Benchmark(
    name="smap",
    title="SMAP, pointwise, mean over 54 channels",
    tasks=partial(_tasks, "SMAP"),
    load=partial(_load, "SMAP"),
    measure=_measure,
)

MSL = Benchmark(
    name="msl",
    title="MSL, pointwise, mean over 27 channels",
    tasks=partial(_tasks, "MSL"),
    load=partial(_load, "MSL"),
    measure=_measure,
)
