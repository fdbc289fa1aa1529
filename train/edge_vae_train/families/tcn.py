"""The `tcn` family: residual dilated convolutions (Bai et al. 2018, section 3) around the strides of `conv`.

Dilations 1 and 2 act at half the length, 4 and 8 at a quarter, so each last step of the encoder sees some 60 samples to
either side. ReLU takes the place of SELU, and nothing is normalised: int8 keeps neither.
"""

from __future__ import annotations

from keras import layers

from edge_vae_train.families.autoencoder import Architecture, Tensor, VariationalAutoencoder, assemble, posterior
from edge_vae_train.families.conv import down, samples, seed, up

__all__ = ["build"]


def build(architecture: Architecture) -> VariationalAutoencoder:
    """An untrained model."""
    return assemble(architecture, _encode, _decode)


def _residual(x: Tensor, dilation: int, *, name: str) -> Tensor:
    """ReLU(x + a convolution of a dilated convolution of x)."""
    filters = x.shape[-1]
    inner = layers.Conv1D(
        filters, 3, padding="same", dilation_rate=dilation, activation="relu", name=f"{name}_dilated"
    )(x)
    inner = layers.Conv1D(filters, 1, name=f"{name}_mix")(inner)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_sum")([x, inner]))


def _encode(a: Architecture, window: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
    x = down(window, a.width // 2, name="down1")
    x = _residual(_residual(x, 1, name="block1"), 2, name="block2")
    x = down(x, a.width // 2, name="down2")
    x = _residual(_residual(x, 4, name="block4"), 8, name="block8")
    return posterior(a, layers.Flatten(name="flat")(x), condition)


def _decode(a: Architecture, latent: Tensor, condition: Tensor) -> Tensor:
    x = seed(a, latent, condition)
    x = _residual(_residual(x, 8, name="block8"), 4, name="block4")
    x = up(x, a.width // 2, name="up1")
    x = _residual(_residual(x, 2, name="block2"), 1, name="block1")
    return samples(a, up(x, a.width // 2, name="up2"))
