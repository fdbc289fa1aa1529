"""Which way of explaining suits a model: decided by faults whose channel is known."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from edge_vae.bundle import Channel
from edge_vae.detector import Detector
from edge_vae.explain import METHODS, explain, log_errors
from edge_vae.principal import PrincipalRuntime
from edge_vae.sample import FloatArray
from edge_vae.score import Tail, Term
from edge_vae.view import View
from edge_vae_train.explaining import SEVERITIES, choose, single_channel_faults
from edge_vae_train.prepare import WindowSet
from plain_bundle import plain_manifest

LENGTH, SEED = 8, 5


def detector(*components: list[float], terms: tuple[str, ...] = ("window.mse",)) -> Detector:
    """One that expects of every sample its projection on these orthonormal components."""
    channels = len(components[0])
    seen = any(term != "z" for term in terms)
    manifest = plain_manifest(
        channels=tuple(Channel(f"c{i}", 0.0, 1.0) for i in range(channels)),
        views=(View("window", "window", (), (), ((1.0,) * channels,), 0, (), None),) if seen else (),
        score=tuple(Term(term, Tail(math.log(1e-2), 1.0)) for term in terms),
    )
    arrays = {"lag_mean": np.zeros(channels), "lag_components": np.array(components)}
    return Detector(manifest, {"window": PrincipalRuntime(arrays)} if seen else {})


def normal(mixing: list[float], noise: list[float], *, count: int = 80) -> WindowSet:
    """Windows of one cause that drives the channels as `mixing` says, each with noise of its own."""
    generator = np.random.default_rng(1)
    cause = generator.normal(size=(count, 1, 1)) + 0.3 * generator.normal(size=(count, LENGTH, 1))
    own = generator.normal(size=(count, LENGTH, len(noise))) * np.array(noise)
    return WindowSet((cause * np.array(mixing) + own).astype(np.float32), np.zeros((count, 0), np.float32))


STRONG = [math.sqrt(0.74), 0.4, 0.3, 0.1]
FOLLOWED = detector(STRONG), normal([2 * part for part in STRONG], [0.05] * 4)
"""The model follows the strong channel wherever it goes, and the errors are those of its witnesses."""
UNEQUAL = detector([0.0, 0.0, 1.0]), normal([0.0, 0.0, 1.0], [3.0, 0.1, 0.1])
"""The first channel is never reconstructed well, and a fault of another is smaller than its usual error."""


@pytest.mark.parametrize(
    ("case", "better", "worse"), [(FOLLOWED, "imputation", "share"), (UNEQUAL, "normalised", "share")]
)
def test_the_method_that_names_more_faulty_channels_is_chosen(
    case: tuple[Detector, WindowSet], better: str, worse: str
) -> None:
    found = choose(*case, seed=SEED)
    assert found.method == better
    assert found.hits[better] == max(found.hits.values())
    assert found.hits[better] > found.hits[worse] + 0.1


def test_hits_are_the_parts_of_the_faults_whose_channel_comes_first() -> None:
    made, windows = UNEQUAL
    found = choose(made, windows, seed=SEED)
    assert found.hits.keys() == set(METHODS)
    faulty, channels = single_channel_faults(windows, count=300, seed=SEED)
    for method in METHODS:
        tried = msgspec.structs.replace(found, method=method)
        shares = explain(made, faulty.windows.astype(np.float64), faulty.conditions, tried).shares
        named = [int(row.argmax()) == channel for row, channel in zip(shares, channels, strict=True)]
        assert found.hits[method] == pytest.approx(sum(named) / len(named))


def test_centre_and_spread_are_those_of_the_log_errors_of_normal_windows() -> None:
    made, windows = UNEQUAL
    found = choose(made, windows, seed=SEED)
    errors = log_errors(made.see(windows.windows.astype(np.float64), windows.conditions))
    np.testing.assert_allclose(found.centre, errors.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.spread, np.maximum(errors.std(axis=0), 0.05), rtol=1e-6)


def test_where_no_other_method_names_more_shares_are_kept() -> None:
    still = detector([0.0, 0.0]), normal([0.0, 0.0], [0.0, 0.0])
    found = choose(*still, seed=SEED)
    assert min(found.hits.values()) == max(found.hits.values()) > 0.85
    assert found.method == "share"


@pytest.mark.parametrize(
    "case",
    [
        (detector([1.0]), normal([1.0], [0.1])),
        (detector([1.0, 0.0], terms=("z",)), normal([1.0, 0.0], [0.1, 0.1])),
    ],
    ids=["one channel", "no view"],
)
def test_where_there_is_nothing_to_choose_windows_are_explained_by_shares(case: tuple[Detector, WindowSet]) -> None:
    found = choose(*case, seed=SEED)
    assert (found.method, found.centre, found.spread, found.hits) == ("share", (), (), {})


def test_the_same_seed_chooses_the_same() -> None:
    assert choose(*FOLLOWED, seed=SEED) == choose(*FOLLOWED, seed=SEED)
    assert choose(*FOLLOWED, seed=SEED).hits != choose(*FOLLOWED, seed=SEED + 1).hits


def changed(window: FloatArray, others: FloatArray) -> list[int]:
    """The channels in which a window differs from the one of the others that it is most like."""
    differs = (window != others).any(axis=1)
    return list(np.flatnonzero(differs[differs.sum(axis=1).argmin()]))


def test_a_synthetic_fault_is_on_one_channel_of_a_normal_window_in_its_own_mode() -> None:
    windows = normal([1.0, 0.5, 0.2], [0.1] * 3, count=40)
    modes = np.eye(40, dtype=np.float32)  # a mode for each window, to know it again
    faulty, channels = single_channel_faults(WindowSet(windows.windows, modes), count=60, seed=SEED)
    assert faulty.windows.shape == (60, LENGTH, 3)
    assert set(channels) == {0, 1, 2}
    for window, mode, channel in zip(faulty.windows, faulty.conditions, channels, strict=True):
        assert changed(window, windows.windows) == [channel]
        other = [c for c in range(3) if c != channel]
        np.testing.assert_array_equal(window[:, other], windows.windows[mode.argmax()][:, other])


def test_synthetic_faults_are_those_that_an_operator_should_not_need_to_search_for() -> None:
    quiet = WindowSet(np.zeros((9, LENGTH, 2), np.float32), np.zeros((9, 0), np.float32))
    faulty, channels = single_channel_faults(quiet, count=200, seed=SEED)
    moved = np.abs(np.take_along_axis(faulty.windows, channels[:, None, None], axis=2)).max(axis=(1, 2))
    assert moved.max() <= 3 * SEVERITIES[1]
    assert (moved > 0).mean() > 0.5  # a gain changes nothing of a channel that stands still
