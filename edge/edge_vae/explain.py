"""Which channel made a window anomalous, and what was expected of it: asked once for each alarm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.sample import FloatArray
from edge_vae.score import Scores
from edge_vae.view import Rows, Seen

__all__ = ["METHODS", "Explained", "Explanation", "Method", "explain", "log_errors"]

Method = Literal["share", "normalised", "imputation"]
METHODS: tuple[Method, ...] = ("share", "normalised", "imputation")

ROUNDS = 2
"""Rounds of imputation: after the first the model still saw the fault, after the second hardly."""

_TINY = 1e-9
_ERROR_FLOOR = 1e-3
"""In squared sigmas, as the floor of the decoder variance: below it errors are quantization noise."""


class Explanation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How windows of this model are explained, and how often that named the right channel.

    Attributes:
        method: `share`: each channel's part of the score. `normalised`: how unusual the channel's own error is for it.
            `imputation`: how much the score falls when the channel is replaced by what the model expects of it.
        centre: (views, channels) mean log error of normal windows, for `normalised`.
        spread: (views, channels) its standard deviation.
        hits: For each method, the part of synthetic faults on a single channel whose channel it put first.
    """

    method: Method
    centre: Rows
    spread: Rows
    hits: dict[str, float]

    def __post_init__(self) -> None:
        if len(self.centre) != len(self.spread) or not all(s > 0 for row in self.spread for s in row):
            msg = "expected a centre and a spread above zero for each view and channel"
            raise ValueError(msg)


class Explained(msgspec.Struct, frozen=True):
    """Each channel's part (windows, channels) of what is anomalous, a row summing to 1, and the mean expected of it."""

    shares: FloatArray
    expected: FloatArray


class Sighted(Protocol):
    """A scorer that also tells what its views saw."""

    def see(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> Mapping[str, Seen]:
        """What each view makes of scaled windows."""
        ...

    def __call__(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> tuple[Scores, FloatArray]:
        """Scores of scaled windows, and the mean (windows, channels) of what was expected."""
        ...


def explain(
    detector: Sighted, scaled: FloatArray, conditions: NDArray[np.float32], explanation: Explanation
) -> Explained:
    """What made scaled windows (windows, length, channels) anomalous, by the explanation's method."""
    scores, expected = detector(scaled, conditions)
    if explanation.method == "share":
        return Explained(scores.shares, expected)
    if explanation.method == "normalised":
        return Explained(_normalised(detector.see(scaled, conditions), explanation), expected)
    return _imputed(detector, scaled, conditions, scores, expected)


def log_errors(seen: Mapping[str, Seen]) -> FloatArray:
    """Log mean squared error of each view and channel (windows, views, channels)."""
    errors = [np.square(one.target - one.reconstruction).mean(axis=1) for one in seen.values()]
    return np.log(np.stack(errors, axis=1) + _ERROR_FLOOR)


def _normalised(seen: Mapping[str, Seen], explanation: Explanation) -> FloatArray:
    """Errors in standard deviations of their own logarithm on normal windows, the views' squares added."""
    unusual = (log_errors(seen) - np.array(explanation.centre)) / np.array(explanation.spread)
    return _shares(np.square(np.maximum(unusual, 0.0)).sum(axis=1))


def _imputed(
    detector: Sighted, scaled: FloatArray, conditions: NDArray[np.float32], scores: Scores, expected: FloatArray
) -> Explained:
    """Each channel in turn replaced by its reconstruction from the others, and the fall of the score."""
    fall, means = np.zeros_like(scores.shares), expected.copy()
    for channel in range(scaled.shape[2]):
        repaired = scaled.copy()
        for _ in range(ROUNDS):
            repaired[:, :, channel] = _reconstruction(detector.see(repaired, conditions), repaired)[:, :, channel]
        fall[:, channel] = np.maximum(scores.score - detector(repaired, conditions)[0].score, 0.0)
        means[:, channel] = repaired[:, :, channel].mean(axis=1)
    return Explained(_shares(fall), means)


def _reconstruction(seen: Mapping[str, Seen], scaled: FloatArray) -> FloatArray:
    """By the first view that reconstructs samples; without one, the channels' means."""
    # Ten samples have ten features: the shape alone does not tell samples.
    samples = (s for name, s in seen.items() if name != "features" and s.target.shape == scaled.shape)
    return next((s.reconstruction for s in samples), np.zeros_like(scaled))


def _shares(parts: FloatArray) -> FloatArray:
    parts = parts + _TINY
    return np.asarray(parts / parts.sum(axis=1, keepdims=True))
