"""When recorded rows are due, when a recording is played as if it happened now."""

from __future__ import annotations

import numpy as np

from edge_vae.sample import FloatArray

__all__ = ["Pace"]


class Pace:
    """Turns the recorded times of one session into moments of the monotonic clock.

    Args:
        start_s: When the first row of the session is due.
        speed: How many recorded seconds pass in one second; greater than 0.
        rate_hz: Rows a recorded second, for rows without times.
    """

    def __init__(self, start_s: float, *, speed: float, rate_hz: float | None) -> None:
        self._start_s, self._speed, self._rate_hz = start_s, speed, rate_hz
        self._first, self._last, self._count = np.nan, 0.0, 0

    def due_s(self, times: FloatArray) -> FloatArray:
        """The moment at which each of the next rows is due, never before that of the row in front of it.

        A row without time is due with the row in front of it; where no row has a time, they follow by the rate.

        Args:
            times: (rows,), seconds, NaN where there is none.

        Raises:
            ValueError: There is neither a time nor a rate.
        """
        timed = np.isfinite(times)
        if not timed.any() and np.isnan(self._first):
            if self._rate_hz is None:
                msg = "neither times nor a rate"
                raise ValueError(msg)
            since_s = (self._count + np.arange(len(times))) / self._rate_hz
        else:
            if np.isnan(self._first):
                self._first = float(times[timed][0])
            since_s = np.where(timed, times - self._first, 0.0)
        since_s = np.maximum.accumulate(np.maximum(since_s, self._last))
        self._count += len(times)
        self._last = float(since_s[-1])
        due: FloatArray = self._start_s + since_s / self._speed
        return due
