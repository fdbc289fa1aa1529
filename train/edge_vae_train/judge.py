"""One model's outputs on held-out windows to all that judges its windows: score terms, threshold, manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vae.alarm import AlarmRules
from edge_vae.bundle import FORMAT, Manifest, WindowShape
from edge_vae.runtime import Outputs
from edge_vae.sample import FloatArray
from edge_vae.score import STATISTICS, Term, fit_terms, fuse
from edge_vae.threshold import Threshold
from edge_vae_train.calibrate import fit_threshold
from edge_vae_train.reference import pca_score
from edge_vae_train.run_folder import Run

__all__ = ["Judge", "KerasRuntime", "judge", "manifest", "mean_absolute_z", "reference_thresholds"]


@dataclass(frozen=True, slots=True)
class Judge:
    """How one model scores and decides, fitted on its own outputs."""

    terms: Sequence[Term]
    threshold: Threshold

    def score(self, windows: NDArray[np.float32], reconstruction: NDArray[np.float32]) -> FloatArray:
        """Scores (windows,) of scaled windows and their reconstructions, both (windows, length, channels)."""
        return fuse(self.terms, windows.astype(np.float64), reconstruction.astype(np.float64)).score


class KerasRuntime:
    """The trained float model behind the device's `Runtime` contract."""

    name = "keras"

    def __init__(self, graph: Any) -> None:
        self._graph = graph

    def __call__(self, windows: NDArray[np.float32]) -> Outputs:
        """Outputs for scaled and clipped windows (windows, length, channels)."""
        if not len(windows):
            return {"reconstruction": windows}
        outputs = self._graph.predict(windows, verbose=0, batch_size=512)
        return {name: np.asarray(output) for name, output in outputs.items()}


def judge(run: Run, reconstruction: NDArray[np.float32], false_alarms_per_day: float) -> Judge:
    """Terms and threshold from one model's reconstructions (windows, length, channels) of all held-out windows."""
    record = run.record
    normal = np.concatenate(run.held_out).astype(np.float64)
    outputs = reconstruction.astype(np.float64)
    terms = fit_terms(record.settings.calibration.score, normal, outputs, variance=np.array(record.variance))
    return Judge(terms, _threshold(run, fuse(terms, normal, outputs).score, false_alarms_per_day))


def manifest(run: Run, judged: Judge, *, name: str) -> Manifest:
    """The manifest of a run without a converted model."""
    record = run.record
    return Manifest(
        format=FORMAT,
        name=name,
        version=int(datetime.fromisoformat(record.created.replace("Z", "+00:00")).timestamp()),
        created=record.created,
        channels=record.channels,
        rate_hz=record.rate_hz,
        window=WindowShape(record.settings.window.length, record.settings.window.stride),
        clip=record.clip,
        baseline=record.settings.baseline.samples,
        models=(),
        score=tuple(judged.terms),
        threshold=judged.threshold,
        alarm=AlarmRules(),
        training=record.training,
        calibration="",
        parity=(),
    )


def mean_absolute_z(windows: FloatArray) -> FloatArray:
    """The mean |z| of each scaled window (windows, length, channels): the detector without a model."""
    return np.asarray(STATISTICS["z"](windows, windows, np.ones(1)).mean(axis=1))


def reference_thresholds(run: Run, false_alarms_per_day: float) -> dict[str, NDArray[np.float32]]:
    """Thresholds of the baselines for the same wish and held-out blocks: `z_threshold` and `pca_threshold`."""
    normal = np.concatenate(run.held_out).astype(np.float64)
    thresholds = {"z_threshold": _threshold(run, mean_absolute_z(normal), false_alarms_per_day).value}
    if run.reference:
        thresholds["pca_threshold"] = _threshold(run, pca_score(run.reference, normal), false_alarms_per_day).value
    return {name: np.array([value], np.float32) for name, value in thresholds.items()}


def _threshold(run: Run, scores: FloatArray, false_alarms_per_day: float) -> Threshold:
    window = run.record.settings.window
    return fit_threshold(
        np.split(scores, np.cumsum([len(block) for block in run.held_out])[:-1]),
        stride_s=window.stride / run.record.rate_hz,
        length=-(-window.length // window.stride),
        false_alarms_per_day=false_alarms_per_day,
    )
