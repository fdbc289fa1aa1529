"""Principal components: Hotelling's T2 within them and the squared residual Q outside (Jackson 1991, chapters 1, 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA

from edge_vae.sample import FloatArray
from edge_vae_train.baselines.rows import lagged, thin

__all__ = ["Principal", "fit_dynamic_pca", "fit_pca", "fit_pca_residual"]

COMPONENTS = 8
LAGS = 2
VARIANCE_SHARE = 0.95
_NO_VARIANCE = 1e-6
"""A component with less than this share of the first one's variance is rounding, and T2 would divide by it."""
_MEAN_FLOOR = 1e-9
_MAX_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Principal:
    """Some principal components of rows (rows, cells): `axes` (components, cells) with their `variances`."""

    mean: FloatArray
    axes: FloatArray
    variances: FloatArray

    @classmethod
    def fit(cls, rows: FloatArray, *, most: int | None = None) -> Principal:
        """The first `most` components, or as many as hold 95 % of the variance, at least one cell left for Q."""
        if not rows.std(axis=0).any():
            return cls(rows.mean(axis=0), np.empty((0, rows.shape[1])), np.empty(0))
        pca = PCA(svd_solver="full").fit(rows)
        variances = pca.explained_variance_
        if most is None:
            share = np.cumsum(variances) / max(float(variances.sum()), _MEAN_FLOOR)
            most = min(int(np.searchsorted(share, VARIANCE_SHARE)) + 1, rows.shape[1] - 1)
        kept = min(most, int((variances > _NO_VARIANCE * max(float(variances[0]), _MEAN_FLOOR)).sum()))
        return cls(pca.mean_, pca.components_[:kept], variances[:kept])

    def statistics(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """T2 and Q, both (rows,); Q is a mean over cells."""
        centred = rows - self.mean
        scores = centred @ self.axes.T
        t2 = (np.square(scores) / self.variances).sum(axis=1)
        return t2, np.square(centred - scores @ self.axes).mean(axis=1)


@dataclass(frozen=True, slots=True)
class _Balanced:
    """T2 / mean(T2) + Q / mean(Q), the means being those of held-out rows, averaged over the rows of a window."""

    principal: Principal
    lags: int | None
    t2: float
    q: float

    def __call__(self, windows: FloatArray) -> FloatArray:
        t2, q = self.principal.statistics(_rows(windows, self.lags))
        return np.asarray((t2 / self.t2 + q / self.q).reshape(len(windows), -1).mean(axis=1))


def fit_pca(training: FloatArray, held_out: FloatArray, *, seed: int) -> _Balanced:  # noqa: ARG001 (one signature)
    """T2 + Q of whole windows, eight components: the plainest detector that knows how cells go together."""
    return _balanced(Principal.fit(_rows(training, None), most=COMPONENTS), held_out, None)


def fit_pca_residual(training: FloatArray, held_out: FloatArray, *, seed: int) -> _Residual:  # noqa: ARG001 (one signature)
    """Q of whole windows outside the components that hold 95 % of the variance."""
    return _Residual(Principal.fit(_rows(training, None)))


def fit_dynamic_pca(training: FloatArray, held_out: FloatArray, *, seed: int) -> _Balanced:  # noqa: ARG001 (one signature)
    """T2 + Q of each row beside its two predecessors, 95 % of the variance, averaged over the window.

    Dynamic PCA (Ku, Storer and Georgakis 1995) with the two lags of its usual Tennessee Eastman set-up; the averaging
    makes a score of the window from those of its rows. Windows of one or two samples have fewer lags.
    """
    lags = min(LAGS, training.shape[1] - 1)
    most = max(1, _MAX_ROWS // (training.shape[1] - lags))
    return _balanced(Principal.fit(_rows(thin(training, most), lags)), held_out, lags)


@dataclass(frozen=True, slots=True)
class _Residual:
    principal: Principal

    def __call__(self, windows: FloatArray) -> FloatArray:
        return self.principal.statistics(_rows(windows, None))[1]


def _balanced(principal: Principal, held_out: FloatArray, lags: int | None) -> _Balanced:
    t2, q = principal.statistics(_rows(held_out, lags))
    return _Balanced(principal, lags, max(float(t2.mean()), _MEAN_FLOOR), max(float(q.mean()), _MEAN_FLOOR))


def _rows(windows: FloatArray, lags: int | None) -> FloatArray:
    """One row for each window, or, with lags, one for each of its samples that has so many predecessors."""
    if lags is None:
        return windows.reshape(len(windows), -1)
    beside = lagged(windows, lags)
    return beside.reshape(-1, beside.shape[2])
