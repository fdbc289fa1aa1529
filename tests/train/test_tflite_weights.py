"""Weights read back out of TFLite files: exact from float32, within half a quantization step from int8."""

from __future__ import annotations

import numpy as np
import pytest
from keras import layers

from edge_vae_converters import tflite
from edge_vae_train.families.autoencoder import Tensor, assemble
from edge_vae_train.models import Architecture, VariationalAutoencoder, build, scoring_graph
from edge_vae_train.tflite_weights import Weights, read_weights, set_weights

pytestmark = pytest.mark.keras


def architecture(family: str, modes: int = 0, channels: int = 2) -> Architecture:
    return Architecture(13, channels, family=family, latent=3, width=8, modes=modes)


def trained(a: Architecture) -> VariationalAutoencoder:
    """A model with biases too: those of a fresh one are zero."""
    vae, generator = build(a), np.random.default_rng(0)
    for model in (vae.encoder, vae.decoder):
        model.set_weights([generator.normal(size=w.shape) * 0.3 for w in model.get_weights()])
    return vae


def converted(vae: VariationalAutoencoder, precision: str) -> bytes:
    a, generator = vae.architecture, np.random.default_rng(1)
    windows = generator.normal(size=(20, a.length, a.channels)).astype(np.float32)
    conditions = np.eye(max(a.modes, 1), dtype=np.float32)[generator.integers(0, max(a.modes, 1), 20)]
    given = [windows, conditions] if a.modes else [windows]
    return tflite.convert(scoring_graph(vae), precision=precision, representative=given).model


def weights_of(vae: VariationalAutoencoder) -> Weights:
    parts = {"encoder": vae.encoder, "decoder": vae.decoder}
    return {(part, la.name): tuple(la.get_weights()) for part, m in parts.items() for la in m.layers if la.weights}


@pytest.mark.parametrize(
    ("family", "modes", "channels", "precision"),
    [
        *(("conv", 0, 1, precision) for precision in tflite.PRECISIONS),
        ("conv", 2, 2, "int8"), ("conv", 2, 2, "float16"),
        ("dense", 0, 2, "int8"), ("dense", 0, 2, "dynamic"),
        ("tcn", 0, 2, "int8"), ("tcn", 0, 2, "float32"),
    ],
)  # fmt: skip
def test_weights_come_back_from_files_of_every_precision(
    family: str, modes: int, channels: int, precision: str
) -> None:
    vae = trained(architecture(family, modes, channels))
    expected = weights_of(vae)
    found = read_weights(converted(vae, precision))
    assert found.keys() == expected.keys()
    for layer, (kernel, bias) in expected.items():
        largest = np.abs(kernel).max()
        step, bias_off = {"float32": (0.0, 0.0), "float16": (largest / 1024, 1e-3)}.get(
            precision, (largest / 127, 5e-3)
        )
        np.testing.assert_allclose(found[layer][0], kernel, rtol=0, atol=0.51 * step)
        np.testing.assert_allclose(found[layer][1], bias, rtol=0, atol=bias_off)


def test_layers_that_the_converter_merges_are_told() -> None:
    def encode(a: Architecture, window: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        flat = layers.Flatten(name="flat")(window)
        means = layers.Dense(a.latent, use_bias=False, name="posterior_mean")(flat)
        return means, layers.Dense(a.latent, name="posterior_log_variance")(flat)

    def decode(a: Architecture, latent: Tensor, _: Tensor) -> Tensor:
        return layers.Reshape((a.length, a.channels), name="samples")(layers.Dense(a.cells, name="cells")(latent))

    vae = assemble(architecture("dense"), encode, decode)
    with pytest.raises(
        ValueError, match="expected a bias of layer posterior_log_variance of the encoder, received one that is"
    ):
        read_weights(converted(vae, "float32"))


def test_a_fresh_model_with_the_weights_is_the_trained_one() -> None:
    vae, fresh = trained(architecture("conv")), build(architecture("conv"))
    set_weights(fresh, read_weights(converted(vae, "float32")))
    windows = np.random.default_rng(2).normal(size=(5, 13, 2)).astype(np.float32)
    for name, output in scoring_graph(vae)(windows).items():
        np.testing.assert_array_equal(np.asarray(scoring_graph(fresh)(windows)[name]), np.asarray(output))


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (Architecture(13, 2, latent=4, width=8), "layer seed of the decoder"),
        (architecture("dense"), "received none"),
        (architecture("tcn"), "received none"),
    ],
)
def test_weights_of_another_model_are_refused(other: Architecture, says: str) -> None:
    weights = weights_of(trained(architecture("conv")))
    with pytest.raises(ValueError, match=f"expected the weights .*{says}"):
        set_weights(build(other), weights)
