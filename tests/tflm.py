"""The real kernels of TensorFlow Lite Micro for tests, in the environment that `make runtimes` makes for them."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_vae.runtime import Outputs
from edge_vae_converters.flatbuffer import read
from edge_vae_converters.microcontroller import arena_bytes

__all__ = ["MicroRuntime", "allocated_bytes", "invoked", "refused"]

PYTHON = Path(__file__).parents[1] / ".venv-tflm" / "bin" / "python"
PROGRAM = """
import sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime

model, given, made, arena, outputs = sys.argv[1:]
inputs = np.load(given)
interpreter = runtime.Interpreter.from_file(model, arena_size=int(arena))
collected = [[] for _ in range(int(outputs))]
for i in range(len(inputs["0"])):
    for name in inputs:
        interpreter.set_input(inputs[name][i : i + 1], int(name))
    interpreter.invoke()
    for k, pieces in enumerate(collected):
        pieces.append(np.array(interpreter.get_output(k)))
interpreter.print_allocations()
np.savez(made, **{str(k): np.concatenate(pieces) for k, pieces in enumerate(collected)})
"""
TOTAL = re.compile(r"Arena allocation total (\d+) bytes")


def interpreter() -> Path:
    """The Python of the environment with these kernels."""
    if sys.version_info >= (3, 14) or platform.machine() != "x86_64":
        pytest.skip("tflite-micro has wheels for Python 3.10 to 3.13 on x86-64 alone")
    assert PYTHON.exists(), f"expected {PYTHON}, received none. Make it with: make runtimes"
    return PYTHON


@dataclass(frozen=True, slots=True)
class MicroRuntime:
    """A model on the kernels of TensorFlow Lite Micro, behind the device's own contract.

    Attributes:
        model: The flatbuffer.
        outputs: Name of each output to the name of its tensor.
        folder: For what goes to the other process and comes back.
    """

    model: bytes
    outputs: dict[str, str]
    folder: Path

    def stored(self, windows: NDArray[np.float32], conditions: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Outputs for clipped windows as the model holds them."""
        graph = read(self.model)
        real = {graph.window: windows} | ({} if graph.condition is None else {graph.condition: conditions})
        given = {i: graph.tensors[graph.inputs[i]].stored(values) for i, values in real.items()}
        made = invoked(self.model, given, self.folder)
        return {name: made[graph.output(tensor)] for name, tensor in self.outputs.items()}

    def __call__(self, windows: NDArray[np.float32], conditions: NDArray[np.float32]) -> Outputs:
        """The same in real numbers."""
        graph = read(self.model)
        tensors = {name: graph.tensors[graph.outputs[graph.output(tensor)]] for name, tensor in self.outputs.items()}
        return {
            name: (stored.astype(np.float32) - np.float32(tensors[name].zero_point)) * np.float32(tensors[name].step)
            if tensors[name].step
            else stored
            for name, stored in self.stored(windows, conditions).items()
        }


def invoked(model: bytes, given: dict[int, NDArray[Any]], folder: Path) -> list[NDArray[Any]]:
    """Outputs (windows, ...) of a model for its inputs (windows, ...), in an arena of exactly the computed size."""
    done = _run(model, given, folder, arena_bytes(model))
    assert done.returncode == 0, done.stderr[-2000:]
    made = np.load(folder / "made.npz")
    return [made[str(i)] for i in range(len(made.files))]


def refused(model: bytes, given: dict[int, NDArray[Any]], folder: Path, *, arena: int) -> bool:
    """Whether an arena of so many bytes is too small."""
    return _run(model, given, folder, arena).returncode != 0


def allocated_bytes(model: bytes, given: dict[int, NDArray[Any]], folder: Path) -> int:
    """What the interpreter says that it keeps of its arena; while it plans it can need more."""
    found = TOTAL.search(_run(model, given, folder, arena_bytes(model)).stderr)
    assert found, "expected the interpreter to tell its allocations"
    return int(found[1])


def _run(model: bytes, given: dict[int, NDArray[Any]], folder: Path, arena: int) -> subprocess.CompletedProcess[str]:
    path, inputs, outputs = folder / "model.tflite", folder / "given.npz", folder / "made.npz"
    path.write_bytes(model)
    np.savez(inputs, **{str(i): values for i, values in given.items()})  # type: ignore[arg-type]
    outputs.unlink(missing_ok=True)
    words = [interpreter(), "-c", PROGRAM, path, inputs, outputs, arena, len(read(model).outputs)]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(word) for word in words], env=kept, capture_output=True, text=True, timeout=120, check=False
    )
