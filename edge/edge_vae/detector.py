"""A bundle that scores: scaled windows to scores, and the check that this device scores as the workstation did."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import Bundle, Manifest
from edge_vae.errors import BundleError
from edge_vae.runtime import Runtime, TFLiteRuntime
from edge_vae.sample import FloatArray
from edge_vae.score import LIMIT_SIGMA, Scores, fuse

__all__ = ["GOLDEN_TOLERANCE", "Detector", "Scorer", "load"]

GOLDEN_TOLERANCE = 0.05
"""Part of the threshold by which a golden score may differ here. int8 kernels differ by up to five steps of 255, which
moves a score by about 0.4 % (measured between LiteRT, its built-in kernels and TensorFlow Lite Micro)."""


class Scorer(Protocol):
    """What turns scaled windows into scores."""

    manifest: Manifest

    def __call__(self, scaled: FloatArray) -> tuple[Scores, FloatArray]:
        """Scores and reconstructions of scaled, unclipped windows (windows, length, channels)."""
        ...


class Detector:
    """Scores windows with a model and the score terms of its manifest.

    Args:
        manifest: How to scale, score and judge.
        runtime: The model, running.
    """

    def __init__(self, manifest: Manifest, runtime: Runtime) -> None:
        self.manifest = manifest
        self._runtime = runtime

    def reconstruct(self, scaled: FloatArray) -> FloatArray:
        """Reconstructions (windows, length, channels) of scaled windows, which are clipped for the model."""
        clip = self.manifest.clip
        return self._runtime(np.clip(scaled, -clip, clip).astype(np.float32))["reconstruction"].astype(np.float64)

    def __call__(self, scaled: FloatArray) -> tuple[Scores, FloatArray]:
        """Scores and reconstructions of scaled, unclipped windows (windows, length, channels)."""
        reconstruction = self.reconstruct(scaled)
        return fuse(self.manifest.score, np.clip(scaled, -LIMIT_SIGMA, LIMIT_SIGMA), reconstruction), reconstruction


def load(bundle: Bundle, *, path: str, threads: int = 1) -> Detector:
    """The detector of a bundle, after its golden windows gave their golden scores here.

    Raises:
        InferenceError: No interpreter, or it refuses the model.
        BundleError: The model is one for other windows, or the golden scores differ by more than `GOLDEN_TOLERANCE`.
    """
    runtime = TFLiteRuntime(bundle.model, outputs=_wanted(bundle), threads=threads)
    window = (bundle.manifest.window.length, len(bundle.manifest.channels))
    if runtime.input_shape != window:
        what = f"{path}: the model is not one for the bundle's windows"
        raise BundleError(what, expected=f"windows of {window}", received=f"a model of {runtime.input_shape}")
    detector = Detector(bundle.manifest, runtime)
    expected: NDArray[np.float32] = bundle.golden["score"]
    received = detector(bundle.golden["windows"].astype(np.float64))[0].score
    worst = float(np.max(np.abs(received - expected) / np.maximum(expected, bundle.manifest.threshold.value)))
    if not worst <= GOLDEN_TOLERANCE:
        what = f"{path}: the model does not score here as it did where it was made"
        raise BundleError(
            what,
            expected=f"golden scores within {GOLDEN_TOLERANCE:.0%}",
            received=f"a difference of {worst:.0%}",
            action="Convert the run again with this version, or install the runtime that the bundle was made with.",
        )
    return detector


def _wanted(bundle: Bundle) -> dict[str, str]:
    return {"reconstruction": bundle.manifest.models[0].outputs["reconstruction"]}
