"""A Keras model without its noise: every Gaussian draw is replaced by its mean, which is what a VAE scores with.

A model draws in a layer of its own, in a `Lambda`, or in the `call` of a subclass. All of them end as the same few
operators of TensorFlow, so the replacement is made there: the model is traced, its weights become constants, each draw
of a standard normal becomes zero, and what was only needed to scale the draw is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from edge_vae.errors import ModelError
from edge_vae_converters.keras_file import said

__all__ = ["Noiseless", "noiseless"]

_SHAPE_INPUT = {
    "RandomStandardNormal": 0, "StatelessRandomNormal": 0, "StatelessRandomNormalV2": 0, "TruncatedNormal": 0,
    "StatelessTruncatedNormal": 0, "StatelessTruncatedNormalV2": 0, "StatefulStandardNormalV2": 2,
    "StatefulTruncatedNormal": 2,
}  # fmt: skip
"""Operators that draw with mean zero, and which of their inputs is the shape."""
_DRAWS = re.compile(
    r"(Random|StatelessRandom|StatelessTruncated|StatelessParameterized|Parameterized|TruncatedNormal|Multinomial"
    r"|StatelessMultinomial|StatefulStandard|StatefulTruncated|StatefulUniform|StatefulRandom)"
)
_KEEP_ZERO = ("Cast", "ExpandDims", "Identity", "Neg", "Reshape", "Snapshot", "Squeeze", "StopGradient", "Transpose")
_DIVISIONS = ("Div", "DivNoNan", "RealDiv")
_SUMS = ("Add", "AddV2", "Sub")


@dataclass(frozen=True, slots=True)
class _Traced:
    """A traced model: its graph, the tensors that go in and come out, and it as a function."""

    graph_def: Any
    given: str
    outputs: tuple[str, ...]
    run: Callable[[Any], list[Any]]


@dataclass(frozen=True, slots=True)
class Noiseless:
    """A model that gives the same outputs for the same input, always.

    Attributes:
        names: Name of each output, as the model's structure has it.
        shapes: (...) of each output, without the batch.
        drawing: Layers or functions whose draws were replaced.
        layer: A Keras layer from (batch, *shape) to the list of outputs.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    drawing: tuple[str, ...]
    layer: Any


def noiseless(model: Any, shape: tuple[int, ...]) -> Noiseless:
    """The model on inputs (batch, *shape), without noise.

    Raises:
        ModelError: It cannot be run on such inputs, or it draws numbers that are not Gaussian.
    """
    names: list[str] = []
    any_batch, drawing = _traced(model, (None, *shape), names)
    one, _ = _traced(model, (1, *shape), [])
    shapes = [tuple(tensor.shape[1:].as_list()) for tensor in one.run(tf.zeros((1, *shape)))]
    return Noiseless(tuple(names), tuple(shapes), drawing, _layer(any_batch, one))


def _traced(model: Any, shape: tuple[int | None, ...], names: list[str]) -> tuple[_Traced, tuple[str, ...]]:
    """The model's graph for inputs of this shape, without draws, and what drew; appends the outputs' names."""
    function = _function(model, shape, names)
    outputs = [tensor.name for tensor in function.outputs]
    graph_def = _pruned(function.graph.as_graph_def(), outputs)
    drawing = _settle(graph_def, function.graph)
    graph_def = _pruned(graph_def, outputs)
    for node in graph_def.node:
        if _DRAWS.match(node.op):
            what = f"{_owner(model, node.name)} draws random numbers"
            raise ModelError(
                what,
                expected="a Gaussian draw, whose mean can take its place",
                received=f"the operator {node.op}",
                action="Save the model with that layer at rest: Dropout, for one, without training=True.",
            )
    names_by_order = _renamed(graph_def)
    given, *outputs = (names_by_order(name) for name in (function.inputs[0].name, *outputs))

    def imported(x: Any) -> list[Any]:
        found: list[Any] = tf.graph_util.import_graph_def(
            graph_def, input_map={given: x}, return_elements=outputs, name="model"
        )
        return found

    run = tf.compat.v1.wrap_function(imported, [tf.TensorSpec(shape)])
    drew = tuple(dict.fromkeys(_owner(model, name) for name in drawing))
    return _Traced(graph_def, given, tuple(outputs), run), drew


