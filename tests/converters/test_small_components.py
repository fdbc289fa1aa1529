"""Components in int8: taken where the residual stays what it was, and float16 where it does not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_vae.principal import real_components
from edge_vae_converters.conversion import stress_windows
from edge_vae_converters.small_components import with_small_components
from edge_vae_train.prepare import WindowSet
from edge_vae_train.run_folder import Run

pytestmark = pytest.mark.keras


@pytest.fixture(scope="module")
def trained(run_folder: Path) -> Run:
    return Run.read(run_folder)


def changed(run: Run) -> tuple[Run, tuple[str, ...]]:
    return with_small_components(run, normal=WindowSet.joined(run.held_out), stress=stress_windows(run))


def test_components_are_stored_in_int8_with_a_step_of_their_own(trained: Run) -> None:
    small, lines = changed(trained)
    assert lines == ()
    before, stored = trained.reference["lag_components"].astype(np.float32), small.reference["lag_components"]
    assert (stored.dtype, stored.shape) == (np.int8, before.shape)
    assert np.abs(stored).max(axis=1).tolist() == [127] * len(before)
    steps = small.reference["lag_steps"]
    assert (np.abs(real_components(stored, steps) - before) <= 0.5001 * steps[:, None]).all()
    assert small.reference.keys() - trained.reference.keys() == {"lag_steps"}
    assert small.record == trained.record


def still(windows: WindowSet) -> WindowSet:
    """Almost all of a window is one sample again and again, and what varies is far below what int8 can tell."""
    first = np.repeat(windows.windows[:, :1], windows.windows.shape[1], axis=1)
    return WindowSet(100 * first + 1e-4 * windows.windows, windows.conditions)


def test_where_int8_would_drown_the_residual_components_stay_in_float16_and_a_line_says_so(trained: Run) -> None:
    cells = trained.reference["lag_components"].shape[1]
    channels = len(trained.record.channels)
    levels = np.tile(np.eye(channels), cells // channels) * np.sqrt(channels / cells)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(channels, channels)))[0]
    reference = {
        "lag_mean": np.zeros(cells, np.float32), "lag_components": (turn @ levels).astype(np.float32),
    }  # fmt: skip
    blocks = tuple(still(block) for block in trained.held_out)
    odd = dataclasses.replace(trained, held_out=blocks, reference=trained.reference | reference)
    kept, (line,) = with_small_components(odd, normal=WindowSet.joined(blocks), stress=still(stress_windows(trained)))
    assert kept is odd
    assert line.startswith("view pca: float16 instead of int8, quantization noise / normal error ")
    assert line.endswith(" where <= 0.02 is expected")


def test_a_run_without_a_pca_comes_back_as_it_is(trained: Run) -> None:
    views = tuple(view for view in trained.record.views if view.name != "pca")
    without = dataclasses.replace(trained, record=msgspec.structs.replace(trained.record, views=views))
    assert changed(without) == (without, ())
