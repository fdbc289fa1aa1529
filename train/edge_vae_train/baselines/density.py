"""Two views of how densely normal windows lie: by random splits, and by one covariance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.ensemble import IsolationForest

from edge_vae.sample import FloatArray
from edge_vae_train.baselines.window_statistics import Standard, features

__all__ = ["fit_isolation_forest", "fit_mahalanobis"]

_TREES = 100


def fit_isolation_forest(
    training: FloatArray,
    held_out: FloatArray,  # noqa: ARG001 (one signature)
    *,
    seed: int,
) -> Callable[[FloatArray], FloatArray]:
    """The anomaly score in (0, 1] of an isolation forest (Liu, Ting and Zhou 2008, eq. 2).

    On the cells of windows of at most 256 cells, else on mean and log std, peak-to-peak and mean |difference| of each
    channel.
    """
    forest = IsolationForest(n_estimators=_TREES, random_state=seed).fit(features(training))
    return lambda windows: np.asarray(-forest.score_samples(features(windows)))


def fit_mahalanobis(
    training: FloatArray,
    held_out: FloatArray,  # noqa: ARG001 (one signature)
    *,
    seed: int,  # noqa: ARG001 (one signature)
) -> Callable[[FloatArray], FloatArray]:
    """The squared Mahalanobis distance under a covariance shrunk towards a sphere (Ledoit and Wolf 2004).

    On the same features as the isolation forest, standardised.
    """
    standard = Standard.fit(features(training))
    covariance = LedoitWolf().fit(standard(features(training)))
    return lambda windows: np.asarray(covariance.mahalanobis(standard(features(windows))))
