"""What a model needs of TensorFlow Lite Micro: operators that it has, and the bytes of its arena.

The arena is computed and not measured, so that a conversion knows it wherever it runs; a test holds it against the
real interpreter (docs/microcontroller.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_vae.errors import GateError
from edge_vae.view import View
from edge_vae_converters.flatbuffer import Graph, Operator, read

__all__ = ["OPERATORS", "PRECISIONS", "arena_bytes", "expect_runnable", "scratch_bytes"]

PRECISIONS = ("float32", "int8")
"""What the kernels of TensorFlow Lite Micro compute all our operators in. Weights alone in int8 or float16, with float
activations, are none of it."""

OPERATORS: Mapping[str, str] = {
    "ADD": "AddAdd",
    "CONCATENATION": "AddConcatenation",
    "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "EXPAND_DIMS": "AddExpandDims",
    "FULLY_CONNECTED": "AddFullyConnected",
    "QUANTIZE": "AddQuantize",
    "RESHAPE": "AddReshape",
    "STRIDED_SLICE": "AddStridedSlice",
}
"""Operators that TensorFlow Lite Micro has, and how its `MicroMutableOpResolver` is told to bring each."""

_ALIGNMENT = 16
_INTERPRETER = 512
_PLANNED_TENSOR = 40
_TENSOR, _BOUNDARY_TENSOR, _NODE = 24, 128, 96
_KERNEL: Mapping[str, int] = {"CONV_2D": 96, "DEPTHWISE_CONV_2D": 96, "FULLY_CONNECTED": 96, "RESHAPE": 16}
_OTHER_KERNEL = 256
_OUTPUT_CHANNEL = 8
"""Bytes of the interpreter's own records on a 64-bit machine, at least what tflite-micro of 2026-10-23 was measured to
need: of itself; of a tensor while memory is planned; of a tensor, an input or output, an operator; of what a kernel
remembers, and remembers of each output channel. Pointers of 32 bits make all of them smaller."""


@dataclass(frozen=True, slots=True)
class _Life:
    """A tensor's bytes, and the first and last operator while which it must be kept."""

    size: int
    first: int
    last: int


def expect_runnable(view: View) -> None:
    """Raise GateError unless TensorFlow Lite Micro can run the model of a view, or the view has none."""
    model = view.model
    if model is None:
        return
    what = f"view {view.name}: a microcontroller cannot run its model"
    if model.precision not in PRECISIONS:
        raise GateError(
            what,
            expected=" or ".join(PRECISIONS),
            received=model.precision,
            action="Convert the run again with --precision int8 or --precision float32.",
        )
    if missing := sorted(set(model.operators) - set(OPERATORS)):
        raise GateError(
            what,
            expected=f"the operators {', '.join(OPERATORS)}",
            received=", ".join(missing),
            action="Train again with --family conv, dense or tcn.",
        )


def arena_bytes(model: bytes) -> int:
    """Bytes of the arena that TensorFlow Lite Micro's own kernels need for a model, or some per cent more.

    Activations share memory as the interpreter's greedy planner places them; beside them stand its records. Kernels of
    a processor's vendor want memory of their own on top, see `scratch_bytes`.
    """
    graph = read(model)
    planning = _PLANNED_TENSOR * len(graph.tensors)
    return _aligned(max(_activations(graph), planning) + _records(graph) + _ALIGNMENT)


def scratch_bytes(model: bytes) -> int:
    """Bytes that the int8 kernels of CMSIS-NN want on top, of the operator that wants most.

    A convolution unrolls four columns of its input, in whole vectors of 16 numbers
    (arm_convolve_s8_get_buffer_size_mve; without vectors it is two columns of 16-bit numbers, as many bytes); a dense
    layer sums each row of its weights.
    """
    graph = read(model)
    return max((_scratch(graph, operator) for operator in graph.operators), default=0)


def _scratch(graph: Graph, operator: Operator) -> int:
    if graph.tensors[operator.inputs[0]].kind != "INT8":
        return 0
    weights = graph.tensors[operator.inputs[1]].shape if len(operator.inputs) > 1 else ()
    if operator.name == "CONV_2D":
        _, height, width, channels = weights
        return 4 * _aligned(height * width * channels)
    return _aligned(4 * weights[0]) if operator.name == "FULLY_CONNECTED" else 0


def _records(graph: Graph) -> int:
    """What the interpreter keeps beside the activations."""
    boundary = len(graph.inputs) + len(graph.outputs)
    kernels = sum(_kernel(graph, operator) for operator in graph.operators)
    return (
        _INTERPRETER
        + _TENSOR * len(graph.tensors)
        + _BOUNDARY_TENSOR * boundary
        + _NODE * len(graph.operators)
        + kernels
    )


def _kernel(graph: Graph, operator: Operator) -> int:
    own = _KERNEL.get(operator.name, _OTHER_KERNEL)
    is_float_dense = operator.name == "FULLY_CONNECTED" and graph.tensors[operator.inputs[0]].kind == "FLOAT32"
    if is_float_dense or operator.name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return own
    return own + 2 * _ALIGNMENT + _OUTPUT_CHANNEL * graph.tensors[operator.outputs[0]].shape[-1]


def _activations(graph: Graph) -> int:
    """Bytes of the activations, placed from the largest to the smallest, each as low as those before let it."""
    placed: list[tuple[int, _Life]] = []
    for life in sorted(_lives(graph), key=lambda one: -one.size):
        beside = [(start, one) for start, one in placed if one.first <= life.last and life.first <= one.last]
        placed.append((_lowest(sorted(beside, key=lambda pair: pair[0]), life.size), life))
    return max((start + life.size for start, life in placed), default=0)


def _lowest(taken: list[tuple[int, _Life]], size: int) -> int:
    """The lowest place of `size` bytes between those that are taken, by rising place."""
    at = 0
    for start, life in taken:
        if start - at >= size:
            return at
        at = max(at, start + life.size)
    return at


def _lives(graph: Graph) -> list[_Life]:
    """Each tensor that is no constant, from the operator that writes it to the last one that reads it."""
    end = len(graph.operators) - 1
    written = {tensor: i for i, operator in enumerate(graph.operators) for tensor in operator.outputs}
    read_last = {tensor: i for i, operator in enumerate(graph.operators) for tensor in operator.inputs}
    read_last |= dict.fromkeys(graph.outputs, end)
    alive = dict.fromkeys([*graph.inputs, *written])
    return [
        _Life(_aligned(graph.tensors[i].size_bytes), written.get(i, 0), read_last.get(i, written.get(i, 0)))
        for i in alive
    ]


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
