"""A bundle with one graph in place of its models, where that scores as they do."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from edge_vae.bundle import GRAPH, Bundle, ParityRow
from edge_vae.detector import CompiledDetector
from edge_vae.errors import InferenceError
from edge_vae.graph import ScoringGraph
from edge_vae.sample import FloatArray
from edge_vae_converters.one_graph import one_graph
from edge_vae_converters.tflite import Converted
from edge_vae_train.interrupt import answer
from edge_vae_train.prepare import WindowSet

__all__ = ["MAX_DIFFERENCE", "compiled"]

MAX_DIFFERENCE = 0.005
"""Part of a score, or of the threshold where that is higher, by which the graph may differ. Single precision and other
ties in the rounding to int8 make 1e-5."""

_LAG_ARRAYS = ("lag_mean", "lag_components", "lag_steps")


def compiled(
    parts: Bundle, models: Mapping[str, Converted], *, windows: WindowSet, expected: FloatArray
) -> tuple[Bundle, tuple[str, ...]]:
    """The bundle with one graph, or the given one and a line that says why.

    Args:
        parts: A bundle with a model for each view.
        models: Its models.
        windows: Normal and faulty windows, scaled and unclipped.
        expected: Their scores (windows,) by the parts.
    """
    answer()
    try:
        model, graph = one_graph(parts.manifest, models, parts.reference)
    except ValueError as error:
        return parts, (f"no single graph: {error}",)
    terms = tuple(msgspec.structs.replace(term, centre=(), precision=()) for term in parts.manifest.score)
    manifest = msgspec.structs.replace(parts.manifest, graph=graph, score=terms)
    try:
        running = ScoringGraph(model, graph, terms=len(manifest.score), channels=len(manifest.channels))
    except InferenceError as error:
        return parts, (f"no single graph: {error}",)
    received = CompiledDetector(manifest, running)(windows.windows.astype(np.float64), windows.conditions)[0].score
    difference = float(np.max(np.abs(received - expected) / np.maximum(expected, manifest.threshold.value)))
    if not difference <= MAX_DIFFERENCE:
        return parts, (f"no single graph: its scores differ by {difference:.2%} where {MAX_DIFFERENCE:.1%} is allowed",)
    row = ParityRow("one graph: largest difference of a score", difference, f"<= {MAX_DIFFERENCE:g}", passed=True)
    manifest = msgspec.structs.replace(manifest, parity=(*manifest.parity, row))
    reference = {name: array for name, array in parts.reference.items() if name not in _LAG_ARRAYS}
    return Bundle(manifest, {GRAPH: model}, parts.golden, reference), ()
