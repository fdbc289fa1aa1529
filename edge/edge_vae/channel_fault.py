"""Single channels that cannot be right: readings are missing, stand still, or rest at an end of the range. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.evidence import Delays, EvidenceOfColumns, Turn
from edge_vae.sample import FloatArray
from edge_vae.sensor_fault import FaultKind, SensorFault
from edge_vae.standstill import Standstill

__all__ = ["ChannelFaults", "ChannelRules"]


class ChannelRules(msgspec.Struct, frozen=True):
    """What can be said of one channel.

    Attributes:
        name: The channel's.
        low: A reading at or below it is none; minus infinity where the sensor has no such end.
        high: A reading at or above it is none.
        least: The lowest reading of normal data: below it a channel that stands still is at a rail that nobody told of.
        most: The highest one.
        still: Equal readings in a row that make it stuck; None: it may rest for as long as it likes.
    """

    name: str
    low: float = -math.inf
    high: float = math.inf
    least: float = -math.inf
    most: float = math.inf
    still: int | None = None

    @property
    def has_ends(self) -> bool:
        """Whether somebody said what the sensor can tell."""
        return math.isfinite(self.low) or math.isfinite(self.high)

    def end_near(self, reading: float) -> float:
        """The end that a reading at a rail is at or beyond."""
        low, high = (self.low, self.high) if self.has_ends else (self.least, self.most)
        return low if reading <= low else high


class ChannelFaults:
    """Finds `missing`, `stuck` and `rail`.

    Args:
        channels: Of each column of the samples.
        delays: Of `missing` and `rail`.
        watched: What is looked for.
    """

    def __init__(self, channels: Sequence[ChannelRules], delays: Delays, watched: Collection[FaultKind]) -> None:
        self._rules, self._watched = channels, watched
        self._missing = EvidenceOfColumns(len(channels) if "missing" in watched else 0, delays)
        self._ends = [i for i, rules in enumerate(channels) if rules.has_ends] if "rail" in watched else []
        self._rails = EvidenceOfColumns(len(self._ends), delays)
        self._low, self._high = (np.array([getattr(rules, end) for rules in channels]) for end in ("low", "high"))
        stills = {i: rules.still for i, rules in enumerate(channels) if rules.still} if "stuck" in watched else {}
        self._movers = list(stills)
        self._standstill = Standstill(list(stills.values()))
        self._at_rail = set[int]()
        self.missing: NDArray[np.bool_] | None = None
        """(samples,) in which of the latest samples a reading was missing; None where none was."""

    def forget(self, at: int) -> None:
        """Begin anew with this sample; what has begun stays until samples end it."""
        for each in (self._missing, self._rails, self._standstill):
            each.forget(at)

    def resume(self, kind: FaultKind, channel: str | None, at: int) -> bool:
        """Go on with a fault that has begun, from this sample on; False for one that is not looked for."""
        names = [rules.name for rules in self._rules]
        column = names.index(channel) if channel in names else None
        many = channel is None
        if kind == "missing" and kind in self._watched and (many or column is not None):
            self._missing.resume(column, at)
        elif kind == "rail" and (many or column in self._ends) and self._ends:
            self._rails.resume(None if column is None else self._ends.index(column), at)
        elif kind in ("stuck", "rail") and column in self._movers:
            self._standstill.resume(self._movers.index(column), at)
            self._at_rail |= {column} if kind == "rail" else set()
        elif kind == "stuck" and many and len(self._movers) > 1:
            self._standstill.resume(None, at)
        else:
            return False
        return True

    def push(self, at: int, values: FloatArray) -> Iterator[SensorFault]:
        """What begins and ends with these samples (samples, columns), the first of which has this number."""
        finite = np.isfinite(values)
        whole = np.count_nonzero(finite) == finite.size
        self.missing = None if whole else np.asarray(~finite.all(axis=1))
        if "missing" in self._watched:
            for turn in self._missing.push(at, len(values), None if whole else ~finite):
                yield self._told("missing", turn, range(len(self._rules)), values)
        readings = values if whole else np.where(finite, values, np.nan)
        moving = readings
        if self._ends:
            beyond = (readings <= self._low) | (readings >= self._high)
            found = beyond[:, self._ends] if np.count_nonzero(beyond) else None
            for turn in self._rails.push(at, len(values), found):
                yield self._told("rail", turn, self._ends, values)
            # A reading at a known end is none, and no standstill: that fault of the channel has a name already.
            moving = np.where(beyond, np.nan, readings)
        if self._movers:
            moving = moving if len(self._movers) == len(self._rules) else moving[:, self._movers]
            for turn in self._standstill.push(at, moving):
                yield self._told(self._kind_of_still(turn, readings), turn, self._movers, values)

    def _kind_of_still(self, turn: Turn, readings: FloatArray) -> FaultKind:
        """`rail` for a single channel that stands still where no normal reading was, until it moves again."""
        if turn.column is None:
            return "stuck"
        column = self._movers[turn.column]
        rules = self._rules[column]
        if turn.begins and "rail" in self._watched and not rules.has_ends:
            self._at_rail |= set() if rules.least <= readings[turn.sample, column] <= rules.most else {column}
        kind: FaultKind = "rail" if column in self._at_rail else "stuck"
        self._at_rail -= set() if turn.begins else {column}
        return kind

    def _told(self, kind: FaultKind, turn: Turn, columns: Sequence[int], values: FloatArray) -> SensorFault:
        if turn.column is None:
            names = tuple(self._rules[columns[i]].name for i in turn.columns)
            return SensorFault(kind, None, turn.begins, turn.sample, together=names)
        rules, reading = self._rules[columns[turn.column]], float(values[turn.sample, columns[turn.column]])
        limit = rules.end_near(reading) if kind == "rail" else math.nan
        return SensorFault(kind, rules.name, turn.begins, turn.sample, reading, limit)
