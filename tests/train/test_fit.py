"""Training: the loss is the formula, it falls, the best epoch is kept, and everything follows from the seed."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_vae.score import VARIANCE_FLOOR
from edge_vae_train.fit import Fitted, SigmaVAE, fit
from edge_vae_train.models import Architecture, VariationalAutoencoder, build

pytestmark = pytest.mark.keras

Windows = NDArray[np.float32]
Learned = tuple[VariationalAutoencoder, Fitted, list[tuple[int, int, float, float]]]
SMALL = Architecture(8, 2, latent=3, width=8)


def waves(count: int, *, seed: int = 0, noise: float = 0.1) -> Windows:
    """Sines of any phase in two channels: one hidden cause, which a model can learn."""
    generator = np.random.default_rng(seed)
    phase = generator.uniform(0, 2 * np.pi, (count, 1, 1))
    t = np.arange(8)[None, :, None]
    clean = np.sin(2 * np.pi * t / 8 + phase + np.array([0.0, 1.0]))
    return (clean + noise * generator.normal(size=clean.shape)).astype(np.float32)


def trained(windows: Windows, held_out: Windows, *, seed: int = 3, epochs: int = 9, beta: float = 1.0) -> Learned:
    reports: list[tuple[int, int, float, float]] = []
    keras.utils.set_random_seed(seed)
    vae = build(SMALL)
    fitted = fit(
        vae,
        windows,
        held_out,
        beta=beta,
        epochs=epochs,
        batch_size=32,
        seed=seed,
        progress=lambda *r: reports.append(r),
    )
    return vae, fitted, reports


@pytest.fixture(scope="module")
def learned() -> Learned:
    return trained(waves(200), waves(60, seed=1), epochs=60, beta=0.3)


def negative_elbo_slowly(model: SigmaVAE, windows: Windows, kl_weight: float) -> float:
    """The formula of the docstring, one number at a time."""
    means, log_variances = (np.asarray(output, np.float64) for output in model.encoder(windows))
    reconstructions = np.asarray(model.decoder(means.astype(np.float32)), np.float64)
    log_sigma = np.asarray(model.log_sigma, np.float64)
    losses = []
    for window, reconstruction, mean, log_variance in zip(windows, reconstructions, means, log_variances, strict=True):
        loss = 0.0
        for t in range(window.shape[0]):
            for c in range(window.shape[1]):
                sigma = max(math.exp(log_sigma[c]), math.sqrt(VARIANCE_FLOOR))
                loss += (window[t, c] - reconstruction[t, c]) ** 2 / (2 * sigma**2) + math.log(sigma)
        for m, v in zip(mean, log_variance, strict=True):
            v = min(max(v, -8.0), 4.0)
            loss += kl_weight * 0.5 * (m * m + math.exp(v) - 1.0 - v)
        losses.append(loss / (window.shape[0] * window.shape[1]))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("kl_weight", [0.0, 1.7])
@pytest.mark.parametrize("log_sigma", [(0.0, 0.0), (0.6, -1.2), (-9.0, 0.1)])
def test_the_loss_equals_its_slow_twin(log_sigma: tuple[float, float], kl_weight: float) -> None:
    model = SigmaVAE(build(SMALL), beta=1.0)
    model.log_sigma.assign(log_sigma)
    model.encoder.get_layer("posterior_log_variance").bias.assign([9.0, -20.0, 0.5])  # beyond both ends, and within
    windows = waves(5)
    found = float(model.negative_elbo(windows, sample=False, kl_weight=kl_weight))
    # float32 sums of sixteen cells and three latents.
    assert found == pytest.approx(negative_elbo_slowly(model, windows, kl_weight), rel=1e-5)


def test_training_draws_the_latent_from_the_posterior() -> None:
    model = SigmaVAE(build(SMALL), beta=1.0)
    windows = waves(64)

    def spread(log_variance: float) -> float:
        layer = model.encoder.get_layer("posterior_log_variance")
        layer.kernel.assign(np.zeros(layer.kernel.shape))
        layer.bias.assign(np.full(3, log_variance))
        losses = [float(model.negative_elbo(windows, sample=True, kl_weight=0.0)) for _ in range(8)]
        return float(np.std(losses))

    assert spread(3.0) > 3 * spread(-8.0) > 0


def test_the_loss_falls_and_every_epoch_is_reported(learned: Learned) -> None:
    _, fitted, reports = learned
    assert [(epoch, *losses) for epoch, _, *losses in reports] == [
        (i, *losses) for i, losses in enumerate(fitted.history, 1)
    ]
    assert {epochs for _, epochs, _, _ in reports} == {60}
    training, held_out = zip(*fitted.history, strict=True)
    assert np.mean(training[-3:]) < np.mean(training[:3]) - 0.1
    assert min(held_out) < held_out[0] - 0.1


def test_the_learned_variance_falls_from_one_towards_the_reconstruction_error(learned: Learned) -> None:
    vae, fitted, _ = learned
    windows = waves(200)
    error = np.square(windows - np.asarray(vae.decoder(vae.encoder(windows)[0]))).mean(axis=(0, 1))
    assert fitted.variance.shape == (2,)
    # One step moves a log by at most the learning rate: 900 steps of a cosine from 0.002 reach about 0.16.
    assert (fitted.variance > error).all()
    assert (fitted.variance < 0.25).all()


def test_the_hidden_cause_of_the_data_is_found(learned: Learned) -> None:
    assert 1 <= learned[1].active_units <= 3


def test_the_best_epoch_after_the_warm_up_is_kept() -> None:
    """Eight windows of noise are learned by heart, so the held-out loss has its minimum early and rises."""
    generator = np.random.default_rng(0)
    training, held_out = (generator.normal(size=(n, 8, 2)).astype(np.float32) for n in (8, 40))
    vae, fitted, _ = trained(training, held_out, epochs=60, beta=0.05)
    losses = [held_out_loss for _, held_out_loss in fitted.history]
    assert fitted.kept_epoch == 20 + int(np.argmin(losses[19:]))
    assert len(losses) == fitted.kept_epoch + 12  # a fifth of the epochs without a better one ends it
    kept = SigmaVAE(vae, beta=0.05)
    kept.log_sigma.assign(0.5 * np.log(fitted.variance))
    assert float(kept.negative_elbo(held_out, sample=False, kl_weight=0.05)) == pytest.approx(
        fitted.kept_losses[1], rel=1e-4
    )
