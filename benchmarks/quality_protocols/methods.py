"""The methods of the table on one task: baselines on scaled windows, and ours as float run and as int8 bundle."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import Manifest
from edge_vae.sample import FloatArray
from edge_vae.score import Scores
from edge_vae.stream import Stream
from edge_vae.window import overlap
from edge_vae_converters.conversion import convert
from edge_vae_train.baselines import BASELINES
from edge_vae_train.calibrate import fit_threshold
from edge_vae_train.prepare import WindowSet, prepare
from edge_vae_train.scoring import score_session, subject
from edge_vae_train.training import train
from quality_protocols.names import FUSED_FLOAT, FUSED_INT8, OURS, TERM_ROW
from quality_protocols.task import Outcome, Task

__all__ = ["Outcomes", "Windows", "outcomes", "windows"]

Outcomes = dict[str, Outcome]


@dataclass(frozen=True, slots=True)
class Windows:
    """What every baseline sees: the very windows that our models see, scaled by the same rules.

    Attributes:
        training: (windows, length, channels), scaled and unclipped, as all others.
        held_out: Blocks of consecutive windows.
        tests: Those of each test session.
        rows: For each test session, (windows,) the row of each window's last sample.
    """

    training: NDArray[np.float32]
    held_out: tuple[NDArray[np.float32], ...]
    tests: tuple[NDArray[np.float32], ...]
    rows: tuple[NDArray[np.int64], ...]


def outcomes(method: str, task: Task, *, seed: int, seen: Callable[[], Windows]) -> Outcomes:
    """The rows that a method gives on a task.

    Args:
        method: One of `METHODS`.
        task: The task.
        seed: Of everything random.
        seen: Gives the task's windows; called for baselines only.
    """
    return _ours(task, seed) if method == OURS else {method: _baseline(method, task, seed, seen())}


def windows(task: Task) -> Windows:
    """The windows of a task: training ones as `train` makes them, test ones as the agent's own stream makes them."""
    policy = task.policy
    prepared = prepare(task.training, length=policy.length, stride=policy.stride, baseline=policy.baseline)
    rows, tests = _seen(task, _without_models(task))
    held_out = tuple(block.windows for block in prepared.held_out)
    return Windows(prepared.training.windows, held_out, tuple(test.windows for test in tests), rows)


def _seen(task: Task, manifest: Manifest) -> tuple[tuple[NDArray[np.int64], ...], list[WindowSet]]:
    """For each test session, the row of each window's last sample, and the windows as the agent's stream makes them."""
    watched = _Watched(manifest)
    stream, rows, tests = Stream(watched, stride=task.policy.score_stride), [], []
    for test in task.tests:
        rows.append(score_session(stream, test).rows)
        tests.append(watched.take())
    return tuple(rows), tests


class _Watched:
    """A scorer that keeps the scaled windows, and their conditions, that it is handed."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self._windows: list[NDArray[np.float32]] = []
        self._conditions: list[NDArray[np.float32]] = []

    def __call__(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> tuple[Scores, FloatArray]:
        self._windows.append(scaled.astype(np.float32))
        self._conditions.append(conditions)
        count, _, channels = scaled.shape
        nothing, terms = np.zeros((count, channels)), len(self.manifest.score)
        return Scores.of(
            np.zeros(count), nothing, np.zeros((count, terms)), np.zeros((count, terms, channels))
        ), nothing

    def take(self) -> WindowSet:
        """What it was handed since the last call."""
        taken = WindowSet(np.concatenate(self._windows), np.concatenate(self._conditions))
        self._windows, self._conditions = [], []
        return taken


def _without_models(task: Task) -> Manifest:
    """The manifest of a run that scores by mean |z| alone: windows are scaled and cut as in every run of this task."""
    settings = task.policy.settings(seed=0)
    alone = msgspec.structs.replace(settings.calibration, score=("z",))
    with TemporaryDirectory(prefix="edge-vae-quality-") as folder:
        run_folder = Path(folder) / "run"
        train(task.training, msgspec.structs.replace(settings, calibration=alone), run_folder, progress=_silent)
        return subject(run_folder).detector.manifest


def _baseline(name: str, task: Task, seed: int, seen: Windows) -> Outcome:
    scorer = BASELINES[name](seen.training, np.concatenate(seen.held_out), seed=seed)
    policy = task.policy
    threshold = fit_threshold(
        [scorer(block) for block in seen.held_out],
        stride_s=policy.stride / policy.rate_hz,
        length=math.ceil(overlap(policy.length, policy.stride)),
        false_alarms_per_day=policy.settings(seed=seed).calibration.false_alarms_per_day,
    )
    scores = np.split(scorer(np.concatenate(seen.tests)), np.cumsum([len(test) for test in seen.tests])[:-1])
    return Outcome(seen.rows, tuple(scores), threshold.value)


def _ours(task: Task, seed: int) -> Outcomes:
    """Trained, converted, written and read again, and scored window by window through the agent's own path."""
    with TemporaryDirectory(prefix="edge-vae-quality-") as folder:
        run_folder, bundle = Path(folder) / "run", Path(folder) / "task.evb"
        run, _ = train(task.training, task.policy.settings(seed=seed), run_folder, progress=_silent)
        convert(run, name=task.name).bundle.write(bundle)
        return {FUSED_FLOAT: _float(task, run_folder)} | _int8(task, bundle)


def _silent(view: str, epoch: int, epochs: int, loss: float, held_out_loss: float) -> None:
    """Progress is told by task."""


def _float(task: Task, run_folder: Path) -> Outcome:
    """The windows of all sessions scored in one call: Keras takes a tenth of a second for a call of any size."""
    detector = subject(run_folder).detector
    rows, tests = _seen(task, detector.manifest)
    every = WindowSet.joined(tests)
    scores = detector(every.windows.astype(np.float64), every.conditions)[0].score
    split = np.split(scores, np.cumsum([len(test) for test in tests])[:-1])
    return Outcome(rows, tuple(split), detector.manifest.threshold.value)


def _int8(task: Task, bundle: Path) -> Outcomes:
    """The fused score as on the device, piece by piece, and each of its terms alone."""
    detector = subject(bundle).detector
    stream = Stream(detector, stride=task.policy.score_stride)
    scored = [score_session(stream, test) for test in task.tests]
    rows = tuple(one.rows for one in scored)
    alone = {
        TERM_ROW.format(term.name): Outcome(rows, tuple(one.terms[:, i] for one in scored), None)
        for i, term in enumerate(detector.manifest.score)
    }
    fused = Outcome(
        rows,
        tuple(one.score for one in scored),
        detector.manifest.threshold.value,
        fell_back=detector.manifest.precision != "int8",
    )
    return {FUSED_INT8: fused} | alone
