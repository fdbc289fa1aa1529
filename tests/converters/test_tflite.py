"""Scoring graph to TFLite: integers all through, operators of the list, equal bytes for equal graphs."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers
from numpy.typing import NDArray

from edge_vae.errors import TrainingError
from edge_vae.runtime import TFLiteRuntime
from edge_vae_converters.microcontroller import OPERATORS
from edge_vae_converters.tflite import INT8_SAFE, PRECISIONS, Converted, convert
from edge_vae_train.models import FAMILIES, Architecture, build, scoring_graph

pytestmark = pytest.mark.keras

WINDOWS = np.random.default_rng(0).normal(size=(40, 14, 2)).astype(np.float32)
NO_CONDITION = np.zeros((40, 0), np.float32)
MODES = np.eye(3, dtype=np.float32)[np.arange(40) % 3]
GIVEN = (WINDOWS, NO_CONDITION)
"""What the converter is given: the second array has a column only where there are modes."""


@pytest.fixture(scope="module")
def graph() -> keras.Model:
    """A small model whose length is no multiple of four, so that it also has the operator that trims."""
    keras.utils.set_random_seed(1)
    return scoring_graph(build(Architecture(14, 2, latent=3, width=8)))


@pytest.fixture(scope="module")
def converted(graph: keras.Model) -> dict[str, Converted]:
    return {precision: convert(graph, precision=precision, representative=GIVEN) for precision in PRECISIONS}


def reconstruction(converted: Converted, windows: NDArray[np.float32]) -> NDArray[np.float32]:
    return TFLiteRuntime(converted.model, outputs=converted.outputs)(windows, NO_CONDITION[: len(windows)])[
        "reconstruction"
    ]


def test_every_tensor_of_an_int8_model_is_int8_or_int32(converted: dict[str, Converted]) -> None:
    assert converted["int8"].float_tensors == ()
    interpreter = Interpreter(model_content=converted["int8"].model)
    interpreter.allocate_tensors()
    assert {np.dtype(details["dtype"]).name for details in interpreter.get_tensor_details()} <= {"int8", "int32"}
    assert converted["float32"].float_tensors


def test_every_operator_is_in_the_list_of_safe_ones(converted: dict[str, Converted]) -> None:
    for precision, model in converted.items():
        # float16 weights are widened when the model is loaded.
        assert set(model.operators) <= set(OPERATORS) | ({"DEQUANTIZE"} if precision == "float16" else set())
        assert model.operators["CONV_2D"] == 6
        assert list(model.operators) == sorted(model.operators)
    assert "STRIDED_SLICE" in converted["int8"].operators


def test_a_model_has_batch_one_and_the_named_outputs(converted: dict[str, Converted]) -> None:
    for model in converted.values():
        assert model.outputs.keys() == {"reconstruction", "posterior_mean", "posterior_log_variance"}
        runtime = TFLiteRuntime(model.model, outputs=model.outputs)
        assert runtime.input_shape == (14, 2)
        assert runtime.conditions == 0
        outputs = runtime(WINDOWS[:3], NO_CONDITION[:3])
        assert outputs["reconstruction"].shape == (3, 14, 2)
        assert outputs["posterior_mean"].shape == outputs["posterior_log_variance"].shape == (3, 3)


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("float32", 1e-5), ("float16", 5e-3), ("dynamic", 0.05), ("int16x8", 0.05), ("int8", 0.05)],
)
def test_a_converted_model_computes_what_the_graph_does(
    graph: keras.Model, converted: dict[str, Converted], precision: str, tolerance: float
) -> None:
    expected = np.asarray(graph(WINDOWS)["reconstruction"])
    found = reconstruction(converted[precision], WINDOWS)
    # float32: another order of additions. float16: ten bits of each weight. Others: some steps of a 255th of the range
    # of weights or activations, which is about 2 here.
    np.testing.assert_allclose(found, expected, atol=tolerance)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99


def test_more_bits_keep_more(graph: keras.Model, converted: dict[str, Converted]) -> None:
    expected = np.asarray(graph(WINDOWS)["reconstruction"])
    noise = {p: np.square(reconstruction(one, WINDOWS) - expected).mean() for p, one in converted.items()}
    # Not `dynamic`: the converter leaves weights of less than 1,024 numbers, as all are here, in float32.
    assert noise["int8"] > noise["int16x8"] > noise["float16"] > noise["float32"]


def test_converting_twice_gives_the_same_bytes(graph: keras.Model, converted: dict[str, Converted]) -> None:
    again = convert(graph, precision="int8", representative=GIVEN)
    assert again.model == converted["int8"].model
    assert again.outputs == converted["int8"].outputs


def test_the_ends_of_the_int8_range_are_the_extremes_of_the_representative_windows(graph: keras.Model) -> None:
    wide = np.concatenate([WINDOWS[:8], 8.0 * np.sign(WINDOWS[:8])])
    model = convert(graph, precision="int8", representative=(wide, np.zeros((16, 0), np.float32)))
    tensor = TFLiteRuntime(model.model, outputs=model.outputs)._inputs[0]
    low, high = ((edge - tensor.zero_point) * tensor.step for edge in (-128, 127))
    # The zero point is a whole step, so one end may be off by one step.
    assert low == pytest.approx(-8.0, abs=tensor.step)
    assert high == pytest.approx(8.0, abs=tensor.step)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_model_with_modes_is_given_window_and_condition_each_in_its_place(family: str) -> None:
    keras.utils.set_random_seed(2)
    graph = scoring_graph(build(Architecture(14, 2, family=family, latent=3, width=8, modes=3)))
    turned = np.roll(MODES, 1, axis=1)
    representative = np.concatenate([WINDOWS, WINDOWS]), np.concatenate([MODES, turned])
    model = convert(graph, precision="int8", representative=representative)
    assert set(model.operators) <= set(OPERATORS)
    assert model.float_tensors == ()
    runtime = TFLiteRuntime(model.model, outputs=model.outputs)
    assert (runtime.input_shape, runtime.conditions) == ((14, 2), 3)
    found = [runtime(WINDOWS, modes)["reconstruction"] for modes in (MODES, turned)]
    for modes, windows in zip((MODES, turned), found, strict=True):
        expected = np.asarray(graph([WINDOWS, modes])["reconstruction"])
        assert np.square(windows - expected).mean() < 0.01 * expected.var()
    assert np.square(found[0] - found[1]).mean() > 0.02 * found[0].var()


def test_the_converter_prints_nothing(graph: keras.Model, capfd: pytest.CaptureFixture[str]) -> None:
    convert(graph, precision="float32", representative=GIVEN)
    assert capfd.readouterr() == ("", "")


def other_graph(layer: layers.Layer) -> keras.Model:
    window = layers.Input((14, 2), name="window")
    return keras.Model(window, {"reconstruction": layer(window)})


def test_operators_outside_the_list_are_told(converted: dict[str, Converted]) -> None:
    exponential = convert(other_graph(layers.Activation("exponential")), precision="int8", representative=GIVEN)
    assert set(exponential.operators) - INT8_SAFE == {"EXP"}


def test_float_tensors_inside_an_int8_model_are_told() -> None:
    cosine = layers.Lambda(keras.ops.cos, output_shape=(14, 2))
    try:
        model = convert(other_graph(cosine), precision="int8", representative=GIVEN)
    except TrainingError:
        return  # a converter that refuses is as good as one whose float tensors are told
    assert model.float_tensors


def test_a_graph_that_tensorflow_cannot_convert_is_refused_in_one_line() -> None:
    impossible = layers.Lambda(keras.ops.erfinv, output_shape=(14, 2))
    with pytest.raises(TrainingError) as caught:
        convert(other_graph(impossible), precision="int8", representative=GIVEN)
    line = str(caught.value)
    assert line.startswith(
        "TensorFlow cannot convert the model to int8: expected a graph of int8-safe layers, received "
    )
    assert "\n" not in line
    assert len(line) < 500
