"""Which output is what: by shape, by name, and refused where neither tells."""

from __future__ import annotations

import numpy as np
import pytest

from edge_vae.errors import ModelError
from edge_vae_converters.roles import is_window, recognise

GENERATOR = np.random.default_rng(1)


def outputs(*shapes: tuple[int, ...]) -> list[np.typing.NDArray[np.float32]]:
    return [GENERATOR.normal(size=(5, *shape)).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((16, 3), True), ((48,), True), ((16, 3, 1), True), ((1, 16, 3), True), ((3, 16), False), ((16, 1), False),
        ((16,), False), ((8, 6), False), ((), False),
    ],
)  # fmt: skip
def test_a_window_is_told_by_its_shape(shape: tuple[int, ...], expected: bool) -> None:
    assert is_window(shape, 16, 3) is expected


def test_one_channel_may_have_no_axis() -> None:
    assert is_window((16,), 16, 1)
    assert is_window((16, 1), 16, 1)


@pytest.mark.parametrize(
    ("names", "shapes", "reconstruction", "posterior"),
    [
        (("",), [(16, 3)], 0, None),
        (("0", "1", "2"), [(16, 3), (4,), (4,)], 0, (1, 2)),
        (("z_log_var", "decoded", "z_mean"), [(4,), (48,), (4,)], 1, (2, 0)),
        (("mu", "logvar", "x"), [(4,), (4,), (16, 3)], 2, (0, 1)),
        (("reconstruction", "x_log_variance"), [(16, 3), (16, 3)], 0, None),
        (("x_hat", "latent"), [(16, 3), (4,)], 0, None),
        (("x_hat", "mu", "sigma"), [(16, 3), (4,), (4,)], 0, None),
        (("out", "a", "b", "c"), [(16, 3), (4,), (4,), (4,)], 0, None),
        (("out", "mean", "log_var"), [(16, 3), (4,), (5,)], 0, None),
    ],
)
def test_outputs_are_recognised_in_any_order(
    names: tuple[str, ...],
    shapes: list[tuple[int, ...]],
    reconstruction: int,
    posterior: tuple[int, int] | None,
) -> None:
    found = recognise("theirs", names, outputs(*shapes), length=16, channels=3)
    assert (found.reconstruction, found.posterior) == (reconstruction, posterior)


def test_a_sampled_latent_without_its_noise_is_the_mean_once_more() -> None:
    given = outputs((4,), (4,), (16, 3))
    found = recognise("theirs", ("0", "1", "2", "3"), [*given, given[0]], length=16, channels=3)
    assert found.posterior == (0, 1)
    assert found.told == (
        "output 2 is the reconstruction; "
        "output 0 and output 1 are the posterior's mean and log variance, by their order"
    )


@pytest.mark.parametrize(
    ("names", "shapes"), [(("a", "b"), [(16, 3), (48,)]), (("forecast",), [(1, 3)]), (("a",), [(16, 4)])]
)
def test_what_neither_shape_nor_name_tells_is_refused_with_every_output(
    names: tuple[str, ...], shapes: list[tuple[int, ...]]
) -> None:
    with pytest.raises(ModelError, match=r"theirs: which output is the reconstruction.*\(16, 3\) or \(48,\)") as caught:
        recognise("theirs", names, outputs(*shapes), length=16, channels=3)
    assert all(f"output {name!r} {shape}" in str(caught.value) for name, shape in zip(names, shapes, strict=True))
