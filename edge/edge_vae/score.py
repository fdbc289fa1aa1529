"""A window to a score: statistics of its views, their tail probabilities on normal data, and their sum.

A statistic s becomes -log p(s), p being the probability that a normal window reaches s, and adds log(1 + -log p) to the
score. The loudest fifth of the terms does not count, so that no view raises an alarm alone (docs/decisions/0010, 0017).
A higher score is more anomalous.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from edge_vae.features import feature_names
from edge_vae.sample import FloatArray
from edge_vae.view import LIMIT_SIGMA, Rows, Seen, to_rows

__all__ = [
    "ERROR_FLOOR",
    "LEAST_LEVEL",
    "LEVEL",
    "LOG_ERROR_FLOOR",
    "LOG_VARIANCE_RANGE",
    "MODEL_FREE",
    "TERMS",
    "TINY",
    "USUAL_SCALES",
    "Scores",
    "Tail",
    "Term",
    "counted",
    "fit_terms",
    "fuse",
    "needs_model",
    "statistic_of",
    "unlikelihood",
    "view_of",
]

TINY = 1e-9
_SCALE_FLOOR = 0.1
"""Smallest scale of a tail, in nats: a statistic that hardly varies on normal windows must not outshout the others."""
_USUAL_SCALE, _USUAL_WINDOWS = 0.4, 16.0
"""What a tail's scale is drawn towards, and how many independent windows that is worth, so that few held-out windows do
not decide how loud a term is (docs/decisions/0010)."""
USUAL_SCALES = {
    "features.kl": 0.22,
    "features.level": 0.50,
    "features.logm": 0.72,
    "features.mahalanobis": 0.34,
    "features.max": 0.33,
    "features.mse": 0.28,
    "features.nll": 0.30,
    "features.student": 0.19,
    "features.t2": 0.36,
    "pca": 0.24,
    "window.kl": 0.14,
    "window.logm": 0.90,
    "window.max": 0.35,
    "window.mse": 0.28,
    "window.nll": 0.28,
    "window.t2": 0.37,
    "z": 0.18,
}
"""The same for single terms: means of ten machines, of `logm` medians (docs/decisions/0035)."""
LOG_ERROR_FLOOR = 1e-6
ERROR_FLOOR = 0.05
_RIDGE = 1e-2
"""Part of the mean variance that is added to a covariance before it is inverted."""
TRIMMED = 0.2
"""Part of the terms, the highest ones in each window, that does not count."""
LOG_VARIANCE_RANGE = (-8.0, 4.0)
LEAST_LEVEL = 1.0
"""Least squared distance of the channels' means: where they never vary, their rounding must not decide."""
LEVEL = feature_names(2).index("mean")
"""Row of the features, of windows of any length, that holds the channels' means."""


class Tail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How likely a normal window is to reach a statistic, whose logarithm is taken to be logistic.

    Two numbers from the upper half of the held-out windows: the highest tenth alone is a matter of one odd session, and
    an empirical distribution ties everything beyond its last value.

    Attributes:
        median: Of the log statistic on held-out normal windows.
        scale: Mean excess of the log statistic over its median, drawn towards a usual one where windows are few, and
            at least `_SCALE_FLOOR`.
    """

    median: float
    scale: float

    def __post_init__(self) -> None:
        if not self.scale > 0:
            msg = f"expected a tail with a scale above zero, received {self.scale}"
            raise ValueError(msg)

    @classmethod
    def fit(cls, statistic: FloatArray, *, overlap: float, usual: float = _USUAL_SCALE) -> Tail:
        """The tail of a statistic (windows,) on held-out normal windows, `overlap` of which hold each sample.

        `usual` is the scale that it is drawn towards where the windows are few.
        """
        logs = np.log(np.maximum(statistic, TINY))
        median = float(np.median(logs))
        excess = logs[logs > median] - median
        own, independent = float(excess.mean()) if excess.size else 0.0, len(logs) / overlap
        scale = (independent * own + _USUAL_WINDOWS * usual) / (independent + _USUAL_WINDOWS)
        return cls(median, max(scale, _SCALE_FLOOR))

    def __call__(self, statistic: FloatArray) -> FloatArray:
        """-log p of each statistic (windows,), above 0."""
        return unlikelihood(statistic, self.median, self.scale)


def unlikelihood(statistic: FloatArray, median: FloatArray | float, scale: FloatArray | float) -> FloatArray:
    """-log p of statistics whose logarithm is logistic: log(1 + exp((log s - median) / scale)), above 0."""
    logs = np.log(np.maximum(statistic, TINY))
    return np.asarray(np.logaddexp(0.0, (logs - median) / scale))


_UNFITTED = Tail(0.0, 1.0)


class Term(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One summand of the score.

    Attributes:
        name: One of `TERMS`.
        tail: Of its statistic on normal windows.
        centre: What its statistic is measured from, or relative to. `t2`, `logm` and `level`: (1, n) means; `max`: (1,
            channels) mean normal errors; `mahalanobis`: (features, channels) means; empty for the others.
        precision: Inverse covariance. `t2`, `logm` and `level`: (n, n); `mahalanobis`: (channels * features, features),
            that of each channel over its usual distance; empty for the others. Both are empty in the manifest of a
            bundle with one graph, which holds them.
    """

    name: str
    tail: Tail = _UNFITTED
    centre: Rows = ()
    precision: Rows = ()

    def __post_init__(self) -> None:
        if self.name not in TERMS:
            msg = f"expected a score term out of {', '.join(TERMS)}, received {self.name!r}"
            raise ValueError(msg)
        if any(len({len(row) for row in table}) > 1 for table in (self.centre, self.precision)):
            msg = f"expected a centre and a precision with rows of one length in term {self.name!r}"
            raise ValueError(msg)


