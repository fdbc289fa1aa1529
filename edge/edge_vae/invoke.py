"""A model's bare invoke, which every path around it is held against."""

from __future__ import annotations

import importlib

import numpy as np

from edge_vae.latency import Call
from edge_vae.runtime import runtime_name

__all__ = ["bare_invoke"]


def bare_invoke(model: bytes, *, threads: int) -> Call:
    """The interpreter's invoke by itself, on noise."""
    interpreter_class = importlib.import_module(f"{runtime_name()}.interpreter").Interpreter
    interpreter = interpreter_class(model_content=model, num_threads=threads)
    interpreter.allocate_tensors()
    noise = np.random.default_rng(0)
    for details in interpreter.get_input_details():
        step, zero_point = details["quantization"]
        real = noise.normal(size=details["shape"])
        stored = np.clip(np.rint(real / step) + zero_point, -128, 127) if step else real
        interpreter.set_tensor(details["index"], stored.astype(details["dtype"]))
    return lambda _: interpreter.invoke()