def _function(model: Any, shape: tuple[int | None, ...], names: list[str]) -> Any:
    """The model as a graph of constants: a function of one tensor."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    weights = [(variable, variable.numpy()) for variable in model.variables]

    def outputs(x: Any) -> list[Any]:
        # Constants for weights, and the state of a seed is not written back: a graph of a drawing layer has no others.
        with keras.StatelessScope(state_mapping=[(v, tf.constant(value)) for v, value in weights]):
            found = list(_named(model, model(x, training=False)))
        names.extend(name for name, _ in found)
        return [tf.identity(tensor) for _, tensor in found]

    eagerly = tf.config.functions_run_eagerly()
    # A tf.function inside the model becomes a part of the graph, not a call.
    tf.config.run_functions_eagerly(run_eagerly=True)
    try:
        function = tf.compat.v1.wrap_function(outputs, [tf.TensorSpec(shape)])
        # Variables that Keras does not know of.
        return convert_variables_to_constants_v2(function) if function.graph.captures else function
    except Exception as error:  # Keras and TensorFlow raise errors of many types, a model's own code any
        what = f"the model does not run on windows of shape {shape[1:]}"
        raise ModelError(
            what,
            expected="a model of one input, the window",
            received=said(error),
            action="Lambda layers lose the names that their code uses when they are saved: save the model with a layer "
            "class in their place, and give that with --module FILE.py."
            if "Lambda.call" in str(error)
            else "Look at --window and --channels, or save a model of the window alone.",
        ) from error
    finally:
        tf.config.run_functions_eagerly(eagerly)


def _named(model: Any, outputs: Any) -> Iterator[tuple[str, Any]]:
    """Each tensor of a model's outputs with its name: the key, the name of its layer, or its place."""
    if isinstance(outputs, dict):
        for key, value in outputs.items():
            yield from ((f"{key}{rest and ' ' + rest}", tensor) for rest, tensor in _named(None, value))
    elif isinstance(outputs, (list, tuple)):
        own = getattr(model, "output_names", None) or ()
        keys = own if len(own) == len(outputs) else [str(i) for i in range(len(outputs))]
        for key, value in zip(keys, outputs, strict=True):
            yield from ((f"{key}{rest and ' ' + rest}", tensor) for rest, tensor in _named(None, value))
    elif outputs is not None:
        yield "", tf.convert_to_tensor(outputs)


def _producer(tensor: str) -> str:
    return tensor.partition(":")[0]


def _pruned(graph_def: Any, outputs: list[str]) -> Any:
    """The nodes that the outputs come from. Order alone, as of an assignment, has no meaning without variables."""
    nodes = {node.name: node for node in graph_def.node}
    waiting, reached = [_producer(name) for name in outputs], set()
    while waiting:
        if (name := waiting.pop()) not in reached:
            reached.add(name)
            waiting += [_producer(data) for data in nodes[name].input if not data.startswith("^")]
    kept = tf.compat.v1.GraphDef(library=graph_def.library, versions=graph_def.versions)
    for node in graph_def.node:
        if node.name in reached:
            kept.node.add().CopyFrom(node)
            del kept.node[-1].input[:]
            kept.node[-1].input.extend(data for data in node.input if not data.startswith("^"))
    return kept


def _renamed(graph_def: Any) -> Callable[[str], str]:
    """Name the nodes by their order, and say a tensor's new name: Keras counts its layers on through a process."""
    numbers = {node.name: f"op_{i}" for i, node in enumerate(graph_def.node)}

    def renamed(name: str) -> str:
        node, colon, place = name.partition(":")
        return f"{numbers[node]}{colon}{place}"

    for node in graph_def.node:
        node.name = numbers[node.name]
        node.input[:] = [renamed(name) for name in node.input]
    return renamed


