"""What the views made of held-out windows to all that judges windows: score terms, threshold, manifest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from edge_vae.alarm import AlarmRules
from edge_vae.bundle import FORMAT, PCA_VIEW, Manifest, WindowShape
from edge_vae.explain import Explanation
from edge_vae.principal import PrincipalRuntime
from edge_vae.runtime import Runtime
from edge_vae.sample import FloatArray
from edge_vae.score import Term, fit_terms, fuse, statistic_of
from edge_vae.threshold import Threshold
from edge_vae.view import Seen, see
from edge_vae.window import overlap
from edge_vae_train.calibrate import fit_threshold
from edge_vae_train.keras_runtime import KerasRuntime
from edge_vae_train.prepare import WindowSet
from edge_vae_train.reference import pca_score
from edge_vae_train.run_folder import Run

__all__ = [
    "Judge",
    "judge",
    "keras_runtimes",
    "manifest",
    "mean_absolute_z",
    "principal_runtime",
    "reference_thresholds",
    "seen_by",
]


@dataclass(frozen=True, slots=True)
class Judge:
    """How models score and decide, fitted on their own outputs, and the scores (windows,) of the held-out windows."""

    terms: Sequence[Term]
    threshold: Threshold
    held_out: FloatArray

    def score(self, windows: NDArray[np.float32], seen: Mapping[str, Seen]) -> FloatArray:
        """Scores (windows,) of scaled windows (windows, length, channels) and what the views made of them."""
        return fuse(self.terms, windows.astype(np.float64), seen).score


def keras_runtimes(run: Run) -> dict[str, KerasRuntime]:
    """The trained Keras model of each view that has one."""
    return {view: KerasRuntime(run.graph(view)) for view in run.record.training.fits}


def principal_runtime(run: Run) -> dict[str, Runtime]:
    """The PCA of a run, where its score has one."""
    wanted = any(view.name == PCA_VIEW for view in run.record.views)
    return {PCA_VIEW: PrincipalRuntime(run.reference)} if wanted else {}


def seen_by(run: Run, runtimes: Mapping[str, Runtime], windows: WindowSet) -> dict[str, Seen]:
    """What each view of a run makes of windows, with these models and the PCA."""
    return see(
        run.record.views,
        {**runtimes, **principal_runtime(run)},
        windows.windows.astype(np.float64),
        clip=run.record.clip,
        conditions=windows.conditions,
    )


def judge(run: Run, seen: Mapping[str, Seen], false_alarms_per_day: float) -> Judge:
    """Terms and threshold from what the views made of all held-out windows."""
    normal = WindowSet.joined(run.held_out).windows.astype(np.float64)
    known = {name: statistic.astype(np.float64) for name, statistic in run.known.items()}
    window = run.record.settings.window
    terms, scores = fit_terms(
        run.record.terms, normal, seen, known=known, overlap=overlap(window.length, window.stride)
    )
    return Judge(terms, _threshold(run, scores, false_alarms_per_day, terms=len(terms)), scores)


def manifest(run: Run, judged: Judge, *, name: str) -> Manifest:
    """The manifest of a run without converted models; its windows are explained by share."""
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
        modes=record.modes,
        views=record.views,
        graph=None,
        score=tuple(judged.terms),
        threshold=judged.threshold,
        explanation=Explanation("share", (), (), {}),
        alarm=AlarmRules(),
        training=record.training,
        calibration="",
        parity=(),
    )


def mean_absolute_z(windows: FloatArray) -> FloatArray:
    """The mean |z| of each scaled window (windows, length, channels): the detector without a model."""
    return statistic_of(Term("z"), windows, {})


def reference_thresholds(run: Run, false_alarms_per_day: float) -> dict[str, NDArray[np.float32]]:
    """Thresholds of the baselines for the same wish and held-out blocks: `z_threshold` and `pca_threshold`."""
    normal = WindowSet.joined(run.held_out).windows.astype(np.float64)
    thresholds = {"z_threshold": _threshold(run, mean_absolute_z(normal), false_alarms_per_day).value}
    if "components" in run.reference:
        thresholds["pca_threshold"] = _threshold(run, pca_score(run.reference, normal), false_alarms_per_day).value
    return {name: np.array([value], np.float32) for name, value in thresholds.items()}


def _threshold(run: Run, scores: FloatArray, false_alarms_per_day: float, *, terms: int = 0) -> Threshold:
    window = run.record.settings.window
    return fit_threshold(
        np.split(scores, np.cumsum([len(block) for block in run.held_out])[:-1]),
        stride_s=window.stride / run.record.rate_hz,
        length=math.ceil(overlap(window.length, window.stride)),
        false_alarms_per_day=false_alarms_per_day,
        terms=terms,
    )
