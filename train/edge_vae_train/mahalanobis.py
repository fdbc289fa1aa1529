"""The features of each channel as a Gaussian: the closed-form twin of the feature VAE."""

from __future__ import annotations

import numpy as np
from sklearn.covariance import ledoit_wolf

from edge_vae.sample import FloatArray
from edge_vae.score import Term
from edge_vae.view import View, to_rows
from edge_vae_train.prepare import WindowSet
from edge_vae_train.views import chunks

__all__ = ["fit_mahalanobis"]

_LEAST_DISTANCE = 1.0
"""The least usual distance, squared: a channel that never varies has none, and its rounding must not decide; one that
varies has about as many as there are features."""
_RIDGE = 1e-3
"""Added to the variance of each standardised feature: a combination that never varies must not decide."""


def fit_mahalanobis(
    view: View, training: WindowSet, held_out: WindowSet, *, every: WindowSet
) -> tuple[Term, FloatArray]:
    """The term `features.mahalanobis`, and its statistic (windows,) of the held-out windows; `view` sees features.

    Each channel has a covariance of its own, shrunk as Ledoit and Wolf (2004) do: some hundreds of windows are few for
    the covariance of all features of all channels. A channel's distances are taken relative to their mean on held-out
    windows, under a fit without these; the term itself is fitted on `every` normal window.
    """
    known, unknown = (_features(view, windows) for windows in (training, held_out))
    distances = _distances(unknown, known.mean(axis=0), _precisions(known))
    usual = np.maximum(distances.mean(axis=0), _LEAST_DISTANCE)
    everything = _features(view, every)
    precisions = _precisions(everything) / usual[:, None, None]
    flat = precisions.reshape(-1, precisions.shape[2])
    term = Term("features.mahalanobis", centre=to_rows(everything.mean(axis=0)), precision=to_rows(flat))
    return term, np.asarray((distances / usual).max(axis=1))


def _features(view: View, windows: WindowSet) -> FloatArray:
    parts = (part for _, part in chunks(windows))
    return np.concatenate([view.target(part.windows.astype(np.float64), part.conditions) for part in parts])


def _precisions(features: FloatArray) -> FloatArray:
    """Inverse covariance (channels, features, features) of features (windows, features, channels) in each channel."""
    ridge = _RIDGE * np.eye(features.shape[1])
    channels = range(features.shape[2])
    return np.array([np.linalg.inv(ledoit_wolf(features[:, :, channel])[0] + ridge) for channel in channels])


def _distances(features: FloatArray, centre: FloatArray, precisions: FloatArray) -> FloatArray:
    """Squared Mahalanobis distance (windows, channels) of features (windows, features, channels)."""
    offset = features - centre
    return np.asarray(np.einsum("nfc,cfg,ngc->nc", offset, precisions, offset))
