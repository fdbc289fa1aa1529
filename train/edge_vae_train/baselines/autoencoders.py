"""Two autoencoders without a distribution: dense, and recurrent. The score is the squared reconstruction error.

Both stay on the workstation. The recurrent one could not leave it: GRU and LSTM crash the int8 converter or the
interpreter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_vae.sample import FloatArray

__all__ = ["fit_autoencoder", "fit_lstm_autoencoder"]

CLIP_SIGMA = 8.0
"""What the network sees is clipped here, as the agent clips it; the error is measured against the unclipped window."""

_HIDDEN = 64
_LATENT = 8
_UNITS = 32
_BATCH = 128
_EPOCHS = 12
_LEARNING_RATE = 3e-3
_RECURRENT_LEARNING_RATE = 1e-2
_PASSES = 50
"""Small data is seen at most so often."""
_STEPS = 600
_STEPS_TIMES_LENGTH = 6400
"""A recurrent step costs by the sample: 200 steps for windows of 32, 100 for 64."""

Model = Any  # Keras ships no type information.


Reconstruct = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Error:
    reconstruct: Reconstruct

    def __call__(self, windows: FloatArray) -> FloatArray:
        reconstruction = np.asarray(self.reconstruct(_seen(windows)), np.float64)
        return np.asarray(np.square(windows - reconstruction).mean(axis=(1, 2)))


def fit_autoencoder(training: FloatArray, held_out: FloatArray, *, seed: int) -> _Error:
    """Dense layers 128, 64, 8, 64, 128 over the flat window, mean squared error, at most 600 steps of 128 windows."""
    from keras import Sequential, layers

    length, channels = training.shape[1:]
    _seeded(seed)
    widths = (2 * _HIDDEN, _HIDDEN, _LATENT, _HIDDEN, 2 * _HIDDEN)
    activations = ("relu", "relu", None, "relu", "relu")
    hidden = [layers.Dense(width, activation) for width, activation in zip(widths, activations, strict=True)]
    outer = [layers.Dense(length * channels), layers.Reshape((length, channels))]
    model = Sequential([layers.Input((length, channels)), layers.Flatten(), *hidden, *outer])
    return _trained(model, training, held_out, steps=_STEPS, learning_rate=_LEARNING_RATE, seed=seed)


def fit_lstm_autoencoder(training: FloatArray, held_out: FloatArray, *, seed: int) -> _Error:
    """An LSTM that reads the window into one state of 32 and one that writes it back (after Malhotra et al. 2016).

    At most 6400 / length steps of 128 windows, so that it trains within seconds on one core: more steps would make it
    better (on simulated windows of 32, twice as many lowered the held-out error by a fifth).
    """
    from keras import Sequential, layers

    length, channels = training.shape[1:]
    _seeded(seed)
    model = Sequential(
        [
            layers.Input((length, channels)),
            layers.LSTM(_UNITS),
            layers.RepeatVector(length),
            layers.LSTM(_UNITS, return_sequences=True),
            layers.Dense(channels),
        ]
    )
    steps = min(_STEPS, _STEPS_TIMES_LENGTH // length)
    return _trained(model, training, held_out, steps=steps, learning_rate=_RECURRENT_LEARNING_RATE, seed=seed)


def _seen(windows: FloatArray) -> Any:
    return np.clip(windows, -CLIP_SIGMA, CLIP_SIGMA).astype(np.float32)


def _seeded(seed: int) -> None:
    from edge_vae_train.fit import deterministic

    deterministic(seed)


def _trained(
    model: Model, training: FloatArray, held_out: FloatArray, *, steps: int, learning_rate: float, seed: int
) -> _Error:
    """The model after at most `steps` steps, with the weights of its best epoch on held-out windows."""
    import keras

    windows, unseen = _seen(training), _seen(held_out)
    batch = min(_BATCH, len(windows))
    each = max(1, min(steps, _PASSES * len(windows) // batch) // _EPOCHS)
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, each * _EPOCHS, alpha=0.05)
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=5.0), "mse", jit_compile=False)
    generator, reconstruct = np.random.default_rng(seed), _graph(model)
    lowest, kept = np.inf, model.get_weights()
    for _ in range(_EPOCHS):
        # Step by step: with Model.fit, tracing its loops takes longer than the steps of so short a training.
        for _ in range(each):
            part = windows[generator.choice(len(windows), batch, replace=False)]
            model.train_on_batch(part, part)
        loss = float(np.square(unseen - np.asarray(reconstruct(unseen))).mean())
        if loss < lowest:
            lowest, kept = loss, model.get_weights()
    model.set_weights(kept)
    return _Error(reconstruct)


def _graph(model: Model) -> Reconstruct:
    """The model as one graph for any number of windows: called layer by layer, an LSTM is thirty times slower."""
    import tensorflow as tf

    windows = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    graph: Reconstruct = tf.function(
        lambda seen: model(seen, training=False), input_signature=[windows], autograph=False
    )
    return graph
