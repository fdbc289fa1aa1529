"""Is a sensor broken, or what reads it? Told by plain rules, before a model takes it for the machine. Pure.

Per channel `missing`, `stuck` and `rail`, of the source as a whole `silent`, `gap`, `wrong_rate`, `out_of_order` and
`repeated_time`. Each begins after a delay and ends after another, see `Evidence` and `Standstill`, so that none flaps.
A block in which nothing is wrong costs a handful of operations on whole arrays.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.channel_fault import ChannelFaults, ChannelRules
from edge_vae.evidence import Delays
from edge_vae.sample import FloatArray
from edge_vae.sensor_fault import FAULT_KINDS, FaultKind, SensorFault
from edge_vae.time_fault import TimeFaults, TimeRules

__all__ = ["SensorRules", "SensorWatch"]

SETTLED_S = 10.0
"""A silence is over when samples have come for so long: one sample now and then ends none."""
LONGEST_TICK_S = 2.0
"""More time between two ticks is no silence: whoever was held up, by a full disk or a machine that slept, has not
listened."""


class SensorRules(msgspec.Struct, frozen=True):
    """What is a fault.

    Attributes:
        channels: Of each column of the samples.
        time: Of the times of samples.
        delays: Of faults of single samples.
        silent_s: Without any sample for so long the source is silent.
        watched: What is looked for.
    """

    channels: tuple[ChannelRules, ...]
    time: TimeRules
    delays: Delays
    silent_s: float
    watched: Collection[FaultKind] = FAULT_KINDS


class SensorWatch:
    """Finds the faults of one asset's sensors, block by block; the sizes of blocks never change what is found.

    Args:
        rules: What is a fault.
    """

    def __init__(self, rules: SensorRules) -> None:
        self._rules, self._at = rules, 0
        self._channels = ChannelFaults(rules.channels, rules.delays, rules.watched)
        self._times = TimeFaults(rules.time, rules.delays, rules.watched)
        self._silence = _Silence(rules.silent_s)
        self.active: dict[str, SensorFault] = {}
        """The faults that have begun and not ended, by their keys, as they began."""

    @property
    def missing(self) -> NDArray[np.bool_] | None:
        """(samples,) in which of the latest samples a reading was missing; None where none was."""
        return self._channels.missing

    def resume(self, faults: Iterable[SensorFault]) -> None:
        """Go on with the faults that had begun before a restart; those that are not looked for any more are left."""
        for fault in faults:
            if self._resumed(fault.kind, fault.channel):
                self.active[fault.key] = fault

    def _resumed(self, kind: FaultKind, channel: str | None) -> bool:
        if kind == "silent":
            self._silence.active = "silent" in self._rules.watched
            return self._silence.active
        if kind in ("missing", "stuck", "rail"):
            return self._channels.resume(kind, channel, self._at)
        return self._times.resume(kind, self._at)

    def interrupt(self) -> None:
        """A session starts: no sample follows another one; what has begun stays until samples end it."""
        self._channels.forget(self._at)
        self._times.forget(self._at)

    def push(self, values: FloatArray, times: FloatArray, now_s: float) -> list[SensorFault]:
        """What begins and ends with these samples, in their order.

        Args:
            values: (samples, columns) in sensor units, at least one sample.
            times: (samples,) in seconds; NaN where the source has no time.
            now_s: When they arrived, by a clock that never jumps.
        """
        found = self._silence.heard(now_s)
        found += self._channels.push(self._at, values)
        found += self._times.push(self._at, times)
        self._at += len(times)
        return self._noted(sorted(found, key=lambda fault: fault.sample)) if found else found

    def tick(self, now_s: float) -> list[SensorFault]:
        """What the passing of time brings; to be asked now and then, whether samples come or not."""
        return self._noted(self._silence.tick(now_s)) if "silent" in self._rules.watched else []

    def _noted(self, found: list[SensorFault]) -> list[SensorFault]:
        for fault in found:
            if fault.begins:
                self.active[fault.key] = fault
            else:
                self.active.pop(fault.key, None)
        return found


class _Silence:
    """Nothing comes, which only time can tell."""

    def __init__(self, silent_s: float) -> None:
        self._silent_s, self.active = silent_s, False
        self._quiet_s, self._ticked_s, self._since_s = 0.0, math.nan, math.nan

    def heard(self, now_s: float) -> list[SensorFault]:
        """Samples have come."""
        if self._quiet_s >= self._silent_s or math.isnan(self._since_s):
            self._since_s = now_s
        self._quiet_s = 0.0
        if not self.active or now_s - self._since_s < SETTLED_S:
            return []
        self.active = False
        return [SensorFault("silent", None, begins=False, sample=0)]

    def tick(self, now_s: float) -> list[SensorFault]:
        """Time has passed; the first tick says when the waiting begins."""
        if not math.isnan(self._ticked_s):
            self._quiet_s += min(now_s - self._ticked_s, LONGEST_TICK_S)
        self._ticked_s = now_s
        if self.active or self._quiet_s < self._silent_s:
            return []
        self.active = True
        return [SensorFault("silent", None, begins=True, sample=0, value=self._quiet_s, limit=self._silent_s)]
