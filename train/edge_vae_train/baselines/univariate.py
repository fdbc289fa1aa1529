"""What needs no model: the mean |z|, and the one statistic of one channel that sees mild synthetic faults best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from edge_vae.faults import FAULTS, inject
from edge_vae.sample import FloatArray
from edge_vae_train.baselines.rows import thin
from edge_vae_train.baselines.window_statistics import STATISTICS, Standard

__all__ = ["SingleChannel", "fit_mean_absolute_z", "fit_single_channel"]

_SEVERITIES = (0.5, 2.5)
_FAULTY = 1000
_NORMAL = 1000
_STILL = 1e-3
_OSCILLATES_FROM = 4
"""A sine of up to a quarter of the sampling rate does not fit into fewer samples."""


@dataclass(frozen=True, slots=True)
class SingleChannel:
    """The deviation of one statistic of one channel from its training distribution, in spreads, two-sided.

    Attributes:
        statistic: Its name in `STATISTICS`.
        channel: Index of the channel.
        standard: Centre and spread (1,) of the statistic in training windows.
        auc: What it was chosen for: ROC-AUC of held-out windows with synthetic faults against those without.
    """

    statistic: str
    channel: int
    standard: Standard
    auc: float

    def __call__(self, windows: FloatArray) -> FloatArray:
        """Scores (windows,) of windows (windows, length, channels)."""
        value = STATISTICS[self.statistic](windows[:, :, self.channel : self.channel + 1])
        return np.asarray(np.abs(self.standard(value))[:, 0])


def fit_mean_absolute_z(
    training: FloatArray,  # noqa: ARG001 (one signature)
    held_out: FloatArray,  # noqa: ARG001 (one signature)
    *,
    seed: int,  # noqa: ARG001 (one signature)
) -> Callable[[FloatArray], FloatArray]:
    """The mean |z| over a window's cells: the scaler is all that was fitted."""
    return lambda windows: np.asarray(np.abs(windows).mean(axis=(1, 2)))


def fit_single_channel(training: FloatArray, held_out: FloatArray, *, seed: int) -> SingleChannel:
    """The best of all statistics of all channels, chosen without a label: on held-out windows and synthetic faults.

    The faults are those of `edge_vae.faults`, 0.5 to 2.5 sigma, on one, some or all channels. Such faults are not the
    machine's own, so the choice may be a poor one; a choice on test labels would be no baseline but hindsight. What
    goes wrong on another channel is not seen at all, nor is a level where a spread was chosen. Constant channels are
    left out.
    """
    normal = thin(held_out, _NORMAL)
    faulty = _with_faults(normal, np.random.default_rng(seed))
    candidates = [_judged(name, training, normal, faulty) for name in STATISTICS]
    return max(candidates, key=lambda best: best.auc)


def _judged(name: str, training: FloatArray, normal: FloatArray, faulty: FloatArray) -> SingleChannel:
    """The statistic on the channel where it ranks faulty windows best."""
    measure = STATISTICS[name]
    standard = Standard.fit(measure(training))
    aucs = _roc_auc(np.abs(standard(measure(normal))), np.abs(standard(measure(faulty))))
    # Any fault is plain to see on a channel that stood still; it says nothing about the machine.
    channel = int(np.argmax(np.where(training.std(axis=(0, 1)) > _STILL, aucs, 0.0)))
    chosen = Standard(standard.centre[[channel]], standard.spread[[channel]])
    return SingleChannel(name, channel, chosen, float(aucs[channel]))


def _roc_auc(normal: FloatArray, faulty: FloatArray) -> FloatArray:
    """ROC-AUC of each column (candidates,): the share of (faulty, normal) pairs ranked rightly, ties half."""
    positives, negatives = len(faulty), len(normal)
    ranks = rankdata(np.concatenate([faulty, normal]), axis=0)[:positives].sum(axis=0)
    return np.asarray((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def _with_faults(windows: FloatArray, generator: np.random.Generator) -> FloatArray:
    length, channels = windows.shape[1:]
    names = [name for name in sorted(FAULTS) if name != "oscillation" or length >= _OSCILLATES_FROM]
    faulty = np.empty((_FAULTY, *windows.shape[1:]))
    for i, source in enumerate(generator.integers(0, len(windows), _FAULTY)):
        hit = generator.random(channels) < generator.choice([1.0 / channels, 0.4, 1.0])
        hit[generator.integers(channels)] = True
        fault, severity = names[i % len(names)], float(generator.uniform(*_SEVERITIES))
        faulty[i] = inject(windows[source], fault=fault, channels=hit, severity=severity, generator=generator)
    return faulty
