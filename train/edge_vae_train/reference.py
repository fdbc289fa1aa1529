"""PCA T2 + Q, the baseline of every evaluation: a detector that does not beat it is no result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from edge_vae.sample import FloatArray
from edge_vae.view import LIMIT_SIGMA

__all__ = ["fit_pca", "pca_score"]

MAX_COMPONENTS = 8
MAX_CELLS = 1024
"""A window with more cells (length * channels) would make the reference the largest part of a bundle."""
_MAX_WINDOWS = 6000
_TINY = 1e-9
"""The least mean of a statistic and variance of a component: data that never varies has neither."""

Arrays = dict[str, NDArray[Any]]


def fit_pca(training: NDArray[np.float32], held_out: NDArray[np.float32], *, seed: int) -> Arrays:
    """PCA of scaled windows (windows, length, channels), with the means of both statistics on held-out normals.

    Empty where the window has more than `MAX_CELLS` cells.
    """
    rows = _rows(training)
    if rows.shape[1] > MAX_CELLS:
        return {}
    if len(rows) > _MAX_WINDOWS:
        rows = rows[np.random.default_rng(seed).choice(len(rows), _MAX_WINDOWS, replace=False)]
    with np.errstate(invalid="ignore"):  # data that never varies has no ratio of variances, which is not asked
        pca = PCA(min(MAX_COMPONENTS, *rows.shape), svd_solver="full").fit(rows)
    fitted: Arrays = {
        "mean": pca.mean_.astype(np.float16),
        "components": pca.components_.astype(np.float16),
        "variance": np.maximum(pca.explained_variance_, _TINY).astype(np.float32),
    }
    t2, q = _statistics(fitted, held_out)
    usual = {name: np.maximum([statistic.mean()], _TINY) for name, statistic in (("t2", t2), ("q", q))}
    return fitted | {name: value.astype(np.float32) for name, value in usual.items()}


def pca_score(reference: Mapping[str, NDArray[np.float32]], windows: FloatArray) -> FloatArray:
    """T2 / mean(T2) + Q / mean(Q) of each scaled window (windows, length, channels).

    T2 is Hotelling's, within the components; Q is the squared residual outside them (Jackson 1991, chapters 1 and 2).
    """
    t2, q = _statistics(reference, windows)
    return np.asarray(t2 / reference["t2"][0] + q / reference["q"][0])


def _rows(windows: NDArray[np.float32] | FloatArray) -> FloatArray:
    cells = windows.shape[1] * windows.shape[2]
    return np.clip(windows, -LIMIT_SIGMA, LIMIT_SIGMA).reshape(len(windows), cells).astype(np.float64)


def _statistics(
    fitted: Mapping[str, NDArray[np.float32]], windows: NDArray[np.float32] | FloatArray
) -> tuple[FloatArray, FloatArray]:
    centred = _rows(windows) - fitted["mean"]
    components = fitted["components"].astype(np.float64)
    scores = centred @ components.T
    t2 = (np.square(scores) / fitted["variance"]).sum(axis=1)
    q = np.square(centred - scores @ components).mean(axis=1)
    return t2, q
