"""How far normal data will wander from what training has seen: what a single window cannot tell.

Four hundred rows do not say how warm a machine gets. A channel whose mean differs between the halves and quarters of
the training data by more than it varies within them will leave what they have shown, and what it adds to an error is
no sign of a fault. Of data that is long against its own wandering the means agree, and nothing changes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_vae.sample import FloatArray

__all__ = ["wander"]

_PARTS = (2, 4)
"""Halves and quarters: the longest times of which the data holds at least two."""
_NEXT = 4.0 / 3.0
"""How many two-sample variances the next window is further from the mean of the data than the data itself is. Of a
random walk that moves by a variance of q in all the time of the data: halves have q / 6, quarters q / 12, on average
q / 8. Within the data the variance is q / 6; right after it, q / 3 from its mean."""


def wander(samples: NDArray[np.floating]) -> FloatArray:
    """How much wider than samples (windows, n), in order of time, the next one is expected to lie: covariance (n, n).

    From the two-sample variance (Allan, Proceedings of the IEEE 1966, section III: half the mean square of the step
    between neighbours' means) as a matrix, averaged over halves and quarters. For a random walk it is the variance
    within the data once more, for n independent samples 4 / n of it. Too few samples for quarters or halves add less.
    """
    total = np.zeros((samples.shape[1], samples.shape[1]))
    for parts in _PARTS:
        if len(samples) >= parts:
            steps = np.diff([part.mean(axis=0, dtype=np.float64) for part in np.array_split(samples, parts)], axis=0)
            total += steps.T @ steps / (2 * len(steps) * len(_PARTS))
    return _NEXT * total
