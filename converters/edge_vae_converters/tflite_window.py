"""Somebody's `.tflite` autoencoder as a model of a window: its ends are rebuilt, what lies between is not touched.

The device gives a model a standardised window (1, length, channels) and takes one back. A model of flattened windows
gets a RESHAPE at either end; one that expects another scaling gets a MUL and an ADD, in float, and where it is
quantized a QUANTIZE and a DEQUANTIZE besides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema

from edge_vae.errors import ModelError
from edge_vae_converters.own_scaling import Affine
from edge_vae_converters.roles import is_window

__all__ = ["Flatbuffer", "expect_window", "read"]

_IDENTIFIER = b"TFL3"
_TYPES = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
_OPERATORS = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
_QUANTIZED = ("INT8", "UINT8", "INT16")
_REPEATED = ("QUANTIZE", "DEQUANTIZE")
"""Operators that compute nothing."""


@dataclass(frozen=True, slots=True)
class Flatbuffer:
    """A TFLite model that can be changed at its ends: an object of TensorFlow's own schema.

    Attributes:
        name: What it is called in messages.
        root: The model.
        source: The bytes that it was read from; empty where there are none.
        changes: What was added at its ends, in order.
    """

    name: str
    root: Any
    source: bytes = b""
    changes: list[str] = field(default_factory=list)

    @property
    def _graph(self) -> Any:
        return self.root.subgraphs[0]

    @property
    def outputs(self) -> list[str]:
        """Names of the output tensors."""
        return [self._graph.tensors[i].name.decode() for i in self._graph.outputs]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of the one input, without the batch.

        Raises:
            ModelError: There are several inputs, or the batch is not 1.
        """
        shapes = [_shape(self._graph.tensors[i]) for i in self._graph.inputs]
        if len(shapes) != 1 or not shapes[0] or shapes[0][0] != 1:
            what = f"{self.name}: not a model of one window"
            raise ModelError(
                what,
                expected="one input of shape (1, window, channels) or (1, window * channels)",
                received=f"inputs of the shapes {', '.join(map(str, shapes))}",
                action="Convert the model with a batch of 1 and the window as its only input.",
            )
        return shapes[0][1:]

    @property
    def operators(self) -> dict[str, int]:
        """How many of each operator it holds."""
        found = [self._operator(op) for graph in self.root.subgraphs for op in graph.operators]
        return {name: found.count(name) for name in sorted(set(found))}

    @property
    def precision(self) -> str:
        """What it computes in, by the types of what its operators give and of its weights."""
        computed = {t for op in self._graph.operators for t in self._computed(op)}
        weights = {_TYPES[t.type] for t in self._graph.tensors if self._is_constant(t)}
        if "FLOAT32" in computed:
            return "dynamic" if "INT8" in weights else "float16" if "FLOAT16" in weights else "float32"
        return "int16x8" if "INT16" in computed else "uint8" if "UINT8" in computed else "int8"

    @property
    def float_tensors(self) -> int:
        """How many tensors are neither int8 nor int32."""
        types = [_TYPES[tensor.type] for graph in self.root.subgraphs for tensor in graph.tensors]
        return sum(name not in ("INT8", "INT32") for name in types)

    def pack(self) -> bytes:
        """The bytes of the file: those it was read from where nothing was changed."""
        if self.source and not self.changes:
            return self.source
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.root.Pack(builder), file_identifier=_IDENTIFIER)
        return bytes(builder.Output())

    def take_window(self, length: int, channels: int) -> None:
        """Make the input a window (1, length, channels), in the model's own scaling."""
        end = _End(self, self._graph.inputs[0])
        if _shape(self._graph.tensors[end.at]) != (1, length, channels):
            end.before("RESHAPE", _tensor("window", (1, length, channels)))
            self._graph.inputs = [end.at]
            self.root.signatureDefs = None  # they name tensors that are no ends any more

    def take_scaling(self, scaling: Affine) -> None:
        """Make the input, a window in the model's own scaling, a standardised one."""
        end = _End(self, self._graph.inputs[0])
        given = self._graph.tensors[end.at]
        if _TYPES[given.type] in _QUANTIZED:
            end.before("QUANTIZE", _tensor("float_window", _shape(given)))
        end.before("ADD", _tensor("scaled_window", _shape(given)), scaling.shift)
        end.before("MUL", _tensor("standardised_window", _shape(given)), scaling.gain)
        self._graph.inputs = [end.at]
        self.root.signatureDefs = None

    def give_window(self, output: int, length: int, channels: int, scaling: Affine | None) -> str:
        """Make an output a standardised window (1, length, channels); the name of its tensor."""
        index = self._graph.outputs[output]
        tensor, end = self._graph.tensors[index], _End(self, index)
        if scaling is not None and _TYPES[tensor.type] in _QUANTIZED:
            end.after("DEQUANTIZE", _tensor("float_reconstruction", _shape(tensor)))
        if _shape(tensor) != (1, length, channels):
            end.after("RESHAPE", _tensor("reconstruction", (1, length, channels)))
        if scaling is not None:
            end.after("ADD", _tensor("around_zero", (1, length, channels)), -scaling.shift)
            end.after("MUL", _tensor("standardised", (1, length, channels)), 1.0 / scaling.gain)
        outputs = list(self._graph.outputs)
        outputs[output] = end.at
        self._graph.outputs = outputs
        self.root.signatureDefs = None
        return str(self._graph.tensors[end.at].name.decode())

    def _operator(self, op: Any) -> str:
        code = self.root.operatorCodes[op.opcodeIndex]
        name = _OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)]
        return str(code.customCode.decode()) if name == "CUSTOM" and code.customCode else str(name)

    def _computed(self, op: Any) -> Iterator[str]:
        if self._operator(op) not in _REPEATED:
            yield from (_TYPES[self._graph.tensors[i].type] for i in op.outputs)

    def _is_constant(self, tensor: Any) -> bool:
        data = self.root.buffers[tensor.buffer].data
        return data is not None and len(data) > 0


