"""Somebody's Keras autoencoder to a scoring graph: standardised windows in, reconstruction and latent out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from edge_vae.errors import ModelError
from edge_vae.sample import FloatArray
from edge_vae_converters.foreign import WINDOW, expect_terms, foreign_run, prepared, raw_rows, tried_windows
from edge_vae_converters.known_layers import notes as layer_notes
from edge_vae_converters.noiseless import Noiseless, noiseless
from edge_vae_converters.own_scaling import IN_SIGMAS, SCALINGS, Affine, errors_by_scaling, fitted, judge_scaling
from edge_vae_converters.roles import Roles, is_window, recognise
from edge_vae_train.data import Recording
from edge_vae_train.keras_runtime import KerasRuntime
from edge_vae_train.run_folder import Run
from edge_vae_train.settings import Settings

__all__ = ["run_of", "window_length"]


def window_length(name: str, model: Any, *, channels: int, given: int | None) -> int:
    """Samples in a window: what the user says, else what the model's input says.

    Raises:
        ModelError: Neither says it, or they disagree.
    """
    shape = _input_shape(name, model)
    if given is None:
        given = _own_length(shape, channels)
        if given is None:
            what = f"{name}: the length of a window"
            raise ModelError(
                what,
                expected="--window N, or a model whose input says it",
                received=f"an input of shape {shape}, without the batch, and data of {channels} channels",
                action="Give --window N.",
            )
    if shape is not None and _fitting(shape, given, channels) is None:
        what = f"{name}: another window than that of the data"
        raise ModelError(
            what,
            expected=f"an input of shape {(given, channels)} or {(given * channels,)} without the batch",
            received=f"{shape}",
            action="Give the model's --window, and with --channels the channels that it was trained on, in its order.",
        )
    return given


def run_of(
    name: str,
    model: Any,
    recording: Recording,
    settings: Settings,
    *,
    scaling: str | None,
    folder: Path,
) -> Run:
    """The run of a Keras model and normal data.

    Args:
        name: What the model is called in messages.
        model: A Keras model.
        recording: Normal data.
        settings: Window, columns and the terms of the score.
        scaling: One of `SCALINGS`; None: `standard`, unless another one is plainly right, which is an error.
        folder: A folder that conversion may write to.

    Raises:
        ModelError: The model does not run on such windows, or its outputs or scaling are not understood.
        TrainingError: There is too little normal data.
    """
    given = prepared(recording, settings)
    length, channels = given.training.windows.shape[1:]
    shape = _fitting(_input_shape(name, model), length, channels)
    still, own = _traced(model, [shape] if shape is not None else [(length, channels), (length * channels,)])
    chosen = scaling or SCALINGS[0]
    scalings = fitted(raw_rows(given), given.scaler, chosen=chosen)
    tried = tried_windows(given)
    outputs = _outputs(still, own, scalings[chosen].own(tried.astype(np.float64)))
    roles = recognise(name, still.names, outputs, length=length, channels=channels)
    expect_terms(settings.terms(channels), latent=roles.posterior is not None)
    errors = errors_by_scaling(
        lambda x: _outputs(still, own, x)[roles.reconstruction].astype(np.float64).reshape(x.shape), tried, scalings
    )
    notes = [
        *layer_notes(model),
        *(f"{drawing} draws random numbers: their mean takes their place" for drawing in still.drawing),
        *([roles.told] if roles.told else []),
        *filter(None, [judge_scaling(name, errors, chosen, explicit=scaling is not None), scalings[chosen].warning]),
    ]
    graph = _scoring_graph(still, own, roles, None if chosen in IN_SIGMAS else scalings[chosen], (length, channels))
    return foreign_run(
        recording,
        settings,
        given,
        runtime=KerasRuntime(graph),
        graphs={WINDOW: graph},
        notes=notes,
        folder=folder,
    )


def _input_shape(name: str, model: Any) -> tuple[int | None, ...] | None:
    """What the model says of its input, without the batch; None where it says nothing."""
    try:
        shape = model.input_shape
    except (AttributeError, ValueError):  # a subclass has none, or was never called
        shape = (model.get_build_config() or {}).get("input_shape")
    if shape is None:
        return None
    if isinstance(shape, Mapping) or not all(n is None or isinstance(n, int) for n in shape):
        what = f"{name}: more than one input"
        raise ModelError(
            what,
            expected="a model of one input, the window",
            received=f"inputs of the shapes {shape}",
            action="Save a model of the window alone.",
        )
    if getattr(model, "inputs", None) and shape[0] is not None:
        what = f"{name}: a fixed number of windows"
        raise ModelError(
            what,
            expected="a model that takes any number of windows at once",
            received=f"one for batches of {shape[0]}",
            action="Build the model without batch_size, give it the weights with set_weights, and save that.",
        )
    return tuple(shape[1:])


def _own_length(shape: tuple[int | None, ...] | None, channels: int) -> int | None:
    """Samples in a window, where the input says it: 512 numbers can be 64 samples of 8 channels or 256 of 2."""
    known = [n for n in shape or () if n != 1]
    return known[0] if known and (len(known) > 1 or channels == 1) else None


def _fitting(shape: tuple[int | None, ...] | None, length: int, channels: int) -> tuple[int, ...] | None:
    """The shape with its unknown axes filled in; None where it is none of a window."""
    if shape is None:
        return None
    whole = [length * channels] if len(shape) == 1 else [length, channels, *[1] * len(shape)]
    filled = tuple(own if n is None else n for n, own in zip(shape, whole, strict=False))
    return filled if is_window(filled, length, channels) else None


def _traced(model: Any, shapes: list[tuple[int, ...]]) -> tuple[Noiseless, tuple[int, ...]]:
    """The model on inputs of the first of these shapes that it runs on."""
    first, *others = shapes
    try:
        return noiseless(model, first), first
    except ModelError:
        if not others:
            raise
    return _traced(model, others)


def _outputs(still: Noiseless, own: tuple[int, ...], windows: FloatArray) -> list[NDArray[np.float32]]:
    """What the model makes of windows in its own scaling, (windows, ...) each."""
    given = windows.astype(np.float32).reshape(len(windows), *own)
    return [np.asarray(output) for output in still.layer(given)]


def _scoring_graph(
    still: Noiseless, own: tuple[int, ...], roles: Roles, scaling: Affine | None, window_shape: tuple[int, int]
) -> Any:
    """A graph of the form that `edge_vae_train.models.scoring_graph` describes; without a latent, its first output."""
    window = layers.Input(window_shape, name="window")
    given = window if scaling is None else _by_channel(window, scaling.gain, scaling.shift, "own_scaling")
    given = given if own == window_shape else layers.Reshape(own, name="own_shape")(given)
    outputs = still.layer(given)
    found = outputs[roles.reconstruction]
    found = found if found.shape[1:] == window_shape else layers.Reshape(window_shape, name="window_shape")(found)
    if scaling is not None:
        found = _by_channel(found, 1.0 / scaling.gain, -scaling.shift / scaling.gain, "sigmas")
    named = {"reconstruction": found}
    if roles.posterior is not None:
        mean, log_variance = roles.posterior
        named |= {"posterior_mean": outputs[mean], "posterior_log_variance": outputs[log_variance]}
    return keras.Model(window, named, name="scoring_graph")


def _by_channel(x: Any, gain: Any, shift: Any, name: str) -> Any:
    """Gain * x + shift for each channel, as a convolution of length 1: int8 then has a step for each channel's gain."""
    layer = layers.DepthwiseConv1D(1, name=name)
    y = layer(x)
    layer.set_weights([np.asarray(gain, np.float32)[None, :, None], np.asarray(shift, np.float32)])
    return y
