"""The converted model beside the trained one: the table, and the gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score

from edge_vae.bundle import ParityRow
from edge_vae.sample import FloatArray
from edge_vae_converters.tflite import INT8_SAFE, Converted
from edge_vae_train.judge import Judge

__all__ = ["Outputs", "failures", "table"]

MIN_SPEARMAN = 0.999
MIN_AGREEMENT = 0.99
MAX_AUC_LOSS = 0.005
MAX_NOISE = 0.02
"""Quantization noise over the normal reconstruction error: beyond it scores of normal windows move."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Reconstructions (windows, length, channels) of the same normal and stress windows by one model."""

    normal: NDArray[np.float32]
    stress: NDArray[np.float32]


def table(
    converted: Converted,
    *,
    normal: NDArray[np.float32],
    stress: NDArray[np.float32],
    trained: tuple[Judge, Outputs],
    candidate: tuple[Judge, Outputs],
    integer_only: bool,
) -> tuple[ParityRow, ...]:
    """The comparison on held-out normal and on stress windows (windows, length, channels), scaled.

    Each model is scored with the terms that were fitted on its own outputs, as it would run. Decisions are compared at
    the threshold that will run, the converted model's; where each takes its own, the noise of fitting two thresholds
    comes on top, which is told beside it.
    """
    scores = [
        (judge.score(normal, out.normal), judge.score(stress, out.stress), judge.threshold.value)
        for judge, out in (trained, candidate)
    ]
    (n0, s0, t0), (n1, s1, t1) = scores
    both0, both1 = np.concatenate([n0, s0]), np.concatenate([n1, s1])
    faulty = np.concatenate([np.zeros(len(n0)), np.ones(len(s0))])
    agreement = float(np.mean((both0 > t1) == (both1 > t1)))
    own = float(np.mean((both0 > t0) == (both1 > t1)))
    auc0, auc1 = float(roc_auc_score(faulty, both0)), float(roc_auc_score(faulty, both1))
    noise = float(
        np.square(candidate[1].normal - trained[1].normal).mean() / np.square(normal - trained[1].normal).mean()
    )
    unsafe = sum(count for name, count in converted.operators.items() if name not in INT8_SAFE)
    return (
        _at_least("score Spearman, stress and normal windows", _spearman(both0, both1), MIN_SPEARMAN),
        _told("score Spearman, normal windows alone", _spearman(n0, n1)),
        _at_least("decisions that agree", agreement, MIN_AGREEMENT),
        _told("decisions that agree, own thresholds", own),
        _told("ROC-AUC stress against normal, float", auc0),
        _told("ROC-AUC stress against normal, converted", auc1),
        _at_most("ROC-AUC lost", auc0 - auc1, MAX_AUC_LOSS),
        _at_most("quantization noise / normal error", noise, MAX_NOISE),
        _told("normal windows above the threshold, float", float(np.mean(n0 > t0))),
        _told("normal windows above the threshold, converted", float(np.mean(n1 > t1))),
        _at_most(
            "tensors that are neither int8 nor int32", float(len(converted.float_tensors)), 0 if integer_only else None
        ),
        _at_most("operators outside the int8-safe list", float(unsafe), 0 if integer_only else None),
        _told("model, bytes", float(len(converted.model))),
    )


def failures(rows: Sequence[ParityRow]) -> list[ParityRow]:
    """The rows that the gate refuses."""
    return [row for row in rows if row.passed is False]


def _spearman(a: FloatArray, b: FloatArray) -> float:
    return float(stats.spearmanr(a, b).statistic)


def _told(measure: str, value: float) -> ParityRow:
    return ParityRow(measure, value, "", passed=None)


def _at_least(measure: str, value: float, limit: float) -> ParityRow:
    return ParityRow(measure, value, f">= {limit:g}", passed=value >= limit)


def _at_most(measure: str, value: float, limit: float | None) -> ParityRow:
    if limit is None:
        return _told(measure, value)
    return ParityRow(measure, value, f"<= {limit:g}", passed=value <= limit)
