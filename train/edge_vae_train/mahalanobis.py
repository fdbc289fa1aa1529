"""The features as Gaussians, the closed-form twins of the feature VAE: of each channel, and of all channels' levels."""

from __future__ import annotations

import numpy as np
from sklearn.covariance import ledoit_wolf

from edge_vae.sample import FloatArray
from edge_vae.score import LEAST_LEVEL, LEVEL, Term
from edge_vae.view import View, to_rows
from edge_vae_train.prepare import WindowSet
from edge_vae_train.views import chunks
from edge_vae_train.wander import wander

__all__ = ["featured", "fit_level", "fit_mahalanobis"]

_LEAST_DISTANCE = 1.0
"""The least usual distance, squared: a channel that never varies has none, and its rounding must not decide; one that
varies has about as many as there are features."""
_RIDGE = 1e-3
"""Added to the variance of each standardised feature: a combination that never varies must not decide."""


def featured(view: View, windows: WindowSet) -> FloatArray:
    """Features (windows, features, channels) as the view of the features sees them."""
    parts = (part for _, part in chunks(windows))
    return np.concatenate([view.target(part.windows.astype(np.float64), part.conditions) for part in parts])


def fit_mahalanobis(known: FloatArray, unknown: FloatArray, *, every: FloatArray) -> tuple[Term, FloatArray]:
    """The term `features.mahalanobis`, and its statistic (windows,) of the held-out windows.

    Each channel has a covariance of its own: some hundreds of windows are few for that of all features of all channels.
    A channel's distances are taken relative to their mean on held-out windows, under a fit without these; the term
    itself is fitted on `every` normal window.

    Args:
        known: Features (windows, features, channels) of training windows, in order of time.
        unknown: Those of held-out windows.
        every: Those of all normal windows, in order of time.
    """
    distances = _distances(unknown, known.mean(axis=0), _precisions(known))
    usual = np.maximum(distances.mean(axis=0), _LEAST_DISTANCE)
    precisions = _precisions(every) / usual[:, None, None]
    flat = precisions.reshape(-1, precisions.shape[2])
    term = Term("features.mahalanobis", centre=to_rows(every.mean(axis=0)), precision=to_rows(flat))
    return term, np.asarray((distances / usual).max(axis=1))


def fit_level(known: FloatArray, unknown: FloatArray, *, every: FloatArray) -> tuple[Term, FloatArray]:
    """The term `features.level`, and its statistic (windows,) of the held-out windows, from the same arguments.

    One covariance of the mean levels of all channels.
    """
    before, held_out, levels = (features[:, LEVEL] for features in (known, unknown, every))
    offset = held_out - before.mean(axis=0)
    distances = np.einsum("nc,cd,nd->n", offset, _precision(before), offset)
    term = Term("features.level", centre=to_rows(levels.mean(axis=0)[None]), precision=to_rows(_precision(levels)))
    return term, np.maximum(distances, LEAST_LEVEL)


def _precisions(features: FloatArray) -> FloatArray:
    """Inverse covariance (channels, features, features) of features (windows, features, channels) in each channel."""
    return np.array([_precision(features[:, :, channel]) for channel in range(features.shape[2])])


def _precision(samples: FloatArray) -> FloatArray:
    """Inverse covariance (n, n) that is expected of what follows samples (windows, n), which are in order of time.

    That of the samples is shrunk towards a sphere as Ledoit and Wolf (2004) do.
    """
    expected = ledoit_wolf(samples)[0] + wander(samples)
    return np.asarray(np.linalg.inv(expected + _RIDGE * np.eye(samples.shape[1])))


def _distances(features: FloatArray, centre: FloatArray, precisions: FloatArray) -> FloatArray:
    """Squared Mahalanobis distance (windows, channels) of features (windows, features, channels)."""
    offset = features - centre
    return np.asarray(np.einsum("nfc,cfg,ngc->nc", offset, precisions, offset))
