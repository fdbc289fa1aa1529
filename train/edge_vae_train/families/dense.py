"""The `dense` family: for views whose steps have no order, such as the features of a window."""

from __future__ import annotations

from keras import layers

from edge_vae_train.families.autoencoder import (
    Architecture,
    Tensor,
    VariationalAutoencoder,
    assemble,
    joined,
    posterior,
)

__all__ = ["build"]


def build(architecture: Architecture) -> VariationalAutoencoder:
    """An untrained model."""
    return assemble(architecture, _encode, _decode)


def _encode(a: Architecture, window: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
    x = joined(layers.Flatten(name="flat")(window), condition)
    x = layers.Dense(2 * a.width, activation="relu", name="wide")(x)
    # The condition is among the features already.
    return posterior(a, layers.Dense(a.width, activation="relu", name="narrow")(x), None)


def _decode(a: Architecture, latent: Tensor, condition: Tensor) -> Tensor:
    x = layers.Dense(a.width, activation="relu", name="seed")(joined(latent, condition))
    x = layers.Dense(2 * a.width, activation="relu", name="widen")(x)
    x = layers.Dense(a.cells, name="cells")(x)
    return layers.Reshape((a.length, a.channels), name="samples")(x)
