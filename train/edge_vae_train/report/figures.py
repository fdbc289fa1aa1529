"""The figures that a verdict rests on, from an evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from edge_vae.sample import FloatArray
from edge_vae.score import needs_model
from edge_vae_train.evaluation import Evaluation, Row
from edge_vae_train.report.verdict import Figures

__all__ = ["Alone", "alone", "figures", "labels_of", "scores_of"]

_SIMPLE_TERMS = {
    "pca": "PCA of lag vectors (term pca)",
    "features.level": "distance of the levels (term features.level)",
    "features.mahalanobis": "distance of the features (term features.mahalanobis)",
    "features.student": "distance of the features (term features.student)",
}
"""Terms that need no trained network; `z` is the baseline mean |z| once more."""


@dataclass(frozen=True, slots=True)
class Alone:
    """How well one term of the score ranks the windows by itself; None where they are of one class."""

    name: str
    roc_auc: float | None
    average_precision: float | None
    part: float


def labels_of(row: Row) -> NDArray[np.bool_]:
    """(windows,) labels of all windows."""
    return np.concatenate([session.window_labels for session in row.sessions])


def scores_of(row: Row) -> FloatArray:
    """(windows,) scores of all windows."""
    return np.concatenate([session.score for session in row.sessions])


def alone(evaluation: Evaluation) -> tuple[Alone, ...]:
    """Each term by itself, and its part in the scores of labelled windows, or of all where none is."""
    labels = labels_of(evaluation.rows[0])
    terms = np.concatenate([scored.terms for scored in evaluation.scored])
    ranked = bool(labels.any() and not labels.all())
    shown = terms[labels] if labels.any() else terms
    parts = shown.sum(axis=0) / max(float(shown.sum()), np.finfo(np.float64).tiny)
    return tuple(
        Alone(
            term.name,
            float(roc_auc_score(labels, terms[:, i])) if ranked else None,
            float(average_precision_score(labels, terms[:, i])) if ranked else None,
            float(parts[i]),
        )
        for i, term in enumerate(evaluation.subject.detector.manifest.score)
    )


def figures(evaluation: Evaluation, terms: tuple[Alone, ...]) -> Figures:
    """What the verdict rests on."""
    row, *baselines = evaluation.rows
    metrics, manifest = row.metrics, evaluation.subject.detector.manifest
    networks = [term for term in terms if needs_model(term.name)] if len(terms) > 1 else []
    simple = {b.method: b.metrics.roc_auc for b in baselines}
    simple |= {_SIMPLE_TERMS[term.name]: term.roc_auc for term in terms if term.name in _SIMPLE_TERMS}
    best_f1, best_threshold = _best(labels_of(row), scores_of(row))
    return Figures(
        roc_auc=metrics.roc_auc,
        average_precision=metrics.average_precision,
        positive_share=metrics.positive_share,
        simple={name: auc for name, auc in simple.items() if auc is not None},
        terms={term.name: term.roc_auc for term in networks if term.roc_auc is not None},
        events=metrics.events,
        found=round((metrics.event_recall or 0.0) * metrics.events),
        threshold=row.threshold,
        f1=metrics.f1,
        far=metrics.far,
        mar=metrics.mar,
        best_f1=best_f1,
        best_threshold=best_threshold,
        false_alarms=metrics.false_alarms,
        normal_days=metrics.normal_days,
        wished_per_day=manifest.threshold.false_alarms_per_day,
        silent_views=tuple(name for name, fit in manifest.training.fits.items() if not fit.active_units),
    )


def _best(labels: NDArray[np.bool_], scores: FloatArray) -> tuple[float | None, float | None]:
    """The highest F1 that any threshold gives, and that threshold."""
    if not labels.any() or labels.all():
        return None, None
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
    best = int(f1[:-1].argmax())
    return float(f1[best]), float(thresholds[best])
