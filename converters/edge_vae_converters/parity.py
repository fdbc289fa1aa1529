"""The converted models beside the trained ones: the table, and the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score

from edge_vae.bundle import ParityRow
from edge_vae.errors import GateError
from edge_vae.sample import FloatArray
from edge_vae.view import Seen
from edge_vae_converters.microcontroller import arena_bytes, is_runnable
from edge_vae_converters.tflite import INT8_SAFE, Converted
from edge_vae_train.judge import Judge

__all__ = [
    "MAX_NOISE",
    "MIN_SPEARMAN",
    "Side",
    "arenas",
    "failures",
    "noise_to_error",
    "rank_correlation",
    "refusal",
    "table",
    "unfit",
]

MIN_SPEARMAN = 0.999
MIN_AGREEMENT = 0.99
MAX_AUC_LOSS = 0.005
MAX_NOISE = 0.02
"""Quantization noise over the normal reconstruction error: beyond it scores of normal windows move."""
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Side:
    """One side: what its models made of the same normal and stress windows, and how it judges them."""

    judge: Judge
    normal: Mapping[str, Seen]
    stress: Mapping[str, Seen]


def table(
    converted: Mapping[str, Converted],
    *,
    normal: NDArray[np.float32],
    stress: NDArray[np.float32],
    trained: Side,
    candidate: Side,
    precisions: Mapping[str, str],
) -> tuple[ParityRow, ...]:
    """The comparison on held-out normal and on stress windows (windows, length, channels), scaled.

    Each side is scored with the terms that were fitted on its own outputs, as it would run. Decisions are compared at
    the threshold that will run, the converted models'; where each takes its own, the noise of fitting two thresholds
    comes on top, which is told beside it. By view, `precisions` says what its model should compute in.
    """
    (n0, s0, t0), (n1, s1, t1) = (
        (side.judge.score(normal, side.normal), side.judge.score(stress, side.stress), side.judge.threshold.value)
        for side in (trained, candidate)
    )
    both0, both1 = np.concatenate([n0, s0]), np.concatenate([n1, s1])
    faulty = np.concatenate([np.zeros(len(n0)), np.ones(len(s0))])
    agreement = float(np.mean((both0 > t1) == (both1 > t1)))
    own = float(np.mean((both0 > t0) == (both1 > t1)))
    auc0, auc1 = float(roc_auc_score(faulty, both0)), float(roc_auc_score(faulty, both1))
    return (
        _at_least("score Spearman, stress and normal windows", rank_correlation(both0, both1), MIN_SPEARMAN),
        _told("score Spearman, normal windows alone", rank_correlation(n0, n1)),
        _at_least("decisions that agree", agreement, MIN_AGREEMENT),
        _told("decisions that agree, own thresholds", own),
        _told("ROC-AUC stress against normal, float", auc0),
        _told("ROC-AUC stress against normal, converted", auc1),
        _at_most("ROC-AUC lost", auc0 - auc1, MAX_AUC_LOSS),
        _told("normal windows above the threshold, float", float(np.mean(trained.judge.held_out > t0))),
        _told("normal windows above the threshold, converted", float(np.mean(candidate.judge.held_out > t1))),
        *(row for view in converted for row in _view_rows(view, converted[view], trained, candidate, precisions[view])),
    )


def _view_rows(view: str, converted: Converted, trained: Side, candidate: Side, precision: str) -> list[ParityRow]:
    unsafe = sum(count for operator, count in converted.operators.items() if operator not in INT8_SAFE)
    noise = noise_to_error(trained.normal[view], candidate.normal[view])
    tensors, limit = float(len(converted.float_tensors)), 0 if precision == "int8" else None
    return [
        _at_most(f"{view}: quantization noise / normal error", noise, MAX_NOISE),
        _at_most(f"{view}: tensors that are neither int8 nor int32", tensors, limit),
        _at_most(f"{view}: operators outside the int8-safe list", float(unsafe), limit),
        _told(f"{view}: model, bytes", float(len(converted.model))),
    ]


def noise_to_error(trained: Seen, candidate: Seen) -> float:
    """Mean square by which a reconstruction of normal windows changed, over the mean square of its error."""
    noise = np.square(candidate.reconstruction - trained.reconstruction).mean()
    error = np.square(trained.target - trained.reconstruction).mean()
    return float(noise / max(error, _TINY))


def arenas(converted: Mapping[str, Converted], precisions: Mapping[str, str]) -> tuple[ParityRow, ...]:
    """What the models, by view, take of a microcontroller's memory; nothing of those that none can run."""
    return tuple(
        _told(f"{view}: TensorFlow Lite Micro arena, bytes", float(arena_bytes(one.model)))
        for view, one in converted.items()
        if is_runnable(precisions[view], one.operators)
    )


def failures(rows: Sequence[ParityRow]) -> list[ParityRow]:
    """The rows that the gate refuses."""
    return [row for row in rows if row.passed is False]


def refusal(what: str, refused: Sequence[ParityRow], *, action: str) -> GateError:
    """The error that says what these rows demand and what was received."""
    return GateError(
        what,
        expected=", ".join(f"{row.measure} {row.limit}" for row in refused),
        received=", ".join(f"{row.value:.4g}" for row in refused),
        action=action,
    )


def unfit(rows: Sequence[ParityRow], views: Sequence[str]) -> dict[str, str]:
    """The views whose own rows fail, and their figures; where scores and decisions alone do, all views."""
    refused = {view: [row for row in failures(rows) if row.measure.startswith(f"{view}: ")] for view in views}
    if not any(refused.values()):
        refused = dict.fromkeys(views, failures(rows))
    return {view: "; ".join(map(_told_of, found)) for view, found in refused.items() if found}


def _told_of(row: ParityRow) -> str:
    return f"{row.measure.rpartition(': ')[2]} {row.value:.4g} where {row.limit} is expected"


def rank_correlation(a: FloatArray, b: FloatArray) -> float:
    """Rank correlation; of scores that are all equal, as where no channel ever varies, 1 if both are, else 0."""
    still = [bool(np.ptp(scores) == 0) for scores in (a, b)]
    if any(still):
        return float(all(still))
    return float(stats.spearmanr(a, b).statistic)


def _told(measure: str, value: float) -> ParityRow:
    return ParityRow(measure, value, "", passed=None)


def _at_least(measure: str, value: float, limit: float) -> ParityRow:
    return ParityRow(measure, value, f">= {limit:g}", passed=value >= limit)


def _at_most(measure: str, value: float, limit: float | None) -> ParityRow:
    if limit is None:
        return _told(measure, value)
    return ParityRow(measure, value, f"<= {limit:g}", passed=value <= limit)
