"""Golden windows for a microcontroller: in sensor units, with what its models are given and give, and the scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import Bundle
from edge_vae.detector import load
from edge_vae.runtime import TFLiteRuntime
from edge_vae.sample import FloatArray
from edge_vae.scale import Baseline, Scaler
from edge_vae.view import OUTPUTS, Model, View
from edge_vae_converters.c_source import Definitions
from edge_vae_converters.flatbuffer import Graph

__all__ = ["Golden", "define", "golden"]


@dataclass(frozen=True, slots=True)
class Golden:
    """Golden windows.

    Attributes:
        sensor: (windows, length, channels) in sensor units, as a device reads them: float32.
        modes: (windows,) number of the operating mode of each; 0 without modes.
        scaled: (windows, length, channels) the same by the scaler of their mode, unclipped.
        conditions: (windows, conditions) of their modes.
        score: (windows,) what is expected.
        shares: (windows, channels) each channel's part of it.
        baseline: The scaler that a session learns whose samples are those of all windows, over and over; the model's
            own where it learns none.
    """

    sensor: NDArray[np.float32]
    modes: NDArray[np.intp]
    scaled: FloatArray
    conditions: NDArray[np.float32]
    score: FloatArray
    shares: FloatArray
    baseline: Scaler


def golden(bundle: Bundle) -> Golden:
    """The bundle's golden windows, scored here as the device reads them."""
    manifest = bundle.manifest
    windows, conditions = bundle.golden["windows"].astype(np.float64), bundle.golden["conditions"]
    known = manifest.modes
    modes = (conditions @ known.conditions.T).argmax(axis=1) if known else np.zeros(len(windows), np.intp)
    scalers = [known.scaler(i) for i in range(len(known.values))] if known else [manifest.scaler]
    sensor = np.stack(
        [scalers[mode].inverse(window) for mode, window in zip(modes, windows, strict=True)],
        dtype=np.float32,
        casting="same_kind",
    )
    read = [scalers[mode](window.astype(np.float64)) for mode, window in zip(modes, sensor, strict=True)]
    scaled = np.stack(read)
    scores, _ = load(bundle, path=manifest.name)(scaled, conditions)
    return Golden(sensor, modes, scaled, conditions, scores.score, scores.shares, _baseline(bundle, sensor, scalers[0]))


def define(bundle: Bundle, found: Golden, graphs: Mapping[str, Graph]) -> Definitions:
    """All of it in C; `graphs` are the facts of each view's model, by its name."""
    c = Definitions()
    c.array("float", "edge_vae_golden_windows", found.sensor)
    c.array("int32_t", "edge_vae_golden_modes", found.modes)
    c.array("float", "edge_vae_golden_scores", found.score)
    c.array("float", "edge_vae_golden_shares", found.shares)
    c.array("double", "edge_vae_golden_centre", found.baseline.centre)
    c.array("double", "edge_vae_golden_scale", found.baseline.scale)
    models = [
        _define_model(c, bundle, view, view.model, found, graphs[view.name])
        for view in bundle.manifest.views
        if view.model
    ]
    nothing = "  {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},"
    c.add("const edge_vae_golden_model edge_vae_golden_models[] = {", *(models or [nothing]), "};")
    return c


def _baseline(bundle: Bundle, sensor: NDArray[np.float32], model: Scaler) -> Scaler:
    samples = bundle.manifest.baseline
    baseline = Baseline(samples=samples, model=model)
    rows = sensor.reshape(-1, sensor.shape[2]).astype(np.float64)
    baseline.push(rows[np.arange(samples) % len(rows)])
    return baseline.scaler or model


def _define_model(c: Definitions, bundle: Bundle, view: View, model: Model, found: Golden, graph: Graph) -> str:
    """Define what one model is given and gives, and memory for a run; its row in the table of models."""
    clip = bundle.manifest.clip
    given = np.clip(view.target(found.scaled, found.conditions), -clip, clip).astype(np.float32)
    made = TFLiteRuntime(bundle.models[view.name], outputs=model.outputs)(given, found.conditions)
    window = graph.tensors[graph.inputs[graph.window]]
    kind = "int8_t" if window.kind == "INT8" else "float"
    arrays = {"window": window.stored(given)}
    if graph.condition is not None:
        arrays["condition"] = graph.tensors[graph.inputs[graph.condition]].stored(found.conditions)
    for name in OUTPUTS:
        arrays[name] = graph.tensors[graph.outputs[graph.output(model.outputs[name])]].stored(made[name])
    latent, cells = arrays["posterior_mean"].shape[1], int(np.prod(given.shape[1:]))
    names = ["window", "condition", *OUTPUTS]
    memory = [
        c.zeros(kind, f"run_{view.name}_{name}", int(np.prod(arrays[name].shape[1:]))) if name in arrays else "0"
        for name in names
    ]
    tables = [
        c.array(kind, f"golden_{view.name}_{name}", arrays[name], qualifier="static const ") if name in arrays else "0"
        for name in names
    ]
    return f"  {{{int(kind == 'int8_t')}, {cells}, {latent}, {', '.join([*memory, *tables])}}},"
