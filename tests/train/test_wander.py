"""Wander of normal data: against a plain twin, on what follows a random walk."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from edge_vae.sample import FloatArray
from edge_vae_train.wander import wander


def wander_slowly(samples: FloatArray) -> FloatArray:
    total = np.zeros((samples.shape[1], samples.shape[1]))
    for parts in (2, 4):
        size = len(samples) // parts
        means = [samples[i * size : (i + 1) * size].mean(axis=0) for i in range(parts)]
        steps = [after - before for before, after in pairwise(means)]
        total += sum(np.outer(step, step) for step in steps) / len(steps) / 2
    return total / 2 * 4 / 3


def test_it_is_the_two_sample_variance_of_halves_and_quarters_for_what_comes_next() -> None:
    samples = np.random.default_rng(0).normal(size=(40, 3)).cumsum(axis=0)
    np.testing.assert_allclose(wander(samples), wander_slowly(samples), rtol=1e-12)


@pytest.mark.parametrize("walks", [True, False])
def test_it_is_how_much_wider_the_next_of_a_random_walk_lies_and_little_of_independent_samples(walks: bool) -> None:
    kicks = np.random.default_rng(1).normal(size=(3000, 401))
    drawn = kicks.cumsum(axis=1) if walks else kicks
    known, following = drawn[:, :-1], drawn[:, -1]
    found = np.mean([wander(samples[:, None])[0, 0] for samples in known])
    within = known.var(axis=1).mean()
    wider = np.square(following - known.mean(axis=1)).mean() - within
    assert found / within == pytest.approx(1.0 if walks else 4 / 400, rel=0.1)
    if walks:
        assert found == pytest.approx(wider, rel=0.1)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_samples_for_quarters_are_no_error(count: int) -> None:
    found = wander(np.arange(count * 2.0).reshape(count, 2))
    assert found.shape == (2, 2)
    assert np.isfinite(found).all()
    assert found.any() == (count > 1)


def test_the_order_of_time_decides() -> None:
    walk = np.random.default_rng(2).normal(size=(400, 1)).cumsum(axis=0)
    shuffled = np.random.default_rng(3).permutation(walk)
    assert wander(walk)[0, 0] > 20 * wander(shuffled)[0, 0]
