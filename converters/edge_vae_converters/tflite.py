"""Scoring graph to TFLite, in any of five precisions; the integer ones need a representative data set."""

from __future__ import annotations

import contextlib
import os
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vae.errors import TrainingError

__all__ = [
    "FULL_INTEGER",
    "INT8_SAFE",
    "PRECISIONS",
    "WEIGHTS_IN_INT8",
    "Converted",
    "convert",
    "described",
    "silenced",
]

PRECISIONS = ("int8", "int16x8", "dynamic", "float16", "float32")
"""What a model computes with. `int8`: weights and activations. `int16x8`: int8 weights, int16 activations. `dynamic`:
int8 weights, and activations that are quantized by their own range in each invocation. `float16`: weights kept in half
the bytes, computed in float32. `float32`: as trained."""

FULL_INTEGER = ("int8", "int16x8")
"""Precisions whose activations have fixed ranges, which the representative data set decides."""

WEIGHTS_IN_INT8 = (*FULL_INTEGER, "dynamic")

INT8_SAFE = frozenset(
    {
        "ADD", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "EXPAND_DIMS", "FULLY_CONNECTED", "QUANTIZE",
        "RESHAPE", "STRIDED_SLICE",
        # What models that were made elsewhere have besides.
        "AVERAGE_POOL_2D", "BATCH_MATMUL", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "MAX_POOL_2D", "MEAN",
        "MUL", "PACK", "PAD", "PRELU", "REDUCE_MAX", "RELU", "SOFTMAX", "SUB", "TANH", "TILE", "TRANSPOSE",
        "TRANSPOSE_CONV",
    }
)  # fmt: skip
"""Operators whose int8 form was measured to keep the signal: 30 dB and better, where two dense layers keep 30 and two
convolutions 36. TensorFlow Lite Micro has those of the models that are trained here; it lacks TILE."""

_INTEGER_TYPES = ("INT8", "INT32")
_SHOWN = 300
"""Characters of TensorFlow's own error that are shown: the rest is a listing of its graph."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A TFLite model.

    Attributes:
        model: The flatbuffer.
        outputs: Output name to the name of its tensor.
        operators: How many of each operator it holds.
        float_tensors: Names of tensors that are neither int8 nor int32.
    """

    model: bytes
    outputs: dict[str, str]
    operators: dict[str, int]
    float_tensors: tuple[str, ...]


def convert(graph: Any, *, precision: str, representative: Sequence[NDArray[np.float32]]) -> Converted:
    """The scoring graph as a TFLite model of batch 1.

    Args:
        graph: A Keras functional model from `window` (batch, steps, channels), or from `a_window` and `b_condition`
            (batch, conditions), to a dictionary of outputs.
        precision: One of `PRECISIONS`.
        representative: For `FULL_INTEGER` precisions, what the graph's inputs see, clipped, each (windows, ...); their
            extremes become the ends of the integer ranges, because TFLiteConverter keeps the true minimum and maximum
            of every activation.

    Raises:
        TrainingError: TensorFlow cannot convert the graph.
    """
    import keras
    import tensorflow as tf

    inputs = [keras.layers.Input(given.shape[1:], batch_size=1, name=given.name) for given in graph.inputs]
    # Without a name Keras counts its models, and the second conversion of a process would give other bytes.
    single = keras.Model(inputs, graph(inputs if len(inputs) > 1 else inputs[0]), name="batch_of_one")
    converter = tf.lite.TFLiteConverter.from_keras_model(single)
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision in FULL_INTEGER:
        given = representative[: len(inputs)]
        converter.representative_dataset = lambda: (
            [one[None] for one in sample] for sample in zip(*given, strict=True)
        )
        operators, stored = {
            "int8": (tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.int8),
            "int16x8": (tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8, tf.int16),
        }[precision]
        converter.target_spec.supported_ops = [operators]
        converter.inference_input_type = converter.inference_output_type = stored
    try:
        with silenced():
            model: bytes = converter.convert()
    except Exception as error:  # TensorFlow raises its own and C++ errors of many types
        what = f"TensorFlow cannot convert the model to {precision}"
        received = textwrap.shorten(str(error), _SHOWN, placeholder=" ...")
        raise TrainingError(what, expected="a graph of int8-safe layers", received=received) from error
    return described(model)


def described(model: bytes) -> Converted:
    """What stands in the flatbuffer, read with TensorFlow's own schema."""
    from tensorflow.lite.python import schema_py_generated as schema

    root = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    codes = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    types = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    used = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in root.operatorCodes]
    operators = Counter(codes[used[op.opcodeIndex]] for graph in root.subgraphs for op in graph.operators)
    tensors = [tensor for graph in root.subgraphs for tensor in graph.tensors]
    names = root.subgraphs[0].tensors
    return Converted(
        model=model,
        outputs={o.name.decode(): names[o.tensorIndex].name.decode() for o in root.signatureDefs[0].outputs},
        operators=dict(sorted(operators.items())),
        float_tensors=tuple(t.name.decode() for t in tensors if types[t.type] not in _INTEGER_TYPES),
    )


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Keep what the converter prints, in Python and in C++, and its warnings off standard output and error."""
    kept = [os.dup(1), os.dup(2)]
    quiet = os.open(os.devnull, os.O_WRONLY)
    with Path(os.devnull).open("w") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                yield
        finally:
            for target, original in zip((1, 2), kept, strict=True):
                os.dup2(original, target)
                os.close(original)
            os.close(quiet)
