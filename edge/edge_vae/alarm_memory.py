"""What is known of the alarms of one asset: plain values that outlive a restart. Times are the annunciator's."""

from __future__ import annotations

import math

import msgspec
from msgspec.structs import replace

from edge_vae.event import Cause, Channel, Quality, Severity, Verdict

__all__ = ["Active", "Flood", "Memory", "Seen", "Word"]


class Word(msgspec.Struct, frozen=True):
    """What an operator said with a command.

    Attributes:
        by: Who it was.
        note: Why.
        at_s: When the command was carried out.
        until_s: Of shelving, when it ends.
        verdict: Of an acknowledgement, whether the alarm was about something real.
    """

    by: str | None
    note: str | None
    at_s: float
    until_s: float | None = None
    verdict: Verdict | None = None


class Seen(msgspec.Struct, frozen=True):
    """The window, or the sample, that an alarm is told by.

    Attributes:
        cause: What the alarm is about.
        score: Of the window; None for a limit.
        threshold: That it was judged by; None for a limit.
        channels: The one with the largest share first.
        start_s: Time of the first sample, seconds since 1970; None without time.
        end_s: Time of the last one.
        sample: Number of the last one, counted since the pipeline began.
        quality: Of the samples.
    """

    cause: Cause
    score: float | None
    threshold: float | None
    channels: tuple[Channel, ...]
    start_s: float | None
    end_s: float | None
    sample: int
    quality: Quality = "good"


class Active(msgspec.Struct, frozen=True):
    """An alarm whose condition is active.

    Attributes:
        alarm_id: Of its raise; None as long as that was not told.
        severity: The highest so far.
        peak: Its highest score; of a limit the value that was farthest beyond it.
        seen: What it was last told by, or would have been.
        since_s: When its condition became active.
        told_s: When it was last told; minus infinity before.
        looked_s: When it was last looked at for another leading channel; minus infinity before.
        told_severity: The severity that was last told.
        told_quality: The worst quality of its samples that was told.
        leaders: The channels that were told as the first one.
        acknowledged: By whom and when; None where nobody has.
        silenced: Told, and then shelved.
        collapsed: Counted as one that is not told in a flood.
    """

    alarm_id: str | None
    severity: Severity
    peak: float
    seen: Seen
    since_s: float
    told_s: float = -math.inf
    looked_s: float = -math.inf
    told_severity: Severity = "info"
    told_quality: Quality = "good"
    leaders: tuple[str, ...] = ()
    acknowledged: Word | None = None
    silenced: bool = False
    collapsed: bool = False


class Flood(msgspec.Struct, frozen=True):
    """More alarms than anybody reads.

    Attributes:
        began_s: When it began.
        raised_s: When the last alarm was raised in it.
        collapsed: Alarms that were raised in it and not told.
        severity: The highest of theirs.
        peak_score: The highest of theirs; None where all were of limits.
    """

    began_s: float
    raised_s: float
    collapsed: int
    severity: Severity
    peak_score: float | None


class Memory(msgspec.Struct, frozen=True):
    """All that an annunciator knows; times are seconds of its clock.

    Attributes:
        alarms: The active ones by their keys.
        owed: Alarms that were told as raised, and cleared while nothing could be told.
        shelved: By whom and until when.
        raises_s: When the latest alarms were raised.
        flood: The present one.
        last: The latest alarm that was told as cleared.
    """

    alarms: dict[str, Active] = {}
    owed: tuple[Active, ...] = ()
    shelved: Word | None = None
    raises_s: tuple[float, ...] = ()
    flood: Flood | None = None
    last: Active | None = None

    def as_of(self, now_s: float) -> Memory:
        """The same after a restart; a clock that was set meanwhile makes no silence longer than it was to be."""
        shelved = self.shelved
        if shelved is not None and shelved.until_s is not None:
            length_s = shelved.until_s - shelved.at_s
            shelved = replace(shelved, at_s=min(shelved.at_s, now_s), until_s=min(shelved.until_s, now_s + length_s))
        alarms = {
            key: replace(
                alarm, **{name: min(getattr(alarm, name), now_s) for name in ("since_s", "told_s", "looked_s")}
            )
            for key, alarm in self.alarms.items()
        }
        flood = self.flood
        if flood is not None:
            flood = replace(flood, began_s=min(flood.began_s, now_s), raised_s=min(flood.raised_s, now_s))
        raises_s = tuple(min(at_s, now_s) for at_s in self.raises_s)
        return replace(self, alarms=alarms, shelved=shelved, flood=flood, raises_s=raises_s)
