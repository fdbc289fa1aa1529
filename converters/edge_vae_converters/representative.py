"""The representative data set: what the quantizer sees decides which activations int8 can represent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_vae.faults import stress

__all__ = ["CALIBRATIONS", "representative"]

CALIBRATIONS = ("stress", "normal")

CALIBRATION_SEVERITY = 0.5
"""Largest severity that the quantizer sees, in clips. Beyond it ranges grow and steps get coarser for nothing: on SKAB,
five seeds, the noise of the worst channel falls from 0.06-0.16 of its variance at 1.0 to 0.02-0.05, and the scores of
faults out to the full clip, which the gate looks at, rank better too (Spearman 0.9975-0.9995 at 1.0, 0.9994-0.9998 at
0.5)."""


def representative(windows: NDArray[np.float32], *, calibration: str, clip: float, seed: int) -> NDArray[np.float32]:
    """Clipped windows (windows, length, channels) for the quantizer.

    Args:
        windows: Normal training windows, scaled.
        calibration: `stress`: the normal windows and as many faulty ones. `normal`: the normal windows
            alone, which leaves activations outside the normal range saturated; it is there to show the difference.
        clip: Ends of the input range.
        seed: What the faults are drawn with.
    """
    normal = np.clip(windows, -clip, clip)
    if calibration == "normal":
        return normal
    generator = np.random.default_rng(seed)
    faulty = stress(windows, count=len(windows), severity=CALIBRATION_SEVERITY * clip, clip=clip, generator=generator)
    return np.concatenate([normal, faulty])
