"""Layers and a model as somebody else's code defines them; tests give this file to `--module`."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


class Sampling(layers.Layer):  # type: ignore[misc]
    """The layer of the Keras documentation: z = mean + sigma * noise."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seed_generator = keras.random.SeedGenerator(1)

    def call(self, inputs: list[Any]) -> Any:
        mean, log_variance = inputs
        noise = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_variance) * noise


@keras.saving.register_keras_serializable("theirs")
class SubclassedVae(keras.Model):  # type: ignore[misc]
    """Draws in its own `call`, and gives its outputs as a list."""

    def __init__(self, length: int, channels: int, **options: Any) -> None:
        super().__init__(**options)
        self.length, self.channels = length, channels
        self.flat, self.hidden = layers.Flatten(), layers.Dense(24, activation="relu")
        self.mean, self.log_variance = layers.Dense(5), layers.Dense(5)
        self.decoder, self.window = layers.Dense(length * channels), layers.Reshape((length, channels))
        self.seed = keras.random.SeedGenerator(2)

    def call(self, windows: Any) -> list[Any]:
        hidden = self.hidden(self.flat(windows))
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        noise = keras.random.normal(ops.shape(mean), seed=self.seed)
        z = mean + ops.exp(0.5 * log_variance) * noise
        return [self.window(self.decoder(z)), mean, log_variance]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "length": self.length, "channels": self.channels}
