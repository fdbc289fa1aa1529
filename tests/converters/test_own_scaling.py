"""The scaling that a model was trained with: taken over exactly, and told when another one was meant."""

from __future__ import annotations

import numpy as np
import pytest

from edge_vae.errors import ModelError
from edge_vae.scale import Scaler
from edge_vae_converters.own_scaling import SCALINGS, affine, errors_by_scaling, fitted, judge_scaling, relative_error

ROWS = np.random.default_rng(1).normal([5.0, -200.0, 0.0], [0.5, 30.0, 1.0], (500, 3))
SCALER = Scaler(ROWS.mean(axis=0), ROWS.std(axis=0))


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_model_is_given_its_own_numbers_and_gives_sigmas_back(scaling: str) -> None:
    low, high, median = ROWS.min(axis=0), ROWS.max(axis=0), np.median(ROWS, axis=0)
    expected = {
        "standard": (ROWS - ROWS.mean(axis=0)) / ROWS.std(axis=0),
        "robust": (ROWS - median) / (1.4826 * np.median(np.abs(ROWS - median), axis=0)),
        "minmax": (ROWS - low) / (high - low),
        "none": ROWS,
    }[scaling]
    own = affine(scaling, ROWS, SCALER)
    np.testing.assert_allclose(own.own(SCALER(ROWS)), expected, atol=1e-9)
    np.testing.assert_allclose(own.standardised(expected), SCALER(ROWS), atol=1e-9)


def test_a_channel_that_never_varies_is_not_divided_by_nothing() -> None:
    rows = np.column_stack([ROWS[:, 0], np.full(500, 7.0)])
    scaler = Scaler(rows.mean(axis=0), np.array([0.5, 7e-3]))
    for scaling in SCALINGS:
        own = affine(scaling, rows, scaler)
        assert np.isfinite(own.own(scaler(rows))).all()
        np.testing.assert_allclose(own.standardised(own.own(scaler(rows))), scaler(rows), atol=1e-9)


def test_windows_in_sigmas_need_no_change() -> None:
    robust = Scaler(np.median(ROWS, axis=0), np.ones(3))
    found = fitted(ROWS, robust, chosen="robust")["robust"]
    np.testing.assert_array_equal(found.own(ROWS), ROWS)


def test_the_scaling_that_a_model_was_trained_with_has_the_least_error() -> None:
    windows = SCALER(ROWS)[:480].reshape(30, 16, 3).astype(np.float32)
    low, high = ROWS.min(axis=0), ROWS.max(axis=0)

    def knows_zero_to_one(given: np.typing.NDArray[np.float64]) -> np.typing.NDArray[np.float64]:
        return np.clip(given, 0.0, 1.0)

    errors = errors_by_scaling(knows_zero_to_one, windows, fitted(ROWS, SCALER, chosen="standard"))
    assert min(errors, key=lambda name: errors[name]) == "minmax"
    assert errors["minmax"] < 1e-9
    assert errors["standard"] > 0.3
    assert np.all(high > low)
    with pytest.raises(ModelError, match=r"theirs: .*another scaling.*Give --scaling minmax; --scaling standard takes"):
        judge_scaling("theirs", errors, "standard", explicit=False)
    assert "probably trained with --scaling minmax" in judge_scaling("theirs", errors, "standard", explicit=True)
    assert not judge_scaling("theirs", errors, "minmax", explicit=True)


def test_a_model_that_says_the_mean_leaves_the_variance_and_that_is_told() -> None:
    windows = SCALER(ROWS)[:480].reshape(30, 16, 3).astype(np.float32)
    error = relative_error(windows, np.broadcast_to(windows.mean(axis=(0, 1)), windows.shape))
    assert error == pytest.approx(1.0)
    told = judge_scaling("theirs", dict.fromkeys(SCALINGS, error), "standard", explicit=False)
    assert "hardly better than its mean" in told


def test_an_answer_that_is_no_number_is_the_worst_one() -> None:
    windows = np.ones((2, 4, 3), np.float32)
    assert relative_error(windows, np.full(windows.shape, np.nan)) == np.inf


def test_channels_of_very_different_size_are_told() -> None:
    assert "60 times as large" in affine("none", ROWS, Scaler(SCALER.centre, np.array([0.5, 30.0, 1.0]))).warning
    assert not affine("minmax", ROWS, SCALER).warning
