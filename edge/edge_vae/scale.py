"""Samples in sensor units to scaled samples: the scaler of a model, and the baseline of a session."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_vae.sample import FloatArray

__all__ = ["MAD_TO_SIGMA", "TRIMMED", "Baseline", "Scaler", "trimmed_mean"]

MAD_TO_SIGMA = 1.4826
"""Median absolute deviation to standard deviation for a normal distribution: 1 / Phi^-1(3/4)."""


TRIMMED = 0.1
"""Part of the samples that is left out at either end of a trimmed mean."""


@dataclass(frozen=True, slots=True)
class Scaler:
    """Centre and spread of each channel, both (channels,), in sensor units; the spread is above zero.

    Those of `repeated` are (1, length, channels).
    """

    centre: FloatArray
    scale: FloatArray

    def __post_init__(self) -> None:
        if self.centre.shape != self.scale.shape or not np.all(self.scale > 0):
            msg = f"expected a centre and a positive scale for each channel, received {self.centre} and {self.scale}"
            raise ValueError(msg)

    def __call__(self, values: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """(values - centre) / scale, channels last; in `out` where that is given."""
        scaled = np.subtract(values, self.centre, out=out)
        scaled /= self.scale
        return scaled

    def repeated(self, length: int) -> Scaler:
        """The same for windows of this length alone, with which numpy does it in less than half the time."""
        return Scaler(*(np.tile(each, (1, length, 1)) for each in (self.centre, self.scale)))

    def inverse(self, scaled: FloatArray) -> FloatArray:
        """Back to sensor units, channels last."""
        return np.asarray(scaled * self.scale + self.centre)


class Baseline:
    """The first `samples` usable samples of a session, and the scaler that they give it.

    The centre is each channel's trimmed mean: as robust as needed, and finer than a median where a sensor reports in
    coarse steps. The spread is the median absolute deviation in sigmas, but never below the model's own scale: a
    session that starts quieter than the machine usually is does not make the detector more nervous, one that starts
    noisier makes it less so.

    Args:
        samples: Samples that the session is learned from; 0: sessions keep the model's scaler.
        model: The scaler of the model.
    """

    def __init__(self, *, samples: int, model: Scaler) -> None:
        self._samples, self._model = samples, model
        self.restart()

    def restart(self, model: Scaler | None = None) -> None:
        """Forget the session: the next samples are learned from, for another scaler of the model where one is given."""
        self._model = model or self._model
        self._pieces: list[FloatArray] = []
        self._missing = self._samples
        self.scaler: Scaler | None = None if self._samples else self._model

    @property
    def missing(self) -> int:
        """Samples that are still to come before anything is scored."""
        return self._missing

    def push(self, values: FloatArray) -> int:
        """Number of these usable samples (samples, channels) that the baseline took; the others are to be scored."""
        taken = min(self._missing, len(values))
        if taken:
            self._pieces.append(values[:taken].copy())
            self._missing -= taken
            if not self._missing:
                self.scaler = self._learned(np.concatenate(self._pieces))
                self._pieces = []
        return taken

    def _learned(self, values: FloatArray) -> Scaler:
        centre = trimmed_mean(values)
        spread = MAD_TO_SIGMA * np.median(np.abs(values - centre), axis=0)
        return Scaler(centre, np.maximum(spread, self._model.scale))


def trimmed_mean(values: FloatArray) -> FloatArray:
    """Mean (channels,) of samples (samples, channels) without the lowest and highest tenth of each channel."""
    cut = int(TRIMMED * len(values))
    return np.asarray(np.sort(values, axis=0)[cut : len(values) - cut].mean(axis=0))
