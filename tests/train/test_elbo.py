"""The loss is its formula, a masked point has no say, and the variance follows the error."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from edge_vae.view import VARIANCE_FLOOR
from edge_vae_train.elbo import Examples, SigmaVAE
from edge_vae_train.models import Architecture, build

pytestmark = pytest.mark.keras

Array = NDArray[np.float32]
SMALL = Architecture(8, 2, latent=3, width=8)


def windows(count: int, *, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(count, 8, 2)).astype(np.float32)


def nothing(count: int) -> Array:
    """Conditions of a model without modes."""
    return np.empty((count, 0), np.float32)


def negative_elbo_slowly(
    model: SigmaVAE, given: Array, kept: Array, kl_weight: float
) -> tuple[float, NDArray[np.float64]]:
    """The formulas of the docstrings, one number at a time."""
    means, log_variances = (np.asarray(output, np.float64) for output in model.encoder(given * kept))
    reconstructions = np.asarray(model.decoder(means.astype(np.float32)), np.float64)
    variance = np.broadcast_to(np.asarray(model.variance, np.float64), (8, 2))
    losses, squares, counts = [], np.zeros((8, 2)), np.zeros((8, 2))
    for i in range(len(given)):
        loss = 0.0
        for t in range(8):
            for c in range(2):
                if not kept[i, t, c]:
                    continue
                sigma = math.sqrt(max(variance[t, c], VARIANCE_FLOOR))
                squared = (given[i, t, c] - reconstructions[i, t, c]) ** 2
                loss += squared / (2 * sigma**2) + math.log(sigma)
                squares[t, c] += squared
                counts[t, c] += 1
        share = float(kept[i].mean())
        for m, v in zip(means[i], log_variances[i], strict=True):
            v = min(max(v, -8.0), 4.0)
            loss += kl_weight * 0.5 * (share * (m * m + math.exp(v)) - 1.0 - v)
        losses.append(loss / 16)
    if model.variance.shape[0] == 1:
        squares, counts = squares.sum(axis=0, keepdims=True), counts.sum(axis=0, keepdims=True)
    return sum(losses) / len(losses), squares / counts


@pytest.mark.parametrize("masked", [0.0, 0.4])
@pytest.mark.parametrize("kl_weight", [0.0, 1.7])
@pytest.mark.parametrize("per_step_variance", [False, True])
def test_the_loss_equals_its_slow_twin(per_step_variance: bool, kl_weight: float, masked: float) -> None:
    model = SigmaVAE(build(SMALL), per_step_variance=per_step_variance)
    # From below the floor to above one.
    model.variance.assign(np.geomspace(1e-4, 3.0, int(np.prod(model.variance.shape))).reshape(model.variance.shape))
    model.encoder.get_layer("posterior_log_variance").bias.assign([9.0, -20.0, 0.5])  # beyond both ends, and within
    given = windows(5)
    kept = (np.random.default_rng(1).random(given.shape) >= masked).astype(np.float32)
    loss, error = model.negative_elbo(given, nothing(5), kl_weight=kl_weight, kept=kept if masked else None)
    slow_loss, slow_error = negative_elbo_slowly(model, given, kept, kl_weight)
    # float32 sums of sixteen cells and three latents.
    assert float(loss) == pytest.approx(slow_loss, rel=1e-5)
    np.testing.assert_allclose(error, slow_error, rtol=1e-4)


def test_the_latent_is_drawn_from_the_posterior() -> None:
    model = SigmaVAE(build(SMALL))
    layer = model.encoder.get_layer("posterior_log_variance")
    layer.kernel.assign(np.zeros(layer.kernel.shape))
    layer.bias.assign(np.full(3, 2.0 * math.log(0.5)))
    given, noise = windows(4), np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    drawn = np.asarray(model.encoder(given)[0]) + 0.5 * noise
    expected = np.square(given - np.asarray(model.decoder(drawn))).mean(axis=(0, 1))
    _, error = model.negative_elbo(given, nothing(4), kl_weight=0.0, noise=noise)
    np.testing.assert_allclose(error[0], expected, rtol=1e-5)


def test_a_masked_point_has_no_gradient() -> None:
    model = SigmaVAE(build(SMALL))
    given = tf.constant(windows(3))
    kept = np.ones((3, 8, 2), np.float32)
    kept[:, 2:4, 1] = 0.0
    with tf.GradientTape() as tape:
        tape.watch(given)
        loss, _ = model.negative_elbo(given, nothing(3), kl_weight=1.0, kept=kept)
    gradient = np.asarray(tape.gradient(loss, given))
    assert (gradient[kept == 0] == 0).all()
    assert (gradient[kept == 1] != 0).all()


def test_the_variance_comes_to_the_error_of_the_batches() -> None:
    model = SigmaVAE(build(SMALL))
    for _ in range(200):
        model.remember(tf.constant([[0.01, 4.0]]))
    np.testing.assert_allclose(model.variance, [[0.01, 4.0]], rtol=0.01)


def test_a_variance_equal_to_the_error_has_the_lowest_loss() -> None:
    model, given = SigmaVAE(build(SMALL)), windows(50)
    _, error = model.negative_elbo(given, nothing(50), kl_weight=0.0)

    def loss(factor: float) -> float:
        model.variance.assign(error * factor)
        return float(model.negative_elbo(given, nothing(50), kl_weight=0.0)[0])

    assert loss(1.0) < min(loss(0.8), loss(1.25))


def test_losses_over_chunks_are_those_of_the_whole() -> None:
    model, given = SigmaVAE(build(SMALL)), windows(1500)
    loss, error = model.losses(Examples(given, nothing(1500)), kl_weight=0.7)
    whole_loss, whole_error = model.negative_elbo(given, nothing(1500), kl_weight=0.7)
    assert loss == pytest.approx(float(whole_loss), rel=1e-5)
    np.testing.assert_allclose(error, whole_error, rtol=1e-5)


@pytest.mark.parametrize(("total", "wanted", "first_and_last"), [(10, 4, (0, 9)), (3, 4, (0, 2)), (1, 4, (0, 0))])
def test_some_examples_are_spread_over_all(total: int, wanted: int, first_and_last: tuple[int, int]) -> None:
    numbered = np.arange(total, dtype=np.float32)[:, None, None]
    chosen = Examples(numbered, numbered[:, 0]).spread(wanted)
    assert len(chosen.windows) == min(total, wanted)
    assert (chosen.windows[0, 0, 0], chosen.windows[-1, 0, 0]) == first_and_last
    np.testing.assert_array_equal(chosen.windows[:, 0], chosen.conditions)
