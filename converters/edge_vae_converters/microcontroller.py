"""What a model needs of TensorFlow Lite Micro: operators that it has, and the bytes of its arena.

The arena is computed and not measured, so that a conversion knows it wherever it runs; a test holds it against the
real interpreter (docs/microcontroller.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edge_vae.errors import GateError
from edge_vae.view import View
from edge_vae_converters.flatbuffer import Graph, Operator, read

__all__ = ["OPERATORS", "PRECISIONS", "arena_bytes", "expect_runnable", "is_runnable", "scratch_bytes"]

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
_INTERPRETER = 592
_TENSOR, _BOUNDARY_TENSOR, _OPERATOR = 24, 96, 96
_KERNEL: Mapping[str, int] = {
    "ADD": 32, "CONCATENATION": 80, "CONV_2D": 96, "DEPTHWISE_CONV_2D": 96, "EXPAND_DIMS": 16, "FULLY_CONNECTED": 80,
    "QUANTIZE": 48, "RESHAPE": 8, "STRIDED_SLICE": 48,
}  # fmt: skip
_OUTPUT_CHANNEL = 8
"""Bytes of what the interpreter keeps on a 64-bit machine: of itself, of a tensor, of an input or output besides, of an
operator, of what its kernel remembers, and remembers of each output channel whose weights have a step of their own.
Fitted to tflite-micro of 2026-10-23, whose 14 arenas in tests/test_microcontroller.py they exceed by at most 7 per
cent. Pointers of 32 bits make most of them smaller."""
_PLANNING, _PLANNED_TENSOR = 352, 52
_PREPARING, _PREPARED_CHANNEL = 576, 8
"""Bytes that are free again once the interpreter is ready: while it plans memory, and while a kernel is prepared, which
sees a zero point of each output channel's weights and bias."""


@dataclass(frozen=True, slots=True)
class _Life:
    """A tensor's bytes, and the first and last operator while which it must be kept."""

    size: int
    first: int
    last: int


def is_runnable(precision: str, operators: Iterable[str]) -> bool:
    """Whether TensorFlow Lite Micro can run a model of this precision with these operators."""
    return precision in PRECISIONS and set(operators) <= set(OPERATORS)


def expect_runnable(view: View) -> None:
    """Raise GateError unless TensorFlow Lite Micro can run the model of a view, or the view has none."""
    model = view.model
    if model is None or is_runnable(model.precision, model.operators):
        return
    what = f"view {view.name}: a microcontroller cannot run its model"
    if model.precision not in PRECISIONS:
        raise GateError(
            what,
            expected=" or ".join(PRECISIONS),
            received=model.precision,
            action="Convert the run again with --precision int8 or --precision float32.",
        )
    raise GateError(
        what,
        expected=f"the operators {', '.join(OPERATORS)}",
        received=", ".join(sorted(set(model.operators) - set(OPERATORS))),
        action="Train again with --family conv, dense or tcn.",
    )


def arena_bytes(model: bytes) -> int:
    """Bytes of the arena that TensorFlow Lite Micro's own kernels need for a runnable model, or some per cent more.

    Activations share memory as the interpreter's greedy planner places them; beside them stand its records. Kernels of
    a processor's vendor want memory of their own on top, see `scratch_bytes`.
    """
    graph = read(model)
    records, boundary = _records(graph), _BOUNDARY_TENSOR * (len(graph.inputs) + len(graph.outputs))
    planning = _PLANNING + _PLANNED_TENSOR * len(graph.tensors)
    preparing = _PREPARING + _PREPARED_CHANNEL * max(_channels(graph, operator) for operator in graph.operators)
    # Inputs and outputs get their records last.
    return _aligned(max(records + _activations(graph), records - boundary + max(planning, preparing)))


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
    return (
        _INTERPRETER
        + _TENSOR * len(graph.tensors)
        + _BOUNDARY_TENSOR * (len(graph.inputs) + len(graph.outputs))
        + sum(_OPERATOR + _KERNEL[operator.name] for operator in graph.operators)
        + sum(_OUTPUT_CHANNEL * _channels(graph, operator) for operator in graph.operators)
    )


def _channels(graph: Graph, operator: Operator) -> int:
    """Output channels of which a kernel remembers a multiplier and a shift."""
    is_float = graph.tensors[operator.inputs[0]].kind == "FLOAT32"
    kernels = ("CONV_2D", "DEPTHWISE_CONV_2D") if is_float else ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    return graph.tensors[operator.outputs[0]].shape[-1] if operator.name in kernels else 0


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
