"""Which way of explaining a window suits a model: tried on synthetic faults of a single channel."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.detector import Detector
from edge_vae.explain import METHODS, Explanation, explain, log_errors
from edge_vae.faults import FAULTS, inject
from edge_vae.view import to_rows
from edge_vae_train.prepare import WindowSet

__all__ = ["EXPLAINED_FAULTS", "choose", "single_channel_faults"]

SEVERITIES = (2.0, 4.0)
"""In sigmas: what an operator should not need to search for."""
EXPLAINED_FAULTS = tuple(sorted(set(FAULTS) - {"stuck"}))
"""A stuck channel is a sensor fault, found before the model and not by it."""
_MAX_FAULTS = 300
_MAX_IMPUTATIONS = 4000
"""A fault costs one imputation for each channel."""
_SPREAD_FLOOR = 0.05


def choose(detector: Detector, normal: WindowSet, *, seed: int) -> Explanation:
    """The method that most often puts the faulty channel of a synthetic fault first, and how often each does."""
    channels = normal.windows.shape[2]
    seen = detector.see(normal.windows.astype(np.float64), normal.conditions)
    if channels == 1 or not seen:
        return Explanation("share", (), (), {})
    errors = log_errors(seen)
    explanation = Explanation(
        "share",
        to_rows(errors.mean(axis=0)),
        to_rows(np.maximum(errors.std(axis=0), _SPREAD_FLOOR)),
        {},
    )
    faulty, channel = single_channel_faults(normal, count=min(_MAX_FAULTS, _MAX_IMPUTATIONS // channels), seed=seed)
    hits = {}
    for method in METHODS:
        tried = msgspec.structs.replace(explanation, method=method)
        found = explain(detector, faulty.windows.astype(np.float64), faulty.conditions, tried).shares.argmax(axis=1)
        hits[method] = float(np.mean(found == channel))
    best = max(METHODS, key=lambda method: hits[method])
    return msgspec.structs.replace(explanation, method=best, hits=hits)


def single_channel_faults(normal: WindowSet, *, count: int, seed: int) -> tuple[WindowSet, NDArray[np.intp]]:
    """`count` windows with one fault of `SEVERITIES` on one channel, and the channels (windows,)."""
    generator = np.random.default_rng(seed)
    chosen = normal[generator.integers(0, len(normal), count)]
    channels = generator.integers(0, normal.windows.shape[2], count)
    faulty = [
        inject(
            window.astype(np.float64),
            fault=EXPLAINED_FAULTS[generator.integers(len(EXPLAINED_FAULTS))],
            channels=np.arange(normal.windows.shape[2]) == channel,
            severity=float(generator.uniform(*SEVERITIES)),
            generator=generator,
        )
        for window, channel in zip(chosen.windows, channels, strict=True)
    ]
    return WindowSet(np.array(faulty, np.float32), chosen.conditions), channels
