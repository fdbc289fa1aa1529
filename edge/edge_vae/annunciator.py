"""What an operator is told of the alarms of one asset, and when. Pure: time is an argument.

The words are those of ISA-18.2 and OPC UA Part 9. The condition of an alarm (`alarm`, `limits`) goes on, whatever
happens here: an alarm below the least severity, of a shelved asset or in a flood is active and not told. It is told
when the reason for silence is over and it is still active. Each alarm that was told as raised is told as cleared once,
under the id of its raise; an alarm that was never told as raised is not told as cleared.

Everything that must outlive a restart is one frozen value, `Memory`. Each notice carries the memory as it is once the
notice has been told, so that both can be stored in one transaction, and a process that is killed between two notices
goes on with the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import msgspec
from msgspec.structs import replace

from edge_vae.alarm_memory import Active, Flood, Memory, Seen, Word
from edge_vae.event import SEVERITIES, Quality, Severity, UpdateReason

__all__ = [
    "DEFAULT_FLOOD_S",
    "DEFAULT_UPDATE_S",
    "Annunciation",
    "Annunciator",
    "Notice",
    "NoticeKind",
    "below",
]

DEFAULT_UPDATE_S = 60.0
"""Nobody reads more than one message a minute about the same alarm."""
DEFAULT_FLOOD_S = 600.0
"""ISA-18.2 counts alarms in ten minutes: more than ten are a flood."""

_QUALITIES: tuple[Quality, ...] = ("good", "uncertain", "bad")

NoticeKind = Literal[
    "raised", "updated", "cleared", "acknowledged", "shelved", "unshelved", "flood_begun", "flood_ended"
]


class Annunciation(msgspec.Struct, frozen=True):
    """What is told, how loud, and how often.

    Attributes:
        severity: Of an alarm that has just crossed the threshold.
        warning_ratio: Peak score / threshold from which on an alarm is a warning at least; None: no ratio makes it one.
        critical_ratio: The same for critical.
        min_severity: Alarms below it are not told.
        realarm_s: An alarm that nobody has acknowledged is told again after so long; None: it is not.
        update_s: Least time between two messages about an active alarm.
        flood_raises: More raises than so many within `flood_s` are a flood; None: nothing is.
        flood_s: See there; a flood ends when nothing was raised for so long.
    """

    severity: Severity = "warning"
    warning_ratio: float | None = None
    critical_ratio: float | None = None
    min_severity: Severity = "info"
    realarm_s: float | None = None
    update_s: float = DEFAULT_UPDATE_S
    flood_raises: int | None = None
    flood_s: float = DEFAULT_FLOOD_S

    def severity_of(self, ratio: float) -> Severity:
        """The severity of an alarm whose peak score is this many times the threshold."""
        found = self.severity
        for severity, least in (("warning", self.warning_ratio), ("critical", self.critical_ratio)):
            if least is not None and ratio >= least:
                found = worse(found, severity)  # type: ignore[arg-type] # mypy widens the literals to str
        return found


class Notice(msgspec.Struct, frozen=True):
    """Something to tell.

    Attributes:
        kind: What happened.
        memory: What is to be kept with it.
        alarm: Which alarm it happened to; None for a notice about the asset.
        reason: Why an alarm is told again.
        word: What an operator did.
        flood: The flood that begins or ends.
    """

    kind: NoticeKind
    memory: Memory
    alarm: Active | None = None
    reason: UpdateReason | None = None
    word: Word | None = None
    flood: Flood | None = None


Look = Callable[[], Seen]
"""Says what there is to see at this moment; asked only for what is told, since an explanation may be dear."""


class Annunciator:
    """The alarms of one asset as an operator is told of them.

    Every method is given the time in seconds, of a clock that goes on over restarts and never jumps back.

    Args:
        rules: What is told, and when.
        new_id: Makes the id of an alarm that is raised.
    """

    def __init__(self, rules: Annunciation, *, new_id: Callable[[], str]) -> None:
        self._rules, self._new_id = rules, new_id
        self.memory = Memory()
        """What is to be kept; replaced, never changed."""

    def resume(self, memory: Memory, *, known: Iterable[str]) -> None:
        """Go on where another one stood.

        Args:
            memory: What that one knew, as of now.
            known: Keys of the alarms that there are; the alarm of a rule that is gone will never be cleared, and is
                told as cleared with the next `tick`.
        """
        gone = [key for key in memory.alarms if key not in set(known)]
        owed = [alarm for key in gone if (alarm := memory.alarms[key]).alarm_id is not None]
        alarms = {key: alarm for key, alarm in memory.alarms.items() if key not in gone}
        self.memory = replace(memory, alarms=alarms, owed=(*memory.owed, *owed))

    @property
    def active(self) -> bool:
        """Whether any condition is active, told or not."""
        return bool(self.memory.alarms)

    @property
    def alarmed(self) -> bool:
        """Whether any of them is about the machine, and not about a sensor."""
        return any(not alarm.seen.cause.of_sensor for alarm in self.memory.alarms.values())

    def raised(self, key: str, now_s: float, *, severity: Severity, peak: float, seen: Seen) -> list[Notice]:
        """The condition of an alarm has become active."""
        self._keep_alarm(key, Active(None, severity, peak, seen, now_s))
        return self._settle(now_s)

    def still(self, key: str, now_s: float, *, severity: Severity, peak: float, look: Look) -> list[Notice]:
        """The condition is still active; severity and peak are the highest so far."""
        alarm = self.memory.alarms[key]
        if (severity, peak) != (alarm.severity, alarm.peak):
            alarm = replace(alarm, severity=worse(severity, alarm.severity), peak=peak)
            self._keep_alarm(key, alarm)
        if alarm.alarm_id is not None:
            return [] if self._silent else self._updates(key, alarm, now_s, look)
        if self._silent or below(alarm.severity, self._rules.min_severity):
            return []
        self._keep_alarm(key, replace(alarm, seen=look()))
        return self._settle(now_s)

    def cleared(self, key: str, *, seen: Seen) -> list[Notice]:
        """The condition is not active any more."""
        alarms = dict(self.memory.alarms)
        alarm = replace(alarms.pop(key), seen=seen)
        self.memory = replace(self.memory, alarms=alarms)
        if alarm.alarm_id is None:
            return []
        self.memory = replace(self.memory, owed=(*self.memory.owed, alarm))
        return self._pay()

    def tick(self, now_s: float) -> list[Notice]:
        """What the passing of time brings; to be asked now and then, whether samples come or not."""
        found = []
        shelved, flood = self.memory.shelved, self.memory.flood
        if shelved is not None and shelved.until_s is not None and now_s >= shelved.until_s:
            found += [self._unshelved(replace(shelved, by=None, note="expired", at_s=now_s, until_s=None))]
        if flood is not None and not self.memory.shelved and now_s - flood.raised_s >= self._rules.flood_s:
            self.memory = replace(self.memory, flood=None, raises_s=())
            found += [Notice("flood_ended", self.memory, flood=flood)]
        return found + self._settle(now_s, calm=True)

    def shelve(self, word: Word) -> list[Notice]:
        """Tell nothing more of alarms until the word's time is over."""
        alarms = {key: replace(alarm, silenced=alarm.alarm_id is not None) for key, alarm in self.memory.alarms.items()}
        self.memory = replace(self.memory, shelved=word, alarms=alarms)
        return [Notice("shelved", self.memory, word=word)]

    def unshelve(self, word: Word) -> list[Notice]:
        """Tell of alarms again, beginning with what is active; nothing where the asset is not shelved."""
        if self.memory.shelved is None:
            return []
        return [self._unshelved(word), *self._settle(word.at_s, calm=True)]

    def acknowledge(self, word: Word, *, alarm_id: str | None = None) -> list[Notice]:
        """An operator has taken note of an alarm, or of all that were told and are active, or else of the latest one.

        Nothing where there is no such alarm.
        """
        found = []
        for key, alarm in self.memory.alarms.items():
            if alarm.alarm_id is not None and alarm_id in (None, alarm.alarm_id):
                self._keep_alarm(key, told := replace(alarm, acknowledged=word))
                found += [Notice("acknowledged", self.memory, told, word=word)]
        last = self.memory.last
        if not found and last is not None and alarm_id in (None, last.alarm_id):
            told = replace(last, acknowledged=word)
            self.memory = replace(self.memory, last=told)
            found += [Notice("acknowledged", self.memory, told, word=word)]
        return found

    @property
    def _silent(self) -> bool:
        return self.memory.shelved is not None or self.memory.flood is not None

    def _keep_alarm(self, key: str, alarm: Active) -> None:
        self.memory = replace(self.memory, alarms={**self.memory.alarms, key: alarm})

    def _unshelved(self, word: Word) -> Notice:
        self.memory = replace(self.memory, shelved=None)
        return Notice("unshelved", self.memory, word=word)

    def _settle(self, now_s: float, *, calm: bool = False) -> list[Notice]:
        """Tell what has waited for the end of a silence; with `calm` what is raised is not counted towards a flood."""
        found = self._pay()
        for key, alarm in self.memory.alarms.items():
            if self.memory.shelved is not None or below(alarm.severity, self._rules.min_severity):
                continue
            if alarm.alarm_id is None:
                found += self._raise(key, alarm, now_s, counts=not calm)
            elif alarm.silenced and not self._silent:
                found += [self._tell(key, alarm, now_s, "unshelved")]
        return found

    def _pay(self) -> list[Notice]:
        """Tell of the alarms that are owed a clear."""
        found = []
        while self.memory.owed and self.memory.shelved is None:
            alarm, *rest = self.memory.owed
            self.memory = replace(self.memory, owed=tuple(rest), last=alarm)
            found += [Notice("cleared", self.memory, alarm)]
        return found

    def _raise(self, key: str, alarm: Active, now_s: float, *, counts: bool) -> list[Notice]:
        if self.memory.flood is not None:
            if not alarm.collapsed:
                self._collapse(key, alarm, self.memory.flood, now_s)
            return []
        if counts and self._floods(now_s):
            began = Flood(now_s, now_s, 0, alarm.severity, None)
            flood = self._collapse(key, alarm, began, now_s)
            return [Notice("flood_begun", self.memory, flood=flood)]
        return [self._tell(key, replace(alarm, alarm_id=self._new_id(), collapsed=False), now_s, None)]

    def _floods(self, now_s: float) -> bool:
        """Whether one raise more is too many; it is counted."""
        if self._rules.flood_raises is None:
            return False
        recent = (*(at_s for at_s in self.memory.raises_s if now_s - at_s < self._rules.flood_s), now_s)
        self.memory = replace(self.memory, raises_s=recent)
        return len(recent) > self._rules.flood_raises

    def _collapse(self, key: str, alarm: Active, flood: Flood, now_s: float) -> Flood:
        self._keep_alarm(key, replace(alarm, collapsed=True))
        peaks = [flood.peak_score] if flood.peak_score is not None else []
        peaks += [alarm.peak] if alarm.seen.cause.kind == "model" else []
        flood = Flood(
            flood.began_s, now_s, flood.collapsed + 1, worse(flood.severity, alarm.severity), max(peaks, default=None)
        )
        self.memory = replace(self.memory, flood=flood)
        return flood

    def _updates(self, key: str, alarm: Active, now_s: float, look: Look) -> list[Notice]:
        rules = self._rules
        if now_s - alarm.told_s < rules.update_s:
            return []
        reason: UpdateReason | None = None
        if below(alarm.told_severity, alarm.severity):
            reason = "severity"
        elif rules.realarm_s is not None and now_s - alarm.told_s >= rules.realarm_s and not alarm.acknowledged:
            reason = "repeated"
        elif now_s - alarm.looked_s < rules.update_s:
            return []
        alarm = replace(alarm, seen=look(), looked_s=now_s)
        if reason is None and _leader(alarm.seen) not in alarm.leaders:
            reason = "channel"
        if reason is None and _QUALITIES.index(alarm.seen.quality) > _QUALITIES.index(alarm.told_quality):
            reason = "quality"
        if reason is None:
            self._keep_alarm(key, alarm)
            return []
        return [self._tell(key, alarm, now_s, reason)]

    def _tell(self, key: str, alarm: Active, now_s: float, reason: UpdateReason | None) -> Notice:
        leader = _leader(alarm.seen)
        leaders = alarm.leaders if leader in alarm.leaders else (*alarm.leaders, leader)
        quality = max(alarm.told_quality, alarm.seen.quality, key=_QUALITIES.index)
        alarm = replace(
            alarm, told_s=now_s, told_severity=alarm.severity, told_quality=quality, leaders=leaders, silenced=False
        )
        self._keep_alarm(key, alarm)
        return Notice("updated" if reason else "raised", self.memory, alarm, reason)


def below(severity: Severity, other: Severity) -> bool:
    """Whether a severity is less than another."""
    return SEVERITIES.index(severity) < SEVERITIES.index(other)


def worse(severity: Severity, other: Severity) -> Severity:
    """The higher one."""
    return other if below(severity, other) else severity


def _leader(seen: Seen) -> str:
    return seen.channels[0].name if seen.channels else ""
