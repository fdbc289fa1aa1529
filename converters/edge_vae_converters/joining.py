"""TFLite models joined to one: what one puts out is what the next one takes in, without a copy between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import flatbuffers
import numpy as np
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema

__all__ = ["Ends", "Joined", "ends"]

_VERSION = 3
"""Of the TFLite format; the file identifier ends in it too."""
_IDENTIFIER = b"TFL3"


class Ends(NamedTuple):
    """What goes into a model and comes out of it, in the order of its subgraph: ranks of inputs, names of outputs."""

    input_ranks: list[int]
    output_names: list[str]


def ends(model: bytes) -> Ends:
    """The ends of a model of one subgraph."""
    graph = schema.Model.GetRootAs(model, 0).Subgraphs(0)
    tensors = [graph.Tensors(i) for i in range(graph.TensorsLength())]
    return Ends(
        [tensors[graph.Inputs(i)].ShapeLength() for i in range(graph.InputsLength())],
        [tensors[graph.Outputs(i)].Name().decode() for i in range(graph.OutputsLength())],
    )


class Joined:
    """A TFLite model of one subgraph that grows by whole models; a tensor is known by its number.

    Integer inputs and outputs of a model that is added are connected through QUANTIZE and DEQUANTIZE: what passes from
    one model to the next is float32.
    """

    def __init__(self) -> None:
        self._model = schema.ModelT()
        self._model.version, self._model.description = _VERSION, b"joined"
        self._model.buffers, self._model.operatorCodes = [_buffer(None)], []
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._inputs: dict[str, int] = {}

    def input(self, name: str, shape: Sequence[int]) -> int:
        """A float32 input of the whole."""
        self._inputs[name] = self._tensor(name, shape, schema.TensorType.FLOAT32)
        return self._inputs[name]

    def constant(self, name: str, array: NDArray[Any], *, steps: NDArray[np.float32] | None = None) -> int:
        """A constant as a float32 tensor, which is stored smaller and widened once when the model is loaded.

        Args:
            name: Name of the tensor.
            array: float16, or int8 (rows, ...).
            steps: (rows,) the real number that 1 stands for in each row of an int8 array.
        """
        kind = schema.TensorType.FLOAT16 if steps is None else schema.TensorType.INT8
        stored = self._tensor(f"{name}/stored", array.shape, kind, data=array.tobytes())
        if steps is not None:
            self._graph.tensors[stored].quantization = _by_row(steps)
        widened = self._tensor(name, array.shape, schema.TensorType.FLOAT32)
        self._convert(schema.BuiltinOperator.DEQUANTIZE, stored, widened)
        return widened

    def add(
        self, model: bytes, inputs: Sequence[int], *, name: str, weights: Mapping[str, str] = MappingProxyType({})
    ) -> list[int]:
        """The outputs of a model of one subgraph that is given these tensors, in the order of the subgraph's inputs.

        Args:
            model: The flatbuffer.
            inputs: float32 tensors.
            name: The model's tensors are named `name/number`.
            weights: What takes the place of that number, by the name of a tensor in the model.

        Raises:
            ValueError: The model has more than one subgraph.
        """
        root = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
        if len(root.subgraphs) != 1:
            msg = f"the model of {name} has loops"  # each is a subgraph of its own
            raise ValueError(msg)
        _leave_batch_open(root)
        (graph,) = root.subgraphs
        numbers = {int(own): given for own, given in zip(graph.inputs, inputs, strict=True)}
        taken = [own for own in numbers if graph.tensors[own].type != schema.TensorType.FLOAT32]
        for own, tensor in enumerate(graph.tensors):
            if own in numbers and own not in taken:
                continue
            data = root.buffers[tensor.buffer].data
            told = f"/{weights.get(tensor.name.decode(), own)}"
            number = self._take(tensor, name + told, None if data is None else bytes(bytearray(data)))
            if own in taken:
                self._convert(schema.BuiltinOperator.QUANTIZE, numbers[own], number)
            numbers[own] = number
        codes = [self._code(code) for code in root.operatorCodes]
        for operator in graph.operators:
            operator.opcodeIndex = codes[operator.opcodeIndex]
            operator.inputs = [numbers[int(own)] if own >= 0 else -1 for own in operator.inputs]
            operator.outputs = [numbers[int(own)] for own in operator.outputs]
            operator.intermediates = None
            self._graph.operators.append(operator)
        return [self._real(numbers[int(own)]) for own in graph.outputs]

    def model(self, outputs: Mapping[str, int]) -> bytes:
        """The flatbuffer of the whole, with these outputs; equal for equal parts."""
        for name, number in outputs.items():
            self._graph.tensors[number].name = name.encode()
        self._graph.inputs, self._graph.outputs = list(self._inputs.values()), list(outputs.values())
        self._graph.name = b"main"
        self._model.subgraphs = [self._graph]
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
        signature.inputs = [_named(name, number) for name, number in self._inputs.items()]
        signature.outputs = [_named(name, number) for name, number in outputs.items()]
        self._model.signatureDefs = [signature]
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self._model.Pack(builder), _IDENTIFIER)
        return bytes(builder.Output())

    def _real(self, number: int) -> int:
        """A tensor as float32: itself, or what it stands for."""
        tensor = self._graph.tensors[number]
        if tensor.type == schema.TensorType.FLOAT32:
            return number
        real = self._tensor(f"{tensor.name.decode()}/real", tensor.shape, schema.TensorType.FLOAT32)
        self._convert(schema.BuiltinOperator.DEQUANTIZE, number, real)
        return real

    def _convert(self, kind: int, given: int, made: int) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = kind
        # The second version of DEQUANTIZE takes int8, the third float16; QUANTIZE gives int8 from its first on.
        code.version = 3 if kind == schema.BuiltinOperator.DEQUANTIZE else 1
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(code)
        operator.inputs, operator.outputs = [given], [made]
        self._graph.operators.append(operator)

    def _code(self, wanted: Any) -> int:
        """Number of an operator's code, which all its uses share."""
        for number, code in enumerate(self._model.operatorCodes):
            if (code.builtinCode, code.version) == (wanted.builtinCode, wanted.version):
                return number
        self._model.operatorCodes.append(wanted)
        return len(self._model.operatorCodes) - 1

    def _tensor(self, name: str, shape: Sequence[int], kind: int, *, data: bytes | None = None) -> int:
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.hasRank = [int(n) for n in shape], kind, True
        return self._take(tensor, name, data)

    def _take(self, tensor: Any, name: str, data: bytes | None) -> int:
        tensor.name, tensor.buffer = name.encode(), 0
        if tensor.quantization is not None and tensor.quantization.scale is None:
            tensor.quantization = None  # the converter gives one to float tensors too, with nothing in it
        if data is not None:
            self._model.buffers.append(_buffer(data))
            tensor.buffer = len(self._model.buffers) - 1
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1


def _leave_batch_open(root: Any) -> None:
    """Have each RESHAPE that keeps a batch of one take whatever batch comes."""
    (graph,) = root.subgraphs
    for operator in graph.operators:
        if root.operatorCodes[operator.opcodeIndex].builtinCode != schema.BuiltinOperator.RESHAPE:
            continue
        given, made = (graph.tensors[int(number)] for number in (operator.inputs[0], operator.outputs[0]))
        if given.shape[0] == made.shape[0] == 1:
            shape = np.array([-1, *made.shape[1:]], np.int32)
            if len(operator.inputs) > 1:
                root.buffers[graph.tensors[int(operator.inputs[1])].buffer].data = shape.view(np.uint8)
            if operator.builtinOptions is not None:
                operator.builtinOptions.newShape = shape


def _buffer(data: bytes | None) -> Any:
    buffer = schema.BufferT()
    buffer.data = None if data is None else np.frombuffer(data, np.uint8)
    return buffer


def _by_row(steps: NDArray[np.float32]) -> Any:
    quantization = schema.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = steps, np.zeros(len(steps), np.int64)
    return quantization


def _named(name: str, number: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), number
    return entry
