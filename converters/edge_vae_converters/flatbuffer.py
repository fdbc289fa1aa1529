"""A TFLite flatbuffer to plain facts: its tensors, its operators, and which tensor is which input or output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

__all__ = ["Graph", "Operator", "Tensor", "read"]

_BYTES = {"BOOL": 1, "FLOAT16": 2, "FLOAT32": 4, "INT16": 2, "INT32": 4, "INT64": 8, "INT8": 1, "UINT8": 1}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: real = (stored - zero_point) * step; step 0 where it is not quantized, or each channel has its own.

    Attributes:
        name: Its name.
        kind: `INT8`, `FLOAT32`, ...
        shape: Its shape.
        constant: Whether its content stands in the flatbuffer.
        step: The step, in real units.
        zero_point: The stored number that means 0.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    constant: bool
    step: float
    zero_point: int

    @property
    def size_bytes(self) -> int:
        """Size of its content."""
        return int(np.prod(self.shape, dtype=np.int64)) * _BYTES.get(self.kind, 8)

    def stored(self, real: NDArray[np.float32]) -> NDArray[Any]:
        """Real numbers as the model holds them, rounded and saturated as the device's runtime does."""
        if self.kind != "INT8":
            return real.astype(np.float32)
        steps = np.rint(real / np.float32(self.step)) + self.zero_point
        return np.asarray(np.clip(steps, -128, 127).astype(np.int8))


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator: its name as in `CONV_2D`, and the numbers of its input and output tensors."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """What one model computes, in the order of its operators.

    Attributes:
        tensors: All of them.
        operators: All of them.
        inputs: Numbers of the input tensors, in the model's order.
        outputs: Those of the output tensors.
    """

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def window(self) -> int:
        """Which input is the window: the one of rank 3."""
        return max(range(len(self.inputs)), key=lambda i: len(self.tensors[self.inputs[i]].shape))

    @property
    def is_int8(self) -> bool:
        """Whether inputs and outputs are int8; else they are float."""
        return self.tensors[self.inputs[self.window]].kind == "INT8"

    @property
    def condition(self) -> int | None:
        """Which input is the operating mode; None without one."""
        return 1 - self.window if len(self.inputs) > 1 else None

    def output(self, name: str) -> int:
        """Which output is the tensor of this name."""
        return [self.tensors[i].name for i in self.outputs].index(name)


def read(model: bytes) -> Graph:
    """The facts of a model with one subgraph, as `tflite.convert` makes them."""
    root = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    kinds = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    codes = [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in root.operatorCodes]
    graph = root.subgraphs[0]
    return Graph(
        tensors=tuple(_tensor(root, tensor, kinds[tensor.type]) for tensor in graph.tensors),
        operators=tuple(Operator(codes[op.opcodeIndex], _ints(op.inputs), _ints(op.outputs)) for op in graph.operators),
        inputs=_ints(graph.inputs),
        outputs=_ints(graph.outputs),
    )


def _tensor(root: Any, tensor: Any, kind: str) -> Tensor:
    data = root.buffers[tensor.buffer].data
    quantization = tensor.quantization
    steps = [] if quantization is None or quantization.scale is None else list(quantization.scale)
    one = len(steps) == 1
    return Tensor(
        name=tensor.name.decode(),
        kind=kind,
        shape=_ints(tensor.shape),
        constant=data is not None and len(data) > 0,
        step=float(steps[0]) if one else 0.0,
        zero_point=int(quantization.zeroPoint[0]) if one else 0,
    )


def _ints(numbers: Any) -> tuple[int, ...]:
    return () if numbers is None else tuple(int(number) for number in numbers)
