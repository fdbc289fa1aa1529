"""alibi-detect's OutlierVAE around the layers of our VAE; its weights stay as they are made, which is as fast."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from alibi_detect.od import OutlierVAE

from speed_peers.loaded import Files, Floats, Loaded, each

LATENT = 8
NEVER = 1e9
"""A threshold: which windows lie above it takes no time."""


def load(files: Files, *, argument: str, threads: int) -> Loaded:
    """With so many samples of the posterior for each window as the argument says."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    encoder, decoder = _layers(*files.windows.shape[1:])
    detector = OutlierVAE(
        threshold=NEVER, encoder_net=encoder, decoder_net=decoder, latent_dim=LATENT, samples=int(argument)
    )

    def bulk(windows: Floats) -> Floats:
        return np.asarray(detector.predict(files.scaled(windows))["data"]["instance_score"])

    return Loaded({argument: each(lambda window: float(bulk(window[None])[0]), files.windows)}, {argument: bulk})


def _layers(length: int, channels: int) -> tuple[Any, Any]:
    layers, same = tf.keras.layers, {"padding": "same", "activation": "relu"}
    encoder = tf.keras.Sequential(
        [
            layers.InputLayer((length, channels)),
            layers.Conv1D(32, 5, strides=2, **same),
            layers.Conv1D(64, 5, strides=2, **same),
            layers.Conv1D(32, 3, **same),
        ]
    )
    decoder = tf.keras.Sequential(
        [
            layers.InputLayer((LATENT,)),
            layers.Dense(length // 4 * 32, activation="relu"),
            layers.Reshape((length // 4, 32)),
            layers.Conv1D(128, 3, **same),
            layers.Reshape((length // 2, 64)),
            layers.Conv1D(64, 3, **same),
            layers.Reshape((length, 32)),
            layers.Conv1D(channels, 3, padding="same"),
        ]
    )
    return encoder, decoder
