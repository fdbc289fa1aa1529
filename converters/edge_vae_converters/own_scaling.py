"""The scaling that somebody's model was trained with, against the standardised windows of a bundle.

A bundle's windows are in sigmas: clip, faults and explanations count in them. A model that expects another scaling gets
its own numbers from the first operators of its graph, and its answer comes back through the last ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vae.errors import ModelError
from edge_vae.sample import FloatArray
from edge_vae.scale import MAD_TO_SIGMA, Scaler

__all__ = [
    "IN_SIGMAS",
    "SCALINGS",
    "Affine",
    "affine",
    "errors_by_scaling",
    "fitted",
    "judge_scaling",
    "relative_error",
]

SCALINGS = ("standard", "robust", "minmax", "none")
"""What a model can have been trained on: (value - mean) / standard deviation; (value - median) / median absolute
deviation, in sigmas; from 0 to 1 between lowest and highest; values as they are."""
IN_SIGMAS = ("standard", "robust")
"""Scalings that the windows of a bundle have by themselves."""

_POOR = 0.9
"""A model that leaves so much of the variance says little more than the mean."""
_BETTER = 0.5
"""Another scaling with less than this part of the error is the one that the model was trained with."""
_GOOD = 0.2
"""Of the variance: a model that leaves no more understands what it is given."""
_UNEVEN = 10.0
"""Spread of one channel over that of another: the smaller one then has a tenth of the 256 steps."""
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Affine:
    """own = gain * standardised + shift, both (channels,)."""

    gain: FloatArray
    shift: FloatArray

    @property
    def warning(self) -> str:
        """What int8 will make of channels of so different sizes; empty where they are alike."""
        ratio = float(np.abs(self.gain).max() / np.abs(self.gain).min())
        if ratio < _UNEVEN:
            return ""
        return (
            f"the model sees one channel {ratio:.0f} times as large as another, and one int8 step serves all: where the"
            " gate refuses that, a model that was trained on scaled data would not have this"
        )

    def own(self, standardised: FloatArray) -> FloatArray:
        """What the model is given for standardised samples, channels last."""
        return np.asarray(standardised * self.gain + self.shift)

    def standardised(self, own: FloatArray) -> FloatArray:
        """Back, channels last."""
        return np.asarray((own - self.shift) / self.gain)


def _still(scale: FloatArray) -> FloatArray:
    """The scale, and 1 for a channel that does not vary, as scikit-learn's scalers have it."""
    return np.where(scale > 0, scale, 1.0)


_OWN: Mapping[str, Callable[[FloatArray], Scaler]] = {
    "minmax": lambda rows: Scaler(rows.min(axis=0), _still(np.ptp(rows, axis=0))),
    "none": lambda rows: Scaler(np.zeros(rows.shape[1]), np.ones(rows.shape[1])),
    "robust": lambda rows: Scaler(
        np.median(rows, axis=0), _still(MAD_TO_SIGMA * np.median(np.abs(rows - np.median(rows, axis=0)), axis=0))
    ),
    "standard": lambda rows: Scaler(rows.mean(axis=0), _still(rows.std(axis=0))),
}


def affine(scaling: str, rows: FloatArray, scaler: Scaler) -> Affine:
    """From windows that `scaler` scaled to a scaling fitted on normal rows (rows, channels) in sensor units."""
    own = _OWN[scaling](rows)
    return Affine(scaler.scale / own.scale, (scaler.centre - own.centre) / own.scale)


def fitted(rows: FloatArray, scaler: Scaler, *, chosen: str) -> dict[str, Affine]:
    """From windows that `scaler` scaled to every scaling; to one `chosen` in sigmas they need not be changed."""
    scalings = {name: affine(name, rows, scaler) for name in SCALINGS}
    if chosen in IN_SIGMAS:
        scalings[chosen] = Affine(np.ones(rows.shape[1]), np.zeros(rows.shape[1]))
    return scalings


def relative_error(windows: NDArray[np.float32], reconstruction: FloatArray) -> float:
    """Squared error of windows (windows, length, channels) over their variance around each channel's mean."""
    centred = windows - windows.mean(axis=(0, 1))
    with np.errstate(over="ignore", invalid="ignore"):  # given what it never saw, a model may answer anything
        error = float(np.square(windows - reconstruction).mean())
    if not np.isfinite(error):
        return float("inf")
    return float(error / max(float(np.square(centred).mean()), _TINY))


def errors_by_scaling(
    reconstruct: Callable[[FloatArray], FloatArray], windows: NDArray[np.float32], scalings: Mapping[str, Affine]
) -> dict[str, float]:
    """`relative_error` of a model by the scaling that it is given.

    Args:
        reconstruct: The model: windows (windows, length, channels) in its own scaling to their reconstruction.
        windows: Standardised normal windows, clipped.
        scalings: From these to each scaling.
    """
    clipped = windows.astype(np.float64)
    return {
        name: relative_error(windows, scaling.standardised(reconstruct(scaling.own(clipped))))
        for name, scaling in scalings.items()
    }


def judge_scaling(name: str, errors: Mapping[str, float], chosen: str, *, explicit: bool) -> str:
    """What is to be told of the scaling; empty where the model reconstructs what it is given.

    Args:
        name: What the model is called in messages.
        errors: `relative_error` on held-out normal windows by scaling.
        chosen: The one that is in force.
        explicit: Whether the user named it.

    Raises:
        ModelError: The model was plainly trained with another scaling, and the user named none.
    """
    best, error = min(errors, key=lambda scaling: errors[scaling]), errors[chosen]
    if error <= _GOOD:
        return ""
    if errors[best] < _BETTER * error:
        measured = f"error over variance of normal data: {error:.2g} with {chosen}, {errors[best]:.2g} with {best}"
        if not explicit:
            what = f"{name}: the model was trained with another scaling"
            raise ModelError(
                what,
                expected=f"a model that reconstructs data scaled by --scaling {chosen}, the default",
                received=measured,
                action=f"Give --scaling {best}; --scaling {chosen} takes the model as it is.",
            )
        return f"the model was probably trained with --scaling {best}: {measured}"
    if error < _POOR:
        return ""
    return (
        f"the model reconstructs normal data hardly better than its mean does (error over variance {error:.2g}, and in"
        " no other scaling much less): other channels, another order of them, or another window than it was trained on?"
    )
