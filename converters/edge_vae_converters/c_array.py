"""A bundle to C99 for a microcontroller: models, numbers, the rules that score, golden windows and a self-test.

The rules stand in `c/` as they are, the same for every bundle; what is made here are the numbers that they read.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

import numpy as np

from edge_vae.bundle import PCA_VIEW, Bundle, Manifest
from edge_vae.errors import GateError
from edge_vae.features import MAX_BANDS, feature_names
from edge_vae.score import Term, view_of
from edge_vae.view import OUTPUTS, View
from edge_vae_converters.c_golden import define, golden
from edge_vae_converters.c_source import Definitions, number, text
from edge_vae_converters.flatbuffer import Graph, read
from edge_vae_converters.microcontroller import OPERATORS, arena_bytes, expect_runnable, scratch_bytes

__all__ = ["c_array"]

MOST_DELAY = 32
"""Windows that the alarm in C remembers: bits of a word."""

_ALIGNMENT = 16
"""Of a flatbuffer and of an arena: what TensorFlow Lite Micro asks for."""
_STATE_WORDS = 8
"""32-bit words of a machine's state beside its arrays."""


def c_array(bundle: Bundle) -> dict[str, bytes]:
    """Files of a firmware project that scores as the bundle does, by name; equal for equal bundles.

    Raises:
        GateError: A microcontroller cannot run the bundle: a model of another precision or with other operators than
            TensorFlow Lite Micro has, or an alarm that remembers too much.
    """
    manifest = bundle.manifest
    for view in manifest.views:
        expect_runnable(view)
    _expect_short_delays(manifest)
    _expect_modes_of_floats(manifest)
    graphs = {name: read(model) for name, model in bundle.models.items()}
    found = golden(bundle)
    flatbuffers, tables = _flatbuffers(bundle, graphs), _tables(bundle, graphs)
    head = [f"/* Made by edge-vae from the bundle {_said(manifest.name)}, sha256", f" * {bundle.sha256}. */"]
    files = {name.name: name.read_bytes() for name in resources.files(__package__).joinpath("c").iterdir()}
    files |= {
        "edge_vae_model.h": _header(bundle, graphs, len(found.score)).file(head),
        "edge_vae_model.c": tables.file([*head, '#include "edge_vae.h"', '#include "edge_vae_tables.h"', ""]),
        "edge_vae_flatbuffers.c": flatbuffers.file([*head, '#include "edge_vae_model.h"', ""]),
        "edge_vae_golden.c": define(bundle, found, graphs).file([*head, '#include "edge_vae_golden.h"', ""]),
        "MEMORY.txt": _memory(bundle, tables.size_bytes).encode(),
    }
    return dict(sorted(files.items()))


def _expect_short_delays(manifest: Manifest) -> None:
    longest = max(manifest.alarm.on_delay[1], manifest.alarm.off_delay[1])
    if longest > MOST_DELAY:
        raise GateError(
            "the alarm remembers more windows than a microcontroller's does",
            expected=f"delays of at most {MOST_DELAY} windows",
            received=str(longest),
            action="Train again with a shorter on_delay and off_delay.",
        )


def _expect_modes_of_floats(manifest: Manifest) -> None:
    if manifest.modes is None:
        return
    values = np.array(manifest.modes.values)
    with np.errstate(over="ignore"):
        held = np.unique(values.astype(np.float32), axis=0)
    if len(held) < len(values):
        raise GateError(
            "operating modes that a microcontroller cannot tell apart",
            expected=f"values of {', '.join(manifest.modes.columns)} that differ as float32",
            received=f"{len(values)} modes that are {len(held)}",
            action="Number the modes from 0, and train again.",
        )


# The header


def _header(bundle: Bundle, graphs: Mapping[str, Graph], count: int) -> Definitions:
    """Sizes, limits and declarations."""
    c = Definitions()
    c.add("#ifndef EDGE_VAE_MODEL_H", "#define EDGE_VAE_MODEL_H", "", "#include <stdint.h>", "")
    for name, value in (_sizes(bundle, graphs, count) | _limits(bundle.manifest)).items():
        c.add(f"#define EDGE_VAE_{name} {value}")
    c.add("", *_numbered(bundle, graphs), *_operators(bundle), *_DECLARATIONS)
    return c


