"""Keras on TensorFlow: `predict`, and the model inside a `tf.function`."""

from __future__ import annotations

import keras
import tensorflow as tf

from speed_peers.loaded import Files, Floats, Loaded, each, statistic


def load(files: Files, *, argument: str, threads: int) -> Loaded:  # noqa: ARG001 (contract)
    """The trained Keras model."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model, variance = keras.models.load_model(files.folder / "vae.keras", compile=False), files.numbers["variance"]
    compiled = tf.function(lambda windows: model(windows, training=False), reduce_retracing=True)

    def predicted(windows: Floats) -> Floats:
        scaled = files.scaled(windows)
        return statistic(scaled, model.predict(scaled, batch_size=256, verbose=0)["reconstruction"], variance)

    def called(windows: Floats) -> Floats:
        scaled = files.scaled(windows)
        return statistic(scaled, compiled(tf.constant(scaled))["reconstruction"].numpy(), variance)

    return Loaded(
        {
            "predict": each(lambda window: float(predicted(window[None])[0]), files.windows),
            "tf.function": each(lambda window: float(called(window[None])[0]), files.windows),
        },
        {
            "predict": predicted,
            "tf.function": called,
        },
    )
