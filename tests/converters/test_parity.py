"""The gate: each thing that can go wrong in a conversion is refused by the row that names it, and nothing else is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_vae.bundle import ParityRow
from edge_vae.sample import FloatArray
from edge_vae.score import Term, fit_terms
from edge_vae.threshold import Threshold
from edge_vae.view import Seen
from edge_vae_converters.parity import MAX_NOISE, Side, failures, table, unfit
from edge_vae_converters.tflite import Converted
from edge_vae_train.judge import Judge

Windows = NDArray[np.float32]

GENERATOR = np.random.default_rng(0)
NORMAL: Windows = GENERATOR.normal(size=(300, 8, 2)).astype(np.float32)
STRESS: Windows = (GENERATOR.normal(size=(400, 8, 2)) * GENERATOR.uniform(1, 6, (400, 1, 1))).astype(np.float32)
CONVERTED = Converted(b"model", {"reconstruction": "out"}, {"CONV_2D": 2, "FULLY_CONNECTED": 1}, ())
SPEARMAN, AGREE, AUC = "score Spearman, stress and normal windows", "decisions that agree", "ROC-AUC lost"
NOISE = "window: quantization noise / normal error"
FLOATS, UNSAFE = "window: tensors that are neither int8 nor int32", "window: operators outside the int8-safe list"
VIEWS = ("window", "features")


def reconstructed(windows: Windows) -> Windows:
    return np.asarray(0.6 * np.clip(windows, -8, 8), np.float32)


def seen(target: FloatArray, reconstruction: FloatArray) -> Seen:
    posterior = np.zeros((len(target), 1))
    return Seen(target, reconstruction.astype(float), posterior, posterior, np.ones((1, 2)))


@dataclass(frozen=True)
class Made:
    """What models of both views made of the normal and the stress windows; that of the features sees four means."""

    normal: Windows
    stress: Windows
    features_normal: Windows
    features_stress: Windows

    def views(self) -> tuple[dict[str, Seen], dict[str, Seen]]:
        normal = seen(NORMAL.astype(float), self.normal), seen(quarters(NORMAL), self.features_normal)
        stress = seen(STRESS.astype(float), self.stress), seen(quarters(STRESS), self.features_stress)
        return dict(zip(VIEWS, normal, strict=True)), dict(zip(VIEWS, stress, strict=True))


def quarters(windows: Windows) -> FloatArray:
    return np.asarray(windows.reshape(len(windows), 4, 2, 2).mean(axis=2), float)


TRAINED = Made(
    reconstructed(NORMAL),
    reconstructed(STRESS),
    reconstructed(quarters(NORMAL).astype(np.float32)),
    reconstructed(quarters(STRESS).astype(np.float32)),
)


def judged(
    made: Made, *, share_above: float = 0.02, names: tuple[str, ...] = ("window.nll", "features.nll", "z")
) -> Judge:
    """A judge fitted on these outputs, whose threshold that share of the normal windows exceeds."""
    normal, _ = made.views()
    terms, scores = fit_terms([Term(name) for name in names], NORMAL.astype(float), normal, known={}, overlap=1.0)
    value = float(np.quantile(scores, 1 - share_above))
    return Judge(terms, Threshold(value, "rank", 1.0, 0.0, 0.0, 1.0, 1.0, 40, 1.0, 2, value, value), scores)


def compared(
    candidate: Made,
    *,
    converted: Mapping[str, Converted] | None = None,
    precision: str = "int8",
    trained: Made = TRAINED,
    judge: Judge | None = None,
) -> dict[str, ParityRow]:
    rows = table(
        dict.fromkeys(VIEWS, CONVERTED) if converted is None else converted,
        normal=NORMAL,
        stress=STRESS,
        trained=Side(judged(trained), *trained.views()),
        candidate=Side(judge or judged(candidate), *candidate.views()),
        precisions=dict.fromkeys(VIEWS, precision),
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
    assert rows["window: model, bytes"].value == rows["features: model, bytes"].value == 5


def test_noise_is_measured_against_the_normal_error() -> None:
    rows = compared(replace(TRAINED, normal=noisy(TRAINED.normal, 0.01)))
    assert rows[NOISE].value == pytest.approx(0.01, rel=0.1)
    assert NOISE not in refused(rows)


def test_noise_beyond_the_limit_is_refused() -> None:
    rows = compared(replace(TRAINED, normal=noisy(TRAINED.normal, 2 * MAX_NOISE)))
    assert NOISE in refused(rows)


def test_saturation_that_normal_windows_never_show_is_refused() -> None:
    """What calibrating on normal windows alone does: outside their range the model answers something else."""
    saturated = np.where(np.abs(STRESS) > 4, STRESS, TRAINED.stress).astype(np.float32)
    rows = compared(replace(TRAINED, stress=saturated))
    assert SPEARMAN in refused(rows)
    assert rows["score Spearman, normal windows alone"].value == pytest.approx(1.0)
    assert rows[NOISE].value == 0.0


def test_a_model_that_no_longer_sees_faults_is_refused() -> None:
    blind = replace(TRAINED, stress=STRESS, features_stress=quarters(STRESS).astype(np.float32))
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
    odd = replace(CONVERTED, operators={"CONV_2D": 2, "EXP": 3}, float_tensors=("a", "b"))
    converted = {"window": odd, "features": CONVERTED}
    rows = compared(TRAINED, converted=converted)
    assert refused(rows) == {FLOATS, UNSAFE}
    assert (rows[FLOATS].value, rows[UNSAFE].value) == (2, 3)
    assert refused(compared(TRAINED, converted=converted, precision="float32")) == set()


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_whose_int8_model_is_broken_is_refused_by_its_name(view: str) -> None:
    odd = {name: replace(CONVERTED, float_tensors=("a",)) if name == view else CONVERTED for name in VIEWS}
    off = "normal" if view == "window" else "features_normal"
    rows = compared(replace(TRAINED, **{off: noisy(getattr(TRAINED, off), 10 * MAX_NOISE)}), converted=odd)
    named = {measure for measure in refused(rows) if ": " in measure}
    assert named == {
        f"{view}: quantization noise / normal error", f"{view}: tensors that are neither int8 nor int32",
    }  # fmt: skip


@pytest.mark.parametrize("view", VIEWS)
def test_unfit_is_a_view_whose_own_rows_fail_even_where_the_scores_do_too(view: str) -> None:
    off = "normal" if view == "window" else "features_normal"
    rows = compared(replace(TRAINED, **{off: noisy(getattr(TRAINED, off), 100 * MAX_NOISE)}))
    assert SPEARMAN in refused(rows)
    ((name, reason),) = unfit(list(rows.values()), VIEWS).items()
    assert name == view
    value = rows[f"{view}: quantization noise / normal error"].value
    assert reason == f"quantization noise / normal error {value:.4g} where <= 0.02 is expected"


def test_unfit_is_every_view_where_scores_alone_differ_and_none_where_nothing_does() -> None:
    rows = compared(TRAINED, judge=judged(TRAINED, names=("z",)))
    assert SPEARMAN in refused(rows)
    found = unfit(list(rows.values()), VIEWS)
    assert set(found) == set(VIEWS)
    assert all(reason.startswith("score Spearman, stress and normal windows 0.") for reason in found.values())
    assert unfit(list(compared(TRAINED).values()), VIEWS) == {}


def test_without_a_view_the_scores_alone_are_compared() -> None:
    plain = judged(TRAINED, names=("z",))
    side = Side(plain, {}, {})
    rows = table({}, normal=NORMAL, stress=STRESS, trained=side, candidate=side, precisions={})
    assert failures(rows) == []
    assert not [row.measure for row in rows if ": " in row.measure]
    assert {row.measure: row.value for row in rows}[SPEARMAN] == pytest.approx(1.0)


@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_a_model_whose_scores_are_all_alike_is_refused() -> None:
    """A rank correlation of constant scores is not a number, and that must never pass."""
    same = replace(TRAINED, normal=NORMAL, stress=STRESS)
    assert SPEARMAN in refused(compared(same, judge=judged(same, names=("window.mse",))))


def test_every_row_says_what_is_demanded_or_that_nothing_is() -> None:
    for row in compared(TRAINED).values():
        assert (row.limit == "") == (row.passed is None)
        assert row.limit.startswith((">= ", "<= ", "")) or row.passed is None