def _sizes(bundle: Bundle, graphs: Mapping[str, Graph], count: int) -> dict[str, int]:
    manifest = bundle.manifest
    channels, length, modes = len(manifest.channels), manifest.window.length, manifest.modes
    features = len(feature_names(length)) if any(view.input == "features" for view in manifest.views) else 0
    lag = next((view.lag for view in manifest.views if view.name == PCA_VIEW), 0)
    latents = [_latent(view, graphs) for view in manifest.views]
    return {
        "CHANNELS": channels,
        "LENGTH": length,
        "STRIDE": manifest.window.stride,
        "BASELINE": manifest.baseline,
        "BASELINE_CELLS": max(1, manifest.baseline * channels),
        "MODES": len(modes.values) if modes else 1,
        "MODE_COLUMNS": len(modes.columns) if modes else 0,
        "CONDITIONS": manifest.conditions,
        "MODELS": len(graphs),
        "VIEWS": len(manifest.views),
        "TERMS": len(manifest.score),
        "FEATURE_ROWS": features,
        "FEATURE_CELLS": max(1, features * channels),
        "BANDS": min(MAX_BANDS, length // 2),
        "LAG": lag,
        "COMPONENTS": len(bundle.reference["lag_components"]) if lag else 0,
        "WORK_CELLS": max(1, length if features else 0, lag * channels),
        "MOST_LATENT": max([1, *latents]),
        "GOLDEN": count,
        "GOLDEN_MODELS": max(1, len(graphs)),
    }


def _limits(manifest: Manifest) -> dict[str, str]:
    alarm, threshold = manifest.alarm, manifest.threshold.value
    return {
        "NAME": text(manifest.name),
        "RATE_HZ": number(manifest.rate_hz, "float"),
        "CLIP": number(manifest.clip, "float"),
        "THRESHOLD": number(threshold, "float"),
        "CLEAR_BELOW": number(threshold * (1 - alarm.deadband), "float"),
        "ON_K": str(alarm.on_delay[0]),
        "ON_N": str(alarm.on_delay[1]),
        "OFF_K": str(alarm.off_delay[0]),
        "OFF_N": str(alarm.off_delay[1]),
    }


def _numbered(bundle: Bundle, graphs: Mapping[str, Graph]) -> list[str]:
    """Numbers and arenas of the models, each under its view's name."""
    lines, total = [], 0
    for i, name in enumerate(graphs):
        model, macro = bundle.models[name], name.upper()
        arena, scratch = arena_bytes(model), scratch_bytes(model)
        total += _arena(model)
        lines += [
            f"#define EDGE_VAE_MODEL_{macro} {i}",
            f"#define EDGE_VAE_{macro}_IS_INT8 {int(_is_int8(graphs[name]))}",
            f"#define EDGE_VAE_{macro}_ARENA_BYTES ({arena} + {scratch}) /* and what CMSIS-NN wants on top */",
        ]
    return [*lines, f"#define EDGE_VAE_ARENA_BYTES {max(total, _ALIGNMENT)} /* all models, each in its own part */", ""]


def _operators(bundle: Bundle) -> list[str]:
    """What tells a MicroMutableOpResolver which operators to bring."""
    used = sorted({name for view in bundle.manifest.views if view.model for name in view.model.operators})
    calls = ", ".join(f"(resolver).{OPERATORS[name]}()" for name in used) or "(void)(resolver)"
    return [
        f"#define EDGE_VAE_OPERATORS {max(1, len(used))}",
        "#define EDGE_VAE_ADD_OPERATORS(resolver) \\",
        f"  ({calls})",
        "",
    ]


_DECLARATIONS = (
    "#ifdef __cplusplus",
    'extern "C" {',
    "#endif",
    "",
    "/* A model: its bytes, the arena it needs, and which input and output of the interpreter is what. */",
    "typedef struct {",
    "  const unsigned char *bytes;",
    "  uint32_t count;",
    "  uint32_t arena_bytes;",
    "  int32_t window, condition; /* inputs; -1: none */",
    "  int32_t reconstruction, posterior_mean, posterior_log_variance; /* outputs */",
    "} edge_vae_flatbuffer;",
    "",
    "extern const edge_vae_flatbuffer edge_vae_flatbuffers[];",
    "extern const char *const edge_vae_channels[]; /* names, in the order of a sample's readings */",
    "",
    "#ifdef __cplusplus",
    "}",
    "#endif",
    "",
    "#endif",
)


# The models


def _flatbuffers(bundle: Bundle, graphs: Mapping[str, Graph]) -> Definitions:
    c = Definitions()
    c.add(
        "#if defined(__GNUC__) || defined(__ICCARM__)",
        f"#define ALIGNED __attribute__((aligned({_ALIGNMENT})))",
        "#elif defined(_MSC_VER)",
        f"#define ALIGNED __declspec(align({_ALIGNMENT}))",
        "#else",
        f'#error "Define ALIGNED as what aligns an array to {_ALIGNMENT} bytes in this compiler."',
        "#endif",
        "",
    )
    rows = []
    for name, graph in graphs.items():
        model, outputs = bundle.models[name], _outputs(bundle, name)
        array = c.array(
            "unsigned char", f"model_{name}", np.frombuffer(model, np.uint8), qualifier="static ALIGNED const "
        )
        condition = -1 if graph.condition is None else graph.condition
        places = [graph.window, condition, *(graph.output(outputs[one]) for one in OUTPUTS)]
        rows.append(f"  {{{array}, {len(model)}u, {_arena(model)}u, {', '.join(map(str, places))}}},")
    empty = "  {0, 0u, 0u, -1, -1, -1, -1, -1},"
    c.add("const edge_vae_flatbuffer edge_vae_flatbuffers[] = {", *(rows or [empty]), "};")
    return c


def _arena(model: bytes) -> int:
    return -(-(arena_bytes(model) + scratch_bytes(model)) // _ALIGNMENT) * _ALIGNMENT


def _outputs(bundle: Bundle, view: str) -> dict[str, str]:
    return next(one.model.outputs for one in bundle.manifest.views if one.name == view and one.model)


# The numbers


def _tables(bundle: Bundle, graphs: Mapping[str, Graph]) -> Definitions:
    """Everything that edge_vae.c reads, as edge_vae_tables.h declares it."""
    c, manifest = Definitions(), bundle.manifest
    channels = ", ".join(text(name) for name in manifest.channel_names)
    c.add("const char *const edge_vae_channels[] = {", f"  {channels}", "};", "")
    _scalers(c, manifest)
    _waves(c, manifest)
    if any(view.name == PCA_VIEW for view in manifest.views):
        components = bundle.reference["lag_components"].astype(np.float16)
        c.array("float", "edge_vae_lag_mean", bundle.reference["lag_mean"])
        c.array("uint16_t", "edge_vae_lag_components", components.view(np.uint16))
    models = list(graphs)
    views = [_view(c, view, graphs, models) for view in manifest.views]
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


def _view(c: Definitions, view: View, graphs: Mapping[str, Graph], models: list[str]) -> str:
    """Define the tables of a view; its row in the table of views."""
    kind = "EDGE_VAE_OF_FEATURES" if view.input == "features" else "EDGE_VAE_OF_WINDOW"
    kind = "EDGE_VAE_OF_LAG_VECTORS" if view.lag else kind
    tables = [
        c.array("float", f"{view.name}_{name}", rows, qualifier="static const ") if rows else "0"
        for name, rows in (("centre", view.centre), ("scale", view.scale), ("variance", view.variance))
    ]
    graph = graphs.get(view.name)
    tensors = _quantized(view, graph) if graph else ["{0, 0}"] * 5
    model = models.index(view.name) if graph else -1
    steps = f"EDGE_VAE_{'FEATURE_ROWS' if view.input == 'features' else 'LENGTH'}"
    fields = [kind, steps, str(model), str(_latent(view, graphs)), *tensors, *tables, str(len(view.variance))]
    return f"  {{{', '.join(fields)}}},"


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


def _latent(view: View, graphs: Mapping[str, Graph]) -> int:
    if view.model is None or view.name not in graphs:
        return 0
    graph = graphs[view.name]
    return graph.tensors[graph.outputs[graph.output(view.model.outputs["posterior_mean"])]].shape[1]


def _memory(bundle: Bundle, table_bytes: int) -> str:
    """Bytes of flash and RAM, in words."""
    sizes = _sizes(bundle, {name: read(model) for name, model in bundle.models.items()}, 0)
    cells = sizes["LENGTH"] * sizes["CHANNELS"] + sizes["FEATURE_CELLS"] + sizes["WORK_CELLS"]
    state = 4 * (cells + sizes["BASELINE_CELLS"] + _STATE_WORDS) + 16 * sizes["CHANNELS"]
    models = {name: (len(model), arena_bytes(model), scratch_bytes(model)) for name, model in bundle.models.items()}
    lines = [
        f"{'flash: numbers':<44}{table_bytes:>9} bytes",
        *(f"{f'flash: model {name}':<44}{size:>9} bytes" for name, (size, _, _) in models.items()),
        f"{'RAM: state of each machine':<44}{state:>9} bytes",
    ]
    for name, (_, arena, scratch) in models.items():
        lines.append(f"{f'RAM: arena {name}, TensorFlow Lite Micro':<44}{arena:>9} bytes")
        lines.append(f"{f'RAM: arena {name}, CMSIS-NN on top':<44}{scratch:>9} bytes")
    return "\n".join(
        [*lines, "Code, stack and the interpreter come on top: see docs/microcontroller.md of edge-vae.", ""]
    )


def _said(name: str) -> str:
    """A name as a C comment can hold it."""
    return text(name).replace("*/", "* /")


def _is_int8(graph: Graph) -> bool:
    return graph.tensors[graph.inputs[graph.window]].kind == "INT8"
