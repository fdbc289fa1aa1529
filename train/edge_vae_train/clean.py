"""Training windows without the worst of them, where nobody vouches that all of the data is normal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from edge_vae.features import features
from edge_vae.sample import FloatArray
from edge_vae.view import LIMIT_SIGMA
from edge_vae_train import fit as fitting
from edge_vae_train.models import Architecture
from edge_vae_train.prepare import Prepared, WindowSet
from edge_vae_train.settings import Settings

__all__ = ["cleaned"]

_TREES = 200
_FIRST_EPOCHS = 20
"""Of the first training: long enough to learn what most windows are, too short for the few that are unlike them."""
_CHUNK = 512


def cleaned(prepared: Prepared, settings: Settings, *, clip: float, progress: fitting.Progress) -> Prepared:
    """The same without the worst `settings.training.clean` of the training windows, as `clean_by` finds them.

    Held-out blocks keep all their windows. The threshold promises a number of false alarms on what the machine really
    delivers; without its worst windows a block would promise fewer than will come, and if dirt is in a block the
    threshold is higher than need be, which is the lesser evil. The scaler is not fitted again: `scaling = "robust"` is
    what keeps dirt out of that.

    With operating modes each mode loses the same share, so that a rare mode is not taken for dirt.

    Args:
        prepared: Windows to train on and to hold out.
        settings: Share and method.
        clip: Scaled samples are clipped to plus and minus this before a model sees them.
        progress: Called after each epoch of a first training.
    """
    chosen = settings.training
    if not chosen.clean:
        return prepared
    training = prepared.training
    if chosen.clean_by == "forest":
        unusual, judge = _by_forest(training, seed=chosen.seed), "an isolation forest of their features"
    else:
        unusual = _by_model(prepared, settings, clip=clip, progress=progress)
        judge = "a first short training of the window's model"
    kept = _kept(unusual, training, chosen.clean)
    out = int(np.count_nonzero(~kept))
    note = (
        f"left out {out} of {len(training)} training windows, the worst {chosen.clean:.3g} of them to {judge}; "
        "held-out windows are all kept"
    )
    known = np.concatenate([kept, np.ones(len(prepared.order) - len(kept), np.bool_)])
    order = (np.cumsum(known) - 1)[prepared.order[known[prepared.order]]]
    return replace(prepared, training=training[kept], order=order, notes=(*prepared.notes, note))


def _kept(unusual: FloatArray, training: WindowSet, share: float) -> NDArray[np.bool_]:
    """(windows,) False for the most unusual `share` of the windows of each mode."""
    kept = np.ones(len(unusual), np.bool_)
    _, mode = np.unique(training.conditions, axis=0, return_inverse=True)
    for one in np.unique(mode):
        own = np.flatnonzero(mode.ravel() == one)
        kept[own[np.argsort(-unusual[own], kind="stable")[: int(share * len(own))]]] = False
    return kept


def _by_forest(training: WindowSet, *, seed: int) -> FloatArray:
    """The anomaly score of an isolation forest (Liu, Ting and Zhou 2008, eq. 2) on all features of a window."""
    windows = np.clip(training.windows.astype(np.float64), -LIMIT_SIGMA, LIMIT_SIGMA)
    rows = features(windows).reshape(len(windows), -1)
    forest = IsolationForest(n_estimators=_TREES, random_state=seed).fit(rows)
    return np.asarray(-forest.score_samples(rows))


def _by_model(prepared: Prepared, settings: Settings, *, clip: float, progress: fitting.Progress) -> FloatArray:
    """The mean squared error over its variance of a model of the window that was trained for a short while."""
    training, held_out = prepared.training, WindowSet.joined(prepared.held_out)
    clipped = [np.clip(windows.windows, -clip, clip) for windows in (training, held_out)]
    wanted = Architecture(
        length=training.windows.shape[1],
        channels=training.windows.shape[2],
        family=settings.model.family,
        latent=settings.model.latent,
        modes=training.conditions.shape[1],
    )
    fitted = fitting.fit(
        wanted,
        *clipped,
        conditions=(training.conditions, held_out.conditions),
        beta=settings.beta,
        epochs=min(settings.training.epochs, _FIRST_EPOCHS),
        batch_size=settings.training.batch_size,
        seed=settings.training.seed,
        progress=progress,
    )
    return np.concatenate(
        [
            _errors(fitted, clipped[0][at : at + _CHUNK], training.conditions[at : at + _CHUNK])
            for at in range(0, len(training), _CHUNK)
        ]
    )


def _errors(fitted: fitting.Fitted, windows: NDArray[np.float32], conditions: NDArray[np.float32]) -> FloatArray:
    errors = np.square(windows - fitted.vae.reconstructed(windows, conditions))
    return np.asarray((errors / fitted.variance).mean(axis=(1, 2)))
