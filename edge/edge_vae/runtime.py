"""Model bytes to a function from windows to outputs: LiteRT first, tflite-runtime second. int8 lives only here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_vae.errors import InferenceError
from edge_vae.sample import FloatArray

__all__ = ["OneOutput", "Outputs", "Runtime", "TFLiteRuntime", "runtime_name"]

Outputs = dict[str, NDArray[np.float32]]
"""Output name to array (windows, ...), in real numbers whatever the model computes in."""

OneOutput = Callable[[FloatArray, NDArray[np.float32]], FloatArray]
"""From as many windows (windows, steps, channels) and conditions (windows, conditions) as an invocation takes to an
output (windows, n)."""

_RUNTIMES = ("ai_edge_litert", "tflite_runtime")


class Runtime(Protocol):
    """A model that runs."""

    def __call__(self, windows: NDArray[np.float32], conditions: NDArray[np.float32]) -> Outputs:
        """Outputs for what a view sees of windows (windows, steps, channels), clipped.

        `conditions` (windows, conditions) is the operating mode; a model without modes takes no notice of it.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One input or output of the interpreter: real = (stored - zero_point) * step; step 0 for a float tensor.

    The shape is that of one window's.
    """

    index: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    step: float
    zero_point: int

    @classmethod
    def of(cls, details: dict[str, Any]) -> _Tensor:
        step, zero_point = details["quantization"]
        shape = tuple(int(n) for n in details["shape"][1:])
        return cls(int(details["index"]), shape, np.dtype(details["dtype"]), float(step), int(zero_point))

    def stored(self, real: NDArray[np.float32]) -> NDArray[Any]:
        if not self.step:
            return real.astype(self.dtype, copy=False)
        limits = np.iinfo(self.dtype)
        return np.asarray(
            np.clip(np.rint(real / self.step) + self.zero_point, limits.min, limits.max).astype(self.dtype)
        )

    def real(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        if not self.step:
            return stored.astype(np.float32, copy=False)
        return np.asarray((stored.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.step))


class TFLiteRuntime:
    """A TFLite model of batch 1 in whichever interpreter is installed.

    Args:
        model: The flatbuffer.
        outputs: Name of each wanted output to the name of its tensor in the model.
        threads: Threads of the interpreter.
        batch: Windows that an invocation is made to take, where the model's operators leave that open.

    Raises:
        InferenceError: No interpreter is installed, or it refuses the model or the batch, or the model lacks a tensor.
    """

    def __init__(self, model: bytes, *, outputs: dict[str, str], threads: int = 1, batch: int = 1) -> None:
        self.name, interpreter_class = _interpreter_class()
        try:
            with _silenced():
                self._interpreter = interpreter_class(model_content=model, num_threads=threads)
                for details in self._interpreter.get_input_details() if batch > 1 else ():
                    self._interpreter.resize_tensor_input(details["index"], (batch, *details["shape"][1:]))
                self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            what = f"{self.name} refuses the model"
            raise InferenceError(what, expected="a TFLite flatbuffer it can run", received=str(error)) from error
        inputs = sorted(self._interpreter.get_input_details(), key=lambda details: -len(details["shape"]))
        found = {str(details["name"]): details for details in self._interpreter.get_output_details()}
        if [len(i["shape"]) for i in inputs] not in ([2], [3], [3, 2]) or not set(outputs.values()) <= set(found):
            raise InferenceError(
                "the model's inputs and outputs are not those of a scoring graph",
                expected=f"a window, perhaps a condition, and the outputs {', '.join(outputs.values())}",
                received=f"{len(inputs)} inputs and the outputs {', '.join(found)}",
            )
        if batch > 1 and (kept := [name for name, tensor in outputs.items() if found[tensor]["shape"][0] != batch]):
            what = f"{self.name} cannot have the model take {batch} windows at once"
            raise InferenceError(what, expected=f"{batch} of each output", received=f"another number of {kept[0]}")
        self.batch = batch
        self._inputs = [_Tensor.of(details) for details in inputs]
        self.input_shape = self._inputs[0].shape
        self.conditions = self._inputs[1].shape[0] if len(inputs) > 1 else 0
        self._outputs = {name: _Tensor.of(found[tensor]) for name, tensor in outputs.items()}

    def __call__(self, windows: NDArray[np.float32], conditions: NDArray[np.float32]) -> Outputs:
        """Outputs for what a view sees of windows (windows, steps, channels), clipped; one invocation each."""
        stored = zip(self._inputs, (windows, conditions), strict=False)  # a model without modes has one input
        given = [(tensor.index, tensor.stored(real)) for tensor, real in stored]
        made = [
            (tensor.index, np.empty((len(windows), *tensor.shape), tensor.dtype)) for tensor in self._outputs.values()
        ]
        interpreter = self._interpreter
        for i in range(len(windows)):
            for index, values in given:
                interpreter.set_tensor(index, values[i : i + 1])
            interpreter.invoke()
            for index, values in made:
                values[i] = interpreter.get_tensor(index)[0]
        return {name: self._outputs[name].real(values) for name, (_, values) in zip(self._outputs, made, strict=True)}

    def only(self, name: str) -> OneOutput:
        """One of the outputs, of a model that takes and gives float32; the others are not fetched."""
        interpreter, output = self._interpreter, self._outputs[name].index
        set_tensor, invoke, get_tensor = interpreter.set_tensor, interpreter.invoke, interpreter.get_tensor
        first, second = self._inputs[0].index, self._inputs[1].index if self.conditions else None
        single = np.empty((self.batch, *self.input_shape), np.float32)

        def run(windows: FloatArray, conditions: NDArray[np.float32]) -> FloatArray:
            single[...] = windows
            set_tensor(first, single)
            if second is not None:
                set_tensor(second, conditions)
            invoke()
            found: NDArray[np.float32] = get_tensor(output)
            return found.astype(np.float64)

        return run

    def output_shape(self, name: str) -> tuple[int, ...]:
        """Shape of an output for one window."""
        return self._outputs[name].shape


def runtime_name() -> str:
    """Name of the interpreter that would be used.

    Raises:
        InferenceError: None is installed.
    """
    return _interpreter_class()[0]


def _interpreter_class() -> tuple[str, Callable[..., Any]]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for module in _RUNTIMES:
        try:
            if module == "ai_edge_litert":
                from ai_edge_litert.interpreter import Interpreter
            else:
                from tflite_runtime.interpreter import Interpreter
        except ImportError:
            continue
        return module, Interpreter
    raise InferenceError(
        "no TFLite interpreter",
        expected="ai-edge-litert (x86-64, aarch64) or tflite-runtime (armv7l, Python <= 3.11)",
        received="neither",
        action="Install one with: pip install ai-edge-litert",
    )


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep the interpreter's greeting off standard error; what goes wrong comes as an exception."""
    kept, quiet = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(quiet, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(quiet)
