"""What a gateway makes of recordings and windows, on whichever processor this runs.

`python gateway.py FOLDER ANSWER.npz`: FOLDER holds `rig.evb`, `leak.csv`, int8 models, and `windows.npz` with scaled
windows and with what each model is to be given. Imports nothing but what a gateway has.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from edge_vae.annunciator import Notice
from edge_vae.bundle import Bundle
from edge_vae.detector import load
from edge_vae.pipeline import Pipeline
from edge_vae.runtime import runtime_name
from edge_vae.sample import Block
from edge_vae.sources import ReplaySource

Arrays = dict[str, NDArray[Any]]


def main() -> None:
    folder, answer = Path(sys.argv[1]), Path(sys.argv[2])
    bundle = Bundle.read(folder / "rig.evb")
    with np.load(folder / "windows.npz") as file:
        asked = dict(file)
    scores, _ = load(bundle, path="rig.evb")(asked["windows"].astype(np.float64), asked["conditions"])
    where = [platform.machine(), runtime_name(), version("ai-edge-litert")]
    found: Arrays = {"where": np.array(where), "score": scores.score}
    found["leak"], found["turns"] = watched(bundle, folder / "leak.csv")
    for model in folder.glob("*.int8.tflite"):
        outputs = computed(model.read_bytes(), asked[model.name])
        found |= {f"{model.name}: {output}": array for output, array in outputs.items()}
    np.savez(answer, **found)  # type: ignore[arg-type]  # numpy's types take no mapping


def watched(bundle: Bundle, recording: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """The score of each window of a recording, and each turn of the alarm: the number of its window, and 1 if raised.

    Samples come a stride at a time, as from a sensor, so that each window is scored by itself.
    """
    manifest = bundle.manifest
    pipeline = Pipeline(load(bundle, path="rig.evb"), rules=manifest.alarm)
    scores: list[float | None] = []
    turns: list[tuple[int, bool]] = []
    for block in blocks(recording, pipeline.columns, manifest.window.stride):
        before = pipeline.windows
        found = [one for one in pipeline.push(block) if isinstance(one, Notice)]
        turns += [(pipeline.windows, notice.kind == "raised") for notice in found]
        scores += [pipeline.score] * (pipeline.windows - before)
    return np.array(scores, np.float64), np.array(turns, np.int64).reshape(-1, 2)


def blocks(recording: Path, columns: tuple[str, ...], samples: int) -> Iterator[Block]:
    source = ReplaySource(recording, speed=0.0)
    source.open(columns)
    while not source.exhausted:
        for block in source.read(0.0):
            for at in range(0, len(block.times), samples):
                piece = slice(at, at + samples)
                starts = block.starts_session and at == 0
                yield replace(block, values=block.values[piece], times=block.times[piece], starts_session=starts)


def computed(model: bytes, reals: NDArray[np.float32]) -> Arrays:
    """Every output of a model with one input, as the interpreter stores it, for real inputs (windows, ...)."""
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    (given,), outputs = interpreter.get_input_details(), interpreter.get_output_details()
    stored = in_steps(reals, given)
    collected: dict[str, list[NDArray[Any]]] = {str(details["name"]): [] for details in outputs}
    for i in range(len(stored)):
        interpreter.set_tensor(given["index"], stored[i : i + 1])
        interpreter.invoke()
        for details in outputs:
            collected[str(details["name"])].append(interpreter.get_tensor(details["index"]))
    return {name: np.concatenate(pieces) for name, pieces in collected.items()}


def in_steps(real: NDArray[np.float32], details: dict[str, Any]) -> NDArray[Any]:
    step, zero_point = details["quantization"]
    limits = np.iinfo(details["dtype"])
    steps = np.rint(real / np.float32(step)) + zero_point
    return np.asarray(np.clip(steps, limits.min, limits.max).astype(details["dtype"]))


if __name__ == "__main__":
    main()
