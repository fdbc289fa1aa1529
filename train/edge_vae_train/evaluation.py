"""A model on labelled data, with the trivial baselines beside it: table, document, pictures."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import Manifest
from edge_vae.errors import DataError
from edge_vae.sample import FloatArray
from edge_vae.score import Scores
from edge_vae.stream import Scored, Stream
from edge_vae_train import plots
from edge_vae_train.data import Columns, Recording, Session
from edge_vae_train.judge import mean_absolute_z
from edge_vae_train.metrics import Metrics, ScoredSession, alarm_states, measure
from edge_vae_train.reference import pca_score
from edge_vae_train.scoring import Subject, as_scored_session, nothing_scored, read_for, score_session, unscored

__all__ = ["Evaluation", "Row", "draw", "evaluate"]


@dataclass(frozen=True, slots=True)
class Row:
    """One method on the same windows: its threshold, its sessions, and the figures."""

    method: str
    threshold: float
    sessions: tuple[ScoredSession, ...]
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The model's row first, then the baselines'; and the data, with what the model said of each session."""

    subject: Subject
    names: tuple[str, ...]
    rows: tuple[Row, ...]
    microseconds_per_window: float
    notes: tuple[str, ...]
    recording: Recording
    scored: tuple[Scored, ...]
    stride: int

    def document(self) -> dict[str, object]:
        """All figures as plain numbers."""
        threshold = self.subject.detector.manifest.threshold
        return {
            "model": self.subject.name,
            "model_precision": self.subject.kind,
            "bytes": self.subject.size_bytes,
            "microseconds_per_window": round(self.microseconds_per_window, 2),
            "sessions": len(self.names),
            "false_alarms_per_day_wished": threshold.false_alarms_per_day,
            **asdict(self.rows[0].metrics),
            "threshold": threshold.value,
            "methods": {row.method: {"threshold": row.threshold, **asdict(row.metrics)} for row in self.rows},
        }

    def table(self) -> str:
        """The same for people: one line a method."""
        lines = [f"{'method':<{_METHOD_WIDTH}}" + "".join(f"{title:>{width}}" for title, width, _, _ in _COLUMNS)]
        for row in self.rows:
            cells = (_cell(getattr(row.metrics, name), width, digits) for _, width, name, digits in _COLUMNS)
            lines.append(f"{row.method:<{_METHOD_WIDTH}}" + "".join(cells))
        size = f", {self.subject.size_bytes / 1024:.0f} KiB" if self.subject.size_bytes else ""
        return "\n".join([*lines, self._counts(), f"{self.microseconds_per_window:.1f} microseconds a window{size}"])

    def _counts(self) -> str:
        metrics, threshold = self.rows[0].metrics, self.subject.detector.manifest.threshold
        text = (
            f"{metrics.windows} windows of {len(self.names)} sessions, {metrics.positive_share:.1%} of them anomalous; "
            f"{metrics.events} labelled events. found: events with an alarm; 1st in: sessions whose first alarm is "
            f"raised in an event. Every threshold is fitted on held-out normal data for "
            f"{threshold.false_alarms_per_day:g} false alarms a day, never on these labels."
        )
        return textwrap.fill(text, _WIDTH)


_WIDTH = 98
_METHOD_WIDTH = 16
_COLUMNS = (
    ("ROC-AUC", 9, "roc_auc", 3),
    ("AP", 7, "average_precision", 3),
    ("VUS-PR", 8, "vus_pr", 3),
    ("F1", 7, "f1", 3),
    ("FAR", 7, "far", 3),
    ("MAR", 7, "mar", 3),
    ("found", 7, "event_recall", 2),
    ("1st in", 8, "first_alarm_inside", 2),
    ("delay s", 9, "mean_delay_s", 0),
    ("false/day", 11, "false_alarms_per_day", 1),
)


def _cell(value: float | None, width: int, digits: int) -> str:
    return f"{'-' if value is None else format(value, f'.{digits}f'):>{width}}"


