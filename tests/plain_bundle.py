"""A bundle without any model: one channel, scored by its level alone, so that tests choose every score."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_vae.alarm import AlarmRules
from edge_vae.bundle import FORMAT, Bundle, Channel, Manifest, Training, WindowShape
from edge_vae.detector import Detector
from edge_vae.explain import Explanation
from edge_vae.score import Tail, Term
from edge_vae.threshold import Threshold
from edge_vae.view import LIMIT_SIGMA

__all__ = ["level_of", "plain_bundle", "plain_manifest", "plain_threshold", "write_plain_bundle"]

STEEP = Tail(0.0, 1e-3)
"""Normal levels are 1: a little more is a high score."""


def plain_threshold(**changes: Any) -> Threshold:
    """One that 150 peaks a day pass on their way to one false alarm: start 3, value 8, exponential."""
    threshold = Threshold(
        value=8.0, kind="pareto", false_alarms_per_day=1.0, start=3.0, shape=0.0, scale=1.0,
        peaks_per_day=math.exp(5.0), peaks=100, observed_days=1.0, blocks=4, low=7.0, high=9.0,
    )  # fmt: skip
    return msgspec.structs.replace(threshold, **changes)


def plain_manifest(**changes: Any) -> Manifest:
    """Windows of four samples, ten samples a second, no baseline."""
    manifest = Manifest(
        format=FORMAT, name="plain", version=1, created="", channels=(Channel("level", 0.0, 1.0),), rate_hz=10.0,
        window=WindowShape(4, 1), clip=8.0, baseline=0, modes=None, views=(),
        graph=None, score=(Term("z", STEEP),),
        threshold=plain_threshold(start=1.5, value=4.0, scale=0.5),
        explanation=Explanation("share", (), (), {}), alarm=AlarmRules(),
        training=Training(seed=1, sessions=1, samples=1, windows=1, held_out_windows=1, fits={}), calibration="",
        parity=(),
    )  # fmt: skip
    return msgspec.structs.replace(manifest, **changes)


def plain_bundle(**changes: Any) -> Bundle:
    """A whole bundle around it."""
    manifest = plain_manifest(**changes)
    windows = np.ones((1, manifest.window.length, 1), np.float32)
    conditions = np.zeros((1, manifest.conditions), np.float32)
    score = Detector(manifest, {})(windows.astype(np.float64), conditions)[0].score.astype(np.float32)
    return Bundle(manifest, {}, {"windows": windows, "conditions": conditions, "score": score}, {})


def write_plain_bundle(path: Path, **changes: Any) -> Path:
    """The same, as a file."""
    plain_bundle(**changes).write(path)
    return path


@functools.cache
def level_of(score: float) -> float:
    """The level that gives this score, found by halving: how a score is made is not for these tests to know."""
    detector, no_mode = Detector(plain_manifest(), {}), np.zeros((1, 0), np.float32)
    low, high = math.log(0.1), math.log(LIMIT_SIGMA)
    for _ in range(60):
        middle = (low + high) / 2
        reached = detector(np.full((1, 4, 1), math.exp(middle)), no_mode)[0].score[0]
        low, high = (middle, high) if reached < score else (low, middle)
    return math.exp(low)
