"""Scaling: to sigmas and back, and a session's own baseline."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vae.sample import FloatArray
from edge_vae.scale import MAD_TO_SIGMA, TRIMMED, Baseline, Scaler, trimmed_mean

MODEL = Scaler(np.array([10.0, -3.0]), np.array([2.0, 0.5]))


def readings(
    samples: int, *, seed: int = 0, centre: tuple[float, float] = (12.0, -4.0), spread: float = 3.0
) -> FloatArray:
    return np.random.default_rng(seed).normal(centre, spread, (samples, 2))


def trimmed_mean_slowly(values: FloatArray) -> list[float]:
    means = []
    for channel in range(values.shape[1]):
        ordered = sorted(values[:, channel].tolist())
        cut = int(TRIMMED * len(ordered))
        kept = ordered[cut : len(ordered) - cut]
        means.append(sum(kept) / len(kept))
    return means


def learned(values: FloatArray) -> Scaler:
    baseline = Baseline(samples=len(values), model=MODEL)
    baseline.push(values)
    assert baseline.scaler is not None
    return baseline.scaler


def test_scaling_and_its_inverse_are_the_formula_and_back() -> None:
    scaled = MODEL(np.array([[14.0, -3.5], [10.0, -3.0]]))
    assert scaled.tolist() == [[2.0, -1.0], [0.0, 0.0]]
    assert MODEL.inverse(scaled).tolist() == [[14.0, -3.5], [10.0, -3.0]]


def test_scaling_takes_windows_as_well_as_rows() -> None:
    rows = readings(12)
    np.testing.assert_array_equal(MODEL(rows.reshape(3, 4, 2)).reshape(12, 2), MODEL(rows))


@pytest.mark.parametrize("scale", [[1.0, 0.0], [1.0, -1.0], [1.0, float("nan")], [1.0]])
def test_a_scale_that_is_not_above_zero_is_refused(scale: list[float]) -> None:
    with pytest.raises(ValueError, match="positive scale"):
        Scaler(np.zeros(2), np.array(scale))


@pytest.mark.parametrize("samples", [1, 2, 9, 10, 11, 57, 400])
def test_the_trimmed_mean_equals_its_slow_twin(samples: int) -> None:
    values = readings(samples)
    # The same numbers added in another order: a few units in the last place.
    np.testing.assert_allclose(trimmed_mean(values), trimmed_mean_slowly(values), rtol=1e-12)


def test_the_trimmed_mean_is_finer_than_the_steps_of_a_coarse_sensor() -> None:
    coarse = np.array([[32.0], [33.0]]).repeat([60, 40], axis=0)
    assert np.median(coarse) == 32.0
    assert trimmed_mean(coarse)[0] == pytest.approx(32.375)  # (50 * 32 + 30 * 33) / 80


def test_a_baseline_of_no_samples_is_the_models_scaler_at_once() -> None:
    baseline = Baseline(samples=0, model=MODEL)
    assert baseline.scaler is MODEL
    assert baseline.missing == 0
    assert baseline.push(readings(5)) == 0
    assert baseline.scaler is MODEL


@given(wanted=st.integers(1, 40), pieces=st.lists(st.integers(0, 30), max_size=8))
def test_a_baseline_takes_exactly_its_samples_from_any_pieces(wanted: int, pieces: list[int]) -> None:
    values = readings(sum(pieces))
    baseline = Baseline(samples=wanted, model=MODEL)
    at = 0
    for size in pieces:
        taken = baseline.push(values[at : at + size])
        assert taken == min(size, max(wanted - at, 0))
        at += size
        assert baseline.missing == max(wanted - at, 0)
        assert (baseline.scaler is None) == (at < wanted)
    if baseline.scaler is not None:
        at_once = learned(values[:wanted])
        np.testing.assert_array_equal(baseline.scaler.centre, at_once.centre)
        np.testing.assert_array_equal(baseline.scaler.scale, at_once.scale)


def test_a_baseline_does_not_keep_the_callers_array() -> None:
    values = readings(20)
    baseline = Baseline(samples=20, model=MODEL)
    piece = values[:10].copy()
    baseline.push(piece)
    piece[:] = 1e9
    baseline.push(values[10:])
    assert baseline.scaler is not None
    np.testing.assert_array_equal(baseline.scaler.centre, learned(values).centre)


def test_a_noisier_session_gets_a_wider_scale_and_a_quieter_one_keeps_the_models() -> None:
    noisy, quiet = learned(readings(2_000, spread=30.0)), learned(readings(2_000, spread=0.01))
    np.testing.assert_allclose(noisy.scale, 30.0, rtol=0.1)  # the median deviation of 2,000 samples: about 3 %
    np.testing.assert_array_equal(quiet.scale, MODEL.scale)


def test_a_constant_session_has_the_models_scale() -> None:
    constant = learned(np.full((50, 2), 7.0))
    assert constant.centre.tolist() == [7.0, 7.0]
    np.testing.assert_array_equal(constant.scale, MODEL.scale)


def test_the_spread_is_the_median_absolute_deviation_in_sigmas() -> None:
    values = readings(101, spread=20.0)
    deviations = sorted(abs(v - trimmed_mean_slowly(values)[0]) for v in values[:, 0].tolist())
    assert learned(values).scale[0] == pytest.approx(MAD_TO_SIGMA * deviations[50])


def test_one_sample_in_twenty_gone_wild_hardly_moves_a_baseline() -> None:
    values = readings(400, spread=5.0)
    wild = values.copy()
    wild[::20] = 1e6
    calm, shaken = learned(values), learned(wild)
    assert np.all(np.abs(shaken.centre - calm.centre) < 0.2 * calm.scale)
    np.testing.assert_allclose(shaken.scale, calm.scale, rtol=0.15)


def test_a_baseline_can_be_restarted_for_another_mode_of_the_machine() -> None:
    other, values = Scaler(np.array([90.0, 40.0]), np.array([9.0, 0.1])), readings(30, spread=1e-3)
    baseline = Baseline(samples=30, model=MODEL)
    baseline.push(values)
    for mode, model in ((other, other), (None, other), (MODEL, MODEL)):
        baseline.restart(mode)
        assert (baseline.missing, baseline.scaler) == (30, None)
        baseline.push(values)
        assert baseline.scaler is not None
        np.testing.assert_array_equal(baseline.scaler.scale, model.scale)
        np.testing.assert_array_equal(baseline.scaler.centre, learned(values).centre)


def test_a_baseline_of_no_samples_takes_another_modes_scaler_at_once() -> None:
    other = Scaler(np.array([90.0, 40.0]), np.array([9.0, 0.1]))
    baseline = Baseline(samples=0, model=MODEL)
    baseline.restart(other)
    assert baseline.scaler is other
    baseline.restart()
    assert baseline.scaler is other


def test_a_restarted_baseline_learns_the_new_session_alone() -> None:
    first, second = readings(30), readings(30, seed=1, centre=(90.0, 40.0))
    baseline = Baseline(samples=30, model=MODEL)
    baseline.push(first[:20])
    baseline.restart()
    assert baseline.missing == 30
    baseline.push(second)
    assert baseline.scaler is not None
    np.testing.assert_array_equal(baseline.scaler.centre, learned(second).centre)
