"""Training: it learns, keeps the best epoch, answers a collapse, and follows from its seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_vae.errors import TrainingError
from edge_vae_train.elbo import Examples, SigmaVAE
from edge_vae_train.fit import BETA_FACTOR, MAX_TRIES, Fitted, fit, tune
from edge_vae_train.models import Architecture

pytestmark = pytest.mark.keras

Windows = NDArray[np.float32]
Reports = list[tuple[int, int, float, float]]
SMALL = Architecture(8, 2, latent=3, width=8)
DENSE = Architecture(8, 2, family="dense", latent=3, width=8)  # the quickest to build


def waves(count: int, *, seed: int = 0, noise: tuple[float, float] = (0.1, 0.1)) -> Windows:
    """Sines of any phase in two channels: one hidden cause, which a model can learn."""
    generator = np.random.default_rng(seed)
    phase = generator.uniform(0, 2 * np.pi, (count, 1, 1))
    t = np.arange(8)[None, :, None]
    clean = np.sin(2 * np.pi * t / 8 + phase + np.array([0.0, 1.0]))
    return (clean + np.array(noise) * generator.normal(size=clean.shape)).astype(np.float32)


def noise(count: int, *, seed: int = 0) -> Windows:
    return np.random.default_rng(seed).normal(size=(count, 8, 2)).astype(np.float32)


def trained(training: Windows, held_out: Windows, *, a: Architecture = SMALL, **changed: Any) -> tuple[Fitted, Reports]:
    reports: Reports = []
    chosen = {"beta": 1.0, "epochs": 9, "batch_size": 32, "seed": 3} | changed
    return fit(a, training, held_out, progress=lambda *r: reports.append(r), **chosen), reports


def bare(windows: Windows) -> Examples:
    """Examples without modes."""
    return Examples(windows, np.empty((len(windows), 0), np.float32))


@pytest.fixture(scope="module")
def learned() -> tuple[Fitted, Reports]:
    return trained(waves(200, noise=(0.1, 0.3)), waves(60, seed=1, noise=(0.1, 0.3)), epochs=60, beta=0.3)


def test_the_loss_falls_and_every_epoch_is_reported(learned: tuple[Fitted, Reports]) -> None:
    fitted, reports = learned
    assert [(epoch, *losses) for epoch, _, *losses in reports] == [
        (i, *losses) for i, losses in enumerate(fitted.history, 1)
    ]
    assert {epochs for _, epochs, _, _ in reports} == {60}
    training, held_out = zip(*fitted.history, strict=True)
    assert np.mean(training[-3:]) < np.mean(training[:3]) - 0.1
    assert min(held_out) < held_out[0] - 0.1


def test_the_variance_of_a_quiet_channel_is_its_reconstruction_error(learned: tuple[Fitted, Reports]) -> None:
    fitted, _ = learned
    windows = waves(2000, seed=2, noise=(0.1, 0.3))
    error = np.square(windows - np.asarray(fitted.vae.decoder(np.asarray(fitted.vae.encoder(windows)[0]))))
    assert fitted.variance.shape == (1, 2)
    # Training sees a drawn latent and its own 200 windows; a log variance that Adam moves stands at 0.16 by then.
    np.testing.assert_allclose(fitted.variance[0], error.mean(axis=(0, 1)), rtol=0.35)
    assert fitted.variance[0, 0] < 0.04


def test_steps_that_are_different_features_have_a_variance_each() -> None:
    loud = np.linspace(0.1, 1.5, 8)[:, None]
    training, held_out = (
        (loud * np.random.default_rng(i).normal(size=(n, 8, 2))).astype(np.float32) for i, n in enumerate((200, 60))
    )
    fitted, _ = trained(training, held_out, a=DENSE, per_step_variance=True, beta=1.0)
    assert fitted.variance.shape == (8, 2)
    # Nothing joins the steps, so little more than their own variance can be learned; the quietest are quiet indeed.
    assert (np.diff(fitted.variance.mean(axis=1)) > 0).sum() >= 6
    assert fitted.variance[0].max() < 0.1 < 0.8 < fitted.variance[-1].min()


def test_the_hidden_cause_of_the_data_is_found(learned: tuple[Fitted, Reports]) -> None:
    fitted, _ = learned
    assert 1 <= fitted.active_units <= 3
    assert (fitted.beta, fitted.retries) == (0.3, 0)


def test_the_best_epoch_after_the_warm_up_is_kept() -> None:
    """Eight windows of noise are learned by heart, so the held-out loss has its minimum early and rises."""
    held_out = noise(40, seed=1)
    fitted, _ = trained(noise(8), held_out, epochs=60, beta=0.05)
    losses = [held_out_loss for _, held_out_loss in fitted.history]
    assert fitted.kept_epoch == 20 + int(np.argmin(losses[19:]))
    assert len(losses) == fitted.kept_epoch + 12  # a fifth of the epochs without a better one ends it
    kept = SigmaVAE(fitted.vae)
    kept.variance.assign(fitted.variance)
    assert kept.losses(bare(held_out), kl_weight=0.05)[0] == pytest.approx(fitted.kept_losses[1], rel=1e-4)


def parameters(fitted: Fitted) -> list[NDArray[Any]]:
    return [*fitted.vae.encoder.get_weights(), *fitted.vae.decoder.get_weights(), fitted.variance]


@pytest.mark.parametrize("masked", [0.0, 0.2])
def test_equal_seeds_give_equal_weights(masked: float) -> None:
    one, same, other = (
        trained(waves(64), waves(20, seed=1), a=DENSE, seed=seed, epochs=3, masked=masked)[0] for seed in (5, 5, 6)
    )
    assert all(np.array_equal(a, b) for a, b in zip(parameters(one), parameters(same), strict=True))
    assert one.history == same.history
    assert not all(np.array_equal(a, b) for a, b in zip(parameters(one), parameters(other), strict=True))


def test_a_collapse_is_answered_with_a_lower_beta() -> None:
    fitted, reports = trained(waves(200), waves(60, seed=1), a=DENSE, epochs=40, beta=10.0)
    assert fitted.retries >= 1
    assert fitted.beta == 10.0 * BETA_FACTOR**fitted.retries
    assert fitted.active_units >= 1
    assert [epoch for epoch, *_ in reports].count(1) == fitted.retries + 1
    assert len(fitted.history) == reports[-1][0]


def test_a_collapse_at_every_beta_is_told() -> None:
    fitted, _ = trained(noise(100), noise(40, seed=1), a=DENSE, epochs=20, beta=1e6)
    assert fitted.active_units == 0
    assert fitted.retries == MAX_TRIES - 1
    assert fitted.beta == 1e6 * BETA_FACTOR**2


def test_a_model_with_masks_learns_to_fill_a_gap() -> None:
    plain, masking = (
        trained(waves(400), waves(60, seed=1), epochs=60, beta=0.1, masked=share)[0] for share in (0.0, 0.3)
    )
    whole = waves(200, seed=2)
    gap = whole.copy()
    gap[:, 2:5] = 0.0

    def error(fitted: Fitted) -> float:
        filled = np.asarray(fitted.vae.decoder(np.asarray(fitted.vae.encoder(gap)[0])))
        return float(np.square(whole - filled)[:, 2:5].mean())

    assert error(masking) < 0.7 * error(plain)


def by_mode(count: int, *, seed: int) -> tuple[Windows, Windows]:
    """Noise around one of two levels, and which one it is."""
    generator = np.random.default_rng(seed)
    mode = generator.integers(0, 2, count)
    level = np.array([-1.0, 1.0])[mode][:, None, None]
    return (level + 0.2 * generator.normal(size=(count, 8, 2))).astype(np.float32), np.eye(2, dtype=np.float32)[mode]


@pytest.mark.parametrize("family", ["dense", "linear"])
def test_what_the_mode_explains_is_not_left_in_the_variance(family: str) -> None:
    (training, modes), (held_out, held_out_modes) = by_mode(200, seed=0), by_mode(60, seed=1)
    a = Architecture(8, 2, family=family, latent=1, width=8, modes=2)
    fitted, _ = trained(training, held_out, a=a, conditions=(modes, held_out_modes), epochs=40, beta=4.0)
    assert fitted.variance.max() < 0.08
    wrong = held_out_modes[:, ::-1].copy()
    decoded = [
        np.asarray(fitted.vae.decoder([np.asarray(fitted.vae.encoder([held_out, c])[0]), c]))
        for c in (held_out_modes, wrong)
    ]
    errors = [float(np.square(held_out - windows).mean()) for windows in decoded]
    assert errors[1] > 2 * errors[0]


def test_the_linear_family_is_solved_in_one_epoch() -> None:
    training, held_out = waves(200), waves(60, seed=1)
    a = Architecture(8, 2, family="linear", latent=2)
    fitted, reports = trained(training, held_out, a=a)
    residuals = [
        np.square(w - np.asarray(fitted.vae.decoder(np.asarray(fitted.vae.encoder(w)[0]))))
        for w in (training, held_out)
    ]
    variance = residuals[0].mean(axis=(0, 1))
    np.testing.assert_allclose(fitted.variance, variance[None], rtol=1e-4)
    expected = [float((residual / variance + np.log(variance)).mean()) / 2 for residual in residuals]
    assert fitted.history == (pytest.approx(expected, rel=1e-4),)
    assert reports == [(1, 1, *fitted.history[0])]
    assert (fitted.kept_epoch, fitted.active_units, fitted.retries) == (1, 2, 0)
    assert trained(training, held_out, a=a, per_step_variance=True)[0].variance.shape == (8, 2)


@pytest.mark.parametrize(
    ("a", "changed", "message"),
    [
        (Architecture(8, 2, modes=2), {}, r"conditions: expected shape \(4, 2\), received \(4, 0\)"),
        (SMALL, {"conditions": (np.ones((4, 1), "f4"),) * 2}, r"expected shape \(4, 0\), received \(4, 1\)"),
        (SMALL, {"masked": 1.0}, r"masked: expected a share in \[0, 1\), received 1"),
        (Architecture(8, 2, family="linear"), {"masked": 0.1}, "masked: expected 0 for family linear"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(a: Architecture, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trained(noise(4), noise(4), a=a, **changed)


def test_data_without_a_number_is_refused() -> None:
    broken = noise(20)
    broken[3, 2, 1] = np.nan
    with pytest.raises(TrainingError, match="expected a finite number, received nan"):
        trained(broken, broken, epochs=2)


def tuned(fitted: Fitted, training: Windows, held_out: Windows, **changed: Any) -> tuple[Fitted, float]:
    none = tuple(np.empty((len(windows), 0), np.float32) for windows in (training, held_out))
    chosen: dict[str, Any] = {"beta": 0.3, "epochs": 15, "batch_size": 32, "seed": 3} | changed
    chosen["progress"] = lambda *_: None
    return tune(fitted.vae, training, held_out, conditions=(none[0], none[1]), **chosen)


@pytest.mark.parametrize(("a", "frozen"), [(SMALL, {"down1", "down2", "narrow"}), (DENSE, {"wide", "narrow"})])
def test_fine_tuning_freezes_what_the_encoder_sees_and_gains_on_another_machine(
    a: Architecture, frozen: set[str]
) -> None:
    fitted, _ = trained(waves(200), waves(60, seed=1), a=a, beta=0.3, epochs=15)
    before = {layer.name: layer.get_weights() for layer in fitted.vae.encoder.layers}
    after, new_loss = tuned(fitted, -0.7 * waves(80, seed=2), -0.7 * waves(60, seed=3))
    same = {
        layer.name
        for layer in after.vae.encoder.layers
        if layer.weights
        and all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), before[layer.name], strict=True))
    }
    assert same == frozen
    assert len(after.history) == after.kept_epoch == 16  # the old weights are the first
    assert after.kept_losses[1] == new_loss < after.history[0][1]
    assert after.retries == 0


def test_the_losses_before_and_after_fine_tuning_are_measured_alike() -> None:
    """A learning rate so low that nothing moves: then nothing may seem gained or lost."""
    fitted, _ = trained(waves(200), waves(60, seed=1), a=DENSE, beta=0.3, epochs=15)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge_vae_train.fit.TUNING_RATE", 1e-12)
        after, new_loss = tuned(fitted, waves(80, seed=2), waves(60, seed=3), epochs=2)
    assert new_loss == pytest.approx(after.history[0][1], rel=1e-5)


def test_fine_tuning_without_a_gain_puts_the_old_weights_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_vae_train.fit.TUNING_RATE", 0.1)  # steps so large that they spoil what was learned
    fitted, _ = trained(waves(200), waves(60, seed=1), a=DENSE, beta=0.3, epochs=15)
    before = [*fitted.vae.encoder.get_weights(), *fitted.vae.decoder.get_weights()]
    after, new_loss = tuned(fitted, noise(40), waves(60, seed=3), epochs=3)
    assert new_loss > after.history[0][1] == after.kept_losses[1]
    assert after.kept_epoch == 1
    same = zip(before, [*after.vae.encoder.get_weights(), *after.vae.decoder.get_weights()], strict=True)
    assert all(np.array_equal(a, b) for a, b in same)


def test_fine_tuning_on_data_without_a_number_is_refused() -> None:
    fitted, _ = trained(waves(64), waves(20, seed=1), a=DENSE, epochs=3)
    broken = waves(40, seed=2)
    broken[3, 2, 1] = np.nan
    with pytest.raises(TrainingError, match="expected a finite number, received nan"):
        tuned(fitted, broken, waves(20, seed=3), epochs=2)
