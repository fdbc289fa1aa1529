"""Run folder to bundle: convert, calibrate on the converted models' own outputs, compare, pack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import Bundle, ParityRow
from edge_vae.detector import Detector
from edge_vae.runtime import Runtime
from edge_vae.view import LIMIT_SIGMA, Model, View
from edge_vae_converters import tflite
from edge_vae_converters.attempt import Attempts, Candidates
from edge_vae_converters.compiling import compiled
from edge_vae_converters.parity import Side
from edge_vae_converters.representative import faulty, representative
from edge_vae_converters.small_components import with_small_components
from edge_vae_converters.tflite import FULL_INTEGER, WEIGHTS_IN_INT8
from edge_vae_train.explaining import choose
from edge_vae_train.interrupt import answer, held
from edge_vae_train.judge import (
    keras_runtimes,
    manifest,
    principal_runtime,
    reference_thresholds,
    seen_by,
)
from edge_vae_train.keras_runtime import KerasRuntime
from edge_vae_train.prepare import WindowSet
from edge_vae_train.run_folder import Run

__all__ = ["IO", "SIMPLER", "Conversion", "bundled", "convert", "stress_windows", "write"]

SIMPLER: Mapping[str, str] = MappingProxyType(
    {"int8": "dynamic", "int16x8": "dynamic", "dynamic": "float32", "float16": "float32"}
)
"""What a view's model is tried in next where the gate or the runtime refuses one. `dynamic` is as small and as fast as
int8 on a processor of a gateway, and where int8 loses it keeps the scores (docs/decisions/0019)."""
IO = ("float", "int8")
"""`float`: one graph from the scaled window to its score. `int8`: the model of each view alone, whose inputs and
outputs are int8 where it is; an accelerator takes no other, and the device computes what is before and after it."""

STRESS_WINDOWS = 1000
_CALIBRATION_SEED_STEP, _PARITY_SEED_STEP, _EXPLANATION_SEED_STEP = 1, 2, 3
"""Several seeds from one: the gate's faulty windows are not those the quantizer saw."""
_GOLDEN_CELLS = 4096
_GOLDEN_WINDOWS = 8


@dataclass(frozen=True, slots=True)
class Conversion:
    """A bundle.

    Attributes:
        bundle: All that a device needs.
        parts: The same bundle with a model for each view, where one graph holds them in `bundle`.
        float32: The float32 models beside it, by view.
        fallbacks: A line for each view whose model is not in the wished precision, and where no graph holds the models:
            which one, and why.
    """

    bundle: Bundle
    parts: Bundle
    float32: Mapping[str, bytes]
    fallbacks: tuple[str, ...]

    @property
    def parity(self) -> tuple[ParityRow, ...]:
        """The comparison with the trained models."""
        return self.bundle.manifest.parity


@held()
def convert(
    run: Run,
    *,
    name: str,
    precision: str = "int8",
    calibration: str = "stress",
    false_alarms_per_day: float | None = None,
    simpler: Mapping[str, str] = SIMPLER,
    io: str = "float",
) -> Conversion:
    """The bundle of a run.

    Args:
        run: What training left behind.
        name: Name of the bundle.
        precision: One of `tflite.PRECISIONS`.
        calibration: One of `representative.CALIBRATIONS`.
        false_alarms_per_day: The wish; by default what the run's settings say.
        simpler: What a view's model is tried in next where the gate or the runtime refuses a precision; empty: the
            wished precision, whatever is wrong with it.
        io: One of `IO`.

    Raises:
        InferenceError: The runtime refuses a model, and nothing is left to try.
    """
    record = run.record
    seed = record.settings.training.seed
    wished = false_alarms_per_day or record.settings.calibration.false_alarms_per_day
    graphs = keras_runtimes(run)
    data = representative(
        run.calibration, calibration=calibration, clip=record.clip, seed=seed + _CALIBRATION_SEED_STEP
    )
    given = {view.name: _given(view, data, record.clip) for view in record.views if view.name in graphs}
    candidates = Candidates(lambda view, wanted: _converted(graphs[view], wanted, given[view]))
    normal = WindowSet.joined(run.held_out)
    stress = stress_windows(run)
    stored, kept = run, tuple[str, ...]()
    if precision in WEIGHTS_IN_INT8:
        stored, kept = with_small_components(run, normal=normal, stress=stress)
    attempts = Attempts(
        run=run, stored=stored, trained=graphs, candidates=candidates, normal=normal, stress=stress,
        false_alarms_per_day=wished,
    )  # fmt: skip
    attempt, fallbacks = attempts.settle(precision, simpler=simpler)
    parts = bundled(
        stored,
        name=name,
        side=attempt.side,
        stress=stress,
        models={view: (attempt.model(view), one.model) for view, one in attempt.converted.items()},
        runtimes=attempt.runtimes,
        calibration=calibration if set(FULL_INTEGER) & set(attempt.precisions.values()) else "",
        parity=attempt.rows,
        false_alarms_per_day=wished,
    )
    side = attempt.side
    expected = [side.judge.score(normal.windows, side.normal), side.judge.score(stress.windows, side.stress)]
    bundle, why = parts, tuple[str, ...]()
    if io == "float" and parts.models:  # without a model no interpreter is needed at all
        windows = WindowSet.joined([normal, stress])
        bundle, why = compiled(parts, attempt.converted, windows=windows, expected=np.concatenate(expected))
    float32 = {view: candidates.converted(view, "float32").model for view in graphs}
    return Conversion(bundle, parts, float32, kept + fallbacks + why)


