"""The loss: the negative ELBO of a VAE whose decoder variance is the best one in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge_vae.sample import FloatArray
from edge_vae.view import VARIANCE_FLOOR
from edge_vae_train.families.autoencoder import Tensor, VariationalAutoencoder

__all__ = ["Examples", "SigmaVAE"]

_LOG_VARIANCE_RANGE = (-8.0, 4.0)
_VARIANCE_MEMORY = 0.95
"""What one step leaves of the running mean squared error: a mean over about twenty batches."""
_CHUNK = 1024


@dataclass(frozen=True, slots=True)
class Examples:
    """Clipped windows and what they were recorded under.

    Attributes:
        windows: (windows, length, channels).
        conditions: (windows, modes); without modes it has no column.
    """

    windows: NDArray[np.float32]
    conditions: NDArray[np.float32]

    def chunks(self) -> Iterator[Examples]:
        """The same in pieces that fit into memory together with a model's activations."""
        for i in range(0, len(self.windows), _CHUNK):
            yield Examples(self.windows[i : i + _CHUNK], self.conditions[i : i + _CHUNK])

    def spread(self, count: int) -> Examples:
        """At most `count` of them, evenly spread."""
        chosen = np.linspace(0, len(self.windows) - 1, min(count, len(self.windows))).round().astype(np.int64)
        return Examples(self.windows[chosen], self.conditions[chosen])


class SigmaVAE:
    """A VAE, and the variance of its decoder for each channel, or each step and channel.

    negative_elbo = sum over window and channels of [(x - x_hat)^2 / (2 sigma^2) + log sigma]
                  + kl_weight * sum over latent of KL(q(z|x) || N(0, 1)),
    mean over the batch, divided by the cells of a window so that one learning rate fits every window.

    The sigma^2 that minimises it is the mean squared error itself (Rybkin et al. 2021, section 3.3, optimal
    sigma-VAE). So it is no weight that a gradient moves, but a running mean of that error.

    Args:
        vae: The model to train.
        per_step_variance: Whether each step has a variance of its own.
    """

    def __init__(self, vae: VariationalAutoencoder, *, per_step_variance: bool = False) -> None:
        a = vae.architecture
        self.encoder, self.decoder, self.cells = vae.encoder, vae.decoder, a.cells
        self.latent = int(vae.encoder.output[0].shape[-1])
        self._conditioned = bool(a.modes)
        self._averaged = [0] if per_step_variance else [0, 1]
        self.variance = tf.Variable(tf.ones((a.length if per_step_variance else 1, a.channels)), trainable=False)
        specification = (tf.TensorSpec((None, a.length, a.channels)), tf.TensorSpec((None, a.modes)), tf.TensorSpec(()))
        self._evaluate = tf.function(
            lambda windows, conditions, kl_weight: self.negative_elbo(windows, conditions, kl_weight=kl_weight),
            input_signature=specification,
        )

    @property
    def weights(self) -> list[Any]:
        """What a gradient moves."""
        return [*self.encoder.trainable_variables, *self.decoder.trainable_variables]

    @property
    def state(self) -> list[Any]:
        """All that training changes."""
        return [*self.weights, self.variance]

    def negative_elbo(
        self, windows: Tensor, conditions: Tensor, *, kl_weight: Any, noise: Tensor = None, kept: Tensor = None
    ) -> tuple[Tensor, Tensor]:
        """The loss, a scalar, and the mean squared error in the variance's shape.

        With `kept` it is M-ELBO (Xu et al. 2018, equation 3): a masked point is 0 for the encoder and missing in the
        sum over the window, and the prior counts as much as the share of points that is left.

        Args:
            windows: (batch, length, channels).
            conditions: (batch, modes); without a column where the model has no modes.
            kl_weight: Weight of the divergence.
            noise: (batch, latent) standard normal draws; without them the latent is the posterior mean.
            kept: (batch, length, channels), 1 or, where a point is masked, 0; without it every point is kept.
        """
        kept = tf.ones_like(windows) if kept is None else kept
        mean, log_variance = self.encoder(self._beside(windows * kept, conditions))
        log_variance = tf.clip_by_value(log_variance, *_LOG_VARIANCE_RANGE)
        latent = mean if noise is None else mean + tf.exp(0.5 * log_variance) * noise
        squared = kept * tf.square(windows - self.decoder(self._beside(latent, conditions)))
        variance = tf.maximum(self.variance, VARIANCE_FLOOR)
        error = 0.5 * tf.reduce_sum(squared / variance + kept * tf.math.log(variance), axis=[1, 2])
        share = tf.reduce_mean(kept, axis=[1, 2])[:, None]
        divergence = share * (tf.square(mean) + tf.exp(log_variance)) - 1.0 - log_variance
        loss = tf.reduce_mean(error + kl_weight * 0.5 * tf.reduce_sum(divergence, axis=1)) / self.cells
        counted = tf.maximum(tf.reduce_sum(kept, axis=self._averaged, keepdims=True), 1.0)
        return loss, (tf.reduce_sum(squared, axis=self._averaged, keepdims=True) / counted)[0]

    def remember(self, mean_squared_error: Tensor) -> None:
        """Moves the variance towards the error of one more batch."""
        self.variance.assign(_VARIANCE_MEMORY * self.variance + (1.0 - _VARIANCE_MEMORY) * mean_squared_error)

    def losses(self, examples: Examples, *, kl_weight: float) -> tuple[float, FloatArray]:
        """Loss and mean squared error over all examples, decoded from the posterior mean."""
        total, loss, error = len(examples.windows), 0.0, np.zeros(self.variance.shape)
        for chunk in examples.chunks():
            share = len(chunk.windows) / total
            found = self._evaluate(chunk.windows, chunk.conditions, np.float32(kl_weight))
            loss, error = loss + share * float(found[0]), error + share * found[1].numpy()
        return loss, error

    def posterior_means(self, examples: Examples) -> FloatArray:
        """(windows, latent)."""
        chunks = [self.encoder(self._beside(c.windows, c.conditions))[0] for c in examples.chunks()]
        return np.concatenate([np.asarray(chunk, np.float64) for chunk in chunks])

    def _beside(self, x: Tensor, conditions: Tensor) -> Tensor:
        return [x, conditions] if self._conditioned else x
