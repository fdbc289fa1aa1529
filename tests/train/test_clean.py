"""Cleaning: what is unlike the other training windows goes, everything else stays as it was."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_vae.scale import Scaler
from edge_vae_train.clean import cleaned
from edge_vae_train.prepare import Prepared, WindowSet
from edge_vae_train.settings import Settings

LENGTH, DIRTY = 16, 6


def waves(count: int, *, seed: int) -> NDArray[np.float32]:
    """Sines of any phase in two channels."""
    generator = np.random.default_rng(seed)
    phase = generator.uniform(0, 2 * np.pi, (count, 1, 1))
    clean = np.sin(2 * np.pi * np.arange(LENGTH)[None, :, None] / 8 + phase + np.array([0.0, 1.0]))
    return (clean + 0.1 * generator.normal(size=clean.shape)).astype(np.float32)


def window_set(windows: NDArray[np.float32], modes: NDArray[np.float32] | None = None) -> WindowSet:
    return WindowSet(windows, np.empty((len(windows), 0), np.float32) if modes is None else modes)


def prepared(training: WindowSet) -> Prepared:
    """Training windows, and one held-out block whose windows are as dirty as the worst of them."""
    block = window_set(3.0 * waves(20, seed=9), np.tile(training.conditions[:1], (20, 1)))
    order = np.roll(np.arange(len(training) + 20), 20)  # the block comes first in time
    return Prepared(Scaler(np.zeros(2), np.ones(2)), None, training, (block,), training[:0], order, (), ("a note",))


def dirty(count: int = 94) -> WindowSet:
    """Waves, and among them every sixteenth window, whose two channels do not belong together."""
    windows = waves(count + DIRTY, seed=0)
    at = 16 * np.arange(DIRTY)
    windows[at, :, 1] = 2.0 * np.random.default_rng(1).normal(size=(DIRTY, LENGTH))
    return window_set(windows)


def settings(**training: Any) -> Settings:
    return msgspec.convert(
        {"training": {"epochs": 15, "seed": 1, "clean_by": "forest"} | training, "model": {"family": "dense"}}, Settings
    )


def clean(found: Prepared, chosen: Settings) -> Prepared:
    return cleaned(found, chosen, clip=8.0, progress=lambda *_: None)


def test_without_a_share_nothing_is_touched() -> None:
    found = prepared(dirty())
    assert clean(found, settings()) is found


@pytest.mark.parametrize("by", ["forest", pytest.param("model", marks=pytest.mark.keras)])
def test_windows_unlike_the_others_are_left_out_of_training_and_it_is_told(by: str) -> None:
    found = prepared(dirty())
    after = clean(found, settings(clean=0.06, clean_by=by))
    good = np.delete(np.arange(100), 16 * np.arange(DIRTY))
    np.testing.assert_array_equal(after.training.windows, found.training.windows[good])
    assert len(after.training.conditions) == 94
    assert after.order.tolist() == np.roll(np.arange(94 + 20), 20).tolist()
    assert after.notes[0] == "a note"
    assert "left out 6 of 100 training windows" in after.notes[1]
    assert ("isolation forest" in after.notes[1]) == (by == "forest")


def test_held_out_blocks_keep_all_their_windows() -> None:
    found = prepared(dirty())
    after = clean(found, settings(clean=0.3))
    assert len(after.training) == 70
    assert after.held_out is found.held_out
    assert after.scaler is found.scaler


@pytest.mark.parametrize("by", ["forest", pytest.param("model", marks=pytest.mark.keras)])
def test_a_rare_mode_loses_no_larger_share_than_a_frequent_one(by: str) -> None:
    windows, rare = waves(100, seed=0), np.arange(100) >= 90
    windows[rare] *= 3.0
    modes = np.eye(2, dtype=np.float32)[rare.astype(int)]
    after = clean(prepared(window_set(windows, modes)), settings(clean=0.2, clean_by=by))
    assert after.training.conditions.sum(axis=0).tolist() == [72, 8]


def test_the_same_seed_leaves_out_the_same_windows() -> None:
    chosen = settings(clean=0.1)
    one, same = (clean(prepared(dirty()), chosen).training.windows for _ in range(2))
    np.testing.assert_array_equal(one, same)
