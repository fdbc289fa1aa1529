"""Training: the negative ELBO of a sigma-VAE, KL warm-up, and early stopping on held-out blocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge_vae.sample import FloatArray
from edge_vae.score import VARIANCE_FLOOR
from edge_vae_train.models import VariationalAutoencoder

__all__ = ["ACTIVE_VARIANCE", "Fitted", "SigmaVAE", "fit"]

ACTIVE_VARIANCE = 0.05
"""A latent unit whose posterior mean varies by more than this is active (Burda et al. 2016, section 5.2, uses 0.01)."""

LOSS = "negative_elbo"
LEARNING_RATE = 2e-3
_LOG_VARIANCE_RANGE = (-8.0, 4.0)
_GRADIENT_NORM = 5.0
_STEPS_PER_EPOCH = (15, 40)
"""An epoch is at least and at most so many steps: small data gets enough of them, large data reports often enough."""
_LEARNED_BATCH = 1024

Progress = Callable[[int, int, float, float], None]
"""Called after each epoch: epoch, epochs, training loss, held-out loss."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained model.

    Attributes:
        variance: (channels,) learned decoder variance, in squared sigmas of the scaled samples.
        history: Training and held-out loss of each epoch, nats a sample and channel.
        kept_epoch: The epoch whose weights were kept, counted from 1: the best one after the first third.
        active_units: Latent units that carry information.
    """

    variance: FloatArray
    history: tuple[tuple[float, float], ...]
    kept_epoch: int
    active_units: int

    @property
    def kept_losses(self) -> tuple[float, float]:
        """Training and held-out loss of the epoch that was kept."""
        return self.history[self.kept_epoch - 1]


class SigmaVAE(keras.Model):  # type: ignore[misc]  # Keras ships no type information
    """Encoder, decoder, and one log standard deviation for each channel (sigma-VAE, Rybkin et al. 2021, section 3.2).

    negative_elbo = sum over window and channels of [(x - x_hat)^2 / (2 sigma_c^2) + log sigma_c]
                  + kl_weight * sum over latent of KL(q(z|x) || N(0, 1)),
    mean over the batch, divided by length * channels so that one learning rate fits every window.

    Args:
        vae: The model to train.
        beta: Weight of the KL term after warm-up.
    """

    def __init__(self, vae: VariationalAutoencoder, *, beta: float) -> None:
        super().__init__()
        self.encoder, self.decoder, self.beta = vae.encoder, vae.decoder, beta
        self.cells = vae.architecture.length * vae.architecture.channels
        self.log_sigma = self.add_weight(shape=(vae.architecture.channels,), initializer="zeros", name="log_sigma")
        self.kl_weight = self.add_weight(shape=(), initializer="zeros", trainable=False, name="kl_weight")
        self.noise = keras.random.SeedGenerator(seed=0)
        self.mean_loss = keras.metrics.Mean(name=LOSS)

    @property
    def metrics(self) -> list[Any]:
        """What Keras averages over the steps of an epoch."""
        return [self.mean_loss]

    def call(self, windows: Any) -> Any:
        """Reconstruction from the posterior mean."""
        return self.decoder(self.encoder(windows)[0])

    def negative_elbo(self, windows: Any, *, sample: bool, kl_weight: Any) -> Any:
        """The loss, a scalar; the latent is the posterior mean unless `sample`."""
        mean, log_variance = self.encoder(windows)
        log_variance = tf.clip_by_value(log_variance, *_LOG_VARIANCE_RANGE)
        latent = mean
        if sample:
            latent += tf.exp(0.5 * log_variance) * keras.random.normal(tf.shape(mean), seed=self.noise)
        log_sigma = tf.maximum(self.log_sigma, 0.5 * math.log(VARIANCE_FLOOR))
        error = 0.5 * tf.square(windows - self.decoder(latent)) * tf.exp(-2.0 * log_sigma) + log_sigma
        divergence = 0.5 * tf.reduce_sum(tf.square(mean) + tf.exp(log_variance) - 1.0 - log_variance, axis=1)
        return tf.reduce_mean(tf.reduce_sum(error, axis=[1, 2]) + kl_weight * divergence) / self.cells

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step on a batch of windows."""
        with tf.GradientTape() as tape:
            loss = self.negative_elbo(data, sample=True, kl_weight=self.kl_weight)
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        self.mean_loss.update_state(loss)
        return {LOSS: self.mean_loss.result()}

    def test_step(self, data: Any) -> dict[str, Any]:
        """The loss with the full KL term, so that epochs during and after warm-up compare."""
        self.mean_loss.update_state(self.negative_elbo(data, sample=False, kl_weight=self.beta))
        return {LOSS: self.mean_loss.result()}


