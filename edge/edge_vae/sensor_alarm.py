"""Faults of sensors as the annunciator tells them: alarms, with causes of their own. Pure."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from edge_vae.alarm_memory import Active, Memory, Seen
from edge_vae.annunciator import Annunciator, Notice
from edge_vae.event import Cause, Channel, Quality, Severity
from edge_vae.sample import FloatArray
from edge_vae.sensor_fault import FAULT_KINDS, SensorFault
from edge_vae.sensor_watch import SensorWatch

__all__ = ["SensorAlarms"]

_BAD = ("missing", "stuck", "rail", "silent")
"""Kinds of faults that leave no reading to use; of the others the readings may be right, and their times are not."""


class SensorAlarms:
    """Tells of the faults that a watch finds.

    Args:
        watch: Finds them.
        annunciator: Tells of them, as of all alarms of the asset.
        severity: Of each.
        columns: Those of the samples.
    """

    def __init__(
        self, watch: SensorWatch, annunciator: Annunciator, *, severity: Severity, columns: Sequence[str]
    ) -> None:
        self.watch, self._annunciator, self._severity = watch, annunciator, severity
        self._columns = {name: i for i, name in enumerate(columns)}
        self.active: dict[str, SensorFault] = {}
        """The faults that have begun and not ended, by their keys, as far as they were announced."""

    @property
    def silent(self) -> bool:
        """Whether nothing comes."""
        return "silent" in self.active

    def interrupt(self) -> None:
        """A session starts: no sample follows another one."""
        self.watch.interrupt()

    def resume(self, memory: Memory) -> list[str]:
        """Go on with the faults of before a restart; the keys of those that can still end."""
        before = [_fault(alarm) for alarm in memory.alarms.values() if alarm.seen.cause.of_sensor]
        self.watch.resume(before)
        self.active = dict(self.watch.active)
        return list(self.active)

    def told(
        self, fault: SensorFault, now_s: float, *, sample: int, time_s: float | None, values: FloatArray | None
    ) -> list[Notice]:
        """What an operator is told of a fault that begins or ends.

        Args:
            fault: It.
            now_s: When it was found, by the annunciator's clock.
            sample: Number of the sample that shows it.
            time_s: Time of that sample, seconds since 1970; None without time.
            values: (columns,) its readings; None where none shows it.
        """
        seen = self._seen(fault, sample, time_s, values)
        if fault.begins:
            self.active[fault.key] = fault
            peak = fault.value if math.isfinite(fault.value) else 0.0
            return self._annunciator.raised(fault.key, now_s, severity=self._severity, peak=peak, seen=seen)
        self.active.pop(fault.key, None)
        return self._annunciator.cleared(fault.key, seen=seen)

    def tick(self, now_s: float, *, sample: int) -> list[Notice]:
        """What the passing of time brings: silence, and faults that are told again."""
        found: list[Notice] = []
        for key in self.active:
            alarm = self._annunciator.memory.alarms[key]
            look = functools.partial(getattr, alarm, "seen")
            found += self._annunciator.still(key, now_s, severity=alarm.severity, peak=alarm.peak, look=look)
        for fault in self.watch.tick(now_s):
            found += self.told(fault, now_s, sample=sample, time_s=None, values=None)
        return found

    def _seen(self, fault: SensorFault, sample: int, time_s: float | None, values: FloatArray | None) -> Seen:
        cause = Cause(kind=fault.kind, channel=fault.channel, value=fault.value, peak=None, limit=fault.limit)
        quality: Quality = "good" if not fault.begins else "bad" if fault.kind in _BAD else "uncertain"
        names = fault.together if fault.channel is None else (fault.channel,)
        channels = tuple(
            Channel(
                name=name, share=None, value=None if values is None else float(values[self._columns[name]]),
                expected=None, quality=quality,
            )
            for name in names
        )  # fmt: skip
        return Seen(cause, None, None, channels, time_s, time_s, sample, quality)


def _fault(alarm: Active) -> SensorFault:
    """The fault that an alarm is about."""
    cause = alarm.seen.cause
    kind = next(kind for kind in FAULT_KINDS if kind == cause.kind)
    together = () if cause.channel else tuple(channel.name for channel in alarm.seen.channels)
    return SensorFault(kind, cause.channel, begins=True, sample=0, together=together)
