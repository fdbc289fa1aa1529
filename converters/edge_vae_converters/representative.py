"""The representative data set: what the quantizer sees decides which activations int8 can represent."""

from __future__ import annotations

import numpy as np

from edge_vae.faults import stress
from edge_vae_train.prepare import WindowSet

__all__ = ["CALIBRATIONS", "faulty", "representative"]

CALIBRATIONS = ("stress", "normal")

MAX_GAIN = 4.0
"""Largest gain of amplified windows. Without them the latents of worn milling tools saturate: average precision of
`window.max` 0.62 in int8 and 0.71 in float; with them 0.71 in both (docs/decisions/0011)."""

CALIBRATION_SEVERITY = 0.5
"""Largest severity that the quantizer sees, in clips. Beyond it ranges grow and steps get coarser for nothing: on SKAB,
five seeds, the noise of the worst channel falls from 0.06-0.16 of its variance at 1.0 to 0.02-0.05, and the scores of
faults out to the full clip, which the gate looks at, rank better too (Spearman 0.9975-0.9995 at 1.0, 0.9994-0.9998 at
0.5)."""


def representative(windows: WindowSet, *, calibration: str, clip: float, seed: int) -> WindowSet:
    """Windows for the quantizer, within the clip.

    Args:
        windows: Normal training windows.
        calibration: `stress`: the normal windows, as many faulty ones, and as many amplified ones. `normal`: the normal
            windows alone, which leaves activations outside the normal range saturated: to show the difference.
        clip: Ends of the input range.
        seed: What the faults are drawn with.
    """
    normal = WindowSet(np.clip(windows.windows, -clip, clip), windows.conditions)
    if calibration == "normal":
        return normal
    severity = CALIBRATION_SEVERITY * clip
    stressed = faulty(windows, count=len(windows), severity=severity, clip=clip, seed=seed)
    return WindowSet.joined([normal, stressed, _amplified(windows, clip=clip, seed=seed)])


def _amplified(windows: WindowSet, *, clip: float, seed: int) -> WindowSet:
    """The windows with all channels grown alike, as by wear: no fault of single channels drives a latent so far."""
    gains = np.random.default_rng(seed).uniform(1.0, MAX_GAIN, (len(windows), 1, 1))
    return WindowSet(np.clip(windows.windows * gains, -clip, clip).astype(np.float32), windows.conditions)


def faulty(windows: WindowSet, *, count: int, severity: float, clip: float, seed: int) -> WindowSet:
    """`count` faulty windows, each made of one of these, in that one's operating mode.

    Args:
        windows: Normal windows.
        count: How many faulty ones.
        severity: The largest, in sigmas.
        clip: Faulty samples are clipped to this.
        seed: What they are drawn with.
    """
    generator = np.random.default_rng(seed)
    chosen = windows[generator.integers(0, len(windows), count)]
    return WindowSet(stress(chosen.windows, severity=severity, clip=clip, generator=generator), chosen.conditions)
