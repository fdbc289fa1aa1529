"""The latent space in figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_vae_train.report.latent import ACTIVE_VARIANCE, LEVELS, answer, latent, traverse

GENERATOR = np.random.default_rng(3)
LABELS = np.arange(400) >= 300


def independent() -> np.ndarray[Any, Any]:
    means = GENERATOR.normal(size=(400, 3)) * [1.0, 0.01, 2.0]
    means[LABELS, 0] += 6.0
    return means


class Decoder:
    """Unit 1 moves the first channel, unit 3 the second; with a condition, that of the third."""

    def __init__(self, inputs: int = 1) -> None:
        self.inputs = [None] * inputs

    def __call__(self, given: Any, *, training: bool) -> np.ndarray[Any, Any]:
        latents, condition = given if len(self.inputs) > 1 else (given, np.zeros((len(given), 1)))
        samples = np.stack([latents[:, 0], latents[:, 2], condition[:, 0]], axis=1)
        return np.repeat(samples[:, None], 4, axis=1)


def test_units_that_hardly_vary_on_normal_windows_are_not_active_and_the_others_come_by_variance() -> None:
    found = latent(independent(), LABELS)
    assert found.active == (2, 0)
    assert found.correlation.shape == (2, 2)
    assert found.parting[1] > 0.99
    assert found.parting[0] < 0.65


@pytest.mark.keras
def test_the_variance_of_an_active_unit_is_that_of_training() -> None:
    from edge_vae_train import fit

    assert fit.ACTIVE_VARIANCE == ACTIVE_VARIANCE


def test_labelled_windows_do_not_make_a_unit_active() -> None:
    means = np.where(LABELS[:, None], 5.0, 0.0)
    assert latent(means, LABELS).active == ()


def test_without_labelled_windows_no_parting_is_claimed() -> None:
    assert np.isnan(latent(independent(), np.zeros(400, bool)).parting).all()


@pytest.mark.parametrize("inputs", [1, 2])
def test_a_traversal_moves_one_unit_and_tells_which_channel_follows(inputs: int) -> None:
    found = latent(independent(), LABELS)
    moved = traverse(found, Decoder(inputs), np.array([1.0], np.float32))
    assert moved.windows.shape == (2, len(LEVELS), 4, 3)
    np.testing.assert_allclose(moved.shares, [[0, 1, 0], [1, 0, 0]], atol=1e-9)
    spread = found.means[~LABELS, 2].std()
    np.testing.assert_allclose(np.diff(moved.windows[0, :, 0, 1]), np.diff(LEVELS) * spread, rtol=1e-5)
    assert (moved.windows[..., 2] == (1.0 if inputs > 1 else 0.0)).all()


def test_independent_units_of_different_channels_are_disentangled() -> None:
    found = latent(independent(), LABELS)
    moved = traverse(found, Decoder(), np.zeros(0, np.float32))
    text = answer(found, moved, ("flow", "speed", "load"))
    assert text.startswith("Disentangled, as far as this shows")
    assert "2 of 2 active units act mainly (at least 50%) on a single channel: flow, speed." in text


def test_units_that_move_together_are_not() -> None:
    means = independent()
    means[:, 2] = means[:, 0] + 0.1 * means[:, 2]
    found = latent(means, LABELS)
    moved = traverse(found, Decoder(), np.zeros(0, np.float32))
    text = answer(found, moved, ("flow", "speed", "load"))
    assert text.startswith("Not disentangled")
    assert "between units 1 and 3" in text


def test_without_a_decoder_uncorrelated_is_the_most_that_is_said() -> None:
    text = answer(latent(independent(), LABELS), None, ("flow", "speed"))
    assert text.startswith("Uncorrelated, which is needed for disentangled but not enough.")


def test_one_unit_has_nothing_to_disentangle() -> None:
    assert "fewer than two" in answer(latent(independent()[:, :1], LABELS), None, ("flow",))
