"""Run folder to bundle: convert, calibrate on the converted model's own outputs, compare, pack."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import Bundle, Manifest, Model, ParityRow
from edge_vae.faults import stress
from edge_vae.runtime import Runtime, TFLiteRuntime
from edge_vae.score import fuse
from edge_vae_converters import tflite
from edge_vae_converters.parity import Outputs, table
from edge_vae_converters.representative import representative
from edge_vae_train.judge import KerasRuntime, judge, manifest, reference_thresholds
from edge_vae_train.run_folder import Run

__all__ = ["Conversion", "convert"]

STRESS_WINDOWS = 1000
_CALIBRATION_SEED_STEP, _PARITY_SEED_STEP = 1, 2
"""Two seeds from one: the gate's faulty windows are not those the quantizer saw."""
_GOLDEN_CELLS = 4096
_GOLDEN_WINDOWS = 8


@dataclass(frozen=True, slots=True)
class Conversion:
    """A bundle, and the float32 model beside it."""

    bundle: Bundle
    float32: bytes

    @property
    def parity(self) -> tuple[ParityRow, ...]:
        """The comparison with the trained model."""
        return self.bundle.manifest.parity


def convert(
    run: Run,
    *,
    name: str,
    precision: str = "int8",
    calibration: str = "stress",
    false_alarms_per_day: float | None = None,
) -> Conversion:
    """The bundle of a run.

    Args:
        run: What training left behind.
        name: Name of the bundle.
        precision: One of `tflite.PRECISIONS`.
        calibration: One of `representative.CALIBRATIONS`.
        false_alarms_per_day: The wish; by default what the run's settings say.
    """
    record = run.record
    seed = record.settings.training.seed
    wished = false_alarms_per_day or record.settings.calibration.false_alarms_per_day
    graph = run.graph()
    data = representative(
        run.calibration, calibration=calibration, clip=record.clip, seed=seed + _CALIBRATION_SEED_STEP
    )
    float32 = tflite.convert(graph, precision="float32", representative=data)
    converted = float32 if precision == "float32" else tflite.convert(graph, precision=precision, representative=data)

    normal = np.concatenate(run.held_out)
    generator = np.random.default_rng(seed + _PARITY_SEED_STEP)
    faulty = stress(normal, count=STRESS_WINDOWS, severity=record.clip, clip=record.clip, generator=generator)
    runtime = TFLiteRuntime(converted.model, outputs={"reconstruction": converted.outputs["reconstruction"]})
    trained, candidate = (_outputs(r, normal, faulty, record.clip) for r in (KerasRuntime(graph), runtime))
    judges = [judge(run, out.normal, wished) for out in (trained, candidate)]
    model = Model(
        "window", hashlib.sha256(converted.model).hexdigest(), precision, converted.outputs, converted.operators
    )
    rows = table(
        converted,
        normal=normal,
        stress=faulty,
        trained=(judges[0], trained),
        candidate=(judges[1], candidate),
        integer_only=precision == "int8",
    )
    described = manifest(run, judges[1], name=name)
    described = msgspec.structs.replace(
        described, models=(model,), calibration=calibration if precision == "int8" else "", parity=rows
    )
    golden = _golden(described, normal, faulty, candidate)
    reference = run.reference | reference_thresholds(run, wished)
    return Conversion(Bundle(described, converted.model, golden, reference), float32.model)


def _outputs(runtime: Runtime, normal: NDArray[np.float32], faulty: NDArray[np.float32], clip: float) -> Outputs:
    return Outputs(*(runtime(np.clip(windows, -clip, clip))["reconstruction"] for windows in (normal, faulty)))


def _golden(
    manifest: Manifest, normal: NDArray[np.float32], faulty: NDArray[np.float32], outputs: Outputs
) -> dict[str, NDArray[np.float32]]:
    """A few normal and faulty windows with the scores that the converted model gave them."""
    count = min(_GOLDEN_WINDOWS, max(2, _GOLDEN_CELLS // (normal.shape[1] * normal.shape[2])))
    chosen = [
        np.linspace(0, len(w) - 1, part, dtype=int) for w, part in ((normal, count - count // 2), (faulty, count // 2))
    ]
    windows = np.concatenate([normal[chosen[0]], faulty[chosen[1]]])
    reconstruction = np.concatenate([outputs.normal[chosen[0]], outputs.stress[chosen[1]]])
    scores = fuse(manifest.score, windows.astype(np.float64), reconstruction.astype(np.float64)).score
    return {"windows": windows, "score": scores.astype(np.float32)}


def write(conversion: Conversion, output: Path, run: Run) -> list[Path]:
    """Write the bundle, and both models as plain `.tflite` files into the run folder; the paths, the bundle's first."""
    manifest = conversion.bundle.manifest
    beside = [
        (run.folder / f"window.{manifest.models[0].precision}.tflite", conversion.bundle.model),
        (run.folder / "window.float32.tflite", conversion.float32),
    ]
    output.parent.mkdir(parents=True, exist_ok=True)
    for path, model in beside:
        path.write_bytes(model)
    conversion.bundle.write(output)
    return [output, *dict(beside)]
