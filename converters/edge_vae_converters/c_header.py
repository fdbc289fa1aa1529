"""The header of a bundle in C: sizes, limits, and what an interpreter must bring."""

from __future__ import annotations

from collections.abc import Mapping

from edge_vae.bundle import PCA_VIEW, Bundle, Manifest
from edge_vae.features import MAX_BANDS, feature_names
from edge_vae_converters.c_source import Definitions, number, text
from edge_vae_converters.c_tables import latent_units
from edge_vae_converters.flatbuffer import Graph
from edge_vae_converters.microcontroller import OPERATORS, arena_bytes, scratch_bytes

__all__ = ["ALIGNMENT", "arena_part", "header", "sizes"]

ALIGNMENT = 16
"""Of a flatbuffer and of an arena: what TensorFlow Lite Micro asks for."""


def header(bundle: Bundle, graphs: Mapping[str, Graph], count: int) -> Definitions:
    """Sizes, limits and declarations."""
    c = Definitions()
    c.add("#ifndef EDGE_VAE_MODEL_H", "#define EDGE_VAE_MODEL_H", "", "#include <stdint.h>", "")
    for name, value in (sizes(bundle, graphs, count) | _limits(bundle.manifest)).items():
        c.add(f"#define EDGE_VAE_{name} {value}")
    c.add("", *_numbered(bundle, graphs), *_operators(bundle), "#endif")
    return c


def sizes(bundle: Bundle, graphs: Mapping[str, Graph], count: int) -> dict[str, int]:
    """Lengths of everything, with `count` golden windows; names without their EDGE_VAE_ prefix."""
    manifest = bundle.manifest
    channels, length, modes = len(manifest.channels), manifest.window.length, manifest.modes
    features = len(feature_names(length)) if any(view.input == "features" for view in manifest.views) else 0
    lag = next((view.lag for view in manifest.views if view.name == PCA_VIEW), 0)
    latents = [latent_units(view, graphs) for view in manifest.views]
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
        "COMPONENTS_IN_INT8": int("lag_steps" in bundle.reference),
        "WORK_CELLS": max(1, length if features else 0, lag * channels),
        "MOST_LATENT": max([1, *latents]),
        "GOLDEN": count,
        "GOLDEN_MODELS": max(1, len(graphs)),
    }


def arena_part(model: bytes) -> int:
    """Bytes of a model's part of the arena, of which the next one begins aligned."""
    return -(-(arena_bytes(model) + scratch_bytes(model)) // ALIGNMENT) * ALIGNMENT


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
        total += arena_part(model)
        lines += [
            f"#define EDGE_VAE_MODEL_{macro} {i}",
            f"#define EDGE_VAE_{macro}_IS_INT8 {int(graphs[name].is_int8)}",
            f"#define EDGE_VAE_{macro}_ARENA_BYTES ({arena} + {scratch}) /* and what CMSIS-NN wants on top */",
        ]
    return [*lines, f"#define EDGE_VAE_ARENA_BYTES {max(total, ALIGNMENT)} /* all models, each in its own part */", ""]


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