def _settle(graph_def: Any, graph: Any) -> list[str]:
    """Replace each Gaussian draw by zero and each sum with such a zero by its other part; the names of the draws."""
    draws, zero, constant_zero = [], set(), set()
    zeros = []
    for node in graph_def.node:
        inputs = [_producer(name) for name in node.input]
        if node.op == "Const":
            if not tf.make_ndarray(node.attr["value"].tensor).any():
                constant_zero.add(node.name)
        elif node.op in _SHAPE_INPUT:
            draws.append(node.name)
            zeros.append(_as_zeros(node, graph))
            zero.add(node.name)
        elif (node.op in ("Mul", "MulNoNan") and zero & set(inputs)) or (
            node.op in (*_KEEP_ZERO, *_DIVISIONS) and inputs[0] in zero
        ):
            zero.add(node.name)
        elif node.op in _SUMS and zero & set(inputs):
            if set(inputs) <= zero | constant_zero:
                zero.add(node.name)
            else:
                _drop_zero(node, graph, zero)
    graph_def.node.extend(zeros)
    return draws


def _as_zeros(node: Any, graph: Any) -> Any:
    """Turn a draw into zeros of its shape; the constant zero that they are filled with."""
    drawn = graph.get_operation_by_name(node.name).outputs[0]
    shape = node.input[_SHAPE_INPUT[node.op]]
    index_type = graph.get_tensor_by_name(shape if ":" in shape else f"{shape}:0").dtype
    value = tf.compat.v1.NodeDef(name=f"{node.name}/mean", op="Const")
    value.attr["dtype"].type = drawn.dtype.as_datatype_enum
    value.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(0, dtype=drawn.dtype))
    node.op = "Fill"
    node.attr.clear()
    node.attr["T"].type = drawn.dtype.as_datatype_enum
    node.attr["index_type"].type = index_type.as_datatype_enum
    del node.input[:]
    node.input.extend([shape, value.name])
    return value


def _drop_zero(node: Any, graph: Any, zero: set[str]) -> None:
    """Turn a sum with a zero into its other part, where that has the sum's shape already."""
    kept = [name for name in node.input if _producer(name) not in zero]
    if len(kept) != 1 or (node.op == "Sub" and kept[0] != node.input[0]):
        return
    total = graph.get_operation_by_name(node.name).outputs[0]
    other = graph.get_tensor_by_name(kept[0] if ":" in kept[0] else f"{kept[0]}:0")
    if other.shape.rank is None or other.shape.as_list() != total.shape.as_list():
        return
    node.op = "Identity"
    del node.input[:]
    node.input.extend(kept)


def _owner(model: Any, node: str) -> str:
    """The innermost layer that a node belongs to, for people."""
    layers = {layer.name: type(layer).__name__ for layer in model._flatten_layers()}  # noqa: SLF001 (no public way)
    for part in reversed(node.split("/")[:-1]):
        for name in (part, re.sub(r"_\d+$", "", part)):
            if name in layers:
                return f"layer {name!r} ({layers[name]})"
    return f"the model ({type(model).__name__})"


def _layer(any_batch: _Traced, one: _Traced) -> Any:
    """A Keras layer that computes what was traced, for one window with all shapes known, as TFLite wants them."""

    class Frozen(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
        """Somebody's model, its weights being constants."""

        def call(self, x: Any) -> list[Any]:
            """The outputs (batch, ...) for an input (batch, ...)."""
            traced = one if x.shape[0] == 1 else any_batch
            if tf.executing_eagerly():
                return list(traced.run(tf.cast(x, tf.float32)))
            found: list[Any] = tf.graph_util.import_graph_def(
                traced.graph_def, input_map={traced.given: x}, return_elements=list(traced.outputs), name="model"
            )
            return found

    return Frozen(name="brought")
