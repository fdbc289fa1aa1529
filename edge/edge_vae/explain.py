"""Which channel made a window anomalous, and what was expected of it: asked once for each alarm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.sample import FloatArray
from edge_vae.score import Scores, unlikelihood
from edge_vae.view import Rows, Seen

__all__ = ["METHODS", "Explained", "Explanation", "Method", "explain"]

Method = Literal["share", "surprise", "imputation"]
METHODS: tuple[Method, ...] = ("share", "surprise", "imputation")

ROUNDS = 2
"""Rounds of imputation: after the first the model still saw the fault, after the second hardly."""
_SUSPECT_SHARE = 0.5
"""The channels that hold so much of the explanation say nothing of what is expected of the others."""
_FAR = 8.0
"""In sigmas: how channels depend on each other was seen near their means, and nobody knows it farther out."""
_TINY = 1e-9


class Explanation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How windows of this model are explained, and how often that named the right channel.

    Attributes:
        method: `share`: each channel's part of the score. `surprise`: how unlikely a normal window is to have the
            channel's part in each term. `imputation`: how much the score falls when the channel is replaced by what
            the model expects of it.
        centre: (terms, channels) median of the logarithm of the part that the channel has in a term of normal windows.
        spread: (terms, channels) its scale, see `edge_vae.score.Tail`.
        hits: For each method, the part of synthetic faults on a single channel whose channel it put first.
        seen: The same of those faults that the score sees: it passes what one normal window in twenty passes, and did
            not without the fault. Empty where they are few.
        means: (1, channels) mean of normal windows.
        precision: (channels, channels) inverse covariance of the means of normal windows; empty where nothing is known
            of it, and a channel is then expected to be as its model reconstructs it.
    """

    method: Method
    centre: Rows
    spread: Rows
    hits: dict[str, float]
    seen: dict[str, float] = {}
    means: Rows = ()
    precision: Rows = ()

    def __post_init__(self) -> None:
        if len(self.centre) != len(self.spread) or not all(s > 0 for row in self.spread for s in row):
            msg = "expected a centre and a spread above zero for each term and channel"
            raise ValueError(msg)
        if len(self.means) != bool(self.precision) or any(len(row) != len(self.precision) for row in self.precision):
            msg = "expected the means of the channels and a square precision, or neither"
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
    scores, reconstructed = detector(scaled, conditions)
    if explanation.method == "surprise":
        shares = _surprise(scores.parts, explanation)
    elif explanation.method == "imputation":
        shares = _imputed(detector, scaled, conditions, scores)
    else:
        shares = scores.shares
    if not explanation.precision:
        return Explained(shares, reconstructed)
    means = np.clip(scaled.mean(axis=1), -_FAR, _FAR)
    expected = [_expected(*window, explanation) for window in zip(means, shares, strict=True)]
    return Explained(shares, np.array(expected).reshape(means.shape))


def _surprise(parts: FloatArray, explanation: Explanation) -> FloatArray:
    """-log p of each channel's part, the terms added."""
    unlikely = unlikelihood(parts, np.array(explanation.centre), np.array(explanation.spread))
    return _shares(unlikely.sum(axis=1))


def _imputed(detector: Sighted, scaled: FloatArray, conditions: NDArray[np.float32], scores: Scores) -> FloatArray:
    """Each channel in turn replaced by its reconstruction from the others, and the fall of the score."""
    fall = np.zeros_like(scores.shares)
    for channel in range(scaled.shape[2]):
        repaired = scaled.copy()
        for _ in range(ROUNDS):
            repaired[:, :, channel] = _reconstruction(detector.see(repaired, conditions), repaired)[:, :, channel]
        fall[:, channel] = np.maximum(scores.score - detector(repaired, conditions)[0].score, 0.0)
    return _shares(fall)


def _reconstruction(seen: Mapping[str, Seen], scaled: FloatArray) -> FloatArray:
    """By the first view that reconstructs samples; without one, the channels' means."""
    # Ten samples have ten features: the shape alone does not tell samples.
    samples = (s for name, s in seen.items() if name != "features" and s.target.shape == scaled.shape)
    return next((s.reconstruction for s in samples), np.zeros_like(scaled))


def _expected(means: FloatArray, shares: FloatArray, explanation: Explanation) -> FloatArray:
    """Mean (channels,) that is expected of each channel of one window, from the means of all but the suspects.

    The conditional mean of a Gaussian (Bishop, Pattern Recognition and Machine Learning, eq. 2.75). A reconstruction
    follows the fault that it was given to a good part: the channel itself must not be asked.
    """
    offset, precision = means - np.array(explanation.means)[0], np.array(explanation.precision)
    order = shares.argsort()[::-1]
    suspects = order[: np.searchsorted(shares[order].cumsum(), _SUSPECT_SHARE) + 1]
    expected: FloatArray = np.array(explanation.means)[0]
    for channel in range(len(means)):
        asked = np.ones(len(means), np.bool_)
        asked[suspects] = asked[channel] = False
        hidden = np.flatnonzero(~asked)
        implied = np.linalg.solve(precision[np.ix_(hidden, hidden)], precision[np.ix_(hidden, asked)] @ offset[asked])
        expected[channel] -= implied[hidden == channel][0]
    return expected


def _shares(parts: FloatArray) -> FloatArray:
    parts = parts + _TINY
    return np.asarray(parts / parts.sum(axis=1, keepdims=True))
