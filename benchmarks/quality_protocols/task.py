"""A task: one training recording and the labelled sessions that its detectors are tested on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_vae.sample import FloatArray
from edge_vae_train.data import Recording, Session
from quality_protocols.policy import Policy

__all__ = ["Benchmark", "Figures", "Outcome", "Points", "Result", "Task", "session"]

Figures = dict[str, float | None]
"""Figures by name; None where the data leaves one undefined, or the method has no threshold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What one detector is fitted on and tested with.

    Attributes:
        name: Unique within its set.
        training: Normal data; no session of it has labels.
        tests: Sessions with labels.
        policy: Window, stride, rate, baseline and mode columns.
        first_row: Rows of the test sessions before this one do not count; windows may reach back into them.
        groups: Named parts of the test sessions, as indices, that some figures are also given for.
    """

    name: str
    training: Recording
    tests: tuple[Session, ...]
    policy: Policy
    first_row: int = 0
    groups: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one method says of the test sessions.

    Attributes:
        rows: For each session, (windows,) the row of each window's last sample.
        scores: For each session, (windows,) higher is more anomalous.
        threshold: A score above it is anomalous, found without labels; None for a method that has none.
        fell_back: Whether a model of it is not int8 because the gate refused that.
    """

    rows: tuple[NDArray[np.int64], ...]
    scores: tuple[FloatArray, ...]
    threshold: float | None
    fell_back: bool = False


@dataclass(frozen=True, slots=True)
class Points:
    """Scored points of one or more series, one after another.

    Attributes:
        labels: (points,) True where anomalous.
        scores: (points,)
        above: (points,) True above the threshold; None without one.
        joints: Index of the first point of each further series.
    """

    labels: NDArray[np.bool_]
    scores: FloatArray
    above: NDArray[np.bool_] | None
    joints: tuple[int, ...] = ()

    @classmethod
    def of(cls, task: Task, outcome: Outcome, sessions: Sequence[int] | None = None) -> Points:
        """The windows that count, each with the label of its last row, of all or some of the test sessions."""
        labels, scores = [], []
        for i in range(len(task.tests)) if sessions is None else sessions:
            counts = outcome.rows[i] >= task.first_row
            labels.append(_labels(task.tests[i])[outcome.rows[i][counts]])
            scores.append(outcome.scores[i][counts])
        return cls.joined(labels, scores, [outcome.threshold] * len(labels))

    @classmethod
    def joined(
        cls,
        labels: Sequence[NDArray[np.bool_]],
        scores: Sequence[FloatArray],
        thresholds: Sequence[float | None],
    ) -> Points:
        """Several series as one, each with its own threshold."""
        known = [threshold for threshold in thresholds if threshold is not None]
        above = [s > t for s, t in zip(scores, known, strict=True)] if len(known) == len(scores) else None
        joints = np.cumsum([len(s) for s in scores])[:-1].tolist()
        return cls(
            np.concatenate(labels), np.concatenate(scores), np.concatenate(above) if above else None, tuple(joints)
        )


@dataclass(frozen=True, slots=True)
class Result:
    """One row of the table on one task with one seed.

    Attributes:
        figures: Of this task alone.
        threshold: See `Outcome`.
        labels: (points,) for sets whose points are pooled over their tasks; None for the others.
        scores: (points,) likewise.
        fell_back: See `Outcome`.
    """

    figures: Figures
    threshold: float | None = None
    labels: NDArray[np.bool_] | None = None
    scores: FloatArray | None = None
    fell_back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One protocol on one data set.

    Attributes:
        name: As `--only` takes it.
        title: As the table heads it.
        tasks: Names of the tasks of the set in a data folder.
        load: The task of that name with the split of that seed.
        measure: Figures of one outcome.
        pooled: The points of all tasks are one ranking; otherwise figures are means over the tasks.
    """

    name: str
    title: str
    tasks: Callable[[Path], tuple[str, ...]]
    load: Callable[[Path, str, int], Task]
    measure: Callable[[Task, Outcome], Figures]
    pooled: bool = False


def session(
    name: str,
    values: FloatArray,
    labels: NDArray[np.bool_] | None = None,
    *,
    modes: FloatArray | None = None,
) -> Session:
    """A session without times: (samples, channels) in sensor units, its labels (samples,) when it is a test.

    `modes` (samples, mode columns) is the operating mode of each row.
    """
    return Session(name, np.asarray(values, np.float64), np.full(len(values), np.nan), labels, modes)


def _labels(test: Session) -> NDArray[np.bool_]:
    if test.labels is None:
        msg = f"expected a test session with labels, received {test.name} without"
        raise ValueError(msg)
    return test.labels