class Scores:
    """Scores of windows: parts of one table, taken out when they are asked for.

    Args:
        table: (windows, n) with, one after the other, the score, what each term says, each channel's part in each term
            (terms * channels), and each channel's share.
        terms: Terms of the score.
        channels: Channels of a window.
    """

    __slots__ = ("_channels", "_table", "_terms")

    def __init__(self, table: FloatArray, terms: int, channels: int) -> None:
        self._table, self._terms, self._channels = table, terms, channels

    @classmethod
    def of(cls, score: FloatArray, shares: FloatArray, terms: FloatArray, parts: FloatArray) -> Scores:
        """The scores that have these parts."""
        windows, count, channels = parts.shape
        table = np.concatenate([score[:, None], terms, parts.reshape(windows, count * channels), shares], axis=1)
        return cls(table, count, channels)

    @property
    def score(self) -> FloatArray:
        """(windows,) at least 0."""
        return self._table[:, 0]

    @property
    def terms(self) -> FloatArray:
        """(windows, terms) what each term says, log(1 + -log p), whether it counts in this window or not."""
        return self._table[:, 1 : 1 + self._terms]

    @property
    def parts(self) -> FloatArray:
        """(windows, terms, channels) what each channel has in the statistic of each term, at least 0."""
        flat = self._table[:, 1 + self._terms : self._shares]
        return flat.reshape(len(flat), self._terms, self._channels)

    @property
    def shares(self) -> FloatArray:
        """(windows, channels) each channel's part of the score; a row sums to 1."""
        return self._table[:, self._shares : self._shares + self._channels]

    @property
    def _shares(self) -> int:
        """Column where the shares begin."""
        return 1 + self._terms + self._terms * self._channels


Values = tuple[FloatArray, FloatArray]
"""A statistic (windows,), and the parts (windows, channels) that its shares are taken from."""

Statistic = Callable[[Seen, Term], Values]


def _parts(seen: Seen, variance: FloatArray | float) -> FloatArray:
    return np.asarray((np.square(seen.target - seen.reconstruction) / variance).mean(axis=1))


def _squared_error(seen: Seen, _: Term) -> Values:
    parts = _parts(seen, 1.0)
    return parts.mean(axis=1), parts


def _negative_log_likelihood(seen: Seen, _: Term) -> Values:
    parts = _parts(seen, seen.variance)
    return parts.mean(axis=1), parts


def _largest_error(seen: Seen, term: Term) -> Values:
    parts = _parts(seen, 1.0) / np.maximum(np.array(term.centre), ERROR_FLOOR)
    return parts.max(axis=1), parts


def _feature_distance(seen: Seen, term: Term) -> Values:
    offset = seen.target - np.array(term.centre)
    precision = np.array(term.precision).reshape(offset.shape[2], offset.shape[1], offset.shape[1])
    # No matrix product, as in _products: pieces must not change a score.
    parts = np.einsum("nfc,cfg,ngc->nc", offset, precision, offset)
    return parts.max(axis=1), np.maximum(parts, 0.0)


