"""A window to its features: what a model of the raw samples can be blind to, above all on vibration."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from edge_vae.sample import FloatArray

__all__ = ["MAX_BANDS", "POWER_FLOOR", "SPREAD_FLOOR", "band_edges", "feature_names", "features"]

MAX_BANDS = 8
"""Bands of the spectrum, of equal width in Hz."""

SPREAD_FLOOR = 1e-3
POWER_FLOOR = 1e-5
"""In sigmas, and their square: below it a logarithm would tell rounding apart, not machines."""


def feature_names(length: int) -> tuple[str, ...]:
    """Names of the features of a window of `length` samples, at least 2, in the order of `features`."""
    bands = tuple(f"log_band_{i}" for i in range(1, len(band_edges(length))))
    return ("mean", "log_std", "log_mean_difference", "log_peak_to_peak", "slope", *bands)


def features(windows: FloatArray) -> FloatArray:
    """Features (windows, features, channels) of scaled, finite windows (windows, length, channels).

    For each channel: mean, log standard deviation, log mean |difference| of neighbours, log peak-to-peak, slope (mean
    of the last quarter minus that of the first), and the log mean power of up to eight bands of the Hann-windowed
    spectrum, from bin 1 to the Nyquist frequency.
    """
    length = windows.shape[1]
    mean = windows.mean(axis=1)
    centred = windows - mean[:, None]
    quarter = max(1, length // 4)
    levels = [
        mean,
        np.log(np.sqrt(np.square(centred).mean(axis=1)) + SPREAD_FLOOR),
        np.log(np.abs(np.diff(windows, axis=1)).mean(axis=1) + SPREAD_FLOOR),
        np.log(windows.max(axis=1) - windows.min(axis=1) + SPREAD_FLOOR),
        windows[:, -quarter:].mean(axis=1) - windows[:, :quarter].mean(axis=1),
    ]
    power = np.square(np.abs(np.fft.rfft(centred * np.hanning(length)[:, None], axis=1)[:, 1:]))
    edges = band_edges(length)
    bands = np.add.reduceat(power, edges[:-1], axis=1) / np.diff(edges)[:, None]
    return np.concatenate([np.stack(levels, axis=1), np.log(bands + POWER_FLOOR)], axis=1)


@functools.cache
def band_edges(length: int) -> NDArray[np.intp]:
    """Rising bin numbers, counted from bin 1 as 0: band i holds the bins from edge i up to edge i + 1."""
    bins = length // 2
    return np.linspace(0, bins, min(MAX_BANDS, bins) + 1).astype(np.intp)
