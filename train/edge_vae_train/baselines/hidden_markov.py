"""A Gaussian hidden Markov model of the samples: states that follow one another, each with its level and spread."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_vae.errors import MissingExtraError
from edge_vae.sample import FloatArray
from edge_vae.view import VARIANCE_FLOOR
from edge_vae_train.baselines.rows import thin

__all__ = ["HiddenMarkov", "fit_hidden_markov"]

STATES = (2, 4, 6)
_ROWS = 4000
_ROWS_PER_STATE = 10
_ITERATIONS = 10
_MOST_FOR_FULL = 12
"""With more channels a state has a variance for each instead of a covariance: six states of 52 channels would have
8,000 numbers to learn from 4,000 rows."""


@dataclass(frozen=True, slots=True)
class HiddenMarkov:
    """The negative log-likelihood of a window under the model, in nats a sample."""

    model: Any
    states: int

    def __call__(self, windows: FloatArray) -> FloatArray:
        """Scores (windows,) of windows (windows, length, channels); negative where normal windows are dense."""
        return np.array([-self.model.score(window) / len(window) for window in windows])


def fit_hidden_markov(training: FloatArray, held_out: FloatArray, *, seed: int) -> HiddenMarkov:  # noqa: ARG001 (one signature)
    """The model of 2, 4 or 6 states with the lowest BIC on at most 4,000 rows, 10 rounds of EM each.

    Raises:
        MissingExtraError: hmmlearn is not installed.
    """
    windows = thin(training, max(1, _ROWS // training.shape[1]))
    rows, lengths = windows.reshape(-1, windows.shape[2]), [windows.shape[1]] * len(windows)
    with _expected_complaints_silenced():
        models = [
            _model(states, rows, seed=seed).fit(rows, lengths)
            for states in STATES
            if states == STATES[0] or len(rows) >= _ROWS_PER_STATE * states
        ]
        best = min(models, key=lambda model: model.bic(rows, lengths))
    return HiddenMarkov(best, best.n_components)


def _model(states: int, rows: FloatArray, *, seed: int) -> Any:
    try:
        from hmmlearn.hmm import GaussianHMM
    except ImportError as error:
        raise MissingExtraError("the baseline Gaussian HMM", module="hmmlearn", extra="train") from error
    channels = rows.shape[1]
    full = channels <= _MOST_FOR_FULL
    # The priors keep every variance above the floor and every transition possible: a constant or collinear channel
    # would make a covariance singular, an unseen transition a likelihood of zero.
    floor = VARIANCE_FLOOR * len(rows) / states
    return GaussianHMM(
        states,
        "full" if full else "diag",
        covars_prior=floor * np.eye(channels) if full else floor,
        startprob_prior=2.0,
        transmat_prior=2.0,
        n_iter=_ITERATIONS,
        random_state=seed,
    )


@contextmanager
def _expected_complaints_silenced() -> Iterator[None]:
    """EM is stopped early on purpose, and k-means may start it from fewer distinct rows than states: both complain."""
    from sklearn.exceptions import ConvergenceWarning

    logger = logging.getLogger("hmmlearn.base")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            yield
    finally:
        logger.setLevel(level)
