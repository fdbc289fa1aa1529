"""The `hvae` family: two latent levels, one of the whole window and one of its course (cf. Soenderby et al. 2016).

The upper level z2 has `latent` units, the lower one z1 one unit for each quarter step, with the prior
p(z1 | z2) = N(m(z2), 1). What the model calls its latent holds z2 and the *deviation* u = z1 - m(z2), the residual form
of Vahdat and Kautz (2020, section 3.2). A shift changes no divergence: KL(q(z1) || p(z1 | z2)) = KL(q(u) || N(0, 1)).
So the loss, the sampling and the outputs are those of a family with one level, and the posterior mean of both levels
is what the scoring graph decodes.
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
from edge_vae_train.families.conv import down, quarter, samples, seed, up

__all__ = ["build"]


def build(architecture: Architecture) -> VariationalAutoencoder:
    """An untrained model; its latent has `latent` + a quarter of `length` units."""
    return assemble(architecture, _encode, _decode)


def _encode(a: Architecture, window: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
    x = down(down(window, a.width // 2, name="down1"), a.width, name="down2")
    x = layers.Conv1D(a.width // 2, 3, padding="same", activation="relu", name="narrow")(x)
    mean, log_variance = posterior(a, layers.Flatten(name="flat")(x), condition)
    course = layers.Conv1D(1, 3, padding="same", name="course_mean")(x)
    course = layers.Flatten(name="course_mean_flat")(course)
    expected = layers.Dense(quarter(a), name="course_expected")(mean)
    deviation = layers.Add(name="deviation_mean")([course, expected])
    course = layers.Conv1D(1, 3, padding="same", name="course_log_variance")(x)
    course = layers.Flatten(name="course_log_variance_flat")(course)
    return (
        layers.Concatenate(name="both_means")([mean, deviation]),
        layers.Concatenate(name="both_log_variances")([log_variance, course]),
    )


def _decode(a: Architecture, latent: Tensor, condition: Tensor) -> Tensor:
    units = layers.Reshape((latent.shape[-1], 1), name="units")(latent)
    upper = layers.Flatten(name="upper")(layers.Cropping1D((0, quarter(a)), name="upper_units")(units))
    deviation = layers.Cropping1D((a.latent, 0), name="deviation")(units)
    prior = layers.Dense(quarter(a), name="prior_mean")(joined(upper, condition))
    lower = layers.Add(name="lower")([layers.Flatten(name="deviation_flat")(deviation), prior])
    lower = layers.Reshape((quarter(a), 1), name="lower_steps")(lower)
    x = layers.Conv1D(a.width // 2, 3, padding="same", name="course")(lower)
    x = layers.ReLU(name="course_relu")(layers.Add(name="course_sum")([x, seed(a, upper, condition)]))
    return samples(a, up(up(x, a.width, name="up1"), a.width // 2, name="up2"))
