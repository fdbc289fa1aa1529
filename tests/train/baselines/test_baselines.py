"""One battery for every baseline of the registry: what their contract promises, whatever the method."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from edge_vae.errors import MissingExtraError
from edge_vae.view import LIMIT_SIGMA
from edge_vae_train.baselines import BASELINES, MIN_WINDOWS, Scorer

Windows = NDArray[np.float32]

KERAS = {"autoencoder", "LSTM autoencoder"}
EVERY = [pytest.param(name, marks=[pytest.mark.keras] if name in KERAS else []) for name in BASELINES]
PLAIN = "three correlated channels"
FEW = "one channel and few windows"
KINDS = (PLAIN, FEW, "many channels, some constant or equal", "windows of one sample")


def machine(windows: int, length: int, channels: int, *, seed: int) -> Windows:
    """Slow hidden causes, fewer than channels, and a little noise of each sensor; unit variance."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(42).normal(size=(max(1, channels * 2 // 3), channels))
    causes = generator.normal(size=(windows, length + 20, len(mixing)))
    for t in range(1, length + 20):
        causes[:, t] = 0.8 * causes[:, t - 1] + 0.6 * causes[:, t]
    samples = causes[:, 20:] @ (mixing / np.sqrt(np.square(mixing).sum(axis=0)))
    return np.asarray(0.95 * samples + 0.3 * generator.normal(size=samples.shape), np.float32)


def windows_of(kind: str, windows: int, *, seed: int) -> Windows:
    if kind == FEW:
        return machine(min(windows, 30), 16, 1, seed=seed)
    if kind == "windows of one sample":
        return machine(windows, 1, 3, seed=seed)
    if kind == PLAIN:
        return machine(windows, 16, 3, seed=seed)
    many = machine(windows, 8, 52, seed=seed)
    many[:, :, [0, 7]] = 0.0
    many[:, :, 3] = many[:, :, 2]
    return many


@cache
def fitted(name: str, kind: str) -> Scorer:
    return fit(name, kind)


def fit(name: str, kind: str) -> Scorer:
    return BASELINES[name](windows_of(kind, 120, seed=0), windows_of(kind, 50, seed=1), seed=7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EVERY)
def test_each_window_has_one_finite_score_and_normal_ones_differ(name: str, kind: str) -> None:
    scores = fitted(name, kind)(windows_of(kind, 50, seed=2))
    assert scores.shape == (len(windows_of(kind, 50, seed=2)),)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > len(scores) // 2
    # A density may be above 1, and its negative logarithm below 0.
    assert name == "Gaussian HMM" or (scores >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EVERY)
def test_broken_sensors_have_finite_scores_as_at_the_limit(name: str, kind: str) -> None:
    windows = windows_of(kind, 12, seed=3)[:6]
    windows[0], windows[1], windows[2], windows[3] = 1e6, -1e6, 0.0, windows[3] * 1e6
    windows[4, :, 0] = np.inf
    scores = fitted(name, kind)(windows)
    assert np.isfinite(scores).all()
    limited = fitted(name, kind)(np.clip(windows, -LIMIT_SIGMA, LIMIT_SIGMA))
    np.testing.assert_array_equal(scores, limited)


@pytest.mark.parametrize("name", EVERY)
def test_the_same_seed_gives_the_same_scores(name: str) -> None:
    windows = windows_of(FEW, 30, seed=2)
    np.testing.assert_array_equal(fit(name, FEW)(windows), fitted(name, FEW)(windows))


@pytest.mark.parametrize("name", [name for name in EVERY if name.values != ("best single-channel statistic",)])
def test_a_channel_off_by_six_sigma_ranks_above_normal_windows(name: str) -> None:
    """All but the one that may look at another channel or at no level at all, as its docstring says."""
    normal = windows_of(PLAIN, 200, seed=2)
    faulty = windows_of(PLAIN, 200, seed=3)
    faulty[:, :, 1] += 6.0
    scores = fitted(name, PLAIN)(np.concatenate([normal, faulty]))
    assert roc_auc_score(np.repeat([0, 1], 200), scores) > 0.9


