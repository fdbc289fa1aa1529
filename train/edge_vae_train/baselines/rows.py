"""Windows taken apart: fewer of them, and their rows side by side with earlier ones."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_vae.sample import FloatArray

__all__ = ["lagged", "thin"]

Number = TypeVar("Number", np.float32, np.float64)


def thin(windows: NDArray[Number], most: int) -> NDArray[Number]:
    """At most `most` of the windows (windows, length, channels), evenly spaced, so that each session keeps its part."""
    if len(windows) <= most:
        return windows
    return windows[np.linspace(0, len(windows) - 1, most).astype(np.int64)]


def lagged(windows: FloatArray, lags: int) -> FloatArray:
    """Each row beside its `lags` predecessors in the same window, newest first.

    From (windows, length, channels) to (windows, length - lags, (lags + 1) * channels). No row crosses two windows.
    """
    length = windows.shape[1]
    return np.concatenate([windows[:, lags - lag : length - lag] for lag in range(lags + 1)], axis=2)
