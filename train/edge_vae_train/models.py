"""The models, built from stock Keras layers whose int8 forms are exact enough.

No custom object is needed to load or convert one. A *scoring graph* maps a window to its reconstruction from the
posterior mean, and to the posterior's mean and log variance; it holds no sampling, so the same window always gives the
same outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

__all__ = ["Architecture", "VariationalAutoencoder", "build", "scoring_graph"]

Model = Any  # Keras ships no type information.


@dataclass(frozen=True, slots=True)
class Architecture:
    """What a model is built from.

    Attributes:
        length: Samples in a window.
        channels: Channels of a sample.
        latent: Latent dimensions.
        width: Filters of the widest convolution; the outer ones have half as many.
    """

    length: int
    channels: int
    latent: int = 8
    width: int = 64


@dataclass(frozen=True, slots=True)
class VariationalAutoencoder:
    """An encoder (window -> posterior mean, log variance) and a decoder (latent -> window), both Keras models."""

    architecture: Architecture
    encoder: Model
    decoder: Model


def build(architecture: Architecture) -> VariationalAutoencoder:
    """The `conv` family: strided convolutions down to a quarter of the length, and their mirror image.

    Upsampling is folded into the convolutions: repeating each step and convolving with kernel 5 equals a convolution
    with kernel 3 and twice the filters, reshaped. It needs a third fewer multiplications and no TILE, which TensorFlow
    Lite Micro lacks.
    """
    return VariationalAutoencoder(architecture, _encoder(architecture), _decoder(architecture))


def _encoder(a: Architecture) -> Model:
    window = layers.Input((a.length, a.channels), name="window")
    x = layers.Conv1D(a.width // 2, 5, strides=2, padding="same", activation="relu", name="down1")(window)
    x = layers.Conv1D(a.width, 5, strides=2, padding="same", activation="relu", name="down2")(x)
    x = layers.Conv1D(a.width // 2, 3, padding="same", activation="relu", name="narrow")(x)
    x = layers.Flatten(name="flat")(x)
    mean = layers.Dense(a.latent, name="posterior_mean")(x)
    log_variance = layers.Dense(a.latent, name="posterior_log_variance")(x)
    return keras.Model(window, [mean, log_variance], name="encoder")


def _decoder(a: Architecture) -> Model:
    quarter = -(-a.length // 4)
    latent = layers.Input((a.latent,), name="latent")
    x = layers.Dense(quarter * (a.width // 2), activation="relu", name="seed")(latent)
    x = layers.Reshape((quarter, a.width // 2), name="seed_steps")(x)
    x = layers.Conv1D(2 * a.width, 3, padding="same", activation="relu", name="up1")(x)
    x = layers.Reshape((2 * quarter, a.width), name="up1_steps")(x)
    x = layers.Conv1D(a.width, 3, padding="same", activation="relu", name="up2")(x)
    x = layers.Reshape((4 * quarter, a.width // 2), name="up2_steps")(x)
    x = layers.Conv1D(a.channels, 3, padding="same", name="samples")(x)
    if surplus := 4 * quarter - a.length:
        x = layers.Cropping1D((0, surplus), name="trim")(x)
    return keras.Model(latent, x, name="decoder")


def scoring_graph(vae: VariationalAutoencoder, *, batch_size: int | None = None) -> Model:
    """The model that is saved, converted and run.

    Input shape:
        `(batch, length, channels)`, scaled and clipped.

    Output shape:
        A dictionary: `reconstruction` (batch, length, channels), `posterior_mean` and `posterior_log_variance` (batch,
        latent).
    """
    a = vae.architecture
    window = layers.Input((a.length, a.channels), batch_size=batch_size, name="window")
    mean, log_variance = vae.encoder(window)
    outputs = {
        "reconstruction": vae.decoder(mean),
        "posterior_mean": mean,
        "posterior_log_variance": log_variance,
    }
    return keras.Model(window, outputs, name="scoring_graph")