class _WarmUp(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no type information
    """Raises the weight of the KL term linearly to beta over the first third of the epochs."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._epochs = max(1, epochs // 3)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 (Keras calls it so)
        self.model.kl_weight.assign(self.model.beta * min(1.0, (epoch + 1) / self._epochs))


class _Report(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no type information
    """Hands each epoch's losses on."""

    def __init__(self, epochs: int, progress: Progress) -> None:
        super().__init__()
        self._epochs, self._progress = epochs, progress
        self.history: list[tuple[float, float]] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        losses = (float(logs[LOSS]), float(logs["val_" + LOSS]))
        self.history.append(losses)
        self._progress(epoch + 1, self._epochs, *losses)


def fit(
    vae: VariationalAutoencoder,
    training: NDArray[np.float32],
    held_out: NDArray[np.float32],
    *,
    beta: float,
    epochs: int,
    batch_size: int,
    seed: int,
    progress: Progress,
) -> Fitted:
    """Train `vae` in place on clipped windows (windows, length, channels), and keep its best epoch on `held_out`.

    The same seed gives the same weights on the same machine: call `keras.utils.set_random_seed` before building `vae`.
    """
    model = SigmaVAE(vae, beta=beta)
    batch = min(batch_size, len(training))
    steps = min(max(-(-len(training) // batch), _STEPS_PER_EPOCH[0]), _STEPS_PER_EPOCH[1])
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps * epochs, alpha=0.01)
    optimizer = keras.optimizers.Adam(rate, global_clipnorm=_GRADIENT_NORM)
    model.compile(optimizer=optimizer, steps_per_execution=steps, jit_compile=False)
    windows = tf.data.Dataset.from_tensor_slices(training).shuffle(len(training), seed=seed).repeat().batch(batch)
    report = _Report(epochs, progress)
    warm = max(1, epochs // 3) - 1
    stop = keras.callbacks.EarlyStopping(
        "val_" + LOSS,
        patience=max(5, epochs // 5),
        start_from_epoch=warm,
        restore_best_weights=True,
        mode="min",
    )
    model.fit(
        windows.prefetch(2),
        epochs=epochs,
        steps_per_epoch=steps,
        validation_data=tf.data.Dataset.from_tensor_slices(held_out).batch(_LEARNED_BATCH),
        callbacks=[_WarmUp(epochs), report, stop],
        shuffle=False,  # the data set shuffles itself
        verbose=0,
    )
    variance = np.exp(2.0 * model.log_sigma.numpy().astype(np.float64))
    mean = vae.encoder.predict(held_out, verbose=0, batch_size=_LEARNED_BATCH)[0]
    active = int((mean.var(axis=0) > ACTIVE_VARIANCE).sum())
    kept_epoch = warm + 1 + int(np.argmin([held_out_loss for _, held_out_loss in report.history[warm:]]))
    return Fitted(np.maximum(variance, VARIANCE_FLOOR), tuple(report.history), kept_epoch, active)


def deterministic(seed: int) -> None:
    """Make everything that TensorFlow draws or adds up follow from `seed`."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
