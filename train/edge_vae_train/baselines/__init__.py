"""The detectors that a model has to beat, behind one contract and fitted on the same windows.

A baseline is a function that fits: `BASELINES[name](training, held_out, seed=...)` returns a scorer, and the scorer
turns windows (windows, length, channels) into scores (windows,). What both promise stands in `contract`.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge_vae_train.baselines.autoencoders import fit_autoencoder, fit_lstm_autoencoder
from edge_vae_train.baselines.autoregression import fit_autoregression
from edge_vae_train.baselines.contract import MIN_WINDOWS, Fit, Scorer, bounded
from edge_vae_train.baselines.density import fit_isolation_forest, fit_mahalanobis
from edge_vae_train.baselines.hidden_markov import fit_hidden_markov
from edge_vae_train.baselines.principal import fit_dynamic_pca, fit_pca, fit_pca_residual
from edge_vae_train.baselines.univariate import fit_mean_absolute_z, fit_single_channel

__all__ = ["BASELINES", "MIN_WINDOWS", "Fit", "Scorer"]

BASELINES: Mapping[str, Fit] = {
    "mean|z|": bounded(fit_mean_absolute_z),
    "best single-channel statistic": bounded(fit_single_channel),
    "PCA T2 + Q": bounded(fit_pca),
    "PCA Q, 95 % of variance": bounded(fit_pca_residual),
    "dynamic PCA T2 + Q": bounded(fit_dynamic_pca),
    "isolation forest": bounded(fit_isolation_forest),
    "Mahalanobis": bounded(fit_mahalanobis),
    "autoencoder": bounded(fit_autoencoder),
    "LSTM autoencoder": bounded(fit_lstm_autoencoder),
    "Gaussian HMM": bounded(fit_hidden_markov),
    "VAR residual": bounded(fit_autoregression),
}
"""Every baseline by the name that tables print, the plainest first."""
