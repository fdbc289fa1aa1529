"""A window to a score: statistics, their tail probabilities on normal data, and their sum.

Every statistic is a mean over channels of parts that are at least zero, so each channel's share of a score is exact. A
statistic s becomes -log p(s), p being the probability that a normal window reaches s; the score is the sum of -log p
over the terms. A higher score is more anomalous.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from edge_vae.sample import FloatArray

__all__ = ["LIMIT_SIGMA", "STATISTICS", "VARIANCE_FLOOR", "Scores", "Tail", "Term", "fit_terms", "fuse"]

LIMIT_SIGMA = 1e3
"""Scaled samples beyond this count as this: a broken sensor must not overflow a statistic."""

VARIANCE_FLOOR = 1e-3
"""Smallest decoder variance, in squared sigmas of the scaled samples. Where normal errors are smaller, quantization
noise would decide the score (measured: AUC loss of -0.0135 without, -0.002 with this floor)."""

_TINY = 1e-9
_BULK_LEVELS: FloatArray = np.linspace(0.0, 0.9, 46)
"""Quantile levels that describe the bulk; beyond the last one, 0.9, the tail takes over."""
_SCALE_FLOOR = 1e-3


def _absolute(windows: FloatArray, reconstruction: FloatArray, variance: FloatArray) -> FloatArray:  # noqa: ARG001 (one signature)
    return np.asarray(np.abs(windows).mean(axis=1))


def _squared_error(windows: FloatArray, reconstruction: FloatArray, variance: FloatArray) -> FloatArray:  # noqa: ARG001 (one signature)
    return np.asarray(np.square(windows - reconstruction).mean(axis=1))


def _negative_log_likelihood(windows: FloatArray, reconstruction: FloatArray, variance: FloatArray) -> FloatArray:
    return _squared_error(windows, reconstruction, variance) / variance


Statistic = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
"""From windows and reconstruction, both (windows, length, channels), and variance (channels,) to each channel's part
(windows, channels)."""

STATISTICS: Mapping[str, Statistic] = {
    "z": _absolute,
    "window.mse": _squared_error,
    "window.nll": _negative_log_likelihood,
}
"""What a term of the score can be. `z`: mean |z|, no model at all. `window.mse`: squared reconstruction error of the
window VAE. `window.nll`: that error over the learned variance of each channel, the Gaussian negative log-likelihood of
sigma-VAE (Rybkin et al. 2021, eq. 4) without its constant."""


class Tail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How likely a normal window is to reach a statistic: empirical in the bulk, exponential in its log beyond.

    Attributes:
        quantiles: Quantiles of the log statistic on held-out normal windows, evenly spaced from level 0 to level 0.9.
        scale: Mean excess of the log statistic over its 0.9 quantile.
    """

    quantiles: tuple[float, ...]
    scale: float

    def __post_init__(self) -> None:
        if len(self.quantiles) < 2 or list(self.quantiles) != sorted(self.quantiles) or not self.scale > 0:
            msg = "expected a tail of at least two rising quantiles and a scale above zero"
            raise ValueError(msg)

    @classmethod
    def fit(cls, statistic: FloatArray) -> Tail:
        """The tail of a statistic (windows,) measured on held-out normal windows."""
        logs = np.log(np.maximum(statistic, _TINY))
        quantiles = np.quantile(logs, _BULK_LEVELS)
        excess = logs[logs > quantiles[-1]] - quantiles[-1]
        scale = max(float(excess.mean()) if excess.size else 0.0, _SCALE_FLOOR)
        return cls(tuple(float(q) for q in quantiles), scale)

    def __call__(self, statistic: FloatArray) -> FloatArray:
        """-log p of each statistic (windows,); 0 below everything that normal windows show."""
        logs = np.log(np.maximum(statistic, _TINY))
        levels = np.linspace(0.0, float(_BULK_LEVELS[-1]), len(self.quantiles))
        bulk = -np.log1p(-np.interp(logs, self.quantiles, levels))
        beyond = np.maximum(logs - self.quantiles[-1], 0.0) / self.scale
        return np.asarray(bulk + beyond)


class Term(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One summand of the score: a statistic by name, the channels' variances, and its tail on normal windows."""

    name: str
    variance: tuple[float, ...]
    tail: Tail

    def __post_init__(self) -> None:
        if not all(variance > 0 for variance in self.variance):
            msg = f"expected variances above zero, received {self.variance}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores (windows,), at least 0, and each channel's share of them (windows, channels); a row sums to 1."""

    score: FloatArray
    shares: FloatArray


def fit_terms(
    names: Sequence[str], windows: FloatArray, reconstruction: FloatArray, *, variance: FloatArray
) -> tuple[Term, ...]:
    """The terms fitted on held-out normal windows and their reconstructions, both (windows, length, channels).

    The windows are scaled and unclipped. The tails come from the outputs of the very model that will run, so a
    converted model is calibrated on its own outputs. The variance (channels,) is the one that the decoder learned with
    the weights.
    """
    windows = np.clip(windows, -LIMIT_SIGMA, LIMIT_SIGMA)
    variance = np.maximum(variance, VARIANCE_FLOOR)
    numbers = tuple(float(v) for v in variance)
    return tuple(
        Term(name, numbers, Tail.fit(STATISTICS[name](windows, reconstruction, variance).mean(axis=1)))
        for name in names
    )


def fuse(terms: Sequence[Term], windows: FloatArray, reconstruction: FloatArray) -> Scores:
    """The sum of -log p over the terms: scaled, unclipped windows (windows, length, channels) and reconstructions."""
    windows = np.clip(windows, -LIMIT_SIGMA, LIMIT_SIGMA)
    score = np.zeros(len(windows))
    weighted = np.full((len(windows), windows.shape[2]), _TINY)
    for term in terms:
        parts = STATISTICS[term.name](windows, reconstruction, np.asarray(term.variance))
        surprise = term.tail(parts.mean(axis=1))
        score += surprise
        weighted += (surprise + _TINY)[:, None] * _normalised(parts)
    return Scores(score, _normalised(weighted))


def _normalised(parts: FloatArray) -> FloatArray:
    parts = parts + _TINY
    return np.asarray(parts / parts.sum(axis=1, keepdims=True))
