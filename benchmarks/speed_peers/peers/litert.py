"""LiteRT by itself: the bare invoke of int8 and float32, and the loop that a user writes around it."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from edge_vae.invoke import bare_invoke
from speed_peers.loaded import Files, Floats, Loaded, each, statistic


def load(files: Files, *, argument: str, threads: int) -> Loaded:
    """For `invoke` the bare invoke in each form of the model, else the loop around the model of that name."""
    if argument == "invoke":
        return _invokes(files, threads)
    interpreter = Interpreter(str(files.folder / f"{argument}.tflite"), num_threads=threads)
    interpreter.allocate_tensors()
    numbers, clip = files.numbers, float(files.numbers["clip"])
    centre, scale, variance = numbers["centre"], numbers["scale"], numbers["variance"]
    given = interpreter.get_input_details()[0]
    wanted = next(d for d in interpreter.get_output_details() if list(d["shape"]) == list(given["shape"]))

    def one(window: Floats) -> float:
        scaled = np.clip((window - centre) / scale, -clip, clip).astype(np.float32)
        stored = scaled
        if given["dtype"] == np.int8:
            step, zero = given["quantization"]
            stored = np.clip(np.round(scaled / step + zero), -128, 127).astype(np.int8)
        interpreter.set_tensor(given["index"], stored[None])
        interpreter.invoke()
        found = interpreter.get_tensor(wanted["index"])[0]
        if wanted["dtype"] == np.int8:
            step, zero = wanted["quantization"]
            found = (found.astype(np.float32) - zero) * step
        return float(statistic(scaled, found, variance))

    return Loaded({argument: each(one, files.windows)}, {argument: lambda windows: np.array([one(w) for w in windows])})


def _invokes(files: Files, threads: int) -> Loaded:
    calls = {
        name: bare_invoke((files.folder / f"{name}.tflite").read_bytes(), threads=threads)
        for name in ("int8", "float32")
    }
    batch = files.folder / "int8-batch.tflite"
    interpreter = Interpreter(str(batch))
    in_batch = int(interpreter.get_input_details()[0]["shape"][0])
    invoke_batch = bare_invoke(batch.read_bytes(), threads=threads)

    def batches(windows: Floats) -> Floats:
        for i in range(-(-len(windows) // in_batch)):
            invoke_batch(i)
        return np.empty(0)

    def singles(windows: Floats) -> Floats:
        for i in range(len(windows)):
            calls["int8"](i)
        return np.empty(0)

    return Loaded(dict(calls), {"int8, batches": batches, "int8": singles})
