"""Every family: its shapes with and without modes, what its condition does, its layers, and what is its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from edge_vae_train.families import FAMILIES, linear
from edge_vae_train.models import Architecture, build, scoring_graph

pytestmark = pytest.mark.keras

Windows = NDArray[np.float32]
EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)

# Layers that become operators of the int8 allow-list, or none at all.
INT8_LAYERS = {
    "InputLayer", "Conv1D", "Dense", "Reshape", "Flatten", "ReLU", "Add", "Concatenate", "Cropping1D", "Functional",
}  # fmt: skip


def windows(length: int, channels: int, *, count: int = 3, seed: int = 0) -> Windows:
    return np.random.default_rng(seed).normal(size=(count, length, channels)).astype(np.float32)


def modes(count: int, *, of: int = 3) -> Windows:
    """One mode after another, as vectors of ones and zeros."""
    return np.eye(of, dtype=np.float32)[np.arange(count) % of]


def test_the_families_stand_in_order() -> None:
    assert list(FAMILIES) == sorted(FAMILIES) == ["conv", "dense", "linear", "tcn"]


@EVERY_FAMILY
@pytest.mark.parametrize("given_modes", [0, 3])
@pytest.mark.parametrize(("length", "channels"), [(4, 1), (5, 2), (33, 1), (64, 6)])
def test_a_window_of_any_size_comes_back_in_its_shape(
    family: str, length: int, channels: int, given_modes: int
) -> None:
    a = Architecture(length, channels, family=family, latent=3, width=8, modes=given_modes)
    vae = build(a)
    given: Any = windows(length, channels)
    outputs = scoring_graph(vae)([given, modes(3)] if given_modes else given)
    assert {name: tuple(output.shape) for name, output in outputs.items()} == {
        "reconstruction": (3, length, channels),
        "posterior_mean": (3, 3),
        "posterior_log_variance": (3, 3),
    }
    assert vae.architecture == a


@EVERY_FAMILY
def test_the_mode_joins_the_encoder_and_the_decoder(family: str) -> None:
    vae = build(Architecture(12, 2, family=family, latent=3, width=8, modes=3))
    one = np.repeat(windows(12, 2, count=1), 3, axis=0)
    means = np.asarray(vae.encoder([one, modes(3)])[0])
    assert (np.abs(means[1:] - means[0]).max(axis=1) > 1e-4).all()
    decoded = np.asarray(vae.decoder([np.repeat(means[:1], 3, axis=0), modes(3)]))
    assert (np.abs(decoded[1:] - decoded[0]).max(axis=(1, 2)) > 1e-4).all()


@EVERY_FAMILY
@pytest.mark.parametrize("given_modes", [0, 3])
def test_a_family_has_stock_layers_that_int8_keeps(family: str, given_modes: int, tmp_path: Path) -> None:
    graph = scoring_graph(build(Architecture(33, 2, family=family, latent=3, width=8, modes=given_modes)))
    layers = [layer for part in graph.layers for layer in getattr(part, "layers", [part])]
    assert {type(layer).__name__ for layer in layers} <= INT8_LAYERS
    assert {type(layer).__module__.partition(".")[0] for layer in layers} == {"keras"}
    assert {getattr(layer, "activation", keras.activations.linear).__name__ for layer in layers} <= {"linear", "relu"}

    graph.save(tmp_path / "graph.keras")
    loaded = keras.models.load_model(tmp_path / "graph.keras", compile=False)
    assert [tensor.name for tensor in loaded.inputs] == (["a_window", "b_condition"] if given_modes else ["window"])
    given: Any = [windows(33, 2), modes(3)] if given_modes else windows(33, 2)
    for name, output in graph(given).items():
        np.testing.assert_array_equal(loaded(given)[name], output)


def test_a_step_of_the_tcn_sees_beyond_what_its_strides_alone_see() -> None:
    keras.utils.set_random_seed(1)  # with the weights of some seeds every unit of the last step is off
    encoder = build(Architecture(64, 1, family="tcn", latent=3, width=8)).encoder
    features = keras.Model(encoder.inputs[0], encoder.get_layer("block8_relu").output)
    given = windows(64, 1, count=1)
    moved = given.copy()
    moved[0, 8] += 5.0
    last = np.abs(np.asarray(features(moved)) - np.asarray(features(given)))[0, -1]
    assert last.max() > 0


def test_the_linear_family_is_the_pca_of_scikit_learn() -> None:
    mixed = windows(6, 2, count=200) @ np.array([[2.0, 0.7], [0.0, 0.5]], np.float32) + np.float32(0.3)
    vae = linear.solve(Architecture(6, 2, family="linear", latent=4), mixed, None)
    rows = mixed.reshape(200, 12)
    pca = PCA(4, svd_solver="full").fit(rows)
    mean, log_variance = (np.asarray(output) for output in vae.encoder(mixed))
    # float32 weights; the sign of an axis is free.
    np.testing.assert_allclose(np.abs(mean), np.abs(pca.transform(rows)), atol=1e-4)
    expected = pca.inverse_transform(pca.transform(rows)).reshape(mixed.shape)
    np.testing.assert_allclose(vae.decoder(mean), expected, atol=1e-4)
    assert not log_variance.any()


def test_the_linear_family_has_no_more_components_than_the_data() -> None:
    few = windows(6, 2, count=4)
    vae = linear.solve(Architecture(6, 2, family="linear"), few, None)
    assert vae.architecture.latent == 3
    np.testing.assert_allclose(vae.decoder(np.asarray(vae.encoder(few)[0])), few, atol=1e-4)


def test_the_linear_family_leaves_a_residual_in_the_smallest_window() -> None:
    small = windows(4, 1, count=50)
    vae = linear.solve(Architecture(4, 1, family="linear", latent=8), small, None)
    assert vae.architecture.latent == 3
    assert np.abs(small - np.asarray(vae.decoder(vae.encoder(small)[0]))).max() > 0.1


def test_the_linear_family_takes_off_the_mean_window_of_each_mode() -> None:
    given, condition = windows(6, 2, count=90), modes(90)
    means = 5.0 * windows(6, 2, count=3, seed=1)
    shifted = given + means[np.arange(90) % 3]
    vae = linear.solve(Architecture(6, 2, family="linear", latent=4, modes=3), shifted, condition)
    rows = shifted.reshape(90, 12).astype(np.float64)
    of_mode = np.stack([rows[i::3].mean(axis=0) for i in range(3)])[np.arange(90) % 3]
    pca = PCA(4, svd_solver="full").fit(rows - of_mode)
    expected = of_mode + pca.inverse_transform(pca.transform(rows - of_mode))
    mean = np.asarray(vae.encoder([shifted, condition])[0])
    np.testing.assert_allclose(vae.decoder([mean, condition]), expected.reshape(90, 6, 2), atol=1e-3)
