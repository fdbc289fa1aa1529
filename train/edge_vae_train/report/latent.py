"""What the latent units of a view tell: which are in use, how they move together, and what each does to a window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from edge_vae.sample import FloatArray

__all__ = ["ACTIVE_VARIANCE", "LEVELS", "Latent", "Traversal", "answer", "latent", "traverse"]

ACTIVE_VARIANCE = 0.05
"""Variance of a unit's posterior mean on normal windows from which on it counts as active, as in training."""
LEVELS = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""Where a unit is put, in its own standard deviations on normal windows; the others stay at their mean."""
_RELATED = 0.3
_SAME = 0.6
_MAINLY = 0.5


@dataclass(frozen=True, slots=True)
class Latent:
    """The posterior means of one view.

    Attributes:
        means: (windows, units).
        labels: (windows,) True where labelled.
        variance: (units,) on normal windows.
        active: Numbers of the active units, from 0, most variance first.
        correlation: (active, active) on normal windows.
        parting: (active,) how well the unit by itself parts labelled from normal windows, 0.5 to 1; NaN for one class.
    """

    means: FloatArray
    labels: NDArray[np.bool_]
    variance: FloatArray
    active: tuple[int, ...]
    correlation: FloatArray
    parting: FloatArray

    @property
    def largest_correlation(self) -> float:
        """Largest |r| between two active units; 0 with fewer than two."""
        off = np.abs(self.correlation - np.eye(len(self.active)))
        return float(off.max()) if len(self.active) > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Traversal:
    """What moving each active unit does to what the decoder gives.

    Attributes:
        windows: (active, levels, steps, channels) decoded.
        shares: (active, channels) each channel's part in the movement.
    """

    windows: FloatArray
    shares: FloatArray


def latent(means: FloatArray, labels: NDArray[np.bool_]) -> Latent:
    """The latent space as normal windows fill it; as all do where none is normal."""
    normal = means[~labels] if (~labels).any() else means
    variance = normal.var(axis=0)
    active = tuple(int(unit) for unit in np.argsort(-variance, kind="stable") if variance[unit] > ACTIVE_VARIANCE)
    used = normal[:, active]
    correlation = np.atleast_2d(np.corrcoef(used, rowvar=False)) if len(active) > 1 else np.eye(len(active))
    ranked = bool(labels.any() and not labels.all())
    auc = np.array([roc_auc_score(labels, means[:, unit]) if ranked else np.nan for unit in active])
    return Latent(means, labels, variance, active, correlation, np.maximum(auc, 1 - auc))


def traverse(found: Latent, decoder: Any, condition: NDArray[np.float32]) -> Traversal:
    """Each active unit moved through `LEVELS`, decoded.

    Args:
        found: The latent space.
        decoder: The Keras decoder: latent, or [latent, condition] -> (batch, steps, channels).
        condition: (conditions,) of the operating mode; of no length without modes.
    """
    normal = found.means[~found.labels] if (~found.labels).any() else found.means
    centre, spread = normal.mean(axis=0), normal.std(axis=0)
    at = np.repeat(centre[None], len(found.active) * len(LEVELS), axis=0)
    for i, unit in enumerate(found.active):
        at[i * len(LEVELS) : (i + 1) * len(LEVELS), unit] += np.array(LEVELS) * spread[unit]
    given = [at.astype(np.float32), np.repeat(condition[None], len(at), axis=0)]
    decoded = np.asarray(decoder(given if len(decoder.inputs) > 1 else given[0], training=False), np.float64)
    windows = decoded.reshape(len(found.active), len(LEVELS), *decoded.shape[1:])
    moved = windows.var(axis=1).mean(axis=1)
    return Traversal(windows, moved / np.maximum(moved.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny))


def answer(found: Latent, traversal: Traversal | None, channels: tuple[str, ...]) -> str:
    """Whether the units are disentangled, and by which figures."""
    if len(found.active) < 2:
        return "With fewer than two active units there is nothing to disentangle."
    largest = found.largest_correlation
    pair = np.unravel_index(np.abs(found.correlation - np.eye(len(found.active))).argmax(), found.correlation.shape)
    units = " and ".join(str(unit) for unit in sorted(found.active[int(i)] + 1 for i in pair))
    related = "hardly move together" if largest < _RELATED else "partly move together" if largest < _SAME else "overlap"
    text = f"On normal windows the active units {related}: the largest |r| is {largest:.2f}, between units {units}."
    if traversal is None:
        verdict = (
            "Entangled" if largest >= _RELATED else "Uncorrelated, which is needed for disentangled but not enough"
        )
        return f"{verdict}. {text}"
    mainly = traversal.shares.max(axis=1) >= _MAINLY
    own = sorted(set(traversal.shares.argmax(axis=1)[mainly].tolist()))
    named = f": {', '.join(channels[c] for c in own)}" if own else ""
    if len(channels) == 1:
        verdict = "Entangled" if largest >= _RELATED else "Uncorrelated; with one channel no more can be said"
        return f"{verdict}. {text}"
    disentangled = largest < _RELATED and 2 * len(own) > len(found.active)
    verdict = "Disentangled, as far as this shows" if disentangled else "Not disentangled"
    text += (
        f" {int(mainly.sum())} of {len(found.active)} active units act mainly (at least {_MAINLY:.0%}) on a single "
        f"channel{named}."
    )
    return f"{verdict}. {text} The score does not need it: it says how far a unit can be given a name."