class _End:
    """One end of the graph, to which operators are added one after the other."""

    def __init__(self, model: Flatbuffer, at: int) -> None:
        self._model, self._root, self._graph, self.at = model, model.root, model.root.subgraphs[0], at

    def before(self, operator: str, tensor: Any, operand: NDArray[Any] | None = None) -> None:
        """Put an operator before the input: `tensor` becomes the input."""
        self._add(operator, tensor, operand, first=True)

    def after(self, operator: str, tensor: Any, operand: NDArray[Any] | None = None) -> None:
        """Put an operator behind the output: `tensor` becomes the output."""
        self._add(operator, tensor, operand, first=False)

    def _add(self, operator: str, tensor: Any, operand: NDArray[Any] | None, *, first: bool) -> None:
        self._model.changes.append(operator)
        known = self._graph.tensors[self.at]
        if operator == "RESHAPE":
            tensor.type, tensor.quantization = known.type, known.quantization
            target = known if first else tensor
            constants = [self._constant(f"{tensor.name.decode()}_shape", np.array(_shape(target), np.int32))]
        else:
            constants = (
                [] if operand is None else [self._constant(f"{tensor.name.decode()}_by", operand.astype(np.float32))]
            )
        self._graph.tensors.append(tensor)
        added = len(self._graph.tensors) - 1
        op = schema.OperatorT()
        op.opcodeIndex = self._code(operator)
        op.inputs = [added if first else self.at, *constants]
        op.outputs = [self.at if first else added]
        _options(op, operator)
        self._graph.operators.insert(0 if first else len(self._graph.operators), op)
        self.at = added

    def _constant(self, name: str, values: NDArray[Any]) -> int:
        buffer, tensor = schema.BufferT(), schema.TensorT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self._root.buffers.append(buffer)
        tensor.name, tensor.shape = name.encode(), np.array(values.shape, np.int32)
        tensor.type = schema.TensorType.INT32 if values.dtype == np.int32 else schema.TensorType.FLOAT32
        tensor.buffer = len(self._root.buffers) - 1
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _code(self, operator: str) -> int:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, operator)
        code.deprecatedBuiltinCode, code.version = code.builtinCode, 1
        self._root.operatorCodes.append(code)
        return len(self._root.operatorCodes) - 1


def _tensor(name: str, shape: Sequence[int]) -> Any:
    """A new float tensor."""
    tensor = schema.TensorT()
    tensor.name, tensor.shape = f"edge_vae_{name}".encode(), np.array(shape, np.int32)
    tensor.type, tensor.buffer = schema.TensorType.FLOAT32, 0
    return tensor


def _options(op: Any, operator: str) -> None:
    """The options that an operator must have."""
    chosen: Mapping[str, tuple[str, Any]] = {
        "ADD": ("AddOptions", schema.AddOptionsT),
        "MUL": ("MulOptions", schema.MulOptionsT),
    }
    if operator in chosen:
        name, options = chosen[operator]
        op.builtinOptionsType, op.builtinOptions = getattr(schema.BuiltinOptions, name), options()


def _shape(tensor: Any) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(int(n) for n in tensor.shape)


def read(path: Path) -> Flatbuffer:
    """The model in a file.

    Raises:
        ModelError: The file cannot be read, or is no TFLite model.
    """
    expected = "a .tflite file"
    try:
        packed = path.read_bytes()
    except OSError as error:
        received = error.strerror or str(error)
        what = f"{path}: cannot be read"
        raise ModelError(what, expected=expected, received=received) from error
    if packed[4:8] != _IDENTIFIER:
        what = f"{path}: not a TFLite model"
        raise ModelError(what, expected=expected, received="a file without its mark, TFL3")
    try:
        root = schema.ModelT.InitFromObj(schema.Model.GetRootAs(packed, 0))
        model = Flatbuffer(str(path), root, packed)
        model.operators, model.outputs  # noqa: B018 (a damaged file shows here)
    except Exception as error:  # the reader follows whatever offsets a damaged file has
        what = f"{path}: a damaged model"
        raise ModelError(what, expected=expected, received=str(error)) from error
    return model


def expect_window(model: Flatbuffer, length: int | None, channels: int) -> int:
    """Samples in a window: what the user says, which must fit the model's input, or what that says by itself.

    Raises:
        ModelError: The input is no such window.
    """
    shape = model.input_shape
    known = [n for n in shape if n != 1]
    if length is None and known and (len(known) > 1 or channels == 1):
        length = known[0]
    if length is None:
        what = f"{model.name}: the length of a window"
        raise ModelError(
            what,
            expected="--window N, or a model whose input says it",
            received=f"an input of shape {(1, *shape)}, and data of {channels} channels",
            action="Give --window N.",
        )
    if not is_window(shape, length, channels):
        what = f"{model.name}: another window than that of the data"
        raise ModelError(
            what,
            expected=f"an input of shape {(1, length, channels)} or {(1, length * channels)}",
            received=f"{(1, *shape)}",
            action="Give the model's --window, and with --channels the channels that it was trained on, in its order.",
        )
    return length
