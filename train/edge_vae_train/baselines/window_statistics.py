"""Plain statistics of each channel of a window, on scales on which normal machines look roughly Gaussian."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edge_vae.sample import FloatArray

__all__ = ["STATISTICS", "Standard", "features"]

_LEVEL_FLOOR = 1e-3
"""In sigmas of the scaled samples: below it a channel is still, whatever its last digits do."""
_SPREAD_FLOOR = 1e-2
"""Smallest spread that a statistic is measured in: a constant channel must not turn rounding into an alarm."""
_MAX_CELLS = 256
_FEATURES = ("mean", "std", "peak-to-peak", "mean|diff|")

Statistic = Callable[[FloatArray], FloatArray]
"""From windows (windows, length, channels) to one number for each channel (windows, channels)."""


def _log(level: FloatArray) -> FloatArray:
    return np.asarray(np.log(np.maximum(level, _LEVEL_FLOOR)))


def _mean_absolute_difference(windows: FloatArray) -> FloatArray:
    return np.asarray(np.abs(np.diff(windows, axis=1)).sum(axis=1) / max(1, windows.shape[1] - 1))


STATISTICS: Mapping[str, Statistic] = {
    "mean": lambda windows: np.asarray(windows.mean(axis=1)),
    "|mean|": lambda windows: _log(np.abs(windows.mean(axis=1))),
    "std": lambda windows: _log(windows.std(axis=1)),
    "rms": lambda windows: _log(np.sqrt(np.square(windows).mean(axis=1))),
    "peak-to-peak": lambda windows: _log(np.ptp(windows, axis=1)),
    "mean|diff|": lambda windows: _log(_mean_absolute_difference(windows)),
}
"""By name; all but the signed mean are logarithms. In windows of one sample the last two and `std` are constant."""


@dataclass(frozen=True, slots=True)
class Standard:
    """Centre and spread of features (features,) on training windows."""

    centre: FloatArray
    spread: FloatArray

    @classmethod
    def fit(cls, features: FloatArray) -> Standard:
        """From features (windows, features) of training windows."""
        return cls(features.mean(axis=0), np.maximum(features.std(axis=0), _SPREAD_FLOOR))

    def __call__(self, features: FloatArray) -> FloatArray:
        """Deviations from the centre (windows, features), in spreads."""
        return np.asarray((features - self.centre) / self.spread)


def features(windows: FloatArray) -> FloatArray:
    """What a density over windows is fitted on: all cells of a small window, else four statistics of each channel.

    Small means at most 256 cells. From (windows, length, channels) to (windows, features).
    """
    count, length, channels = windows.shape
    if length * channels <= _MAX_CELLS:
        return windows.reshape(count, length * channels)
    return np.concatenate([STATISTICS[name](windows) for name in _FEATURES], axis=1)
