"""Autoregression: what the last samples do not foretell of the next one, measured in its usual spread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_vae.errors import MissingExtraError
from edge_vae.sample import FloatArray
from edge_vae.view import VARIANCE_FLOOR
from edge_vae_train.baselines.rows import lagged, thin

__all__ = ["Autoregression", "fit_autoregression"]

MAX_ORDER = 5
_ROWS = 10_000
_ROWS_PER_COEFFICIENT = 3


@dataclass(frozen=True, slots=True)
class Autoregression:
    """The mean squared one-step residual of a window, in units of the residual covariance.

    A constant offset of a slow channel hardly shows: the offset of the last sample foretells that of the next.

    Attributes:
        centre: (channels,) mean of the training rows.
        coefficients: (order * channels, channels), the newest sample's first.
        precision: (channels, channels) inverse of the residual covariance.
    """

    centre: FloatArray
    coefficients: FloatArray
    precision: FloatArray

    @property
    def order(self) -> int:
        """Samples that the next one is foretold from."""
        return len(self.coefficients) // len(self.centre)

    def __call__(self, windows: FloatArray) -> FloatArray:
        """Scores (windows,) of windows (windows, length, channels), at least 0 and 1 on average in training."""
        channels = len(self.centre)
        rows = lagged(windows - self.centre, self.order)
        residual = rows[..., :channels] - rows[..., channels:] @ self.coefficients
        return np.asarray(((residual @ self.precision) * residual).sum(axis=2).mean(axis=1) / channels)


def fit_autoregression(training: FloatArray, held_out: FloatArray, *, seed: int) -> Autoregression:  # noqa: ARG001 (one signature)
    """A VAR, or an AR where there is one channel, of the order up to 5 with the lowest AIC, on at most 10,000 rows.

    Orders are compared on the same rows (Luetkepohl 2005, section 4.3.2), and fewer are tried where rows are few. No
    row is foretold from another window.

    Raises:
        MissingExtraError: statsmodels is not installed.
    """
    windows = thin(training, max(1, _ROWS // training.shape[1]))
    centre = windows.mean(axis=(0, 1))
    windows = windows - centre
    count, length, channels = windows.shape
    most = min(MAX_ORDER, length - 1, count * length // (_ROWS_PER_COEFFICIENT * channels))
    best = min(range(most + 1), key=lambda order: _criterion(windows[:, most - order :], order))
    coefficients, residual = _least_squares(windows, best)
    return Autoregression(centre, coefficients, np.asarray(np.linalg.inv(_covariance(residual))))


def _criterion(windows: FloatArray, order: int) -> float:
    """Akaike's information criterion: log det of the residual covariance + 2 order channels^2 / rows."""
    _, residual = _least_squares(windows, order)
    log_determinant = np.linalg.slogdet(_covariance(residual))[1]
    return float(log_determinant + 2.0 * order * residual.shape[1] ** 2 / len(residual))


def _covariance(residual: FloatArray) -> FloatArray:
    """With the floor that keeps constant and collinear channels invertible."""
    return np.asarray(residual.T @ residual / len(residual) + VARIANCE_FLOOR * np.eye(residual.shape[1]))


def _least_squares(windows: FloatArray, order: int) -> tuple[FloatArray, FloatArray]:
    """Coefficients (order * channels, channels) and residuals (rows, channels) of centred windows.

    statsmodels takes one unbroken series. Windows are not one, so their lagged rows go in as regressors from outside,
    beside no lags of its own: the same least squares, without rows that cross from one window into the next.
    """
    channels = windows.shape[2]
    rows = lagged(windows, order).reshape(-1, (order + 1) * channels)
    targets, regressors = rows[:, :channels], rows[:, channels:]
    coefficients = _regression(targets, regressors) if order else np.empty((0, channels))
    return coefficients, targets - regressors @ coefficients


def _regression(targets: FloatArray, regressors: FloatArray) -> FloatArray:
    try:
        from statsmodels.tsa.ar_model import AutoReg
        from statsmodels.tsa.vector_ar.var_model import VAR
    except ImportError as error:
        raise MissingExtraError("the baseline VAR residual", module="statsmodels", extra="train") from error
    if targets.shape[1] == 1:
        return np.asarray(AutoReg(targets[:, 0], lags=0, trend="n", exog=regressors).fit().params)[:, None]
    return np.asarray(VAR(targets, exog=regressors).fit(maxlags=0, trend="n").params)
