"""The numbers of a bundle in C: scalers, waves, views and terms, as `c/edge_vae_tables.h` declares them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge_vae.bundle import PCA_VIEW, Bundle, Manifest
from edge_vae.sample import FloatArray
from edge_vae.score import Term, view_of
from edge_vae.view import OUTPUTS, Rows, View
from edge_vae_converters.c_source import Definitions, number, text
from edge_vae_converters.flatbuffer import Graph

__all__ = ["latent_units", "tables"]


def tables(bundle: Bundle, graphs: Mapping[str, Graph]) -> Definitions:
    """Everything that edge_vae.c reads, as edge_vae_tables.h declares it."""
    c, manifest = Definitions(), bundle.manifest
    channels = ", ".join(text(name) for name in manifest.channel_names)
    c.add("const char *const edge_vae_channels[] = {", f"  {channels}", "};", "")
    _scalers(c, manifest)
    _waves(c, manifest)
    if any(view.name == PCA_VIEW for view in manifest.views):
        components, steps = bundle.reference["lag_components"], bundle.reference.get("lag_steps")
        c.array("float", "edge_vae_lag_mean", bundle.reference["lag_mean"])
        if steps is None:
            c.array("uint16_t", "edge_vae_lag_components", components.astype(np.float16).view(np.uint16))
        else:
            c.array("int8_t", "edge_vae_lag_components", components)
        c.array("float", "edge_vae_lag_steps", np.ones(len(components)) if steps is None else steps)
    views = [_view(c, manifest, view, graphs) for view in manifest.views]
    no_view = "  {EDGE_VAE_OF_WINDOW, 0, -1, 0, {0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0}, 0, 0, 0, 1},"
    c.add("const edge_vae_view edge_vae_views[] = {", *(views or [no_view]), "};", "")
    terms = [_term(c, i, term, [view.name for view in manifest.views]) for i, term in enumerate(manifest.score)]
    c.add("const edge_vae_term edge_vae_terms[] = {", *terms, "};")
    return c


def _scalers(c: Definitions, manifest: Manifest) -> None:
    modes, own = manifest.modes, manifest.scaler
    c.array("double", "edge_vae_centre", modes.centre if modes else own.centre)
    c.array("double", "edge_vae_scale", modes.scale if modes else own.scale)
    c.array("float", "edge_vae_conditions", modes.conditions if modes else ())
    c.array("float", "edge_vae_modes", modes.values if modes else ())


def _waves(c: Definitions, manifest: Manifest) -> None:
    """What a spectrum is made with, where features are looked at."""
    if not any(view.input == "features" for view in manifest.views):
        return
    turn = 2 * np.pi * np.arange(manifest.window.length) / manifest.window.length
    c.array("float", "edge_vae_hann", np.hanning(manifest.window.length))
    c.array("float", "edge_vae_cosine", np.cos(turn))
    c.array("float", "edge_vae_sine", np.sin(turn))


def _view(c: Definitions, manifest: Manifest, view: View, graphs: Mapping[str, Graph]) -> str:
    """Define the tables of a view; its row in the table of views."""
    kind = "EDGE_VAE_OF_FEATURES" if view.input == "features" else "EDGE_VAE_OF_WINDOW"
    kind = "EDGE_VAE_OF_LAG_VECTORS" if view.lag else kind
    centre, scale = (_by_mode(table, view, manifest) for table in (view.centre, view.scale))
    tables = [
        c.array("float", f"{view.name}_{name}", rows, qualifier="static const ") if len(rows) else "0"
        for name, rows in (("centre", centre), ("scale", scale), ("variance", np.array(view.variance)))
    ]
    graph = graphs.get(view.name)
    tensors = _quantized(view, graph) if graph else ["{0, 0}"] * 5
    model = list(graphs).index(view.name) if graph else -1
    steps = f"EDGE_VAE_{'FEATURE_ROWS' if view.input == 'features' else 'LENGTH'}"
    fields = [kind, steps, str(model), str(latent_units(view, graphs)), *tensors, *tables, str(len(view.variance))]
    return f"  {{{', '.join(fields)}}},"


def _by_mode(table: Rows, view: View, manifest: Manifest) -> FloatArray:
    """The rows (modes, steps, channels) of a view's table, in the order of the manifest's modes."""
    if not table:
        return np.empty(0)
    own = np.array(table).reshape(max(1, len(view.conditions)), -1, len(manifest.channels))
    if manifest.modes is None:
        return own
    known = manifest.modes.conditions
    which = (known @ np.array(view.conditions).T).argmax(axis=1) if view.conditions else np.zeros(len(known), np.intp)
    return np.asarray(own[which])


def _quantized(view: View, graph: Graph) -> list[str]:
    """Step and zero point of the window, the condition and the outputs of a model."""
    outputs = view.model.outputs if view.model else {}
    condition = graph.inputs[graph.condition] if graph.condition is not None else None
    numbers = [graph.inputs[graph.window], condition, *(graph.outputs[graph.output(outputs[o])] for o in OUTPUTS)]
    found = [(0.0, 0) if i is None else (graph.tensors[i].step, graph.tensors[i].zero_point) for i in numbers]
    return [f"{{{number(step, 'float')}, {zero_point}}}" for step, zero_point in found]


def _term(c: Definitions, i: int, term: Term, views: list[str]) -> str:
    """Define the tables of a term; its row in the table of terms."""
    view = view_of(term.name)
    statistic = "z" if view is None else term.name.partition(".")[2] or "mse"
    centre, precision = (
        c.array("float", f"term_{i}_{name}", rows, qualifier="static const ") if rows else "0"
        for name, rows in (("centre", term.centre), ("precision", term.precision))
    )
    tail = f"{number(term.tail.median, 'double')}, {number(term.tail.scale, 'double')}"
    place = -1 if view is None else views.index(view)
    return f"  {{EDGE_VAE_{statistic.upper()}, {place}, {tail}, {centre}, {precision}}}, /* {term.name} */"


def latent_units(view: View, graphs: Mapping[str, Graph]) -> int:
    """Units of the posterior of a view's model; 0 without one."""
    if view.model is None or view.name not in graphs:
        return 0
    graph = graphs[view.name]
    return graph.tensors[graph.outputs[graph.output(view.model.outputs["posterior_mean"])]].shape[1]
