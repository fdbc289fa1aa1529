"""The gate: each thing that can go wrong in a conversion is refused by the row that names it, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_vae.bundle import ParityRow
from edge_vae.score import fit_terms, fuse
from edge_vae.threshold import Threshold
from edge_vae_converters.parity import MAX_NOISE, Outputs, failures, table
from edge_vae_converters.tflite import Converted
from edge_vae_train.judge import Judge

Windows = NDArray[np.float32]

GENERATOR = np.random.default_rng(0)
NORMAL: Windows = GENERATOR.normal(size=(300, 8, 2)).astype(np.float32)
STRESS: Windows = (GENERATOR.normal(size=(400, 8, 2)) * GENERATOR.uniform(1, 6, (400, 1, 1))).astype(np.float32)
CONVERTED = Converted(b"model", {"reconstruction": "out"}, {"CONV_2D": 2, "FULLY_CONNECTED": 1}, ())
SPEARMAN, AGREE, AUC = "score Spearman, stress and normal windows", "decisions that agree", "ROC-AUC lost"
NOISE = "quantization noise / normal error"
FLOATS, UNSAFE = "tensors that are neither int8 nor int32", "operators outside the int8-safe list"


def reconstructed(windows: Windows) -> Windows:
    return np.asarray(0.6 * np.clip(windows, -8, 8), np.float32)


TRAINED = Outputs(reconstructed(NORMAL), reconstructed(STRESS))


def judged(outputs: Outputs, *, share_above: float = 0.02) -> Judge:
    """A judge fitted on these outputs, whose threshold that share of the normal windows exceeds."""
    terms = fit_terms(("window.nll", "z"), NORMAL.astype(float), outputs.normal.astype(float), variance=np.ones(2))
    score = fuse(terms, NORMAL.astype(float), outputs.normal.astype(float)).score
    value = float(np.quantile(score, 1 - share_above))
    return Judge(terms, Threshold(value, "rank", 1.0, 0.0, 0.0, 1.0, 1.0, 40, 1.0, 2, value, value))


def compared(
    candidate: Outputs,
    *,
    converted: Converted = CONVERTED,
    integer_only: bool = True,
    trained: Outputs = TRAINED,
    judge: Judge | None = None,
) -> dict[str, ParityRow]:
    rows = table(
        converted,
        normal=NORMAL,
        stress=STRESS,
        trained=(judged(trained), trained),
        candidate=(judge or judged(candidate), candidate),
        integer_only=integer_only,
    )
    return {row.measure: row for row in rows}


def refused(rows: dict[str, ParityRow]) -> set[str]:
    return {row.measure for row in failures(list(rows.values()))}


def noisy(windows: Windows, share: float) -> Windows:
    """Off by noise whose square is this share of the normal reconstruction error, 0.4^2."""
    noise = np.random.default_rng(1).normal(0, 0.4 * np.sqrt(share), windows.shape)
    return np.asarray(windows + noise, np.float32)


def test_a_model_that_computes_the_same_passes_every_row() -> None:
    rows = compared(TRAINED)
    assert refused(rows) == set()
    assert rows[SPEARMAN].value == pytest.approx(1.0)
    assert rows[AGREE].value == rows["decisions that agree, own thresholds"].value == 1.0
    assert rows[NOISE].value == rows[AUC].value == 0.0
    assert rows["model, bytes"].value == 5


def test_noise_is_measured_against_the_normal_error() -> None:
    rows = compared(Outputs(noisy(TRAINED.normal, 0.01), TRAINED.stress))
    assert rows[NOISE].value == pytest.approx(0.01, rel=0.1)
    assert NOISE not in refused(rows)


def test_noise_beyond_the_limit_is_refused() -> None:
    rows = compared(Outputs(noisy(TRAINED.normal, 2 * MAX_NOISE), TRAINED.stress))
    assert NOISE in refused(rows)


def test_saturation_that_normal_windows_never_show_is_refused() -> None:
    """What calibrating on normal windows alone does: outside their range the model answers something else."""
    saturated = np.where(np.abs(STRESS) > 4, STRESS, TRAINED.stress).astype(np.float32)
    rows = compared(Outputs(TRAINED.normal, saturated))
    assert SPEARMAN in refused(rows)
    assert rows["score Spearman, normal windows alone"].value == pytest.approx(1.0)
    assert rows[NOISE].value == 0.0


def test_a_model_that_no_longer_sees_faults_is_refused() -> None:
    blind = Outputs(TRAINED.normal, STRESS)
    rows = compared(blind, judge=judged(blind))
    assert {SPEARMAN, AGREE} <= refused(rows)
    assert rows[AUC].value > 0.005
    assert AUC in refused(rows)
    told = [rows[f"ROC-AUC stress against normal, {kind}"].value for kind in ("float", "converted")]
    assert told[0] - told[1] == pytest.approx(rows[AUC].value)


def test_decisions_are_compared_at_the_threshold_that_will_run_and_at_each_models_own_beside_it() -> None:
    rows = compared(TRAINED, judge=judged(TRAINED, share_above=0.3))
    assert rows[AGREE].value == 1.0
    assert rows["decisions that agree, own thresholds"].value < 0.95
    assert rows["decisions that agree, own thresholds"].passed is None
    assert rows["normal windows above the threshold, float"].value == pytest.approx(0.02, abs=0.005)
    assert rows["normal windows above the threshold, converted"].value == pytest.approx(0.3, abs=0.005)


def test_float_tensors_and_unsafe_operators_are_refused_in_an_integer_model_alone() -> None:
    odd = replace(CONVERTED, operators={"CONV_2D": 2, "TILE": 3}, float_tensors=("a", "b"))
    rows = compared(TRAINED, converted=odd)
    assert refused(rows) == {FLOATS, UNSAFE}
    assert (rows[FLOATS].value, rows[UNSAFE].value) == (2, 3)
    assert refused(compared(TRAINED, converted=odd, integer_only=False)) == set()


@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_a_model_whose_scores_are_all_alike_is_refused() -> None:
    """A rank correlation of constant scores is not a number, and that must never pass."""
    same = Outputs(NORMAL, STRESS)
    terms = fit_terms(("window.mse",), NORMAL.astype(float), NORMAL.astype(float), variance=np.ones(2))
    assert SPEARMAN in refused(compared(same, judge=replace(judged(same), terms=terms)))


def test_every_row_says_what_is_demanded_or_that_nothing_is() -> None:
    for row in compared(TRAINED).values():
        assert (row.limit == "") == (row.passed is None)
        assert row.limit.startswith((">= ", "<= ", "")) or row.passed is None
