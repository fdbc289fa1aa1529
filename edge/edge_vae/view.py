"""Views of a window: the window itself, or its features, and what a model made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.features import feature_names, features
from edge_vae.runtime import Outputs, Runtime
from edge_vae.sample import FloatArray

__all__ = [
    "LIMIT_SIGMA",
    "OUTPUTS",
    "RECONSTRUCTION",
    "VARIANCE_FLOOR",
    "Model",
    "Rows",
    "Seen",
    "View",
    "see",
    "to_rows",
]

LIMIT_SIGMA = 1e3
"""Scaled samples beyond this count as this: a broken sensor must not overflow a statistic."""

VARIANCE_FLOOR = 1e-3
"""Smallest decoder variance, in squared sigmas of the scaled samples. Where normal errors are smaller, quantization
noise would decide the score (measured: AUC loss of -0.0135 without, -0.002 with this floor)."""

RECONSTRUCTION = "reconstruction"
OUTPUTS = (RECONSTRUCTION, "posterior_mean", "posterior_log_variance")
"""What a model gives: (windows, steps, channels), (windows, latent), (windows, latent). An autoencoder that is no VAE
gives the first alone."""

Rows = tuple[tuple[float, ...], ...]


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model: its hash, its outputs (name to tensor name), its operators and their counts."""

    sha256: str
    precision: str
    outputs: dict[str, str]
    operators: dict[str, int]

    def __post_init__(self) -> None:
        if set(self.outputs) not in (set(OUTPUTS), set(OUTPUTS[:1])):
            msg = f"expected a model with the outputs {', '.join(OUTPUTS)}, received {', '.join(self.outputs)}"
            raise ValueError(msg)


