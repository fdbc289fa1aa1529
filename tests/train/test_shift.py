"""How far sessions of normal data lie apart, in words that say what to do."""

from __future__ import annotations

import numpy as np
import pytest

from edge_vae.sample import FloatArray
from edge_vae_train.shift import measure


def rows(level: float, *, seed: int, spread: float = 1.0, samples: int = 4_000) -> FloatArray:
    noise = np.random.default_rng(seed).normal(0.0, spread, (samples, 2))
    return noise + np.array([level, 0.0])


def test_sessions_that_agree_have_no_shift_and_need_nothing() -> None:
    found = measure([rows(0, seed=i) for i in range(3)], ["a", "b"])
    assert all(ratio < 0.1 for ratio in found.ratios.values())
    assert found.notable == {}
    assert found.advice(baseline=0).startswith("normal data of 3 sessions agree")


def test_the_shift_is_the_spread_of_the_levels_over_the_spread_within() -> None:
    found = measure([rows(level, seed=i, spread=2.0) for i, level in enumerate((0.0, 12.0))], ["a", "b"])
    assert found.ratios["a"] == pytest.approx(3.0, rel=0.05)  # levels 6 from their mean, sessions 2 wide
    assert found.notable.keys() == {"a"}


def test_a_shift_is_told_with_both_ways_out_of_it() -> None:
    advice = measure([rows(level, seed=i) for i, level in enumerate((0.0, 12.0))], ["a", "b"]).advice(baseline=0)
    assert "normal data of 2 sessions differ in level" in advice
    assert "a 6.0x" in advice
    assert "--baseline N" in advice
    assert "would hide the fault" in advice
    assert "with --modes" in advice


def test_after_a_baseline_a_shift_is_drift() -> None:
    advice = measure([rows(level, seed=i) for i, level in enumerate((0.0, 12.0))], ["a", "b"]).advice(baseline=400)
    assert "after the baseline of 400 samples, so it is drift within sessions" in advice
    assert "--baseline N" not in advice


def test_the_largest_shift_comes_first() -> None:
    sessions = [rows(0, seed=1), rows(9, seed=2) + np.array([0.0, 50.0])]
    assert list(measure(sessions, ["a", "b"]).notable) == ["b", "a"]


def test_one_session_is_compared_with_itself_over_time() -> None:
    steady, drifting = rows(0, seed=0), rows(0, seed=0) + np.linspace(0, 40, 4_000)[:, None]
    assert measure([steady], ["a", "b"]).notable == {}
    assert "5 parts of the one session agree" in measure([steady], ["a", "b"]).advice(baseline=0)
    assert measure([drifting], ["a", "b"]).notable.keys() == {"a", "b"}


def test_constant_channels_and_tiny_sessions_do_not_shift() -> None:
    assert measure([np.full((10, 1), 3.0), np.full((10, 1), 3.0)], ["a"]).ratios == {"a": 0.0}
    assert measure([np.array([[1.0]])], ["a"]).ratios == {"a": 0.0}


def test_a_channel_that_is_constant_within_each_session_shifts_by_a_number_that_can_be_read() -> None:
    recipes = measure([np.full((10, 1), 1e5), np.full((10, 1), 3e5)], ["recipe"])
    assert "recipe 1000.0x" in recipes.advice(baseline=0)
