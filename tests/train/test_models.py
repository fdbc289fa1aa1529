"""The models: shapes for every length, folded upsampling, and a scoring graph that loads without this project."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray

from edge_vae_train.models import Architecture, build, scoring_graph

pytestmark = pytest.mark.keras

Kernel = NDArray[np.float32]


def windows(length: int, channels: int, *, count: int = 3) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(count, length, channels)).astype(np.float32)


@pytest.mark.parametrize(("length", "channels"), [(4, 1), (5, 2), (30, 2), (33, 1), (64, 6)])
def test_any_length_and_width_comes_back_in_its_shape(length: int, channels: int) -> None:
    graph = scoring_graph(build(Architecture(length, channels, latent=3, width=8)))
    outputs = graph(windows(length, channels))
    assert {name: tuple(output.shape) for name, output in outputs.items()} == {
        "reconstruction": (3, length, channels),
        "posterior_mean": (3, 3),
        "posterior_log_variance": (3, 3),
    }


def test_the_scoring_graph_decodes_the_posterior_mean_and_draws_nothing() -> None:
    vae = build(Architecture(12, 2, latent=3, width=8))
    graph, given = scoring_graph(vae), windows(12, 2)
    outputs, again = graph(given), graph(given)
    mean, log_variance = vae.encoder(given)
    np.testing.assert_array_equal(outputs["posterior_mean"], mean)
    np.testing.assert_array_equal(outputs["posterior_log_variance"], log_variance)
    np.testing.assert_array_equal(outputs["reconstruction"], vae.decoder(mean))
    np.testing.assert_array_equal(outputs["reconstruction"], again["reconstruction"])


def test_the_reconstruction_can_leave_the_range_of_a_relu() -> None:
    """The output is linear: negative and large readings can be reconstructed."""
    vae = build(Architecture(12, 2, latent=3, width=8))
    vae.decoder.get_layer("samples").bias.assign([-50.0, 50.0])
    out = np.asarray(vae.decoder(np.zeros((1, 3), np.float32)))
    assert out[0, :, 0].max() < -10
    assert out[0, :, 1].min() > 10


def folded(kernel: Kernel) -> Kernel:
    """Kernel 5 after repeating each step, as kernel 3 with the filters of even and odd steps side by side."""
    even = np.stack([kernel[0] + kernel[1], kernel[2] + kernel[3], kernel[4]])
    odd = np.stack([kernel[0], kernel[1] + kernel[2], kernel[3] + kernel[4]])
    return np.concatenate([even, odd], axis=2)


@pytest.mark.parametrize(
    ("convolution", "reshape", "start"), [("up1", "up1_steps", "seed_steps"), ("up2", "up2_steps", "up1_steps")]
)
def test_folded_upsampling_equals_repeating_and_a_convolution_of_five(
    convolution: str, reshape: str, start: str
) -> None:
    decoder = build(Architecture(24, 2, latent=3, width=8)).decoder
    steps, filters = decoder.get_layer(start).output.shape[1:]
    target: Any = decoder.get_layer(convolution)
    generator = np.random.default_rng(1)
    kernel = generator.normal(size=(5, filters, target.filters // 2)).astype(np.float32)
    bias = generator.normal(size=target.filters // 2).astype(np.float32)

    target.set_weights([folded(kernel), np.tile(bias, 2)])
    given = generator.normal(size=(4, steps, filters)).astype(np.float32)
    found = decoder.get_layer(reshape)(target(given))

    plain = layers.Conv1D(target.filters // 2, 5, padding="same", activation="relu")
    repeated = layers.UpSampling1D(2)(given)
    plain.build(repeated.shape)
    plain.set_weights([kernel, bias])
    assert found.shape == (4, 2 * steps, target.filters // 2)
    # The same products, summed in another order.
    np.testing.assert_allclose(found, plain(repeated), atol=1e-5)


def test_a_saved_scoring_graph_is_made_of_stock_layers_alone(tmp_path: Path) -> None:
    scoring_graph(build(Architecture(12, 2, latent=3, width=8))).save(tmp_path / "graph.keras")
    with zipfile.ZipFile(tmp_path / "graph.keras") as archive:
        config = json.loads(archive.read("config.json"))

    def objects(part: Any) -> Iterator[tuple[str, object]]:
        if isinstance(part, dict) and "class_name" in part:
            yield str(part.get("module")), part.get("registered_name")
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from objects(inner)

    found = list(objects(config))
    assert len(found) > 10
    assert {module.partition(".")[0] for module, _ in found} <= {"keras", "None"}
    assert {name for _, name in found} <= {None, "Functional"}


def test_a_scoring_graph_of_batch_one_has_the_same_outputs() -> None:
    vae = build(Architecture(8, 2, latent=3, width=8))
    given = windows(8, 2, count=1)
    one, any_batch = scoring_graph(vae, batch_size=1), scoring_graph(vae)
    assert one.input_shape == (1, 8, 2)
    np.testing.assert_array_equal(one(given)["reconstruction"], any_batch(given)["reconstruction"])


def test_a_scoring_graph_with_modes_names_its_inputs_in_the_order_of_the_alphabet() -> None:
    vae = build(Architecture(8, 2, latent=3, width=8, modes=2))
    graph, given = scoring_graph(vae, batch_size=1), windows(8, 2, count=1)
    assert [(tensor.name, tuple(tensor.shape)) for tensor in graph.inputs] == [
        ("a_window", (1, 8, 2)),
        ("b_condition", (1, 2)),
    ]
    condition = np.array([[0.0, 1.0]], np.float32)
    mean = np.asarray(vae.encoder([given, condition])[0])
    np.testing.assert_array_equal(graph([given, condition])["posterior_mean"], mean)
    np.testing.assert_array_equal(graph([given, condition])["reconstruction"], vae.decoder([mean, condition]))


def test_an_unknown_family_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="expected one of conv, dense, linear, tcn, received 'gru'"):
        build(Architecture(8, 2, family="gru"))
