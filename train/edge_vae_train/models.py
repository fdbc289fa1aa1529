"""The models, built from stock Keras layers whose int8 forms are exact enough.

No custom object is needed to load or convert one. A *scoring graph* maps a window to its reconstruction from the
posterior mean, and to the posterior's mean and log variance; it holds no sampling, so the same window always gives the
same outputs.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from edge_vae_train.families import FAMILIES
from edge_vae_train.families.autoencoder import Architecture, VariationalAutoencoder

__all__ = ["FAMILIES", "Architecture", "VariationalAutoencoder", "build", "scoring_graph", "width"]

_WIDTH, _FEATURES_WIDTH = 64, 32


def build(architecture: Architecture) -> VariationalAutoencoder:
    """An untrained model of the architecture's family.

    Raises:
        ValueError: There is no such family.
    """
    if architecture.family not in FAMILIES:
        msg = f"family: expected one of {', '.join(FAMILIES)}, received {architecture.family!r}"
        raise ValueError(msg)
    return FAMILIES[architecture.family](architecture)


def width(view: str) -> int:
    """The width of the model of a view, by its name."""
    return _FEATURES_WIDTH if view == "features" else _WIDTH


def scoring_graph(vae: VariationalAutoencoder, *, batch_size: int | None = None) -> Any:
    """The model that is saved, converted and run.

    Input shape:
        `window` (batch, length, channels), scaled and clipped. With modes there are two inputs in a list: `a_window`,
        and `b_condition` (batch, modes). The converter matches representative samples to inputs by the order of their
        names.

    Output shape:
        A dictionary: `reconstruction` (batch, length, channels), `posterior_mean` and `posterior_log_variance` (batch,
        latent).
    """
    a = vae.architecture
    window = layers.Input((a.length, a.channels), batch_size=batch_size, name="a_window" if a.modes else "window")
    condition = [layers.Input((a.modes,), batch_size=batch_size, name="b_condition")] if a.modes else []
    mean, log_variance = vae.encoder([window, *condition] if condition else window)
    outputs = {
        "reconstruction": vae.decoder([mean, *condition] if condition else mean),
        "posterior_mean": mean,
        "posterior_log_variance": log_variance,
    }
    return keras.Model([window, *condition] if condition else window, outputs, name="scoring_graph")
