"""Views fitted to training windows: what each model sees, before there is a model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import PCA_VIEW
from edge_vae.features import features
from edge_vae.sample import FloatArray
from edge_vae.view import LIMIT_SIGMA, Rows, View, to_rows
from edge_vae_train.prepare import WindowSet
from edge_vae_train.principal import lag

__all__ = ["CLIP", "chunks", "features_view", "fit_view", "targets"]

CLIP = 8.0
"""Scaled samples are clipped to plus and minus this before the model sees them: int8 has 256 steps for it all."""

_FEATURE_SCALE_FLOOR = 1e-3
_MODE_PRIOR_WINDOWS = 10.0
"""The spread of a mode's features is taken as if so many further windows had shown the spread of all modes."""
_CHUNK = 4096
"""Windows that are worked on at a time: in float64, with what a spectrum needs besides, all of them would take ten
times the memory of the windows themselves."""


def fit_view(name: str, training: WindowSet, *, normal: int) -> View:
    """The view of this name, with variances of 1 where a model has yet to learn them.

    `normal` counts all windows of normal data, which a PCA is fitted on in the end.
    """
    _, length, channels = training.windows.shape
    unit = ((1.0,) * channels,)
    if name == "features":
        return features_view(training, unit)
    lagged = lag(normal, length=length, channels=channels) if name == PCA_VIEW else 0
    return View(name, "window", (), (), unit, lagged, (), None)


def targets(view: View, windows: WindowSet) -> NDArray[np.float32]:
    """What the view's model is given and should give back, (windows, steps, channels), clipped to `CLIP`."""
    found = np.empty((len(windows), view.steps(windows.windows.shape[1]), windows.windows.shape[2]), np.float32)
    for at, part in chunks(windows):
        found[at] = np.clip(view.target(part.windows.astype(np.float64), part.conditions), -CLIP, CLIP)
    return found


def features_view(training: WindowSet, variance: Rows) -> View:
    """The view of the features, which are centred and scaled on the training windows, in each mode by itself.

    The spread of a mode with few windows leans on that of all modes.
    """
    raw = np.concatenate([_features(part) for _, part in chunks(training)])
    conditions, mode = np.unique(training.conditions, axis=0, return_inverse=True)
    groups = [raw[mode.ravel() == i] for i in range(len(conditions))]
    variances = np.array([group.var(axis=0) for group in groups])
    weights = np.array([len(group) for group in groups])[:, None, None]
    pooled = (weights * variances).sum(axis=0) / len(raw)
    variances = (weights * variances + _MODE_PRIOR_WINDOWS * pooled) / (weights + _MODE_PRIOR_WINDOWS)
    centre = np.concatenate([group.mean(axis=0) for group in groups])
    scale = np.maximum(np.sqrt(np.concatenate(variances)), _FEATURE_SCALE_FLOOR)
    known = to_rows(conditions.astype(np.float64)) if conditions.shape[1] else ()
    return View("features", "features", to_rows(centre), to_rows(scale), variance, 0, known, None)


def _features(windows: WindowSet) -> FloatArray:
    return features(np.clip(windows.windows.astype(np.float64), -LIMIT_SIGMA, LIMIT_SIGMA))


def chunks(windows: WindowSet) -> Iterator[tuple[slice, WindowSet]]:
    """The windows in pieces that fit into memory together with what is made of them, and where each piece lies."""
    for i in range(0, len(windows), _CHUNK):
        at = slice(i, i + _CHUNK)
        yield at, windows[at]
