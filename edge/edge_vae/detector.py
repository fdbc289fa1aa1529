"""A bundle that scores: scaled windows to scores, and the check that this device scores as the workstation did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import PCA_VIEW, Bundle, Manifest
from edge_vae.errors import BundleError
from edge_vae.explain import Explained, explain
from edge_vae.features import feature_names
from edge_vae.principal import PrincipalRuntime
from edge_vae.runtime import Runtime, TFLiteRuntime
from edge_vae.sample import FloatArray
from edge_vae.score import Scores, fuse
from edge_vae.view import Model, Seen, View, see

__all__ = ["GOLDEN_TOLERANCE", "Detector", "Explainer", "Scorer", "load"]

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

    def explain(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> Explained:
        """Each channel's part of what is anomalous in scaled windows, and the mean that was expected of it, scaled."""
        ...


class Detector:
    """Scores windows with the models and the score terms of its manifest.

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


def load(bundle: Bundle, *, path: str, threads: int = 1) -> Detector:
    """The detector of a bundle, after its golden windows gave their golden scores here.

    Raises:
        InferenceError: No interpreter, or it refuses a model.
        BundleError: A model is one for other windows, or the golden scores differ by more than `GOLDEN_TOLERANCE`.
    """
    manifest = bundle.manifest
    runtimes: dict[str, Runtime] = {
        view.name: _runtime(bundle, view, view.model, path=path, threads=threads)
        for view in manifest.views
        if view.model
    }
    if any(view.name == PCA_VIEW for view in manifest.views):
        runtimes[PCA_VIEW] = PrincipalRuntime(bundle.reference)
    detector = Detector(manifest, runtimes)
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


def _runtime(bundle: Bundle, view: View, model: Model, *, path: str, threads: int) -> TFLiteRuntime:
    manifest = bundle.manifest
    runtime = TFLiteRuntime(bundle.models[view.name], outputs=model.outputs, threads=threads)
    expected = (view.steps(manifest.window.length), len(manifest.channels)), manifest.conditions
    if (received := (runtime.input_shape, runtime.conditions)) != expected:
        what = f"{path}: the model is not one for the bundle's windows"
        raise BundleError(
            what,
            expected=f"{expected[0]} in view {view.name}, and {expected[1]} conditions",
            received=f"a model of {received[0]} and {received[1]} conditions",
        )
    return runtime
