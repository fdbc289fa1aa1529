"""Tennessee Eastman process: trained on d00, limits from d00_te, and the share of faulty rows above them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_vae_train.data import Recording
from quality_protocols.figures import decisions, limit, mean, ranking
from quality_protocols.policy import POLICIES
from quality_protocols.task import Benchmark, Figures, Outcome, Points, Task, session

__all__ = ["FAULT_ROW", "TEP"]

FAULT_ROW = 160
FAR = 0.01
_FAULTS = range(1, 22)
_HIDDEN = (3, 9, 15)
"""Faults that hardly change the process; published means are given with and without them."""


def _load(data: Path, name: str, seed: int) -> Task:  # noqa: ARG001 (the split is not random)
    with np.load(data / "tep" / "tep.npz") as archive:
        normal, test = archive["d00"], archive["d00_te"]
        faulty = [archive[f"d{fault:02}_te"] for fault in _FAULTS]
    channels = tuple([f"xmeas_{i}" for i in range(1, 42)] + [f"xmv_{i}" for i in range(1, 12)])
    policy = POLICIES["tep"]
    labels = np.arange(len(test)) >= FAULT_ROW
    faults = [session(f"d{i:02}_te", values, labels) for i, values in zip(_FAULTS, faulty, strict=True)]
    return Task(
        name=name,
        training=Recording((session("d00", normal),), channels, policy.rate_hz),
        tests=(session("d00_te", test, np.zeros(len(test), np.bool_)), *faults),
        policy=policy,
    )


def _measure(task: Task, outcome: Outcome) -> Figures:
    allowed = limit(outcome.scores[0], rate=FAR)
    rates = {
        fault: float((outcome.scores[fault][outcome.rows[fault] >= FAULT_ROW] > allowed).mean()) for fault in _FAULTS
    }
    against_normal = [ranking(Points.of(task, outcome, [0, fault])) for fault in _FAULTS]
    return {
        "FDR 21": float(np.mean(list(rates.values()))),
        "FDR 18": float(np.mean([rate for fault, rate in rates.items() if fault not in _HIDDEN])),
        **mean(against_normal),
        **decisions(Points.of(task, outcome)),
    }


TEP = Benchmark(
    name="tep",
    title="TEP, limits at 1 % of d00_te; ROC-AUC and AP are means over the faults",
    tasks=lambda data: ("d00",) if (data / "tep").is_dir() else (),
    load=_load,
    measure=_measure,
)