class _Watched:
    """A scorer that also keeps what the baselines say of the very same windows, and how long the model took."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.manifest: Manifest = subject.detector.manifest
        self.baselines: dict[str, list[FloatArray]] = {}
        self.seconds, self.windows = 0.0, 0

    def __call__(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> tuple[Scores, FloatArray]:
        began = time.perf_counter()
        scores = self._subject.detector(scaled, conditions)
        self.seconds += time.perf_counter() - began
        self.windows += len(scaled)
        reference = self._subject.reference
        self.baselines.setdefault("mean|z|", []).append(mean_absolute_z(scaled))
        if "components" in reference:
            self.baselines.setdefault("PCA T2 + Q", []).append(pca_score(reference, scaled))
        return scores

    def take(self) -> dict[str, FloatArray]:
        """What the baselines said since the last call."""
        taken = {name: np.concatenate(pieces) for name, pieces in self.baselines.items()}
        self.baselines = {}
        return taken


def evaluate(subject: Subject, paths: Sequence[Path], columns: Columns, *, stride: int | None) -> Evaluation:
    """The figures of a model and of the baselines on labelled data; labels are only compared with, never fitted on.

    Raises:
        DataError: No file has the label column, or nothing is long enough to be scored.
    """
    watched = _Watched(subject)
    recording = read_for(watched, paths, columns)
    if all(session.labels is None for session in recording.sessions):
        raise DataError(
            "no labels",
            file=str(paths[0]),
            expected=f"a 0/1 column {columns.label!r} in at least one file",
            received="none",
        )
    stream = Stream(watched, stride=stride)
    collected: dict[str, list[ScoredSession]] = {}
    notes, all_scored = list(recording.notes), []
    for session in recording.sessions:
        scored = score_session(stream, session)
        all_scored.append(scored)
        notes += [] if len(scored.rows) else [unscored(session, watched.manifest)]
        for method, score in {subject.kind: scored.score, **watched.take()}.items():
            collected.setdefault(method, []).append(_with_score(session, scored, score))
    if not watched.windows:
        raise nothing_scored(recording, watched.manifest, str(paths[0]))
    rows = tuple(_row(method, tuple(sessions), subject, stride=stride) for method, sessions in collected.items())
    names = tuple(session.name for session in recording.sessions)
    return Evaluation(
        subject,
        names,
        rows,
        watched.seconds / watched.windows * 1e6,
        tuple(notes),
        recording,
        tuple(all_scored),
        stride or watched.manifest.window.stride,
    )


def _with_score(session: Session, scored: Scored, score: FloatArray) -> ScoredSession:
    whole = as_scored_session(session, scored)
    return ScoredSession(rows=whole.rows, score=score, labels=whole.labels, after_break=whole.after_break)


def _row(method: str, sessions: tuple[ScoredSession, ...], subject: Subject, *, stride: int | None) -> Row:
    described = subject.detector.manifest
    fitted: dict[str, NDArray[np.float32] | list[float]] = {
        "mean|z|": subject.reference.get("z_threshold", []),
        "PCA T2 + Q": subject.reference.get("pca_threshold", []),
    }
    threshold = float(fitted[method][0]) if method in fitted else described.threshold.value
    metrics = measure(
        sessions,
        threshold=threshold,
        rules=described.alarm,
        window_length=described.window.length,
        period_s=described.period_s,
        stride=stride or described.window.stride,
    )
    return Row(method, threshold, sessions, metrics)


def draw(evaluation: Evaluation, folder: Path) -> list[Path]:
    """The pictures: precision-recall and ROC (where both classes occur), and scores over time."""
    first = evaluation.rows[0]
    rules = evaluation.subject.detector.manifest.alarm
    drawn = []
    labels = np.concatenate([s.labels[s.rows] for s in first.sessions])
    if labels.any() and not labels.all():
        scores = {row.method: np.concatenate([s.score for s in row.sessions]) for row in evaluation.rows}
        drawn.append(plots.curves(labels, scores, scores[first.method] > first.threshold, folder))
    over_time = [
        (name, s.rows, s.score, alarm_states(s, threshold=first.threshold, rules=rules), s.labels[s.rows])
        for name, s in zip(evaluation.names, first.sessions, strict=True)
    ]
    drawn.append(plots.scores_over_time(over_time, first.threshold, folder))
    return drawn
