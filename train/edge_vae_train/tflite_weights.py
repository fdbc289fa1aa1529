"""Weights of a scoring graph, read back out of its TFLite file: integers to float through scale and zero point."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vae_train.models import VariationalAutoencoder

__all__ = ["Weights", "read_weights", "set_weights", "weight_names"]

_WEIGHTED = ("CONV_2D", "FULLY_CONNECTED")
_LAYER = re.compile(r"/(encoder|decoder)(?:_\d+)?/(\w+?)(?:_\d+)?/(?:convolution|MatMul)")
"""The layer in the name of a weight's tensor; TensorFlow numbers the models and layers that it sees again."""

Weights = Mapping[tuple[str, str], tuple[NDArray[np.float32], ...]]
"""(`encoder` or `decoder`, name of the layer) -> kernel and bias, in the shapes of Keras."""


def read_weights(model: bytes, *, prefix: str = "") -> Weights:
    """Kernel and bias of each convolution and dense layer of a scoring graph, those whose name starts with `prefix`.

    Raises:
        ValueError: A weight belongs to no layer of an encoder or decoder, or is stored in a way that is not known here;
            or a layer has no bias of its own, as where the converter merged two.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    root = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    used = [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in root.operatorCodes]
    graph, found = root.subgraphs[0], {}
    for operator in graph.operators:
        if used[operator.opcodeIndex] in _WEIGHTED:
            kernel = graph.tensors[operator.inputs[1]]
            if not kernel.name.decode().startswith(prefix):
                continue
            layer = _layer(kernel.name.decode())
            if operator.inputs[2] < 0:
                msg = f"expected a bias of layer {layer[1]} of the {layer[0]}, received one that is merged with others"
                raise ValueError(msg)
            bias = _real(root, graph.tensors[operator.inputs[2]]) + _added(root, used, int(operator.outputs[0]))
            found[layer] = _as_keras(_real(root, kernel)), bias
    return found


def _added(root: Any, used: list[str], output: int) -> NDArray[np.float32]:
    """A constant that is added to an output later on: the converter does so with the bias of a single filter."""
    graph = root.subgraphs[0]
    readers = [operator for operator in graph.operators if output in operator.inputs]
    if len(readers) == 1 and used[readers[0].opcodeIndex] == "RESHAPE":
        return _added(root, used, int(readers[0].outputs[0]))
    if len(readers) == 1 and used[readers[0].opcodeIndex] == "ADD":
        other = graph.tensors[next(int(i) for i in readers[0].inputs if i != output)]
        if root.buffers[_before_widening(root, other).buffer].data is not None:
            return _real(root, other).ravel()
    return np.zeros(1, np.float32)


def set_weights(vae: VariationalAutoencoder, weights: Weights) -> None:
    """Give an untrained model these weights.

    Raises:
        ValueError: A layer has no weights here, or those of another shape, or there are more than it has layers.
    """
    layers = {
        (part, layer.name): layer
        for part, model in (("encoder", vae.encoder), ("decoder", vae.decoder))
        for layer in model.layers
        if layer.weights
    }
    expected = {key: tuple(tuple(w.shape) for w in layer.weights) for key, layer in layers.items()}
    received = {key: tuple(array.shape for array in arrays) for key, arrays in weights.items()}
    if expected != received:
        differing = sorted(k for k in expected.keys() | received.keys() if expected.get(k) != received.get(k))
        part, layer = differing[0]
        msg = (
            f"expected the weights {expected.get((part, layer), 'none')} for layer {layer} of the {part}, "
            f"received {received.get((part, layer), 'none')}"
        )
        raise ValueError(msg)
    for key, layer in layers.items():
        layer.set_weights(list(weights[key]))


def weight_names(model: bytes) -> dict[str, str]:
    """A short name for each kernel of a scoring graph, by its tensor's name, that still tells its layer."""
    from tensorflow.lite.python import schema_py_generated as schema

    graph = schema.Model.GetRootAs(model, 0).Subgraphs(0)
    names = [graph.Tensors(i).Name().decode() for i in range(graph.TensorsLength())]
    return {name: match[0].removeprefix("/") for name in names if (match := _LAYER.search(name))}


def _layer(tensor: str) -> tuple[str, str]:
    match = _LAYER.search(tensor)
    if match is None:
        msg = f"expected a weight of a layer of the encoder or decoder, received the tensor {tensor!r}"
        raise ValueError(msg)
    return match[1], match[2]


def _as_keras(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """(out, 1, width, in) of a convolution to (width, in, out), (out, in) of a dense layer to (in, out)."""
    return np.asarray(kernel[:, 0].transpose(1, 2, 0) if kernel.ndim == 4 else kernel.T)


def _real(root: Any, tensor: Any) -> NDArray[np.float32]:
    """The real numbers of a constant tensor: (stored - zero point) * scale, along its quantized dimension."""
    from tensorflow.lite.python import schema_py_generated as schema

    kinds = schema.TensorType
    types: dict[int, type[np.generic]] = {
        kinds.FLOAT32: np.float32, kinds.FLOAT16: np.float16, kinds.INT8: np.int8, kinds.INT16: np.int16,
        kinds.INT32: np.int32, kinds.INT64: np.int64,
    }  # fmt: skip
    tensor = _before_widening(root, tensor)
    data = root.buffers[tensor.buffer].data
    if tensor.type not in types or data is None:
        msg = f"expected a constant of floats or integers in tensor {tensor.name.decode()!r}, received another"
        raise ValueError(msg)
    stored = np.frombuffer(bytes(bytearray(data)), types[tensor.type]).reshape(tensor.shape)
    if stored.dtype in (np.float32, np.float16):
        return np.asarray(stored, np.float32)
    along = [1] * stored.ndim
    along[tensor.quantization.quantizedDimension] = -1
    scale, zero = (np.asarray(n, np.float64) for n in (tensor.quantization.scale, tensor.quantization.zeroPoint))
    real = (stored.astype(np.float64) - zero.reshape(along)) * scale.reshape(along)
    return np.asarray(real, np.float32)


def _before_widening(root: Any, tensor: Any) -> Any:
    """The constant that an operator widens to this tensor, as with weights kept in float16; else the tensor itself."""
    graph = root.subgraphs[0]
    for operator in graph.operators:
        if root.buffers[tensor.buffer].data is None and graph.tensors[operator.outputs[0]] is tensor:
            return graph.tensors[operator.inputs[0]]
    return tensor
