"""What every baseline keeps: how it is fitted, what its scorer takes and gives, and how much data it learns from.

A method works on float64 windows that are already clipped and few enough; `bounded` puts it behind the contract, so
that shapes, clipping and limits are decided once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_vae.sample import FloatArray
from edge_vae.view import LIMIT_SIGMA
from edge_vae_train.baselines.rows import thin

__all__ = ["MIN_WINDOWS", "Fit", "Method", "Scorer", "Windows", "bounded"]

MIN_WINDOWS = 8
"""Fewer windows for training or held out are refused: no covariance, order or stop could be judged on them."""

_MAX_WINDOWS = 6000
_MAX_VALUES = 2_000_000
"""Numbers in the training windows together; it bounds the singular value decompositions of wide windows to seconds."""
_BLOCK = 1024

Windows = NDArray[np.float32]


class Scorer(Protocol):
    """A fitted baseline."""

    def __call__(self, windows: Windows) -> FloatArray:
        """Scores (windows,) of scaled, unclipped windows (windows, length, channels); a higher one is more anomalous.

        Always finite, because samples beyond `LIMIT_SIGMA` count as that. At least 0, except that the
        negative log-likelihood of a density may be below.

        Raises:
            ValueError: The windows have another shape than those of the fit, or hold NaN.
        """


class Fit(Protocol):
    """A baseline before it has seen data."""

    def __call__(self, training: Windows, held_out: Windows, *, seed: int) -> Scorer:
        """The scorer learned from normal scaled windows, both (windows, length, channels); same seed, same scores.

        Held-out windows normalise a statistic, stop a training or choose among candidates; they set no threshold.
        Of more than 6000 training windows, or 2 million numbers in them, an evenly spaced part is used.

        Raises:
            ValueError: Fewer than `MIN_WINDOWS` windows, NaN, or shapes that differ.
            MissingExtraError: The method's library is not installed.
        """


class Method(Protocol):
    """The fit of one method alone, from clipped float64 windows (windows, length, channels)."""

    def __call__(self, training: FloatArray, held_out: FloatArray, *, seed: int) -> Callable[[FloatArray], FloatArray]:
        """What scores clipped float64 windows of that shape."""


@dataclass(frozen=True, slots=True)
class _Bounded:
    shape: tuple[int, ...]
    score: Callable[[FloatArray], FloatArray]

    def __call__(self, windows: Windows) -> FloatArray:
        if windows.ndim != 3 or windows.shape[1:] != self.shape:
            length, channels = self.shape
            msg = f"expected windows (windows, {length}, {channels}) as in training, received {windows.shape}"
            raise ValueError(msg)
        scores = np.empty(len(windows))
        for at in range(0, len(windows), _BLOCK):
            scores[at : at + _BLOCK] = self.score(_clipped(windows[at : at + _BLOCK]))
        return scores


def bounded(method: Method) -> Fit:
    """The method behind the contract: shapes checked, windows clipped, training data limited, scores in blocks."""

    def fit(training: Windows, held_out: Windows, *, seed: int) -> Scorer:
        if training.ndim != 3 or 0 in training.shape or training.shape[1:] != held_out.shape[1:]:
            shapes = f"{training.shape} and {held_out.shape}"
            msg = f"expected training and held-out windows (windows, length, channels) of one shape, received {shapes}"
            raise ValueError(msg)
        if (fewest := min(len(training), len(held_out))) < MIN_WINDOWS:
            msg = f"expected at least {MIN_WINDOWS} windows for training and as many held out, received {fewest}"
            raise ValueError(msg)
        shape = training.shape[1:]
        most = min(_MAX_WINDOWS, max(MIN_WINDOWS, _MAX_VALUES // (shape[0] * shape[1])))
        seen, unseen = _clipped(thin(training, most)), _clipped(thin(held_out, most))
        return _Bounded(shape, method(seen, unseen, seed=seed))

    return fit


def _clipped(windows: Windows) -> FloatArray:
    if np.isnan(windows).any():
        msg = "expected windows without gaps, received NaN"
        raise ValueError(msg)
    return np.clip(windows.astype(np.float64), -LIMIT_SIGMA, LIMIT_SIGMA)
