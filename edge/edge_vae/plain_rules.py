"""What plain rules say of raw samples, beside the model: faults of sensors, limits of channels, quality. Pure.

They need neither a baseline nor a known mode.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_vae.alarm import Change
from edge_vae.alarm_memory import Memory, Seen
from edge_vae.annunciator import Annunciator, Notice
from edge_vae.event import Cause, Channel, Quality
from edge_vae.limits import Crossing, Limit, Limits
from edge_vae.quality import SampleQuality
from edge_vae.sample import FloatArray
from edge_vae.sensor_alarm import SensorAlarms
from edge_vae.sensor_fault import SensorFault

__all__ = ["PlainRules"]


class PlainRules:
    """Looks at samples before the model does, and tells of what it found in step with the windows.

    Args:
        annunciator: Tells of it.
        sensors: Tells of faults of sensors; None: nothing does.
        limits: Of channels.
        columns: Those of the samples.
        length: Samples in a window.
        period_s: Time between samples, where they have none of their own.
    """

    def __init__(
        self,
        annunciator: Annunciator,
        *,
        sensors: SensorAlarms | None,
        limits: Sequence[Limit],
        columns: Sequence[str],
        length: int,
        period_s: float,
    ) -> None:
        self._annunciator, self._sensors = annunciator, sensors
        self._limits = Limits(limits, channels=columns, period_s=period_s)
        self._quality = SampleQuality(columns, length)
        self._length = length
        self._found: deque[SensorFault | Crossing] = deque()
        self._values, self._times, self._at, self._now_s = np.empty((0, len(columns))), np.empty(0), 0, 0.0

    @property
    def silent(self) -> bool:
        """Whether no samples come."""
        return self._sensors is not None and self._sensors.silent

    def resume(self, memory: Memory) -> list[str]:
        """Go on with the alarms of before a restart; the keys of those that there still are rules for."""
        self._limits.resume({key: alarm.peak for key, alarm in memory.alarms.items()})
        return [*self._limits.keys, *(self._sensors.resume(memory) if self._sensors else ())]

    def interrupt(self) -> None:
        """A session starts: no sample follows another one; what is active stays until samples end it."""
        self._limits.interrupt()
        if self._sensors:
            self._sensors.interrupt()

    def tick(self, now_s: float) -> list[Notice]:
        """What the passing of time brings to the rules."""
        return self._sensors.tick(now_s, sample=self._at + len(self._times)) if self._sensors else []

    def push(
        self, values: FloatArray, times: FloatArray, uncertain: NDArray[np.bool_] | None, *, at: int, now_s: float
    ) -> None:
        """Look at samples; what is found is told by `told`.

        Args:
            values: (samples, columns) in sensor units.
            times: (samples,) seconds since 1970; NaN where the source has no time.
            uncertain: (samples, columns) which readings the source doubts; None for none.
            at: Number of the first sample, counted since the pipeline began.
            now_s: When they arrived, by the annunciator's clock.
        """
        self._values, self._times, self._at, self._now_s = values, times, at, now_s
        crossings = self._limits.push(values, times)
        faults = self._sensors.watch.push(values, times, now_s) if self._sensors else []
        missing = self._sensors.watch.missing if self._sensors else None
        if missing is not None or uncertain is not None:
            self._quality.push(at, missing, uncertain)
        if faults or crossings:
            found: list[SensorFault | Crossing] = [*faults, *crossings]
            self._found = deque(sorted(found, key=_sample))

    def told(self, until: int | None = None) -> Iterator[Notice]:
        """What was found up to the sample of this number, or to the last one; each is told once."""
        last = math.inf if until is None else until - self._at
        while self._found and self._found[0].sample <= last:
            found = self._found.popleft()
            at_s = float(self._times[found.sample])
            time_s = at_s if math.isfinite(at_s) else None
            if isinstance(found, Crossing):
                yield from self._crossed(found, time_s)
            elif self._sensors:
                row = self._values[found.sample]
                yield from self._sensors.told(
                    found, self._now_s, sample=self._at + found.sample, time_s=time_s, values=row
                )

    def qualities(self, last: int) -> dict[str, Quality]:
        """Of the readings of each column in the window that ends with the sample of this number."""
        return self._qualities(last - self._length + 1, last)

    def quality(self, channels: Sequence[Channel], last: int) -> Quality:
        """Of that window as a whole."""
        return self._quality.of_window({channel.quality for channel in channels}, last)

    def _qualities(self, first: int, last: int) -> dict[str, Quality]:
        faults = self._sensors.active.values() if self._sensors else ()
        return self._quality.of_channels(faults, first, last)

    def _crossed(self, crossing: Crossing, time_s: float | None) -> list[Notice]:
        limit, seen = crossing.limit, self._seen(crossing, time_s)
        if crossing.change is Change.CLEARED:
            return self._annunciator.cleared(limit.key, seen=seen)
        if crossing.change is Change.RAISED:
            return self._annunciator.raised(
                limit.key, self._now_s, severity=limit.severity, peak=crossing.peak, seen=seen
            )
        return self._annunciator.still(
            limit.key, self._now_s, severity=limit.severity, peak=crossing.peak, look=functools.partial(_same, seen)
        )

    def _seen(self, crossing: Crossing, time_s: float | None) -> Seen:
        limit, value, sample = crossing.limit, crossing.value, self._at + crossing.sample
        quality = self._qualities(sample, sample)[limit.channel]
        cause = Cause(kind=limit.kind, channel=limit.channel, value=value, peak=crossing.peak, limit=limit.value)
        channel = Channel(name=limit.channel, share=1.0, value=value, expected=None, quality=quality)
        return Seen(cause, None, None, (channel,), time_s, time_s, sample, quality)


def _sample(found: SensorFault | Crossing) -> int:
    return found.sample


def _same(seen: Seen) -> Seen:
    return seen
