"""How far the readings behind an event can be trusted, in the words of OPC UA: good, uncertain, bad. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_vae.event import Quality
from edge_vae.sensor_fault import SensorFault

__all__ = ["SampleQuality"]


class SampleQuality:
    """Remembers which of the latest readings were missing or uncertain.

    Args:
        columns: Those of the samples.
        length: Samples in a window.
    """

    def __init__(self, columns: Sequence[str], length: int) -> None:
        self._columns, self._length = tuple(columns), length
        self._missing = np.empty(0, np.int64)
        self._doubted, self._doubts = np.empty(0, np.int64), np.empty((0, len(columns)), np.bool_)

    def push(self, at: int, missing: NDArray[np.bool_] | None, uncertain: NDArray[np.bool_] | None) -> None:
        """Take note of samples; those without anything to note may be left out.

        Args:
            at: Number of the first one.
            missing: (samples,) True where a reading was missing.
            uncertain: (samples, columns) True where the source itself doubts a reading.
        """
        needed = at - 2 * self._length
        if missing is not None:
            new = at + np.flatnonzero(missing)
            self._missing = np.concatenate([self._missing[self._missing >= needed], new])
        if uncertain is not None:
            rows, kept = np.flatnonzero(uncertain.any(axis=1)), self._doubted >= needed
            self._doubts = np.concatenate([self._doubts[kept], uncertain[rows]])
            self._doubted = np.concatenate([self._doubted[kept], at + rows])

    def of_channels(self, faults: Collection[SensorFault], first: int, last: int) -> dict[str, Quality]:
        """Of the readings of each column in the samples of these numbers, while these faults are active.

        Bad: the channel has a fault of its own. Uncertain: the source doubts it, or has a fault.
        """
        own = {name for fault in faults for name in (fault.channel, *fault.together)}
        of_source = any(fault.channel is None and not fault.together for fault in faults)
        inside = (self._doubted >= first) & (self._doubted <= last)
        doubted: list[bool] = np.logical_or.reduce(self._doubts[inside], axis=0).tolist()
        return {
            name: "bad" if name in own else "uncertain" if of_source or doubt else "good"
            for name, doubt in zip(self._columns, doubted, strict=True)
        }

    def of_window(self, channels: Iterable[Quality], last: int) -> Quality:
        """Of the window that ends with the sample of this number, whose channels are of these qualities.

        Bad: so is every channel. Uncertain: not all are good, or a reading was missing less than a window before.
        """
        distinct = set(channels)
        if distinct == {"bad"}:
            return "bad"
        near = (self._missing > last - 2 * self._length) & (self._missing <= last)
        return "good" if distinct == {"good"} and not near.any() else "uncertain"
