"""What normal data says of each channel, for the device's checks of its sensors: range, and longest rest."""

from __future__ import annotations

import numpy as np

from edge_vae.bundle import Channel
from edge_vae.sample import FloatArray
from edge_vae.scale import Scaler
from edge_vae_train.data import Recording
from edge_vae_train.prepare import normal_rows

__all__ = ["described"]

_SWITCH = 2
"""A channel with so many different readings is a switch: how long it rests says nothing of its sensor."""


def described(recording: Recording, scaler: Scaler) -> tuple[Channel, ...]:
    """The channels of a recording, with the scaler that was fitted to it."""
    normal = [normal_rows(session) for session in recording.sessions]
    rows = np.concatenate([s.values[n] for s, n in zip(recording.sessions, normal, strict=True)])
    rests = [_rests(np.where(n[:, None], s.values, np.nan)) for s, n in zip(recording.sessions, normal, strict=True)]
    longest = np.max(rests, axis=0)
    return tuple(
        Channel(
            name, float(scaler.centre[i]), float(scaler.scale[i]), float(rows[:, i].min()), float(rows[:, i].max()),
            int(longest[i]) if len(np.unique(rows[:, i])) > _SWITCH else None,
        )
        for i, name in enumerate(recording.channels)
    )  # fmt: skip


def _rests(values: FloatArray) -> FloatArray:
    """The longest run of equal readings of each channel (channels,) in rows (rows, channels); NaN equals nothing."""
    number = np.arange(len(values))[:, None]
    changed = np.ones(values.shape, np.bool_)
    np.not_equal(values[1:], values[:-1], out=changed[1:])
    runs = number - np.maximum.accumulate(np.where(changed, number, 0), axis=0) + 1
    return np.asarray(runs.max(axis=0, initial=1))