class View(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one model sees of a window, always (windows, steps, channels).

    Attributes:
        name: Also the name of its model's file in the bundle.
        input: `window`: the scaled window, a step being a sample. `features`: a step being a feature.
        centre: (steps, channels) subtracted from the features; with modes (modes * steps, channels), one mode after the
            other; empty for `window`.
        scale: What they are divided by, of the same shape.
        lag: Samples in a lag vector: steps are then those of all lag vectors of the window, one after the other,
            (length - lag + 1) * lag in all. 0: steps are the samples or features themselves.
        conditions: (modes, conditions) of the modes that centre and scale have rows for; empty without modes.
        variance: (1 or steps, channels) of the decoder, learned with the weights, and of features what wanders besides.
        model: The model; None where there is none, and what is expected is the centre, and in a run, where it lies
            beside.
    """

    name: str
    input: Literal["window", "features"]
    centre: Rows
    scale: Rows
    variance: Rows
    lag: int
    conditions: Rows
    model: Model | None

    def __post_init__(self) -> None:
        if not self.variance or not all(number > 0 for row in (*self.scale, *self.variance) for number in row):
            msg = f"expected a variance, and scales and variances above zero, in view {self.name!r}"
            raise ValueError(msg)
        if (self.input == "features") != bool(self.centre) or len(self.centre) != len(self.scale):
            msg = f"expected a centre and a scale for each feature, and for features alone, in view {self.name!r}"
            raise ValueError(msg)
        if self.lag < 0 or (self.lag and self.input != "window"):
            msg = f"expected a lag of at least 0, and of samples, in view {self.name!r}"
            raise ValueError(msg)
        if self.conditions and len(self.centre) % len(self.conditions):
            msg = f"expected a centre and a scale for each feature of each mode in view {self.name!r}"
            raise ValueError(msg)

    def steps(self, length: int) -> int:
        """Steps that a window of `length` samples has in this view."""
        if self.lag:
            return (length - self.lag + 1) * self.lag
        return length if self.input == "window" else len(feature_names(length))

    def target(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> FloatArray:
        """What the model should reconstruct, unclipped, of scaled windows (windows, length, channels).

        `conditions` (windows, conditions) tells the operating mode of each.
        """
        windows = np.clip(scaled, -LIMIT_SIGMA, LIMIT_SIGMA)
        if self.input == "window":
            return _lagged(windows, self.lag) if self.lag else windows
        centre, scale = (self._of_mode(table, conditions) for table in (self.centre, self.scale))
        raw = (features(windows) - centre) / scale
        return np.asarray(np.clip(raw, -LIMIT_SIGMA, LIMIT_SIGMA))

    def raw(self, standardised: FloatArray, conditions: NDArray[np.float32]) -> FloatArray:
        """Features (windows, steps, channels) of scaled windows from standardised ones."""
        return standardised * self._of_mode(self.scale, conditions) + self._of_mode(self.centre, conditions)

    def _of_mode(self, table: Rows, conditions: NDArray[np.float32]) -> FloatArray:
        """The rows of a table that belong to the mode of each window, (1 or windows, steps, channels)."""
        if not self.conditions:
            return np.array(table)[None]
        mode = (conditions @ np.array(self.conditions, np.float32).T).argmax(axis=1)
        return np.asarray(np.array(table).reshape(len(self.conditions), -1, len(table[0]))[mode])


@dataclass(frozen=True, slots=True)
class Seen:
    """What a view made of windows.

    Attributes:
        target: (windows, steps, channels), unclipped.
        reconstruction: (windows, steps, channels).
        mean: (windows, latent) of the posterior.
        log_variance: (windows, latent) of the posterior.
        variance: (1 or steps, channels) of the decoder.
    """

    target: FloatArray
    reconstruction: FloatArray
    mean: FloatArray
    log_variance: FloatArray
    variance: FloatArray

    @classmethod
    def of(cls, view: View, target: FloatArray, outputs: Outputs) -> Seen:
        """A target, and what the view's model put out for it; nothing where there is no model."""
        nothing = np.empty((len(target), 0))
        reconstruction = outputs.get(RECONSTRUCTION, np.zeros_like(target)).astype(np.float64)
        mean, log_variance = (outputs.get(name, nothing).astype(np.float64) for name in OUTPUTS[1:])
        return cls(target, reconstruction, mean, log_variance, np.array(view.variance))

    def __getitem__(self, chosen: slice | NDArray[np.intp] | NDArray[np.bool_]) -> Seen:
        return Seen(
            self.target[chosen], self.reconstruction[chosen], self.mean[chosen], self.log_variance[chosen],
            self.variance,
        )  # fmt: skip


def see(
    views: Sequence[View],
    runtimes: Mapping[str, Runtime],
    scaled: FloatArray,
    *,
    clip: float,
    conditions: NDArray[np.float32],
) -> dict[str, Seen]:
    """What each view makes of scaled, unclipped windows (windows, length, channels).

    Args:
        views: The views.
        runtimes: The running model of each view that has one, by the view's name.
        scaled: The windows.
        clip: The models see their input within plus and minus this; the PCA of lag vectors, which has no int8 steps to
            spare and goes on in a straight line beyond what it was fitted on, within `LIMIT_SIGMA`.
        conditions: (windows, conditions) of the operating mode; without a column where there are no modes.
    """
    seen = {}
    for view in views:
        target, outputs = view.target(scaled, conditions), None
        if view.name in runtimes:
            limit = LIMIT_SIGMA if view.lag else clip
            outputs = runtimes[view.name](np.clip(target, -limit, limit).astype(np.float32), conditions)
        seen[view.name] = Seen.of(view, target, outputs or {})
    return seen


def _lagged(windows: FloatArray, lag: int) -> FloatArray:
    """All runs of `lag` consecutive samples of each window, one after the other, (windows, runs * lag, channels)."""
    runs = np.lib.stride_tricks.sliding_window_view(windows, lag, axis=1).swapaxes(2, 3)
    return np.asarray(runs.reshape(len(windows), runs.shape[1] * lag, windows.shape[2]))


def to_rows(numbers: FloatArray) -> Rows:
    """A table (rows, columns) as the manifest holds it, to seven digits: as exact as the float32 it came from."""
    return tuple(tuple(float(f"{number:.7g}") for number in row) for row in numbers.tolist())
