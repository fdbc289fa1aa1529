"""What is known of Keras's layers on their way to int8: what crashes, and what costs the signal.

Measured on windows of 64 samples and 6 channels with one such layer between two convolutions, whose own int8 form keeps
36 dB (signal over quantization noise).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edge_vae.errors import ModelError

__all__ = ["expect_convertible", "notes"]

_LOSSY = {
    "selu": "loses the signal in int8 (5 dB of 36 are left): train with relu instead",
    "softplus": "loses the signal in int8 (6 dB of 36 are left): train with relu instead",
    "elu": "has no int8 form and leaves float operators inside: train with relu or leaky_relu instead",
    "LayerNormalization": "leaves float operators inside and loses the signal in int8 (10 dB of 36 are left): train "
    "with BatchNormalization right after a convolution instead",
}
"""By name of an activation or class of a layer."""


def expect_convertible(name: str, model: Any, precision: str) -> None:
    """Raise ModelError where the conversion would take the process with it.

    Args:
        name: What the model is called in messages.
        model: A Keras model.
        precision: What it is to compute in.
    """
    import keras

    if precision == "float32":
        return
    for layer in _layers(model):
        if isinstance(layer, keras.layers.RNN):
            what = f"{name}: layer {layer.name!r} is recurrent, and its {precision} form crashes TFLite"
            raise ModelError(
                what,
                expected="layers without a loop",
                received=type(layer).__name__,
                action="Give --precision float32, or train with Conv1D layers instead.",
            )


def notes(model: Any) -> list[str]:
    """A line for each kind of layer whose int8 form is known to be bad: the gate will say whether it matters here."""
    found: dict[str, list[str]] = {}
    for layer in _layers(model):
        for word in (_activation(layer), type(layer).__name__):
            if word in _LOSSY:
                found.setdefault(word, []).append(repr(layer.name))
    return [f"{word} {_LOSSY[word]} (layers {', '.join(layers)})" for word, layers in found.items()]


def _layers(model: Any) -> Iterator[Any]:
    """Every layer, those inside of wrappers and of the author's own classes too."""
    yield from model._flatten_layers()  # noqa: SLF001 (no public way)


def _activation(layer: Any) -> str:
    """Name of a layer's activation; empty without one."""
    if type(layer).__name__ == "ELU":
        return "elu"
    return str(getattr(getattr(layer, "activation", None), "__name__", ""))
