"""Tails of few windows: what a score is lifted to, what is usual, which blocks are joined, and which are odd."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_vae.sample import FloatArray
from edge_vae_train.block_tails import USUAL_EXCESS, USUAL_WINDOWS, BlockTails, lifted, lowered


def exponential(windows: int, *, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).exponential(1.0, windows)


@pytest.mark.parametrize("terms", [0, 1, 5])
def test_lowering_undoes_lifting(terms: int) -> None:
    scores = np.array([0.1, 2.0, 9.0])
    assert [lowered(float(one), terms) for one in lifted(scores, terms)] == pytest.approx(scores)


def test_the_lifted_score_of_equal_terms_is_the_surprise_of_one() -> None:
    surprise = np.array([0.5, 3.0, 20.0])
    assert lifted(4 * np.log1p(surprise), 4) == pytest.approx(surprise)


def test_a_long_block_reaches_its_own_quantiles() -> None:
    scores = exponential(200_000)
    tails = BlockTails.fit([scores], length=1, terms=0)
    for chance in (0.09, 0.01, 1e-4):
        assert tails.reached(chance) == pytest.approx(-math.log(chance), rel=0.02)


def test_the_mean_excess_of_few_windows_is_mostly_the_usual_one() -> None:
    few = np.full(int(USUAL_WINDOWS), 1.0)
    assert BlockTails.fit([few], length=1, terms=1).scale == pytest.approx(USUAL_EXCESS[0] / 2)  # its own is nothing
    assert BlockTails.fit([few], length=4, terms=1).scale == pytest.approx(USUAL_EXCESS[0] * 4 / 5)  # one window


@pytest.mark.parametrize(("terms", "place"), [(2, 1), (5, 4), (9, 4)])
def test_what_is_usual_depends_on_the_number_of_terms_up_to_five(terms: int, place: int) -> None:
    few = np.full(int(USUAL_WINDOWS), 1.0)
    assert BlockTails.fit([few], length=1, terms=terms).scale == pytest.approx(USUAL_EXCESS[place] / 2)


def test_short_blocks_are_joined_and_no_window_is_lost() -> None:
    blocks = [np.array([float(i)]) for i in range(13)]
    tails = BlockTails.fit(blocks, length=1, terms=0)
    assert tails.median.tolist() == [2.0, 8.5]  # 0 to 4, and 5 to 9 with the three that are left
    assert tails.weight == pytest.approx([5 / 13, 8 / 13])


def test_chance_is_that_of_a_window_of_any_block() -> None:
    start, half = np.array([0.0, 1.0]), np.array([0.5, 0.5])
    tails = BlockTails(top=0.5, start=start, scale=2.0, median=start, weight=half, error=0.1)
    value = tails.reached(0.01)
    assert 0.25 * math.exp(-value / 2) + 0.25 * math.exp(-(value - 1) / 2) == pytest.approx(0.01)


def test_a_block_far_above_the_others_is_left_out_but_never_the_half_of_all() -> None:
    usual, odd = [exponential(60, seed=i) for i in range(3)], [40.0 + exponential(60, seed=9)]
    assert len(BlockTails.fit([*usual, *odd], length=1, terms=0).without_odd().median) == 3
    assert len(BlockTails.fit(usual[:1] + odd, length=1, terms=0).without_odd().median) == 2
    assert len(BlockTails.fit(usual, length=1, terms=0).without_odd().median) == 3
