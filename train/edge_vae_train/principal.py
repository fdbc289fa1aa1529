"""PCA of what a window holds side by side: a few consecutive samples of all channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from edge_vae.principal import PrincipalRuntime
from edge_vae.sample import FloatArray
from edge_vae.score import Term, statistic_of
from edge_vae.view import LIMIT_SIGMA, View, see
from edge_vae_train.prepare import WindowSet
from edge_vae_train.wander import wander

__all__ = ["fit_principal", "lag", "principal_statistic"]

VARIANCE = 0.95
"""Part of the variance that the components hold (Jackson 1991, chapter 2)."""
MAX_COMPONENTS = 64
WINDOWS_PER_CELL = 3
"""Training windows for each number of a lag vector: with fewer the components are those of the noise."""
_MAX_VECTORS = 20_000

Arrays = dict[str, NDArray[Any]]


def lag(windows: int, *, length: int, channels: int) -> int:
    """Consecutive samples in a lag vector: as many as so many training windows support, at most a window's length.

    Dynamic PCA (Ku, Storer and Georgakis 1995): a PCA of lag vectors knows how a sample follows from those before it.
    """
    return int(np.clip(windows // (WINDOWS_PER_CELL * channels), 1, length))


def fit_principal(view: View, windows: WindowSet, *, clip: float, seed: int) -> Arrays:
    """`lag_mean` (lag * channels,) and orthonormal `lag_components` (components, lag * channels) of clipped windows.

    A glitch in normal data, beyond the clip, must not get a component of its own; what is scored is not clipped. What
    levels do that wander together belongs to the components.

    Args:
        view: The view of the PCA.
        windows: Normal windows, in order of time.
        clip: In sigmas.
        seed: Decides which lag vectors are taken, where they are many.
    """
    target = np.clip(view.target(windows.windows.astype(np.float64), windows.conditions), -clip, clip)
    vectors = target.reshape(-1, view.lag * target.shape[2])
    if len(vectors) > _MAX_VECTORS:
        vectors = vectors[np.random.default_rng(seed).choice(len(vectors), _MAX_VECTORS, replace=False)]
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    wandering = np.tile(wander(target.mean(axis=1)), (view.lag, view.lag))
    components = _axes(centred.T @ centred / len(centred) + wandering)
    return {"lag_mean": mean.astype(np.float32), "lag_components": components.astype(np.float16)}


def principal_statistic(view: View, arrays: Arrays, held_out: WindowSet) -> FloatArray:
    """The statistic (windows,) of the term `pca` that these components give held-out windows."""
    windows = held_out.windows.astype(np.float64)
    seen = see([view], {view.name: PrincipalRuntime(arrays)}, windows, clip=LIMIT_SIGMA, conditions=held_out.conditions)
    return statistic_of(Term("pca"), windows, seen)


def _axes(covariance: FloatArray) -> FloatArray:
    """(components, cells) orthonormal, by falling variance; fewer than cells, so that a residual is left."""
    values, vectors = linalg.eigh(covariance)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    wanted = int(np.searchsorted(np.cumsum(values), VARIANCE * values.sum())) + 1
    axes = vectors[:, : max(1, min(wanted, MAX_COMPONENTS, len(covariance) - 1))].T
    # An axis has no sign: the largest weight is made positive, so that equal data gives equal weights.
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    return np.asarray(axes * np.where(largest < 0, -1.0, 1.0))
