"""The `conv` family: strided convolutions down to a quarter of the length, and their mirror image.

Upsampling is folded into the convolutions: repeating each step and convolving with kernel 5 equals a convolution with
kernel 3 and twice the filters, reshaped. It needs a third fewer multiplications and no TILE, which TensorFlow Lite
Micro lacks.
"""

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

__all__ = ["build", "down", "quarter", "samples", "seed", "up"]


def build(architecture: Architecture) -> VariationalAutoencoder:
    """An untrained model."""
    return assemble(architecture, _encode, _decode)


def quarter(a: Architecture) -> int:
    """Steps at the coarsest level."""
    return -(-a.length // 4)


def down(x: Tensor, filters: int, *, name: str) -> Tensor:
    """Half the steps."""
    return layers.Conv1D(filters, 5, strides=2, padding="same", activation="relu", name=name)(x)


def up(x: Tensor, filters: int, *, name: str) -> Tensor:
    """Twice the steps."""
    x_twice = layers.Conv1D(2 * filters, 3, padding="same", activation="relu", name=name)(x)
    return layers.Reshape((2 * x.shape[1], filters), name=f"{name}_steps")(x_twice)


def seed(a: Architecture, latent: Tensor, condition: Tensor) -> Tensor:
    """The coarsest level of the decoder: (batch, quarter, width / 2)."""
    x = layers.Dense(quarter(a) * (a.width // 2), activation="relu", name="seed")(joined(latent, condition))
    return layers.Reshape((quarter(a), a.width // 2), name="seed_steps")(x)


def samples(a: Architecture, x: Tensor) -> Tensor:
    """The reconstruction from four times `quarter` steps, without what a length that 4 does not divide has too many."""
    x = layers.Conv1D(a.channels, 3, padding="same", name="samples")(x)
    surplus = x.shape[1] - a.length
    return layers.Cropping1D((0, surplus), name="trim")(x) if surplus else x


def _encode(a: Architecture, window: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
    x = down(down(window, a.width // 2, name="down1"), a.width, name="down2")
    x = layers.Conv1D(a.width // 2, 3, padding="same", activation="relu", name="narrow")(x)
    return posterior(a, layers.Flatten(name="flat")(x), condition)


def _decode(a: Architecture, latent: Tensor, condition: Tensor) -> Tensor:
    x = up(up(seed(a, latent, condition), a.width, name="up1"), a.width // 2, name="up2")
    return samples(a, x)
