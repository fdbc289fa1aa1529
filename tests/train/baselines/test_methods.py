"""What each baseline computes, against slow twins, known answers and its own claims."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.metrics import roc_auc_score

from edge_vae.sample import FloatArray
from edge_vae_train.baselines.autoregression import fit_autoregression
from edge_vae_train.baselines.density import fit_isolation_forest, fit_mahalanobis
from edge_vae_train.baselines.hidden_markov import fit_hidden_markov
from edge_vae_train.baselines.principal import Principal, fit_dynamic_pca, fit_pca, fit_pca_residual
from edge_vae_train.baselines.rows import lagged, thin
from edge_vae_train.baselines.univariate import SingleChannel, fit_mean_absolute_z, fit_single_channel
from edge_vae_train.baselines.window_statistics import STATISTICS, Standard, features


def tied(windows: int, *, seed: int) -> FloatArray:
    """Two hidden causes drive three channels of six samples."""
    generator = np.random.default_rng(seed)
    causes, mixing = generator.normal(size=(windows, 2)), np.random.default_rng(42).normal(size=(2, 18))
    return (causes @ mixing + 0.1 * generator.normal(size=(windows, 18))).reshape(windows, 6, 3)


def slow_waves(windows: int, *, phi: float = 0.9, seed: int) -> FloatArray:
    """Two independent AR(1) channels of unit variance, windows of 20 samples that do not continue one another."""
    generator = np.random.default_rng(seed)
    samples = generator.normal(size=(windows, 20, 2))
    for t in range(1, 20):
        samples[:, t] = phi * samples[:, t - 1] + np.sqrt(1 - phi**2) * samples[:, t]
    return samples


def auc(normal: FloatArray, faulty: FloatArray) -> float:
    return float(roc_auc_score(np.repeat([0, 1], [len(normal), len(faulty)]), np.concatenate([normal, faulty])))


def test_lagged_rows_stand_beside_their_predecessors_of_the_same_window() -> None:
    windows = np.array([[[1.0], [2.0], [3.0]], [[7.0], [8.0], [9.0]]])
    assert lagged(windows, 1).tolist() == [[[2, 1], [3, 2]], [[8, 7], [9, 8]]]
    assert lagged(windows, 2).tolist() == [[[3, 2, 1]], [[9, 8, 7]]]
    np.testing.assert_array_equal(lagged(windows, 0), windows)


def test_thinning_keeps_the_first_and_the_last_window_and_an_even_part_between() -> None:
    windows = np.arange(9.0).reshape(9, 1, 1)
    assert thin(windows, 3).ravel().tolist() == [0, 4, 8]
    assert thin(windows, 9) is windows


def test_mean_absolute_z_is_the_mean_over_all_cells() -> None:
    scorer = fit_mean_absolute_z(tied(9, seed=0), tied(9, seed=1), seed=0)
    assert scorer(np.array([[[1.0, -3.0], [0.0, 2.0]]])).tolist() == [1.5]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mean", 1.0),
        ("|mean|", 0.0),
        ("std", np.log(np.sqrt(6.0))),
        ("rms", np.log(np.sqrt(7.0))),
        ("peak-to-peak", np.log(6.0)),
        ("mean|diff|", np.log(4.5)),
    ],
)
def test_statistics_of_a_known_window(name: str, expected: float) -> None:
    assert STATISTICS[name](np.array([[[1.0], [-2.0], [4.0]]]))[0, 0] == pytest.approx(expected)


def test_features_are_the_cells_of_small_windows_and_four_statistics_a_channel_of_large_ones() -> None:
    assert features(np.zeros((2, 64, 4))).shape == (2, 256)
    assert features(np.zeros((2, 64, 5))).shape == (2, 20)


def test_the_single_channel_is_the_one_that_shows_mild_faults_and_its_figure_is_honest() -> None:
    def rig(seed: int) -> FloatArray:
        windows = np.random.default_rng(seed).normal(size=(400, 8, 3))
        windows[:, :, 1] *= 0.05
        windows[:, :, 2] = 0.0
        return windows

    scorer = fit_single_channel(rig(0), rig(1), seed=3)
    assert scorer.channel == 1
    faulty = rig(2)
    faulty[:, :, 1] += np.linspace(0.0, 1.0, 8)
    assert 0.7 < scorer.auc < auc(scorer(rig(4)), scorer(faulty))


def test_the_single_channel_score_is_the_deviation_to_either_side_in_spreads() -> None:
    scorer = SingleChannel("mean", 1, Standard(np.array([1.0]), np.array([0.5])), auc=0.9)
    windows = np.zeros((3, 4, 2))
    windows[:, :, 1] = [[1.0], [3.0], [-1.0]]
    assert scorer(windows).tolist() == [0.0, 4.0, 4.0]


def test_t2_and_q_equal_their_slow_twins() -> None:
    principal = Principal.fit(tied(300, seed=0).reshape(300, 18), most=8)
    assert principal.axes.shape == (8, 18)
    row = tied(1, seed=5).ravel()
    t2, rest = 0.0, [float(v - m) for v, m in zip(row, principal.mean, strict=True)]
    for axis, variance in zip(principal.axes, principal.variances, strict=True):
        score = sum(float(a * v) for a, v in zip(axis, row - principal.mean, strict=True))
        t2 += score * score / float(variance)
        rest = [r - score * float(a) for r, a in zip(rest, axis, strict=True)]
    found_t2, found_q = principal.statistics(row[None])
    assert found_t2[0] == pytest.approx(t2)
    assert found_q[0] == pytest.approx(sum(r * r for r in rest) / 18)


def test_t2_plus_q_of_held_out_windows_is_two_on_average() -> None:
    held_out = tied(200, seed=1)
    assert fit_pca(tied(300, seed=0), held_out, seed=0)(held_out).mean() == pytest.approx(2.0)
    waves = slow_waves(100, seed=1)
    assert fit_dynamic_pca(slow_waves(100, seed=0), waves, seed=0)(waves).mean() == pytest.approx(2.0)


def test_components_hold_95_percent_of_the_variance_and_leave_a_cell_for_q() -> None:
    rows = np.random.default_rng(0).normal(size=(2000, 4)) * np.sqrt([90.0, 8.0, 1.0, 1.0])
    assert len(Principal.fit(rows).variances) == 2
    assert len(Principal.fit(rows[:, :1]).variances) == 0
    assert len(Principal.fit(np.repeat(rows[:, :1], 3, axis=1), most=8).variances) == 1


def test_the_pca_residual_sees_a_broken_correlation() -> None:
    scorer = fit_pca_residual(tied(300, seed=0), tied(100, seed=1), seed=0)
    broken = tied(100, seed=2)
    broken[:, :, 0] *= -1
    assert auc(scorer(tied(100, seed=3)), scorer(broken)) > 0.99


@pytest.mark.parametrize("fit", [fit_dynamic_pca, fit_autoregression])
def test_samples_in_a_wrong_order_are_seen_by_what_models_time(fit: object) -> None:
    assert callable(fit)
    scorer = fit(slow_waves(200, seed=0), slow_waves(100, seed=1), seed=0)
    shuffled = np.random.default_rng(9).permuted(slow_waves(100, seed=3), axis=1)
    assert auc(scorer(slow_waves(100, seed=2)), scorer(shuffled)) > 0.95


def test_mahalanobis_of_many_gaussian_windows_is_their_chi_square() -> None:
    gaussian = np.random.default_rng(0).normal(2.0, 3.0, size=(6000, 3, 2))
    scorer = fit_mahalanobis(gaussian[:4000], gaussian[:9], seed=0)
    assert scorer(gaussian[4000:]).mean() == pytest.approx(6.0, rel=0.05)


def test_isolation_forest_scores_lie_in_0_to_1_and_depend_on_the_seed() -> None:
    windows = tied(50, seed=2)
    first, other = (fit_isolation_forest(tied(300, seed=0), tied(9, seed=1), seed=seed)(windows) for seed in (0, 1))
    assert ((first > 0) & (first <= 1)).all()
    assert (first != other).any()


def two_levels(windows: int, *, seed: int) -> FloatArray:
    """A machine that switches between two levels and stays at one for about ten samples."""
    generator = np.random.default_rng(seed)
    state = (np.cumsum(generator.random((windows, 20)) < 0.1, axis=1) + generator.integers(2, size=(windows, 1))) % 2
    return (4.0 * state + generator.normal(0.0, 0.5, state.shape))[..., None] - 2.0


def test_bic_finds_the_two_states_of_a_machine_and_the_score_equals_the_slow_forward_pass() -> None:
    scorer = fit_hidden_markov(two_levels(100, seed=0), two_levels(20, seed=1), seed=0)
    assert scorer.states == 2
    model, window = scorer.model, two_levels(1, seed=2)[0]
    density = [[multivariate_normal.pdf(x, model.means_[s], model.covars_[s]) for s in range(2)] for x in window]
    alpha = [model.startprob_[s] * density[0][s] for s in range(2)]
    for row in density[1:]:
        alpha = [row[s] * sum(alpha[f] * model.transmat_[f, s] for f in range(2)) for s in range(2)]
    assert scorer(window[None])[0] == pytest.approx(-np.log(sum(alpha)) / len(window))


def test_a_machine_that_flickers_between_its_states_is_unlikely() -> None:
    scorer = fit_hidden_markov(two_levels(100, seed=0), two_levels(20, seed=1), seed=0)
    flickering = np.random.default_rng(9).permuted(two_levels(100, seed=3), axis=1)
    mixed = np.ptp(flickering, axis=(1, 2)) > 3.0
    assert auc(scorer(two_levels(100, seed=2)), scorer(flickering[mixed])) > 0.8


def test_fitting_a_hidden_markov_model_is_silent_and_leaves_its_logger_as_it_was(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("hmmlearn.base")
    before = logger.level
    fit_hidden_markov(np.zeros((20, 4, 2)), np.zeros((20, 4, 2)), seed=0)
    assert logger.level == before
    assert not [record for record in caplog.records if record.name.startswith("hmmlearn")]


@pytest.mark.parametrize("channels", [1, 2])
def test_autoregression_recovers_order_and_coefficient_without_crossing_windows(channels: int) -> None:
    # Each window starts anew: rows across two windows would pull the coefficient down by a twentieth.
    scorer = fit_autoregression(slow_waves(500, seed=0)[:, :, :channels], slow_waves(9, seed=1), seed=0)
    assert scorer.order == 1
    np.testing.assert_allclose(scorer.coefficients, 0.9 * np.eye(channels), atol=0.02)
    unseen = slow_waves(500, seed=2)[:, :, :channels]
    assert scorer(unseen).mean() == pytest.approx(1.0, rel=0.05)


def test_white_noise_needs_no_order() -> None:
    noise = np.random.default_rng(0).normal(size=(400, 20, 2))
    scorer = fit_autoregression(noise, noise, seed=0)
    assert scorer.order == 0
    assert scorer(noise).mean() == pytest.approx(1.0, rel=0.01)