def _level_distance(seen: Seen, term: Term) -> Values:
    offset = seen.target[:, LEVEL] - np.array(term.centre)
    precision = np.array(term.precision)
    pulled = _pulled(offset, precision)
    # What a channel's level adds to the distance once the others' are known: its own residual,
    # squared (Hawkins, Technometrics 1991).
    return np.maximum((pulled * offset).sum(axis=1), LEAST_LEVEL), np.square(pulled) / np.diagonal(precision)


def _heavy_tailed(seen: Seen, _: Term) -> Values:
    parts = np.log1p(np.square(seen.target)).mean(axis=1)
    return parts.mean(axis=1), parts


def _divergence(seen: Seen, _: Term) -> Values:
    log_variance = np.clip(seen.log_variance, *LOG_VARIANCE_RANGE)
    divergence = 0.5 * (np.square(seen.mean) + np.exp(log_variance) - 1.0 - log_variance).sum(axis=1)
    return divergence, _parts(seen, seen.variance)


def _latent_distance(seen: Seen, term: Term) -> Values:
    products = _products(seen.mean - np.array(term.centre), term)
    return products.sum(axis=1), _parts(seen, seen.variance)


def _log_error_distance(seen: Seen, term: Term) -> Values:
    offset = np.maximum(np.log(_parts(seen, 1.0) + LOG_ERROR_FLOOR) - np.array(term.centre), 0.0)
    products = _products(offset, term)
    return np.maximum(products.sum(axis=1), 0.0), np.maximum(products, 0.0)


def _products(offset: FloatArray, term: Term) -> FloatArray:
    """Each column's part (windows, n) of offset' precision offset, for offsets (windows, n)."""
    return _pulled(offset, np.array(term.precision)) * offset


def _pulled(offset: FloatArray, precision: FloatArray) -> FloatArray:
    """The product of offsets (windows, n) and a precision (n, n)."""
    # No matrix product: it adds in another order when there is but one window, and pieces would change a score.
    return np.asarray((offset[:, :, None] * precision).sum(axis=1))


_STATISTICS: Mapping[str, Statistic] = {
    "kl": _divergence,
    "level": _level_distance,
    "logm": _log_error_distance,
    "mahalanobis": _feature_distance,
    "max": _largest_error,
    "mse": _squared_error,
    "nll": _negative_log_likelihood,
    "student": _heavy_tailed,
    "t2": _latent_distance,
}

MODEL_FREE = ("features.level", "features.mahalanobis", "features.student")
"""Terms of the features that need no model of them."""
_OF_MODELS = ("kl", "logm", "max", "mse", "nll", "t2")
TERMS = ("z", "pca", *MODEL_FREE, *(f"{view}.{name}" for view in ("window", "features") for name in _OF_MODELS))
"""What a term of the score can be. `z`: mean |z|, no model at all. `pca`: squared residual of a PCA of lag vectors.
`features.level`: squared Mahalanobis distance of the channels' means (Hotelling 1931), so that levels which wander
together count for less than one that leaves the others. `features.mahalanobis`: squared Mahalanobis distance of the
features of the most unusual channel. `features.student`: mean log(1 + f^2) of the features, as the likelihood of a
Student distribution has it: where few sessions show each operating mode, nobody knows its spreads well.

Of the VAE on the window or on its features: `mse`: squared reconstruction error. `nll`: that error over the learned
variance, the Gaussian negative log-likelihood of sigma-VAE (Rybkin et al. 2021, eq. 4) without its constant. `max`: the
error of the channel in which it is largest, relative to what is normal for it. `kl`: divergence of the posterior from
the prior. `t2`: squared Mahalanobis distance of the posterior mean (Hotelling's T2). `logm`: that of the channels' log
errors, larger ones alone. A latent statistic has no channels: its share is that of its view's error."""


def view_of(term: str) -> str | None:
    """Name of the view that a term looks at; None for `z`."""
    return None if term == "z" else term.partition(".")[0]


def needs_model(term: str) -> bool:
    """Whether a term looks at what a trained model made of its view."""
    return term not in ("z", "pca", *MODEL_FREE)


