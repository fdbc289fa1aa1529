"""Which output of somebody's autoencoder is what, by shape and name, whatever their order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vae.errors import ModelError

__all__ = ["Roles", "recognise"]

_RECONSTRUCTION = re.compile(r"recon|decod|x_?hat|output|pred", re.IGNORECASE)
_NOT_THE_MEAN = re.compile(r"var|sigma|std|scale", re.IGNORECASE)
_MEAN = re.compile(r"(^|[^a-z])(mu|loc)([^a-z]|$)|mean", re.IGNORECASE)
_LOG_VARIANCE = re.compile(r"log_?(var|sigma_?(2|sq))", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Roles:
    """Places of the outputs: the reconstruction, and of a VAE the posterior's mean and log variance.

    Attributes:
        reconstruction: Place of the reconstruction.
        posterior: Places of mean and log variance; None where there are none.
        told: How they were recognised, for people.
    """

    reconstruction: int
    posterior: tuple[int, int] | None
    told: str


def recognise(
    name: str, names: Sequence[str], outputs: Sequence[NDArray[np.float32]], *, length: int, channels: int
) -> Roles:
    """What each output is.

    Args:
        name: What the model is called in messages.
        names: Name of each output; empty or a number where it has none.
        outputs: What each gave for a few windows, (windows, ...), without noise: a sampled latent is then its mean.
        length: Samples in a window.
        channels: Channels in a window.

    Raises:
        ModelError: No output is a reconstruction, or several could be.
    """
    shapes = [output.shape[1:] for output in outputs]
    whole = [i for i, shape in enumerate(shapes) if is_window(shape, length, channels)]
    found = whole if len(whole) == 1 else [i for i in whole if _RECONSTRUCTION.search(names[i])]
    if len(found) != 1:
        listed = ", ".join(f"{_called(names, i)} {shape}" for i, shape in enumerate(shapes))
        what = f"{name}: which output is the reconstruction?"
        raise ModelError(
            what,
            expected=f"one output of shape {(length, channels)} or {(length * channels,)}, or one of them named so",
            received=listed,
            action="Save a model of that output alone: keras.Model(model.inputs, model.outputs[i]).",
        )
    posterior, how = _posterior(names, outputs, other=found[0])
    told = [] if len(outputs) == 1 else [f"{_called(names, found[0])} is the reconstruction"]
    return Roles(found[0], posterior, "; ".join([*told, *how]))


def is_window(shape: Sequence[int], length: int, channels: int) -> bool:
    """Whether a shape is that of a window, or of a flattened one; axes of length 1 do not count."""
    own = [n for n in shape if n != 1]
    return own in ([n for n in (length, channels) if n != 1], [length * channels])


def _called(names: Sequence[str], i: int) -> str:
    return f"output {i}" if names[i] in ("", str(i)) else f"output {names[i]!r}"


def _posterior(
    names: Sequence[str], outputs: Sequence[NDArray[np.float32]], *, other: int
) -> tuple[tuple[int, int] | None, list[str]]:
    vectors: list[int] = []
    for i, output in enumerate(outputs):
        # A sampled latent without its noise is the mean, once more.
        again = any(np.array_equal(output, outputs[j]) for j in vectors)
        if i != other and output.ndim == 2 and not again:
            vectors.append(i)
    means = [i for i in vectors if _MEAN.search(names[i]) and not _NOT_THE_MEAN.search(names[i])]
    variances = [i for i in vectors if _LOG_VARIANCE.search(names[i])]
    if len(means) == len(variances) == 1:
        pair, why = (means[0], variances[0]), "by their names"
    elif len(vectors) == 2 and not (means or variances or any(_NOT_THE_MEAN.search(names[i]) for i in vectors)):
        pair, why = (vectors[0], vectors[1]), "by their order"
    else:
        return None, []
    if outputs[pair[0]].shape != outputs[pair[1]].shape:
        return None, []
    first, second = (_called(names, i) for i in pair)
    return pair, [f"{first} and {second} are the posterior's mean and log variance, {why}"]
