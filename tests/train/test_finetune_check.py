"""A trial of a model: the same seed gives the same faults, and what is not reconstructed is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_vae.view import View
from edge_vae_train.finetune_check import SEVERITIES, Trial
from edge_vae_train.models import Architecture, VariationalAutoencoder, build
from edge_vae_train.prepare import WindowSet

pytestmark = pytest.mark.keras

VIEW = View("window", "window", (), (), ((1.0, 1.0),), 0, (), None)


def normal(count: int, *, seed: int, modes: int = 0) -> WindowSet:
    windows = np.random.default_rng(seed).normal(0, 0.5, (count, 8, 2)).astype(np.float32)
    return WindowSet(windows, np.eye(max(modes, 1), modes, dtype=np.float32)[np.arange(count) % max(modes, 1)])


def constant(modes: int = 0) -> Any:
    """A model that answers every window with the same reconstruction, 0."""
    vae = build(Architecture(8, 2, family="dense", latent=2, width=8, modes=modes))
    for layer in vae.decoder.layers:
        layer.set_weights([np.zeros_like(array) for array in layer.get_weights()])
    return vae


def copying() -> VariationalAutoencoder:
    """A model that gives every window back as it is: it reconstructs a fault as well as all else."""
    return VariationalAutoencoder(
        Architecture(8, 2, latent=16),
        lambda windows: (windows.reshape(len(windows), -1), None),
        lambda latent: latent.reshape(-1, 8, 2),
    )


def test_the_same_seed_gives_the_same_faults_and_another_one_others() -> None:
    one, same, other = (Trial.make(VIEW, normal(50, seed=0), normal(30, seed=1), seed=s) for s in (3, 3, 4))
    np.testing.assert_array_equal(one.faulty.windows, same.faulty.windows)
    assert not np.array_equal(one.faulty.windows, other.faulty.windows)


def test_each_fault_is_mild_and_on_one_channel() -> None:
    held_out = normal(30, seed=1)
    trial = Trial.make(VIEW, normal(50, seed=0), held_out, seed=3)
    same = (trial.faulty.windows[:, None] == held_out.windows[None]).all(axis=2)  # (faulty, held out, channels)
    assert same.any(axis=1).sum(axis=1).min() == 1  # the other channel is that of a held-out window
    assert np.abs(trial.faulty.windows).max() <= 2.0 * SEVERITIES[1] + 4 * 0.5 * (1 + SEVERITIES[1] / 2)


@pytest.mark.parametrize("modes", [0, 2])
def test_a_model_that_reconstructs_no_fault_finds_most_of_them(modes: int) -> None:
    trial = Trial.make(VIEW, normal(50, seed=0, modes=modes), normal(30, seed=1, modes=modes), seed=3)
    assert 0.75 < trial.roc_auc(constant(modes)) < 1.0


def test_a_model_that_reconstructs_everything_finds_nothing() -> None:
    trial = Trial.make(VIEW, normal(50, seed=0), normal(30, seed=1), seed=3)
    assert trial.roc_auc(copying()) == 0.5


def test_no_part_of_a_trial_outgrows_its_size() -> None:
    trial = Trial.make(VIEW, normal(3000, seed=0), normal(1500, seed=1), seed=3)
    assert (len(trial.usual), len(trial.normal), len(trial.faulty)) == (2000, 1000, 1000)
