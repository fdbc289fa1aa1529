"""What `edge-vae bench` calls: a window to a decision, and samples to a decision as in the agent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import Bundle, Manifest
from edge_vae.detector import Explainer
from edge_vae.latency import Call
from edge_vae.sample import FloatArray
from edge_vae.scale import Scaler
from edge_vae.stream import Stream

__all__ = ["Sample", "decider", "golden_samples", "recording", "stream_decider"]


@dataclass(frozen=True, slots=True)
class Sample:
    """A window as the device gets it.

    Attributes:
        values: (1, length, channels) in sensor units.
        conditions: (1, conditions) of its operating mode.
        scaler: Of its operating mode.
        mode: (mode columns,) what the source says of the mode.
    """

    values: FloatArray
    conditions: NDArray[np.float32]
    scaler: Scaler
    mode: tuple[float, ...]


def golden_samples(bundle: Bundle) -> list[Sample]:
    """The golden windows of a bundle, normal and faulty ones, back in sensor units."""
    manifest, golden = bundle.manifest, bundle.golden
    samples = []
    for window, condition in zip(golden["windows"].astype(np.float64), golden["conditions"], strict=True):
        scaler, mode = _mode(manifest, condition)
        samples.append(Sample(scaler.inverse(window[None]), condition[None], scaler, mode))
    return samples


def _mode(manifest: Manifest, condition: NDArray[np.float32]) -> tuple[Scaler, tuple[float, ...]]:
    modes = manifest.modes
    if modes is None:
        return manifest.scaler, ()
    number = int((modes.conditions == condition).all(axis=1).argmax())
    return modes.scaler(number), modes.values[number]


def decider(detector: Explainer, samples: list[Sample]) -> Call:
    """A window in sensor units to a decision: scaled, seen by every model, scored, held against the threshold."""
    threshold, length = detector.manifest.threshold.value, detector.manifest.window.length
    scalers = {sample.mode: sample.scaler.repeated(length) for sample in samples}
    ready = [(scalers[sample.mode], sample.values, sample.conditions) for sample in samples]
    scaled = np.empty(samples[0].values.shape)

    def decide(i: int) -> bool:
        scaler, values, conditions = ready[i % len(ready)]
        scores, _ = detector(scaler(values, scaled), conditions)
        return bool(scores.score[0] > threshold)

    return decide


def recording(manifest: Manifest, samples: list[Sample], *, rows: int) -> FloatArray:
    """So many rows (rows, source columns): the windows of the first one's mode, one after the other, again and again.

    A change of the mode would end a segment, and fewer windows would be scored than rows allow.
    """
    alike = [sample for sample in samples if sample.mode == samples[0].mode]
    values = np.concatenate([sample.values[0] for sample in alike])
    modes = np.tile(np.array(samples[0].mode, np.float64), (len(values), 1))
    whole = np.concatenate([values, modes], axis=1)
    return np.asarray(whole[np.arange(rows) % len(whole)].reshape(rows, len(manifest.source_columns)))


def stream_decider(detector: Explainer, samples: list[Sample]) -> Call:
    """As many samples as lie between two windows to a decision, as in the agent."""
    manifest = detector.manifest
    length, stride, threshold = manifest.window.length, manifest.window.stride, manifest.threshold.value
    count = math.ceil(len(samples) * length / stride)
    rows = recording(manifest, samples, rows=count * stride)
    pieces, times = np.split(rows, count), np.full(stride, np.nan)
    stream = Stream(detector, baseline=0)
    stream.push(recording(manifest, samples, rows=length), np.full(length, np.nan))

    def decide(i: int) -> bool:
        return bool(stream.push(pieces[i % count], times).score[0] > threshold)

    return decide