def bundled(
    run: Run,
    *,
    name: str,
    side: Side,
    stress: WindowSet,
    models: Mapping[str, tuple[Model, bytes]],
    runtimes: Mapping[str, Runtime],
    calibration: str,
    parity: tuple[ParityRow, ...],
    false_alarms_per_day: float,
) -> Bundle:
    """The bundle of models that run.

    Args:
        run: Where they come from.
        name: Name of the bundle.
        side: What they make of held-out normal and of stress windows.
        stress: The stress windows.
        models: Description and flatbuffer, by view.
        runtimes: The same, running.
        calibration: What the quantizer saw; empty where there was none.
        parity: How they compare with the trained models.
        false_alarms_per_day: The wish that thresholds are fitted for.
    """
    views = tuple(
        msgspec.structs.replace(view, model=models[view.name][0]) if view.name in models else view
        for view in run.record.views
    )
    described = msgspec.structs.replace(
        manifest(run, side.judge, name=name), views=views, calibration=calibration, parity=parity
    )
    answer()
    detector, normal = Detector(described, {**runtimes, **principal_runtime(run)}), WindowSet.joined(run.held_out)
    explanation = choose(detector, normal, seed=run.record.settings.training.seed + _EXPLANATION_SEED_STEP)
    return Bundle(
        manifest=msgspec.structs.replace(described, explanation=explanation),
        models={view: model for view, (_, model) in models.items()},
        golden=_golden(run, runtimes, side, normal, stress),
        reference=run.reference | reference_thresholds(run, false_alarms_per_day),
    )


def stress_windows(run: Run) -> WindowSet:
    """The faulty windows that converted models are compared on, the same for the same run."""
    clip, seed = run.record.clip, run.record.settings.training.seed + _PARITY_SEED_STEP
    return faulty(WindowSet.joined(run.held_out), count=STRESS_WINDOWS, severity=clip, clip=clip, seed=seed)


def _converted(graph: KerasRuntime, precision: str, representative: list[NDArray[np.float32]]) -> tflite.Converted:
    answer()
    return tflite.convert(graph.graph, precision=precision, representative=representative)


def _given(view: View, windows: WindowSet, clip: float) -> list[NDArray[np.float32]]:
    """What a view's model is given of these windows."""
    target = view.target(windows.windows.astype(np.float64), windows.conditions)
    return [np.clip(target, -clip, clip).astype(np.float32), windows.conditions]


def _golden(
    run: Run, runtimes: Mapping[str, Runtime], side: Side, normal: WindowSet, stress: WindowSet
) -> dict[str, NDArray[Any]]:
    """A few normal and faulty windows, rounded to float16, with the scores that the converted models give them."""
    cells = normal.windows.shape[1] * normal.windows.shape[2]
    count = min(_GOLDEN_WINDOWS, max(2, _GOLDEN_CELLS // cells))
    parts = [(normal, count - count // 2), (stress, count // 2)]
    chosen = [windows[np.linspace(0, len(windows) - 1, part, dtype=int)] for windows, part in parts]
    exact = WindowSet.joined(chosen)
    rounded = np.clip(exact.windows, -LIMIT_SIGMA, LIMIT_SIGMA).astype(np.float16)
    golden = WindowSet(rounded.astype(np.float32), exact.conditions)
    score = side.judge.score(golden.windows, seen_by(run, runtimes, golden))
    return {"windows": rounded, "conditions": golden.conditions, "score": score.astype(np.float32)}


@held()
def write(conversion: Conversion, output: Path, run: Run) -> list[Path]:
    """Write the bundle, and all models as plain `.tflite` files into the run folder; the paths, the bundle's first.

    Of a run that has its graphs in memory, and no folder, the bundle alone.
    """
    bundle, parts = conversion.bundle, conversion.parts
    output.parent.mkdir(parents=True, exist_ok=True)
    if run.graphs:
        bundle.write(output)
        return [output]
    beside = {
        run.folder / f"{view.name}.{view.model.precision}.tflite": parts.models[view.name]
        for view in parts.manifest.views
        if view.model is not None
    }
    beside |= {run.folder / f"{view}.float32.tflite": model for view, model in conversion.float32.items()}
    for path, model in beside.items():
        path.write_bytes(model)
    bundle.write(output)
    return [output, *beside]
