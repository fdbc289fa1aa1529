"""A bundle that scores: scaled windows to scores, and the check that this device scores as the workstation did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import GRAPH, PCA_VIEW, Bundle, Manifest
from edge_vae.errors import BundleError
from edge_vae.explain import Explained, explain
from edge_vae.features import feature_names
from edge_vae.graph import ScoringGraph
from edge_vae.principal import PrincipalRuntime
from edge_vae.runtime import Runtime, TFLiteRuntime
from edge_vae.sample import FloatArray
from edge_vae.score import Scores, fuse
from edge_vae.view import OUTPUTS, Model, Seen, View, see

__all__ = ["GOLDEN_TOLERANCE", "CompiledDetector", "Detector", "Explainer", "Scorer", "load"]

GOLDEN_TOLERANCE = 0.05
"""Part of the threshold by which a golden score may differ here. int8 kernels differ by up to five steps of 255, which
moves a score by about 0.4 % (measured between LiteRT, its built-in kernels and TensorFlow Lite Micro)."""


class Scorer(Protocol):
    """What turns scaled windows into scores."""

    manifest: Manifest

    def __call__(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> tuple[Scores, FloatArray]:
        """Scores of scaled, unclipped windows (windows, length, channels), and the mean of what was expected.

        `conditions` (windows, conditions) tells the operating mode. The expected mean is (windows, channels), scaled.
        """
        ...


class Explainer(Scorer, Protocol):
    """A scorer that can also say what made a window anomalous."""

    def see(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> Mapping[str, Seen]:
        """What each view makes of scaled windows."""
        ...

    def explain(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> Explained:
        """Each channel's part of what is anomalous in scaled windows, and the mean that was expected of it, scaled."""
        ...


class Detector:
    """Scores windows with the models and the score terms of its manifest, step by step.

    Args:
        manifest: How to scale, score and judge.
        runtimes: The running model of each view, by its name.
    """

    def __init__(self, manifest: Manifest, runtimes: Mapping[str, Runtime]) -> None:
        self.manifest = manifest
        self._runtimes = runtimes

    def see(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> dict[str, Seen]:
        """What each view makes of scaled windows."""
        manifest = self.manifest
        return see(manifest.views, self._runtimes, scaled, clip=manifest.clip, conditions=conditions)

    def __call__(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> tuple[Scores, FloatArray]:
        """Scores of scaled, unclipped windows (windows, length, channels), and the mean of what was expected."""
        seen = self.see(scaled, conditions)
        return fuse(self.manifest.score, scaled, seen), self._expected(seen, scaled, conditions)

    def explain(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> Explained:
        """What made scaled windows (windows, length, channels) anomalous, in the way that suits this model."""
        return explain(self, scaled, conditions, self.manifest.explanation)

    def _expected(self, seen: Mapping[str, Seen], scaled: FloatArray, conditions: NDArray[np.float32]) -> FloatArray:
        """Mean (windows, channels) of the expected window: by a model of the window, else of its features."""
        for view in self.manifest.views:
            if view.input == "window" and not view.lag:
                return np.asarray(seen[view.name].reconstruction.mean(axis=1))
        for view in self.manifest.views:
            if view.input != "features":
                continue
            row = feature_names(scaled.shape[1]).index("mean")
            return np.asarray(view.raw(seen[view.name].reconstruction, conditions)[:, row])
        return np.zeros((len(scaled), scaled.shape[2]))


class CompiledDetector:
    """Scores windows with the one graph that holds all that a `Detector` does; about ten times as fast.

    Args:
        manifest: How to scale, score and judge.
        graph: The running graph.
    """

    def __init__(self, manifest: Manifest, graph: ScoringGraph) -> None:
        self.manifest = manifest
        self._graph = graph

    def see(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> dict[str, Seen]:
        """What each view makes of scaled windows."""
        given, seen = self._graph.outputs(scaled, conditions), {}
        for view in self.manifest.views:
            own = {name: given[key] for name in OUTPUTS if (key := f"{view.name}.{name}") in given}
            seen[view.name] = Seen.of(view, view.target(scaled, conditions), own)
        return seen

    def __call__(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> tuple[Scores, FloatArray]:
        """Scores of scaled, unclipped windows (windows, length, channels), and the mean of what was expected."""
        return self._graph.score(scaled, conditions)

    def explain(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> Explained:
        """What made scaled windows (windows, length, channels) anomalous, in the way that suits this model."""
        return explain(self, scaled, conditions, self.manifest.explanation)


def load(bundle: Bundle, *, path: str, threads: int = 0) -> Explainer:
    """The detector of a bundle, after its golden windows gave their golden scores here.

    Args:
        bundle: The bundle.
        path: Its name in errors.
        threads: For recorded data, see `ScoringGraph`; threads of each interpreter where the models are separate.

    Raises:
        InferenceError: No interpreter, or it refuses a model.
        BundleError: A model is one for other windows, or the golden scores differ by more than `GOLDEN_TOLERANCE`.
    """
    manifest = bundle.manifest
    detector = _detector(bundle, path=path, threads=threads)
    golden = bundle.golden
    received = detector(golden["windows"].astype(np.float64), golden["conditions"])[0].score
    worst = float(np.max(np.abs(received - golden["score"]) / np.maximum(golden["score"], manifest.threshold.value)))
    if not worst <= GOLDEN_TOLERANCE:
        what = f"{path}: the model does not score here as it did where it was made"
        raise BundleError(
            what,
            expected=f"golden scores within {GOLDEN_TOLERANCE:.0%}",
            received=f"a difference of {worst:.0%}",
            action="Convert the run again with this version, or install the runtime that the bundle was made with.",
        )
    return detector


def _detector(bundle: Bundle, *, path: str, threads: int) -> Explainer:
    manifest = bundle.manifest
    if manifest.graph:
        graph = ScoringGraph(
            bundle.models[GRAPH],
            manifest.graph,
            terms=len(manifest.score),
            channels=len(manifest.channels),
            threads=threads,
        )
        expected = (manifest.window.length, len(manifest.channels))
        _expect_fitting(graph.runtime, expected, manifest.conditions, what="the graph", path=path)
        return CompiledDetector(manifest, graph)
    runtimes: dict[str, Runtime] = {
        view.name: _runtime(bundle, view, view.model, path=path, threads=threads)
        for view in manifest.views
        if view.model
    }
    if any(view.name == PCA_VIEW for view in manifest.views):
        runtimes[PCA_VIEW] = PrincipalRuntime(bundle.reference)
    return Detector(manifest, runtimes)


def _runtime(bundle: Bundle, view: View, model: Model, *, path: str, threads: int) -> TFLiteRuntime:
    manifest = bundle.manifest
    runtime = TFLiteRuntime(bundle.models[view.name], outputs=model.outputs, threads=max(threads, 1))
    expected = (view.steps(manifest.window.length), len(manifest.channels))
    _expect_fitting(runtime, expected, manifest.conditions, what=f"view {view.name}", path=path)
    return runtime


def _expect_fitting(runtime: TFLiteRuntime, shape: tuple[int, int], conditions: int, *, what: str, path: str) -> None:
    if (runtime.input_shape, runtime.conditions) != (shape, conditions):
        refused = f"{path}: the model is not one for the bundle's windows"
        raise BundleError(
            refused,
            expected=f"{shape} in {what}, and {conditions} conditions",
            received=f"a model of {runtime.input_shape} and {runtime.conditions} conditions",
        )
