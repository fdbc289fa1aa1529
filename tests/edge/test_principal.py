"""The PCA of lag vectors as a runtime: a projection, whatever else is in the batch."""

from __future__ import annotations

import numpy as np
import pytest

from edge_vae.principal import PrincipalRuntime, in_int8, real_components

LAG, CHANNELS, VECTORS = 3, 2, 4
CELLS = LAG * CHANNELS
GENERATOR = np.random.default_rng(0)
MEAN = GENERATOR.normal(size=CELLS).astype(np.float32)
COMPONENTS = np.linalg.qr(GENERATOR.normal(size=(CELLS, 2)))[0].T.astype(np.float16)
WINDOWS = GENERATOR.normal(size=(5, VECTORS * LAG, CHANNELS)).astype(np.float32)
CONDITIONS = np.zeros((5, 0), np.float32)
RUNTIME = PrincipalRuntime({"lag_mean": MEAN, "lag_components": COMPONENTS, "mean": np.zeros(7)})


def test_each_lag_vector_is_projected_on_the_components_by_itself() -> None:
    found = RUNTIME(WINDOWS, CONDITIONS)["reconstruction"]
    for window, reconstruction in zip(WINDOWS, found, strict=True):
        for at in range(VECTORS):
            rows = slice(at * LAG, (at + 1) * LAG)
            centred = [float(v) - float(m) for v, m in zip(window[rows].ravel(), MEAN, strict=True)]
            expected = MEAN.astype(float)
            for component in COMPONENTS.astype(float):
                expected = expected + component * sum(c * v for c, v in zip(component, centred, strict=True))
            assert reconstruction[rows].ravel().tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_what_the_components_hold_comes_back_as_it_was() -> None:
    weights = np.random.default_rng(1).normal(size=(VECTORS, 2))
    held = (weights @ COMPONENTS.astype(float) + MEAN).reshape(1, VECTORS * LAG, CHANNELS).astype(np.float32)
    # Components are kept in float16: three digits.
    np.testing.assert_allclose(RUNTIME(held, CONDITIONS[:1])["reconstruction"], held, atol=5e-3)


def test_a_window_comes_back_the_same_alone_and_among_others() -> None:
    together = RUNTIME(WINDOWS, CONDITIONS)["reconstruction"]
    for i in range(len(WINDOWS)):
        np.testing.assert_array_equal(RUNTIME(WINDOWS[i : i + 1], CONDITIONS[:1])["reconstruction"][0], together[i])


@pytest.mark.parametrize("count", [0, 3])
def test_it_answers_with_the_outputs_of_a_model_without_latent_units(count: int) -> None:
    outputs = RUNTIME(WINDOWS[:count], CONDITIONS[:count])
    shapes = {name: array.shape for name, array in outputs.items()}
    assert shapes == {
        "reconstruction": (count, VECTORS * LAG, CHANNELS), "posterior_mean": (count, 0),
        "posterior_log_variance": (count, 0),
    }  # fmt: skip
    assert {array.dtype.name for array in outputs.values()} == {"float32"}


def test_components_in_int8_are_off_by_half_a_step_of_their_own_at_most() -> None:
    components = COMPONENTS.astype(np.float32) * np.array([[1.0], [1e-3]], np.float32)
    stored, steps = in_int8(components)
    assert stored.dtype == np.int8
    assert np.abs(stored).max(axis=1).tolist() == [127, 127]
    assert (np.abs(real_components(stored, steps) - components) <= 0.5001 * steps[:, None]).all()
    arrays = {"lag_mean": MEAN, "lag_components": stored, "lag_steps": steps}
    as_float = {"lag_mean": MEAN, "lag_components": real_components(stored, steps)}
    found, expected = (PrincipalRuntime(one)(WINDOWS, CONDITIONS)["reconstruction"] for one in (arrays, as_float))
    np.testing.assert_array_equal(found, expected)
