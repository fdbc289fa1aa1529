"""A model without its noise: the same outputs always, those of the posterior's mean, wherever the draw was made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from edge_vae.errors import ModelError
from edge_vae_converters import tflite
from edge_vae_converters.noiseless import noiseless
from foreign_code import Sampling, SubclassedVae

pytestmark = pytest.mark.keras

LENGTH, CHANNELS = 16, 3
Built = tuple[Any, Callable[[Any], Any]]
"""A model, and what it makes of windows with the posterior's mean in place of a draw."""


def vae(sampling: Callable[[list[Any]], Any]) -> Built:
    window = layers.Input((LENGTH, CHANNELS))
    hidden = layers.Flatten()(window)
    mean, log_variance = layers.Dense(4, name="z_mean")(hidden), layers.Dense(4, name="z_log_var")(hidden)
    decoder = keras.Sequential([layers.Dense(LENGTH * CHANNELS), layers.Reshape((LENGTH, CHANNELS))])
    model = keras.Model(window, decoder(sampling([mean, log_variance])))
    encoder = keras.Model(window, mean)
    return model, lambda x: decoder(encoder(x))


def by_layer() -> Built:
    return vae(Sampling(name="sampling"))


def by_lambda() -> Built:
    def draw(given: list[Any]) -> Any:
        return given[0] + ops.exp(0.5 * given[1]) * keras.random.normal(ops.shape(given[0]))

    return vae(layers.Lambda(draw, output_shape=(4,), name="sampling"))


def by_tensorflow() -> Built:
    def draw(given: list[Any]) -> Any:
        mean, log_variance = given
        return tf.random.normal(tf.shape(mean)) * tf.exp(0.5 * log_variance) + mean

    return vae(layers.Lambda(draw, output_shape=(4,), name="sampling"))


def by_scaled_draw() -> Built:
    def draw(given: list[Any]) -> Any:
        return given[0] - ops.softplus(given[1]) * keras.random.truncated_normal(ops.shape(given[0]), stddev=0.5)

    return vae(layers.Lambda(draw, output_shape=(4,), name="sampling"))


def inside_another_model() -> Built:
    window = layers.Input((LENGTH, CHANNELS))
    hidden = layers.Flatten()(window)
    mean, log_variance = layers.Dense(4)(hidden), layers.Dense(4)(hidden)
    encoder = keras.Model(window, [mean, log_variance, Sampling(name="sampling")([mean, log_variance])])
    decoder = keras.Sequential([layers.Dense(LENGTH * CHANNELS), layers.Reshape((LENGTH, CHANNELS))])
    given = layers.Input((LENGTH, CHANNELS))
    return keras.Model(given, decoder(encoder(given)[2])), lambda x: decoder(encoder(x)[0])


def by_subclass() -> Built:
    model = SubclassedVae(LENGTH, CHANNELS)
    model(np.zeros((1, LENGTH, CHANNELS), np.float32))
    return model, lambda x: model.window(model.decoder(model.mean(model.hidden(model.flat(x)))))


def windows(count: int = 40, *, size: float = 1.0) -> Any:
    return (size * np.random.default_rng(1).normal(size=(count, LENGTH, CHANNELS))).astype(np.float32)


@pytest.mark.parametrize(
    "build", [by_layer, by_lambda, by_tensorflow, by_scaled_draw, inside_another_model, by_subclass]
)
def test_the_mean_takes_the_place_of_a_draw(build: Callable[[], Built]) -> None:
    model, by_mean = build()
    still = noiseless(model, (LENGTH, CHANNELS))
    first, again = (np.asarray(still.layer(windows())[0]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first, np.asarray(by_mean(windows())), atol=1e-6)
    assert np.abs(first - np.asarray(tf.nest.flatten(model(windows()))[0])).max() > 0.1  # which the model does draw
    assert len(still.drawing) == 1
    owner = "the model (SubclassedVae)" if build is by_subclass else "layer 'sampling'"
    assert still.drawing[0].startswith(owner) or "SubclassedVae" in still.drawing[0]


@pytest.mark.parametrize("build", [by_layer, by_tensorflow, by_subclass])
def test_nothing_of_a_draw_is_left_in_int8(build: Callable[[], Built]) -> None:
    still = noiseless(build()[0], (LENGTH, CHANNELS))
    window = layers.Input((LENGTH, CHANNELS), name="window")
    graph = keras.Model(window, {"reconstruction": still.layer(window)[0]})
    converted = tflite.convert(graph, precision="int8", representative=[windows()])
    assert set(converted.operators) <= {"FULLY_CONNECTED", "RESHAPE"}
    assert converted.float_tensors == ()


def test_a_huge_log_variance_does_not_become_a_nan() -> None:
    still = noiseless(by_layer()[0], (LENGTH, CHANNELS))
    assert np.isfinite(np.asarray(still.layer(windows(size=1e4))[0])).all()


def test_one_window_gives_what_many_give() -> None:
    still = noiseless(by_subclass()[0], (LENGTH, CHANNELS))
    for many, one in zip(still.layer(windows()), still.layer(windows()[:1]), strict=True):
        np.testing.assert_allclose(np.asarray(many)[:1], np.asarray(one), atol=1e-6)
    assert still.names == ("0", "1", "2")
    assert still.shapes == ((LENGTH, CHANNELS), (5,), (5,))


def test_layers_that_rest_after_training_draw_nothing() -> None:
    model = keras.Sequential(
        [layers.Input((8,)), layers.GaussianNoise(0.5), layers.Dense(8), layers.Dropout(0.5),
         layers.BatchNormalization()]
    )  # fmt: skip
    still, given = noiseless(model, (8,)), np.ones((3, 8), np.float32)
    assert still.drawing == ()
    np.testing.assert_allclose(np.asarray(still.layer(given)[0]), np.asarray(model(given)), atol=1e-6)


def test_a_draw_that_is_not_gaussian_is_refused_with_its_layer() -> None:
    window = layers.Input((8,))
    model = keras.Model(window, layers.Lambda(lambda x: x * keras.random.uniform((8,)), name="always")(window))
    with pytest.raises(ModelError, match=r"layer 'always' \(Lambda\) draws random numbers: .* a Gaussian draw"):
        noiseless(model, (8,))


def test_a_model_that_does_not_run_says_what_it_says() -> None:
    model = keras.Sequential([layers.Input((8,)), layers.Dense(8)])
    with pytest.raises(ModelError, match=r"does not run on windows of shape \(9,\): .*--window"):
        noiseless(model, (9,))


def test_outputs_have_the_names_of_the_models_structure() -> None:
    window = layers.Input((8,))
    parts = {"latent": {"mu": layers.Dense(2)(window)}, "x_hat": layers.Dense(8)(window)}

    class Nested(keras.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return inner(x)

    inner = keras.Model(window, parts)
    assert set(noiseless(inner, (8,)).names) == {"latent mu", "x_hat"}
    assert set(noiseless(Nested(), (8,)).names) == {"latent mu", "x_hat"}
    listed = keras.Model(window, [layers.Dense(8, name="decoded")(window), layers.Dense(2, name="mu")(window)])
    assert noiseless(listed, (8,)).names == ("decoded", "mu")
