"""Milling: windows of the steady part of each cut, trained on a healthy tool, to find a failed one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge_vae.sample import FloatArray
from edge_vae_train.data import Recording, Session
from quality_protocols.figures import decisions, ranking
from quality_protocols.policy import POLICIES, Policy
from quality_protocols.task import Benchmark, Figures, Outcome, Points, Task, session

__all__ = ["MILLING_HONEST", "MILLING_PUBLISHED"]

TRAINING_SHARE = 0.6
CHANNELS = ("smcAC", "smcDC", "vib_table", "vib_spindle", "AE_table")
_HEALTHY, _FAILED = 0, 2
_SHALLOW, _CAST_IRON = 0.75, 1

Cut = tuple[FloatArray, pd.Series]
"""Samples (samples, channels) of the steady part, whole windows only, and the row of its labels."""


@lru_cache(maxsize=2)
def _cuts(data: Path, policy: Policy) -> tuple[Cut, ...]:
    with np.load(data / "milling" / "milling_5ch_int16.npz") as archive:
        volts, numbers = archive["X"] * archive["scale"], archive["cut_no"].tolist()
    labels = pd.read_csv(data / "milling" / "labels.csv").set_index("cut_no", drop=False)
    return tuple(_steady(samples, labels.loc[number], policy) for samples, number in zip(volts, numbers, strict=True))


def _steady(samples: FloatArray, label: pd.Series, policy: Policy) -> Cut:
    start, end = int(label["window_start"]), int(label["window_end"])
    return samples[start : end - (end - start) % policy.length], label


def _only(cut: Cut, chosen: NDArray[np.bool_], length: int) -> FloatArray:
    """The cut with only the chosen windows (windows,): the samples of the others are missing, which ends a segment."""
    values: FloatArray = cut[0].copy()
    values[~np.repeat(chosen, length)] = np.nan
    return values


def _published(data: Path, name: str, seed: int) -> Task:
    """A random split of all windows, which puts windows of one cut on both sides."""
    policy = POLICIES["milling-published"]
    cuts = _cuts(data, policy)
    generator = np.random.default_rng(seed)
    counts = [len(values) // policy.length for values, _ in cuts]
    trains = np.split(generator.permutation(sum(counts)) < TRAINING_SHARE * sum(counts), np.cumsum(counts)[:-1])
    healthy = [
        _session(cut, policy, _only(cut, chosen, policy.length), labelled=False)
        for cut, chosen in zip(cuts, trains, strict=True)
        if _is(cut, _HEALTHY) and chosen.any()
    ]
    tested = [(cut, ~chosen) for cut, chosen in zip(cuts, trains, strict=True) if not chosen.all()]
    tests = [_session(cut, policy, _only(cut, chosen, policy.length), labelled=True) for cut, chosen in tested]
    return _task(name, policy, healthy, tests, [cut for cut, _ in tested])


def _honest(data: Path, name: str, seed: int) -> Task:
    """No cut on both sides: 60 % of the healthy cuts of each operating mode train."""
    policy = POLICIES["milling-honest"]
    cuts = _cuts(data, policy)
    generator = np.random.default_rng(seed)
    modes: dict[tuple[float, ...], list[int]] = {}
    for i, cut in enumerate(cuts):
        if _is(cut, _HEALTHY):
            modes.setdefault(tuple(cut[1][list(policy.modes)]), []).append(i)
    trains: set[int] = set()
    for _, members in sorted(modes.items()):
        trains.update(generator.permutation(members)[: max(1, round(TRAINING_SHARE * len(members)))].tolist())
    healthy = [_session(cuts[i], policy, cuts[i][0], labelled=False) for i in sorted(trains)]
    tested = [cut for i, cut in enumerate(cuts) if i not in trains]
    return _task(name, policy, healthy, [_session(cut, policy, cut[0], labelled=True) for cut in tested], tested)


def _is(cut: Cut, tool_class: int) -> bool:
    return bool(cut[1]["tool_class"] == tool_class)


def _session(cut: Cut, policy: Policy, values: FloatArray, *, labelled: bool) -> Session:
    labels = np.full(len(values), _is(cut, _FAILED)) if labelled else None
    modes = np.tile(cut[1][list(policy.modes)].to_numpy(np.float64), (len(values), 1))
    return session(f"cut {int(cut[1]['cut_no'])}", values, labels, modes=modes)


def _task(
    name: str, policy: Policy, healthy: Sequence[Session], tests: Sequence[Session], tested: Sequence[Cut]
) -> Task:
    return Task(
        name=name,
        training=Recording(tuple(healthy), CHANNELS, policy.rate_hz, mode_columns=policy.modes),
        tests=tuple(tests),
        policy=policy,
        groups={
            "shallow": tuple(i for i, cut in enumerate(tested) if cut[1]["DOC"] == _SHALLOW),
            "cast iron": tuple(i for i, cut in enumerate(tested) if cut[1]["material"] == _CAST_IRON),
        },
    )


def _measure(task: Task, outcome: Outcome) -> Figures:
    points = Points.of(task, outcome)
    parts = {
        f"ap {group}": ranking(Points.of(task, outcome, sessions))["ap"] for group, sessions in task.groups.items()
    }
    return ranking(points) | parts | decisions(points)


MILLING_PUBLISHED = Benchmark(
    name="milling-published",
    title="milling, published split (windows of one cut on both sides)",
    tasks=lambda data: ("windows",) if (data / "milling").is_dir() else (),
    load=_published,
    measure=_measure,
)

MILLING_HONEST = Benchmark(
    name="milling-honest",
    title="milling, honest split (no cut on both sides)",
    tasks=lambda data: ("cuts",) if (data / "milling").is_dir() else (),
    load=_honest,
    measure=_measure,
)
