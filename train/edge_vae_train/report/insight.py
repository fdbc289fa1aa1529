"""A second pass over evaluated data: what the views saw of every window, and what explains each alarm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import Manifest
from edge_vae.detector import Explainer
from edge_vae.explain import Explanation, explain
from edge_vae.sample import FloatArray
from edge_vae.score import Scores
from edge_vae.stream import Stream
from edge_vae_train.evaluation import Evaluation
from edge_vae_train.explaining import choose
from edge_vae_train.metrics import alarm_states
from edge_vae_train.prepare import WindowSet
from edge_vae_train.run_folder import Run
from edge_vae_train.scoring import score_session
from edge_vae_train.vus import runs

__all__ = ["Alarmed", "Insight", "look", "run_of"]

MAX_ALARMS = 40


@dataclass(frozen=True, slots=True)
class Alarmed:
    """An alarm and its explanation.

    Attributes:
        session: Name of the session.
        row: Last row of the window that raised it.
        score: That window's.
        labelled: Whether the row is labelled.
        shares: (channels,) each channel's part in it.
        values: (channels,) mean of the window, in sensor units.
        expected: (channels,) mean of what was expected.
    """

    session: str
    row: int
    score: float
    labelled: bool
    shares: FloatArray
    values: FloatArray
    expected: FloatArray


@dataclass(frozen=True, slots=True)
class Insight:
    """What the second pass found, windows of all sessions in order.

    Attributes:
        means: (windows, latent) posterior means of each view that has a model.
        last: Scaled last sample (windows, channels) of each session's windows.
        labels: (windows,) labels of the windows' last rows.
        conditions: (windows, conditions) of the operating mode.
        explanation: How alarms are explained.
        alarms: The first `MAX_ALARMS`.
        all_alarms: How many there are.
    """

    means: Mapping[str, FloatArray]
    last: tuple[FloatArray, ...]
    labels: NDArray[np.bool_]
    conditions: NDArray[np.float32]
    explanation: Explanation
    alarms: tuple[Alarmed, ...]
    all_alarms: int


def run_of(evaluation: Evaluation) -> Run | None:
    """The run folder that was evaluated; None for a bundle."""
    path = Path(evaluation.subject.name)
    return Run.read(path) if path.is_dir() else None


def look(evaluation: Evaluation, run: Run | None) -> Insight:
    """What the views saw of every window, and the explanation of the first alarms.

    A bundle brings its way of explaining along; for a run it is chosen here as a conversion would.
    """
    detector, row = evaluation.subject.detector, evaluation.rows[0]
    explanation = detector.manifest.explanation
    if run is not None:
        explanation = choose(detector, WindowSet.joined(run.held_out), seed=run.record.settings.training.seed)
    states = [alarm_states(session, threshold=row.threshold, rules=detector.manifest.alarm) for session in row.sessions]
    raised = [(i, int(at)) for i, one in enumerate(states) for at in runs(one)[:, 0]]
    wanted = set(islice(raised, MAX_ALARMS))
    alarms, last = [], []
    sight = _Sight(detector, explanation)
    stream = Stream(sight, stride=evaluation.stride)
    for i, session in enumerate(evaluation.recording.sessions):
        sight.start({at for one, at in wanted if one == i})
        scored = score_session(stream, session)
        last.append(sight.last())
        first, judged = evaluation.scored[i], row.sessions[i]
        alarms += [
            Alarmed(
                session.name, int(first.rows[at]), float(first.score[at]), bool(judged.window_labels[at]),
                scored.shares[at], scored.values[at], scored.expected[at],
            )
            for one, at in sorted(wanted) if one == i
        ]  # fmt: skip
    labels = np.concatenate([session.window_labels for session in row.sessions])
    return Insight(
        sight.means(), tuple(last), labels, np.concatenate(sight.conditions), explanation, tuple(alarms), len(raised)
    )


class _Sight:
    """A scorer that keeps what it saw, and explains the windows that are asked for instead of scoring."""

    def __init__(self, detector: Explainer, explanation: Explanation) -> None:
        self._detector, self._explanation = detector, explanation
        self.manifest: Manifest = detector.manifest
        self.conditions: list[NDArray[np.float32]] = []
        self._means: dict[str, list[FloatArray]] = {}
        self.start(set())

    def start(self, wanted: set[int]) -> None:
        """Begin a session, of which the windows with these numbers are explained."""
        self._wanted, self._at = wanted, 0
        self._last: list[FloatArray] = [np.empty((0, len(self.manifest.channels)))]

    def last(self) -> FloatArray:
        """The session's scaled last samples."""
        return np.concatenate(self._last)

    def means(self) -> dict[str, FloatArray]:
        """The posterior means of each view that has some."""
        joined = {view: np.concatenate(pieces) for view, pieces in self._means.items()}
        return {view: mean for view, mean in joined.items() if mean.shape[1]}

    def __call__(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> tuple[Scores, FloatArray]:
        for view, seen in self._detector.see(scaled, conditions).items():
            self._means.setdefault(view, []).append(seen.mean)
        self.conditions.append(conditions)
        self._last.append(scaled[:, -1])
        count, channels = len(scaled), scaled.shape[2]
        shares, expected = np.zeros((count, channels)), np.zeros((count, channels))
        chosen = np.array([i for i in range(count) if self._at + i in self._wanted], np.intp)
        self._at += count
        if len(chosen):
            explained = explain(self._detector, scaled[chosen], conditions[chosen], self._explanation)
            shares[chosen], expected[chosen] = explained.shares, explained.expected
        terms = len(self.manifest.score)
        return Scores.of(
            np.zeros(count), shares, np.zeros((count, terms)), np.zeros((count, terms, channels))
        ), expected
