"""Which way of explaining a window suits a model: tried on synthetic faults of a single channel."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.detector import Explainer
from edge_vae.explain import METHODS, Explanation, Method, explain
from edge_vae.faults import FAULTS, inject
from edge_vae.sample import FloatArray
from edge_vae.score import Tail
from edge_vae.view import to_rows
from edge_vae.window import overlap
from edge_vae_train.prepare import WindowSet

__all__ = ["EXPLAINED_FAULTS", "Hits", "SyntheticFaults", "choose", "count_hits", "single_channel_faults"]

SEVERITIES = (2.0, 4.0)
"""In sigmas: what an operator should not need to search for."""
EXPLAINED_FAULTS = tuple(sorted(set(FAULTS) - {"stuck"}))
"""A stuck channel is a sensor fault, found before the model and not by it."""
SEEN_QUANTILE = 0.95
"""A fault is seen where the score passes this quantile of the normal windows: what has left no trace in the score is
nothing it could explain. The threshold of alarms would not do: with little data no mild fault reaches it."""
MIN_SEEN = 20
"""With fewer faults that are seen, the part of them whose channel comes first is not told."""
_MAX_FAULTS = 300
_MAX_IMPUTATIONS = 4000
"""A fault costs one imputation for each channel."""
_RIDGE = 0.1
"""In squared sigmas, added to the variance of each channel's mean: windows that overlap are few when they are many, and
what is expected of a channel must not hang on the noise of another."""


@dataclass(frozen=True, slots=True)
class SyntheticFaults:
    """Windows with a fault on one channel each.

    Attributes:
        normal: The windows before.
        faulty: The same ones with the fault.
        channels: (windows,) the faulty channel.
        faults: (windows,) name of the fault.
    """

    normal: WindowSet
    faulty: WindowSet
    channels: NDArray[np.intp]
    faults: NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Hits:
    """What one way of explaining makes of synthetic faults.

    Attributes:
        first: (windows,) whether the faulty channel comes first.
        before: (windows,) score of the window without the fault.
        after: (windows,) score with it.
    """

    first: NDArray[np.bool_]
    before: FloatArray
    after: FloatArray

    def passes(self, level: float) -> NDArray[np.bool_]:
        """Whether each window passes a score because of the fault: it did not before."""
        return np.asarray((self.before <= level) & (self.after > level))

    @property
    def are_seen(self) -> NDArray[np.bool_]:
        """Whether the score sees each fault: see `SEEN_QUANTILE`."""
        return self.passes(float(np.quantile(self.before, SEEN_QUANTILE)))

    @property
    def rate(self) -> float:
        """The part of all faults whose channel comes first, those that leave no trace in the score included."""
        return float(self.first.mean())

    @property
    def seen(self) -> float | None:
        """The same of those that the score sees; None with fewer than `MIN_SEEN` of them."""
        seen = self.are_seen
        return float(self.first[seen].mean()) if np.count_nonzero(seen) >= MIN_SEEN else None


def choose(detector: Explainer, normal: WindowSet, *, seed: int) -> Explanation:
    """The method that most often puts the faulty channel of a synthetic fault first, and how often each does.

    What is usual is learned from one half of the normal windows and tried on faults in the other; then from all. What
    counts is the mean of both rates of `Hits`: that of the faults which the score sees, and that of all.
    """
    channels = normal.windows.shape[2]
    if channels == 1:
        return Explanation("share", (), (), {})
    half = -(-len(normal) // 2)
    usual = _usual(detector, normal[:half])
    count = min(_MAX_FAULTS, _MAX_IMPUTATIONS // channels)
    faults = single_channel_faults(normal[len(normal) - half :], count=count, seed=seed)
    tried = count_hits(detector, usual, faults)
    return msgspec.structs.replace(
        _usual(detector, normal),
        method=max(METHODS, key=lambda method: _merit(tried[method])),
        hits={method: hits.rate for method, hits in tried.items()},
        seen={method: hits.seen for method, hits in tried.items() if hits.seen is not None},
    )


def _merit(hits: Hits) -> float:
    return hits.rate if hits.seen is None else (hits.rate + hits.seen) / 2


def _usual(detector: Explainer, normal: WindowSet) -> Explanation:
    """What is usual of each channel: its part in each term, and how its mean depends on that of the others."""
    windows, shape = normal.windows.astype(np.float64), detector.manifest.window
    parts = detector(windows, normal.conditions)[0].parts
    tails = [
        [Tail.fit(channel, overlap=overlap(shape.length, shape.stride)) for channel in term]
        for term in parts.transpose(1, 2, 0)
    ]
    means = windows.mean(axis=1)
    return Explanation(
        "share",
        to_rows(np.array([[tail.median for tail in row] for row in tails])),
        to_rows(np.array([[tail.scale for tail in row] for row in tails])),
        {},
        means=to_rows(means.mean(axis=0)[None]),
        precision=to_rows(_precision(means)),
    )


def _precision(means: FloatArray) -> FloatArray:
    offset = means - means.mean(axis=0)
    covariance = offset.T @ offset / len(means)
    return np.asarray(np.linalg.inv(covariance + _RIDGE * np.eye(len(covariance))))


def count_hits(detector: Explainer, explanation: Explanation, faults: SyntheticFaults) -> dict[Method, Hits]:
    """Which of the faults an explanation by each method puts on the right channel, and what the score makes of each."""
    faulty = faults.faulty.windows.astype(np.float64)
    before = detector(faults.normal.windows.astype(np.float64), faults.normal.conditions)[0].score
    after = detector(faulty, faults.faulty.conditions)[0].score
    hits = {}
    for method in METHODS:
        by_method = msgspec.structs.replace(explanation, method=method)
        shares = explain(detector, faulty, faults.faulty.conditions, by_method).shares
        hits[method] = Hits(shares.argmax(axis=1) == faults.channels, before, after)
    return hits


def single_channel_faults(normal: WindowSet, *, count: int, seed: int) -> SyntheticFaults:
    """`count` windows out of normal ones with one fault of `SEVERITIES` on one channel."""
    generator = np.random.default_rng(seed)
    chosen = normal[generator.integers(0, len(normal), count)]
    channels = generator.integers(0, normal.windows.shape[2], count)
    names = generator.choice(EXPLAINED_FAULTS, count)
    faulty = [
        inject(
            window.astype(np.float64),
            fault=str(name),
            channels=np.arange(normal.windows.shape[2]) == channel,
            severity=float(generator.uniform(*SEVERITIES)),
            generator=generator,
        )
        for window, channel, name in zip(chosen.windows, channels, names, strict=True)
    ]
    return SyntheticFaults(chosen, WindowSet(np.array(faulty, np.float32), chosen.conditions), channels, names)
