"""How well a model tells synthetic faults from held-out normal windows: what fine-tuning must not make worse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score

from edge_vae.faults import FAULTS, inject
from edge_vae.sample import FloatArray
from edge_vae.view import View
from edge_vae_train.models import VariationalAutoencoder
from edge_vae_train.prepare import WindowSet
from edge_vae_train.views import chunks, targets

__all__ = ["SEVERITIES", "Trial"]

SEVERITIES = (1.0, 3.0)
"""In sigmas: mild, because what is grossly wrong any model sees."""
_FAULTS = tuple(sorted(set(FAULTS) - {"stuck"}))
"""A stuck channel is found before the model, and not by it."""
_COUNT = 1000
"""Faulty windows; also the most normal ones."""
_USUAL = 2000
"""The most training windows that say which error is usual."""
_ERROR_FLOOR = 1e-3


@dataclass(frozen=True, slots=True)
class Trial:
    """Windows to try models of one view on, all as the model sees them, (windows, steps, channels).

    Attributes:
        usual: Training windows, which say what error is usual, and their conditions.
        normal: Held-out windows, and their conditions.
        faulty: Held-out windows with one fault on one channel, and their conditions.
    """

    usual: WindowSet
    normal: WindowSet
    faulty: WindowSet

    @classmethod
    def make(cls, view: View, training: WindowSet, held_out: WindowSet, *, seed: int) -> Trial:
        """The trial of a view; the same seed gives the same faults."""
        generator = np.random.default_rng(seed)
        parts = _spread(training, _USUAL), _spread(held_out, _COUNT), _faulty(held_out, generator)
        return cls(*(WindowSet(targets(view, part), part.conditions) for part in parts))

    def roc_auc(self, vae: VariationalAutoencoder) -> float:
        """Probability that a faulty window has a larger error than a normal one, 0.5 by chance.

        The error is that of the channel in which it is largest, relative to what is usual in each step and channel:
        the statistic that all views have in common.
        """
        usual = np.maximum(_errors(vae, self.usual).mean(axis=0), _ERROR_FLOOR)
        normal, faulty = ((_errors(vae, part) / usual).mean(axis=1).max(axis=1) for part in (self.normal, self.faulty))
        labels = np.repeat([0, 1], [len(normal), len(faulty)])
        return float(roc_auc_score(labels, np.concatenate([normal, faulty])))


def _spread(windows: WindowSet, count: int) -> WindowSet:
    """At most `count` of the windows, evenly spread."""
    return windows[np.linspace(0, len(windows) - 1, min(count, len(windows))).round().astype(np.intp)]


def _faulty(normal: WindowSet, generator: np.random.Generator) -> WindowSet:
    chosen = normal[generator.integers(0, len(normal), _COUNT)]
    channels = chosen.windows.shape[2]
    faulty = [
        inject(
            window.astype(np.float64),
            fault=_FAULTS[generator.integers(len(_FAULTS))],
            channels=np.arange(channels) == generator.integers(channels),
            severity=float(generator.uniform(*SEVERITIES)),
            generator=generator,
        )
        for window in chosen.windows
    ]
    return WindowSet(np.array(faulty, np.float32), chosen.conditions)


def _errors(vae: VariationalAutoencoder, windows: WindowSet) -> FloatArray:
    """Squared errors (windows, steps, channels) of what is decoded from the posterior mean."""
    errors = [np.square(part.windows - vae.reconstructed(part.windows, part.conditions)) for _, part in chunks(windows)]
    return np.concatenate(errors)