def fit_terms(
    drafts: Sequence[Term],
    windows: FloatArray,
    seen: Mapping[str, Seen],
    *,
    known: Mapping[str, FloatArray],
    overlap: float,
) -> tuple[tuple[Term, ...], FloatArray]:
    """The terms fitted on held-out normal windows (windows, length, channels), and the scores of these (windows,).

    Args:
        drafts: The terms, with what training fitted of them.
        windows: Scaled and unclipped.
        seen: What the views made of them, with the very models that will run, so that a converted model is calibrated
            on its own outputs.
        known: Statistics (windows,) of the held-out windows by the name of a term, for what was fitted on all normal
            windows: they come from a fit without the held-out ones.
        overlap: How many consecutive windows hold the same sample, at least 1.
    """
    fitted, statistics = [], []
    for draft in drafts:
        term = _with_numbers(draft, seen)
        statistic = known[term.name] if term.name in known else statistic_of(term, windows, seen)
        tail = Tail.fit(statistic, overlap=overlap, usual=USUAL_SCALES[term.name])
        fitted.append(msgspec.structs.replace(term, tail=tail))
        statistics.append(statistic)
    surprises = [term.tail(statistic) for term, statistic in zip(fitted, statistics, strict=True)]
    return tuple(fitted), _score(_said(np.stack(surprises, axis=1)))


def statistic_of(term: Term, windows: FloatArray, seen: Mapping[str, Seen]) -> FloatArray:
    """The statistic (windows,) of a term, for scaled windows (windows, length, channels)."""
    return _values(term, windows, seen)[0]


def _with_numbers(draft: Term, seen: Mapping[str, Seen]) -> Term:
    """The draft with the numbers that are taken from held-out normal windows."""
    statistic = draft.name.partition(".")[2]
    if statistic not in ("logm", "max", "t2"):
        return draft
    one = seen[str(view_of(draft.name))]
    if statistic == "max":
        return msgspec.structs.replace(draft, centre=to_rows(_parts(one, 1.0).mean(axis=0)[None]))
    centre, precision = _distance(one.mean if statistic == "t2" else np.log(_parts(one, 1.0) + LOG_ERROR_FLOOR))
    return msgspec.structs.replace(draft, centre=centre, precision=precision)


def _distance(samples: FloatArray) -> tuple[Rows, Rows]:
    """Centre (1, n) and regularised inverse covariance (n, n) of samples (windows, n)."""
    covariance = np.atleast_2d(np.cov(samples, rowvar=False))
    ridge = _RIDGE * max(float(np.trace(covariance)) / len(covariance), TINY)
    inverse = np.linalg.inv(covariance + ridge * np.eye(len(covariance)))
    return to_rows(samples.mean(axis=0)[None]), to_rows(np.asarray(inverse, np.float64))


def _values(term: Term, windows: FloatArray, seen: Mapping[str, Seen]) -> Values:
    view = view_of(term.name)
    if view is None:
        parts = np.abs(np.clip(windows, -LIMIT_SIGMA, LIMIT_SIGMA)).mean(axis=1)
        return parts.mean(axis=1), parts
    statistic = term.name.partition(".")[2] or "mse"
    return _STATISTICS[statistic](seen[view], term)


def fuse(terms: Sequence[Term], windows: FloatArray, seen: Mapping[str, Seen]) -> Scores:
    """What the terms say together: scaled windows (windows, length, channels) and what the views made of them."""
    said = np.zeros((len(windows), len(terms)))
    parts = np.zeros((*said.shape, windows.shape[2]))
    weighted = np.full((len(windows), windows.shape[2]), TINY)
    for i, term in enumerate(terms):
        value, parts[:, i] = _values(term, windows, seen)
        said[:, i] = _said(term.tail(value))
        weighted += (said[:, i] + TINY)[:, None] * _normalised(parts[:, i])
    return Scores.of(_score(said), _normalised(weighted), said, parts)


def _said(surprise: FloatArray) -> FloatArray:
    """What a term with this -log p says: far out, where tails are extrapolated, less and less more."""
    return np.log1p(surprise)


def _score(said: FloatArray) -> FloatArray:
    """The score (windows,) of what the terms say (windows, terms): their number times their upper-trimmed mean.

    A test that at least two of n hypotheses are false looks at all p values but the smallest (partial conjunction,
    Benjamini and Heller, Biometrics 2008); here the highest fifth of the terms is left out, one of them in part
    where that is no whole number.
    """
    return np.asarray((np.sort(said, axis=1) * counted(said.shape[1])).sum(axis=1))


def counted(terms: int) -> FloatArray:
    """How much each of so many terms counts in the score, (terms,), from the quietest to the loudest."""
    kept = np.clip(np.arange(terms, 0, -1) - TRIMMED * terms, 0.0, 1.0)
    return np.asarray(kept * (terms / kept.sum()))


def _normalised(parts: FloatArray) -> FloatArray:
    parts = parts + TINY
    return np.asarray(parts / parts.sum(axis=1, keepdims=True))
