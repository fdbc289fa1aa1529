"""Figures of scored points. No point adjustment anywhere: each point is found or missed on its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from edge_vae.sample import FloatArray
from edge_vae_train.vus import vus_pr
from quality_protocols.task import Figures, Points

__all__ = ["decisions", "limit", "mean", "period", "ranking", "recall_at", "volume"]

_LONGEST_SERIES = 20_000
_LAGS = 400
_FIRST_LAG = 3
_LONGEST_PERIOD = 300
NO_PERIOD = 125
"""The buffer that the leaderboard gives a series without a period."""


def ranking(points: Points) -> Figures:
    """ROC-AUC, and average precision as a sum of steps."""
    return {
        "roc_auc": float(roc_auc_score(points.labels, points.scores)),
        "ap": float(average_precision_score(points.labels, points.scores)),
    }


def decisions(points: Points) -> Figures:
    """F1, FAR (share of normal points above the threshold) and MAR (share of anomalous ones not above it)."""
    if points.above is None:
        return {"f1": None, "far": None, "mar": None}
    hits, positives, found = int((points.above & points.labels).sum()), int(points.labels.sum()), points.above.sum()
    return {
        "f1": float(2 * hits / (found + positives)),
        "far": float((found - hits) / (len(points.labels) - positives)),
        "mar": float(1 - hits / positives),
    }


def volume(points: Points, *, max_buffer: int) -> Figures:
    """VUS-PR, with buffers of up to `max_buffer` points in all around each labelled range."""
    return {"vus_pr": vus_pr(points.labels, points.scores, max_buffer=max_buffer, joints=points.joints)}


def limit(normal: FloatArray, *, rate: float) -> float:
    """The lowest of these scores that at most a share `rate` of them exceeds."""
    ordered = np.sort(normal)
    return float(ordered[len(ordered) - 1 - int(rate * len(ordered))])


def recall_at(labels: NDArray[np.bool_], scores: FloatArray, *, far: float) -> float:
    """Share of the anomalous points above the limit that at most a share `far` of the normal ones exceeds."""
    return float((scores[labels] > limit(scores[~labels], rate=far)).mean())


def mean(figures: Sequence[Figures]) -> Figures:
    """The mean of each figure over those that have it; None where none does."""
    names = dict.fromkeys(name for one in figures for name in one)
    known = {name: [v for one in figures if (v := one.get(name)) is not None] for name in names}
    return {name: float(np.mean(values)) if values else None for name, values in known.items()}


def period(series: FloatArray) -> int:
    """The period of a series (samples,), which bounds the buffer of its VUS-PR as in the TSB-AD leaderboard.

    It is the lag of the highest local maximum of the autocorrelation; `NO_PERIOD` without one (Liu and Paparrizos, "The
    Elephant in the Room", NeurIPS 2024, whose figures are the ones to beat).
    """
    centred = series[:_LONGEST_SERIES] - series[:_LONGEST_SERIES].mean()
    if not centred.any():
        return NO_PERIOD
    power = np.abs(np.fft.rfft(centred, 2 * len(centred))) ** 2
    correlation = np.fft.irfft(power)[: _LAGS + 1][_FIRST_LAG:]
    peaks = 1 + np.flatnonzero((correlation[1:-1] > correlation[:-2]) & (correlation[1:-1] > correlation[2:]))
    if not len(peaks):
        return NO_PERIOD
    highest = int(peaks[np.argmax(correlation[peaks])])
    return highest + _FIRST_LAG if _FIRST_LAG <= highest <= _LONGEST_PERIOD else NO_PERIOD