@pytest.mark.keras
@pytest.mark.parametrize("name", sorted(KERAS))
def test_an_autoencoder_reconstructs_unseen_windows_better_than_their_mean_does(name: str) -> None:
    unseen = windows_of(PLAIN, 100, seed=2)
    assert fitted(name, PLAIN)(unseen).mean() < 0.8 * unseen.var()


@pytest.mark.parametrize("name", EVERY)
def test_a_window_scores_alike_alone_and_among_many(name: str) -> None:
    windows = np.tile(windows_of(PLAIN, 50, seed=2), (22, 1, 1))
    among, alone = fitted(name, PLAIN)(windows), fitted(name, PLAIN)(windows[:1])
    # Matrix products of other sizes add in another order; the networks' are float32.
    np.testing.assert_allclose(among[::50], np.repeat(alone, 22), rtol=1e-4)


@pytest.mark.parametrize("name", EVERY)
def test_no_windows_have_no_scores_and_other_windows_are_refused(name: str) -> None:
    scorer = fitted(name, PLAIN)
    assert scorer(np.empty((0, 16, 3), np.float32)).shape == (0,)
    for shape in ((4, 16, 2), (4, 15, 3), (16, 3)):
        with pytest.raises(ValueError, match=r"expected windows \(windows, 16, 3\)"):
            scorer(np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match="NaN"):
        scorer(np.full((1, 16, 3), np.nan, np.float32))


@pytest.mark.parametrize(
    ("training", "held_out", "complaint"),
    [
        ((MIN_WINDOWS - 1, 4, 2), (20, 4, 2), "at least 8 windows"),
        ((20, 4, 2), (0, 4, 2), "at least 8 windows"),
        ((20, 4, 2), (20, 4, 3), "of one shape"),
        ((20, 4), (20, 4), "of one shape"),
        ((20, 4, 0), (20, 4, 0), "of one shape"),
    ],
)
@pytest.mark.parametrize("name", BASELINES)
def test_data_that_nothing_can_be_learned_from_is_refused(
    name: str, training: tuple[int, ...], held_out: tuple[int, ...], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        BASELINES[name](np.ones(training, np.float32), np.ones(held_out, np.float32), seed=0)


@pytest.mark.parametrize("name", BASELINES)
def test_gaps_in_training_windows_are_refused(name: str) -> None:
    training = windows_of(PLAIN, 20, seed=0)
    training[3, 2, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        BASELINES[name](training, windows_of(PLAIN, 20, seed=1), seed=0)


@pytest.mark.parametrize(
    ("name", "imported", "package"),
    [
        ("Gaussian HMM", "hmmlearn.hmm", "hmmlearn"),
        ("VAR residual", "statsmodels.tsa.vector_ar.var_model", "statsmodels"),
    ],
)
def test_a_missing_library_names_the_extra(
    name: str, imported: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing: Any = None  # what the import system takes for "not there"
    monkeypatch.setitem(sys.modules, imported, missing)
    with pytest.raises(MissingExtraError, match=rf"{package}.*edge-vae\[train\]"):
        fit(name, PLAIN)


def test_constant_training_data_is_no_reason_to_crash() -> None:
    still, moving = np.zeros((40, 8, 2), np.float32), machine(40, 8, 2, seed=1)
    for name in BASELINES.keys() - KERAS:
        assert np.isfinite(BASELINES[name](still, still, seed=0)(moving)).all(), name


def test_of_very_many_windows_an_even_part_is_learned_from() -> None:
    many = machine(7000, 4, 2, seed=0)
    part = many[np.linspace(0, len(many) - 1, 6000).astype(int)]
    windows, held_out = machine(20, 4, 2, seed=1), machine(50, 4, 2, seed=2)
    for name in ("PCA T2 + Q", "Mahalanobis"):
        of_many, of_part = (BASELINES[name](training, held_out, seed=0)(windows) for training in (many, part))
        np.testing.assert_array_equal(of_many, of_part)
