"""Ceiling fan: slow and unweighted, with a sensor that moves, is normal; other speeds and a weight are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_vae_train.data import Recording
from quality_protocols.figures import decisions, ranking, recall_at
from quality_protocols.policy import POLICIES
from quality_protocols.task import Benchmark, Figures, Outcome, Points, Task, session

__all__ = ["ANOMALIES", "CEILING_FAN", "NORMAL"]

NORMAL = "fan_0_low_0_weight-moving"
ANOMALIES = (
    "fan_0_med_0_weight", "fan_0_high_0_weight", "fan_0_low_1_weight", "fan_0_med_1_weight", "fan_0_high_1_weight",
)  # fmt: skip
"""The other speeds and weights, as in the set's own example; the fan at rest and the other mounts are left out."""

TEST_SHARE = 0.2
"""The rest, 60/20, goes to training, which holds out its own fifth for early stopping and thresholds."""
FAR = 0.05
_CHANNELS = ("x", "y", "z")


def _load(data: Path, name: str, seed: int) -> Task:
    with np.load(data / "ceiling_fan" / "ceiling_fan.npz") as archive:
        clips, kinds = archive["X"], archive["label"]
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(kinds == NORMAL))
    tested = round(TEST_SHARE * len(normal))
    training, normal_tests = np.sort(normal[tested:]), np.sort(normal[:tested])
    faulty = np.flatnonzero(np.isin(kinds, ANOMALIES))
    policy = POLICIES["fan"]
    sessions = tuple(session(f"clip {i}", clips[i]) for i in training)
    length = clips.shape[1]
    tests = [
        session(f"clip {i}", clips[i], np.full(length, anomalous))
        for indices, anomalous in ((normal_tests, False), (faulty, True))
        for i in indices
    ]
    return Task(name=name, training=Recording(sessions, _CHANNELS, policy.rate_hz), tests=tuple(tests), policy=policy)


def _measure(task: Task, outcome: Outcome) -> Figures:
    points = Points.of(task, outcome)
    recall = recall_at(points.labels, points.scores, far=FAR)
    return ranking(points) | {"recall at FAR 5 %": recall} | decisions(points)


CEILING_FAN = Benchmark(
    name="fan",
    title="ceiling fan, moving sensor",
    tasks=lambda data: ("moving",) if (data / "ceiling_fan").is_dir() else (),
    load=_load,
    measure=_measure,
)
