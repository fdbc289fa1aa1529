"""Plain rules beside the model: limits of single channels and of how fast they may change, on raw samples. Pure.

They need neither a baseline nor a known mode, and say themselves what is wrong: a value, and the limit that it crossed.
A block without anything to tell costs a few comparisons of whole arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.alarm import Change
from edge_vae.event import Severity
from edge_vae.sample import FloatArray

__all__ = ["Crossing", "Limit", "LimitKind", "Limits"]

LimitKind = Literal["low", "high", "rate"]


class Limit(msgspec.Struct, frozen=True):
    """One limit of one channel.

    Attributes:
        kind: On which side it is crossed; `rate` is about the change in either direction.
        channel: The channel's name.
        value: The limit, in the channel's unit; of a rate in units a second.
        on_delay: Raise when so many samples in a row are beyond it.
        off_delay: Clear when so many samples in a row are back by the deadband.
        deadband: In the unit of `value`.
        span: Of a rate: it is the change over so many sample periods.
        severity: Of the alarm.
    """

    kind: LimitKind
    channel: str
    value: float
    on_delay: int = 1
    off_delay: int = 1
    deadband: float = 0.0
    span: int = 1
    severity: Severity = "warning"

    @property
    def key(self) -> str:
        """What tells it from every other limit, of this configuration and of another one."""
        return f"{self.kind} {self.channel} {self.value!r}"


@dataclass(frozen=True, slots=True)
class Crossing:
    """An alarm of a limit that is raised, goes on or is cleared.

    Attributes:
        limit: Which one.
        change: `NONE` for one that goes on, told once a block.
        sample: 0-based index in the block of the sample that did it; of one that goes on the last one.
        value: What the limit is about at this sample.
        peak: What was farthest beyond it since it was raised.
    """

    limit: Limit
    change: Change
    sample: int
    value: float
    peak: float


class Limits:
    """The limits of one asset, block by block; the sizes of blocks never change when an alarm is raised or cleared.

    A missing reading is on no side of a limit: it ends a run of samples that are beyond it as well as one of samples
    that are back.

    Args:
        limits: Any number of them.
        channels: The columns of samples; further ones are ignored.
        period_s: Time between samples, where they have none of their own.
    """

    def __init__(self, limits: Sequence[Limit], *, channels: Sequence[str], period_s: float) -> None:
        self._watches = [_Watch(limit, channels.index(limit.channel), period_s) for limit in limits]

    @property
    def keys(self) -> list[str]:
        """Those of all limits."""
        return [watch.limit.key for watch in self._watches]

    def resume(self, peaks: Mapping[str, float]) -> None:
        """Go on with the alarms that were active before a restart, with their peaks by their keys."""
        for watch in self._watches:
            watch.peak = peaks.get(watch.limit.key)

    def interrupt(self) -> None:
        """Forget the samples so far, as at the start of a session; an active alarm stays until samples clear it."""
        for watch in self._watches:
            watch.forget()

    def push(self, values: FloatArray, times: FloatArray) -> list[Crossing]:
        """What these samples do to the limits' alarms, in the order of the samples.

        Args:
            values: (samples, columns) in sensor units.
            times: (samples,) in seconds; NaN where the source has no time.
        """
        found = [crossing for watch in self._watches for crossing in watch.push(values, times)]
        return sorted(found, key=lambda crossing: crossing.sample) if len(found) > 1 else found


class _Watch:
    """One limit, and how far its alarm is."""

    def __init__(self, limit: Limit, column: int, period_s: float) -> None:
        self.limit, self._column, self._period_s = limit, column, period_s
        self._sign = -1.0 if limit.kind == "low" else 1.0
        self.peak: float | None = None
        """What was farthest beyond the limit; None while there is no alarm."""
        self.forget()

    def forget(self) -> None:
        self._run, self._worst = 0, -np.inf
        """Samples in a row, up to the latest, that count towards the next turn, and the worst of them, signed."""
        self._before, self._before_s = np.empty(0), np.empty(0)

    def push(self, values: FloatArray, times: FloatArray) -> Iterator[Crossing]:
        measured = values[:, self._column]
        if self.limit.kind == "rate":
            measured = self._rates(measured, times)
        signed, at = self._sign * measured, 0
        while at < len(signed):
            end = self._turn_at(signed[at:])
            stop = len(signed) if end is None else at + end + 1
            change = self._went_on(signed[at:stop], turned=end is not None)
            if change is not Change.NONE or (self.peak is not None and stop == len(signed)):
                yield self._crossing(change, stop - 1, float(measured[stop - 1]))
            if change is Change.CLEARED:
                self.peak = None
            at = stop

    def _turn_at(self, signed: FloatArray) -> int | None:
        """Index of the sample that raises or clears the alarm; None if none of them does."""
        bar = self._sign * self.limit.value
        if self.peak is None:
            hits, needed = signed > bar, self.limit.on_delay
        else:
            hits, needed = signed <= bar - self.limit.deadband, self.limit.off_delay
        if not hits.any():
            self._run, self._worst = 0, -np.inf
            return None
        at = _completes(hits, needed, self._run)
        if at is None:
            misses = np.flatnonzero(~hits)
            if len(misses):
                self._run, self._worst = 0, -np.inf
            run = len(hits) - 1 - int(misses[-1]) if len(misses) else len(hits)
            self._run += run
            self._worst = max(self._worst, float(signed[len(signed) - run :].max(initial=-np.inf)))
        return at

    def _went_on(self, signed: FloatArray, *, turned: bool) -> Change:
        """Follow the peak of an alarm through these samples, the last of which may raise or clear it."""
        if self.peak is None and not turned:
            return Change.NONE
        change = Change.NONE if not turned else Change.RAISED if self.peak is None else Change.CLEARED
        seen = signed[-self.limit.on_delay :] if change is Change.RAISED else signed
        before = self._worst if self.peak is None else self._sign * self.peak
        self.peak = self._sign * max(before, float(seen[~np.isnan(seen)].max(initial=-np.inf)))
        if turned:
            self._run, self._worst = 0, -np.inf
        return change

    def _crossing(self, change: Change, sample: int, value: float) -> Crossing:
        return Crossing(self.limit, change, sample, value, self.peak if self.peak is not None else value)

    def _rates(self, measured: FloatArray, times: FloatArray) -> FloatArray:
        """(samples,) how fast each one has changed, in units a second; NaN where there is none to compare it with."""
        span = self.limit.span
        values, at_s = np.concatenate([self._before, measured]), np.concatenate([self._before_s, times])
        self._before, self._before_s = values[-span:], at_s[-span:]
        rates = np.full(len(values), np.nan)
        steps_s = at_s[span:] - at_s[:-span]
        steps_s[np.isnan(steps_s)] = span * self._period_s
        steps_s[steps_s <= 0] = np.nan
        with np.errstate(invalid="ignore"):  # of two infinite readings
            rates[span:] = np.abs(values[span:] - values[:-span]) / steps_s
        return rates[len(values) - len(measured) :]


def _completes(hits: NDArray[np.bool_], needed: int, before: int) -> int | None:
    """Index at which a run of so many hits is complete, with so many in a row before the first one; None if none is."""
    missed = np.flatnonzero(~hits)
    starts = np.concatenate([[-before], missed + 1])
    ends = np.concatenate([missed, [len(hits)]])
    long = np.flatnonzero(ends - starts >= needed)
    return int(starts[long[0]]) + needed - 1 if len(long) else None
