"""The `linear` family: principal components as two dense layers, fitted in closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from keras import layers
from numpy.typing import NDArray
from scipy import linalg

from edge_vae.sample import FloatArray
from edge_vae_train.families.autoencoder import Architecture, Tensor, VariationalAutoencoder, assemble, joined

__all__ = ["build", "solve"]

_RELATIVE_FLOOR = 1e-10
"""A component with less of the first one's variance is the rounding of float32 data."""


def build(architecture: Architecture) -> VariationalAutoencoder:
    """An unfitted model; its log variance is 0 for every window."""
    return assemble(architecture, _encode, _decode)


def solve(
    architecture: Architecture, windows: NDArray[np.float32], conditions: NDArray[np.float32] | None
) -> VariationalAutoencoder:
    """The principal components of `windows`, as a model with `latent` of them, or as many as the data has.

    With a condition, what it explains linearly (the mean window of each mode, where it names one of them) is taken off
    before and added again after. One component fewer than a window has cells is the most: with all of them nothing
    would be left over to be scored.

    Args:
        architecture: Of family `linear`.
        windows: Clipped training windows (windows, length, channels).
        conditions: (windows, modes), or None without modes.
    """
    a = architecture
    rows = windows.reshape(len(windows), a.cells).astype(np.float64)
    by_mode = np.empty((0, a.cells)) if conditions is None else _explained(rows, conditions)
    rest = rows if conditions is None else rows - conditions.astype(np.float64) @ by_mode
    centre = rest.mean(axis=0)
    axes = _principal_axes(rest - centre, at_most=min(a.latent, max(a.cells - 1, 1)))
    vae = build(replace(a, latent=axes.shape[1]))
    vae.encoder.get_layer("posterior_mean").set_weights([np.vstack([axes, -by_mode @ axes]), -centre @ axes])
    vae.decoder.get_layer("cells").set_weights([np.vstack([axes.T, by_mode]), centre])
    return vae


def _explained(rows: FloatArray, conditions: NDArray[np.float32]) -> FloatArray:
    """(modes, cells) least-squares effect of the condition on each cell, beside a constant."""
    centred = conditions.astype(np.float64) - conditions.mean(axis=0, dtype=np.float64)
    return np.asarray(np.linalg.lstsq(centred, rows - rows.mean(axis=0), rcond=None)[0])


def _principal_axes(centred: FloatArray, *, at_most: int) -> FloatArray:
    """(cells, components) orthonormal, by falling variance; from the smaller one of the two Gram matrices."""
    count, cells = centred.shape
    wide = count < cells
    gram = centred @ centred.T if wide else centred.T @ centred
    size = len(gram)
    at_most = min(at_most, size)
    values, vectors = linalg.eigh(gram, subset_by_index=(size - at_most, size - 1))
    kept = np.maximum(values > values[-1] * _RELATIVE_FLOOR, np.arange(at_most) == at_most - 1)
    axes = centred.T @ vectors if wide else vectors
    axes = axes[:, kept][:, ::-1]
    axes = axes / np.maximum(np.linalg.norm(axes, axis=0), np.finfo(np.float64).tiny)
    # An axis has no sign: the largest weight is made positive, so that equal data gives equal weights.
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return np.asarray(axes * np.where(largest < 0, -1.0, 1.0))


def _encode(a: Architecture, window: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
    flat = layers.Flatten(name="flat")(window)
    mean = layers.Dense(a.latent, name="posterior_mean")(joined(flat, condition))
    constant = layers.Dense(a.latent, kernel_initializer="zeros", trainable=False, name="posterior_log_variance")
    return mean, constant(mean)


def _decode(a: Architecture, latent: Tensor, condition: Tensor) -> Tensor:
    x = layers.Dense(a.cells, name="cells")(joined(latent, condition))
    return layers.Reshape((a.length, a.channels), name="samples")(x)
