"""A bundle around an autoencoder `.tflite` that somebody else built: calibrated here, and compared with nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from edge_vae.bundle import Bundle, ParityRow
from edge_vae.errors import ModelError
from edge_vae.runtime import TFLiteRuntime
from edge_vae.sample import FloatArray
from edge_vae.view import OUTPUTS, Model
from edge_vae_converters.conversion import bundled, stress_windows
from edge_vae_converters.foreign import (
    WINDOW,
    expect_terms,
    foreign_run,
    prepared,
    raw_rows,
    tried_windows,
)
from edge_vae_converters.own_scaling import IN_SIGMAS, SCALINGS, Affine, errors_by_scaling, fitted, judge_scaling
from edge_vae_converters.parity import Side
from edge_vae_converters.roles import Roles, recognise
from edge_vae_converters.tflite import INT8_SAFE
from edge_vae_converters.tflite_window import Flatbuffer
from edge_vae_converters.trial import expect_runs
from edge_vae_train.data import Recording
from edge_vae_train.judge import judge, seen_by
from edge_vae_train.prepare import WindowSet
from edge_vae_train.run_folder import Run
from edge_vae_train.settings import Settings

__all__ = ["Packed", "pack"]


@dataclass(frozen=True, slots=True)
class Packed:
    """A bundle, and what is to be known of the model in it."""

    bundle: Bundle
    notes: tuple[str, ...]


def pack(
    model: Flatbuffer,
    recording: Recording,
    settings: Settings,
    *,
    name: str,
    scaling: str | None,
    false_alarms_per_day: float,
) -> Packed:
    """The bundle of a TFLite model and normal data. The model's ends are changed in place.

    Args:
        model: The model.
        recording: Normal data.
        settings: Window, columns and the terms of the score.
        name: Name of the bundle.
        scaling: One of `SCALINGS`; None: `standard`, unless another one is plainly right, which is an error.
        false_alarms_per_day: The wish.

    Raises:
        ModelError: The runtime does not run the model, or its outputs or scaling are not understood.
        TrainingError: There is too little normal data.
    """
    given, chosen = prepared(recording, settings), scaling or SCALINGS[0]
    length, channels = given.training.windows.shape[1:]
    scalings = fitted(raw_rows(given), given.scaler, chosen=chosen)
    precision, float_tensors = model.precision, model.float_tensors
    model.take_window(length, channels)
    expect_runs(model.name, model.pack())
    roles, errors = _understood(model, tried_windows(given), scalings, chosen)
    expect_terms(settings.terms(channels), latent=roles.posterior is not None)
    own = None if chosen in IN_SIGMAS else scalings[chosen]
    if own is not None:
        model.take_scaling(own)
    tensors = {OUTPUTS[0]: model.give_window(roles.reconstruction, length, channels, own)}
    if roles.posterior is not None:
        tensors |= {role: model.outputs[i] for role, i in zip(OUTPUTS[1:], roles.posterior, strict=True)}
    packed, operators = model.pack(), model.operators
    runtime = TFLiteRuntime(packed, outputs=tensors)
    notes = tuple(filter(None, [roles.told, judge_scaling(model.name, errors, chosen, explicit=scaling is not None)]))
    run = foreign_run(
        recording, settings, given, runtime=runtime, graphs={}, notes=notes, folder=Path(model.name).parent
    )
    stress, runtimes = stress_windows(run), {WINDOW: runtime}
    side = _side(run, runtime, stress, false_alarms_per_day)
    described = Model(hashlib.sha256(packed).hexdigest(), precision, tensors, operators)
    bundle = bundled(
        run,
        name=name,
        side=side,
        stress=stress,
        models={WINDOW: (described, packed)},
        runtimes=runtimes,
        calibration="",
        parity=_rows(run, side, stress, described, size=len(packed), float_tensors=float_tensors),
        false_alarms_per_day=false_alarms_per_day,
    )
    return Packed(bundle, notes)


def _understood(
    model: Flatbuffer, windows: NDArray[np.float32], scalings: Mapping[str, Affine], chosen: str
) -> tuple[Roles, dict[str, float]]:
    """What the outputs are, and the error of the reconstruction by scaling."""
    every = {str(i): tensor for i, tensor in enumerate(model.outputs)}
    runtime, no_modes = TFLiteRuntime(model.pack(), outputs=every), np.empty((len(windows), 0), np.float32)

    def outputs(given: FloatArray) -> list[NDArray[np.float32]]:
        found = runtime(given.astype(np.float32), no_modes)
        return [found[name] for name in every]

    _, length, channels = windows.shape
    first, again = (outputs(scalings[chosen].own(windows.astype(np.float64))) for _ in range(2))
    _expect_answers(model, first, again, count=len(windows))
    roles = recognise(model.name, model.outputs, first, length=length, channels=channels)
    errors = errors_by_scaling(
        lambda x: outputs(x)[roles.reconstruction].astype(np.float64).reshape(x.shape), windows, scalings
    )
    return roles, errors


def _expect_answers(
    model: Flatbuffer, first: Sequence[NDArray[np.float32]], again: Sequence[NDArray[np.float32]], *, count: int
) -> None:
    """Raise ModelError unless every output answers each of `count` windows, and always alike."""
    for name, output, second in zip(model.outputs, first, again, strict=True):
        if len(output) != count:
            what = f"{model.name}: output {name!r} does not answer each window"
            raise ModelError(
                what,
                expected=f"an output of shape (1, ...) for each of {count} windows",
                received=f"{len(output)} rows",
                action="Convert it again with a batch of 1.",
            )
        if not np.array_equal(output, second, equal_nan=True):
            what = f"{model.name}: output {name!r} draws random numbers"
            raise ModelError(
                what,
                expected="the same answer to the same window",
                received="two answers",
                action="Give its .keras file to edge-vae convert, which takes the mean; or convert the mean yourself.",
            )


def _side(run: Run, runtime: TFLiteRuntime, stress: WindowSet, false_alarms_per_day: float) -> Side:
    normal = seen_by(run, {WINDOW: runtime}, WindowSet.joined(run.held_out))
    return Side(judge(run, normal, false_alarms_per_day), normal, seen_by(run, {WINDOW: runtime}, stress))


def _rows(
    run: Run, side: Side, stress: WindowSet, model: Model, *, size: int, float_tensors: int
) -> tuple[ParityRow, ...]:
    """What stands where other bundles compare with their trained model: nothing is demanded."""
    normal, faulty = side.judge.held_out, side.judge.score(stress.windows, side.stress)
    marks = np.concatenate([np.zeros(len(normal)), np.ones(len(faulty))])
    unsafe = sum(count for operator, count in model.operators.items() if operator not in INT8_SAFE)
    told = {
        "trained models to compare with": 0.0,
        "ROC-AUC stress against normal": float(roc_auc_score(marks, np.concatenate([normal, faulty]))),
        "normal windows above the threshold": float(np.mean(normal > side.judge.threshold.value)),
        f"{WINDOW}: normal error, squared sigmas": run.record.training.fits[WINDOW].held_out_loss,
        f"{WINDOW}: tensors that are neither int8 nor int32": float(float_tensors),
        f"{WINDOW}: operators outside the int8-safe list": float(unsafe),
        f"{WINDOW}: model, bytes": float(size),
    }
    return tuple(ParityRow(measure, value, "", passed=None) for measure, value in told.items())
