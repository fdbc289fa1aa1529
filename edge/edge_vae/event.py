"""The messages that a subscriber gets.

Every message has a fixed set of fields, always all of them: what does not apply is null. A number that is not finite
becomes null at construction, so that no message holds a NaN and no alarm is lost for the sake of one unreadable number.
The JSON Schemas in `edge_vae.schema` describe the same messages to subscribers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from edge_vae.clock import TimeQuality, format_time, parse_time
from edge_vae.overflow import Priority
from edge_vae.sensor_fault import FAULT_KINDS, FaultKind
from edge_vae.stamp import Stamp

__all__ = [
    "SEVERITIES",
    "Action",
    "ActiveAlarm",
    "AgentCounters",
    "AssetCounters",
    "AssetState",
    "Cause",
    "Channel",
    "Event",
    "EventKind",
    "Model",
    "Phase",
    "Quality",
    "Reply",
    "RequestId",
    "Severity",
    "State",
    "Status",
    "UpdateReason",
    "Verdict",
    "Window",
    "as_replayed",
    "corrected",
    "encode",
    "notice",
    "notice_maker",
    "priority",
]

EventKind = Literal[
    "raised", "updated", "cleared", "acknowledged", "shelved", "unshelved", "flood_begun", "flood_ended",
    "sensor_fault", "drift", "unknown_mode", "dropped", "set_aside", "store_reset",
]  # fmt: skip
"""Alarm raised, still active, or cleared; what an operator did with alarms; more alarms than anybody reads, and their
end; a sensor or what reads it that is broken, or works again; a slow change of normal operation; an operating mode that
the model does not know; messages dropped from a full outbox; a message that no broker took, set aside; a damaged outbox
replaced by a new one."""
Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
"""In rising order."""
Phase = Literal["raised", "updated", "cleared", "acknowledged"]
"""Of a sensor fault what the event would be for any other alarm."""
UpdateReason = Literal["repeated", "severity", "channel", "quality", "unshelved"]
"""Why an alarm that is still active is told again: its re-alarm time is over, its severity has risen, another channel
leads, its readings are less to be trusted than they were, or it was shelved and is not any more."""
Verdict = Literal["true", "false", "unknown"]
"""Whether an alarm was about something real."""
Quality = Literal["good", "uncertain", "bad"]
"""Of the samples in the event's window, in the words of OPC UA."""
AssetState = Literal["normal", "alarm", "shelved", "learning", "fault"]
"""`shelved`: alarms run on, and none is published. `learning`: the baseline of a session is being taken, nothing is
scored yet. `fault`: no samples, or none of use, as in an operating mode that the model does not know."""

Text = Annotated[str, Meta(min_length=1)]
Time = Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$")]
Ulid = Annotated[str, Meta(pattern="^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
RequestId = Annotated[str, Meta(min_length=1, max_length=128)]
AtLeast0 = Annotated[int, Meta(ge=0)]
AtLeast1 = Annotated[int, Meta(ge=1)]


def _nulls_for_unreadable(message: Struct, *fields: str) -> None:
    """Turn the numbers in these fields into plain floats, and those that are not finite into None."""
    for field in fields:
        number = getattr(message, field)
        if number is not None:
            msgspec.structs.force_setattr(message, field, float(number) if math.isfinite(number) else None)


class Channel(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One channel's part in a score.

    Attributes:
        name: As in the bundle.
        share: Part of the score, 0 to 1; all channels of an asset add up to 1.
        value: What was measured, in the channel's unit.
        expected: What the model expected instead, in the channel's unit.
        quality: Of its readings: bad while the channel has a sensor fault.
    """

    name: Text
    share: float | None
    value: float | None
    expected: float | None
    quality: Quality

    def __post_init__(self) -> None:
        _nulls_for_unreadable(self, "share", "value", "expected")


class Window(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Times of the first and the last sample that were scored together."""

    start: Time
    end: Time


class Model(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The bundle that gave a score."""

    name: Text
    version: AtLeast1
    sha256: Sha256


class Cause(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an alarm is about: the score of the model, a rule for one channel, or a fault of a sensor or a source.

    Attributes:
        kind: `model`, which limit of a channel was crossed, or what is wrong with a sensor or a source.
        channel: The limit's or the sensor's; null for the model, whose channels stand in the event, for a source, and
            for several channels that have the same sensor fault together.
        value: What crossed the limit, in the channel's unit, or in units a second for a rate; of `updated` and
            `cleared` the present value. Of a sensor fault the reading, or what `SensorFault` says.
        peak: The value that was farthest beyond the limit so far; null for a sensor fault.
        limit: The limit itself; of a sensor fault what the value was compared with.
    """

    kind: Literal["model", "low", "high", "rate", FaultKind]
    channel: Text | None
    value: float | None
    peak: float | None
    limit: float | None

    def __post_init__(self) -> None:
        _nulls_for_unreadable(self, "value", "peak", "limit")

    @property
    def of_sensor(self) -> bool:
        """Whether it is a fault of a sensor or a source, and not of the machine."""
        return self.kind in FAULT_KINDS


class Action(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an operator did by a command.

    Attributes:
        by: Who, as the command says.
        note: Why, as the command says.
        at: When the agent carried it out.
        until: Of shelving, when it ends.
        verdict: Of an acknowledgement, whether the alarm was about something real.
    """

    by: Text | None
    note: Text | None
    at: Time
    until: Time | None
    verdict: Verdict | None


class Event(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Something that happened to an asset or to its messages; sent at least once, in order of `seq`.

    Attributes:
        event_id: Unique; a message that is sent twice carries the same id twice.
        alarm_id: `event_id` of the `raised` event that this event belongs to; null where there is none.
        seq: 1, 2, 3, ... for each asset; a gap means that messages were dropped, a restart follows a `store_reset`.
        time: When it happened, by the sensor's clock where the source has one.
        boot_id: The boot that `monotonic_ns` counts in.
        score: Higher is worse; of `drift` the mean over its window, as are the numbers of its channels.
        peak_score: Highest score of the alarm so far; of `flood_ended` that of all that were not told.
        ratio: score / threshold.
        replayed: True when the message waited in the outbox for a connection.
        dropped: Number of messages that a `dropped` or `set_aside` event stands for, or that were lost with a damaged
            outbox, null where that cannot be told; null in all others.
        salvaged: Number of messages that were saved from a damaged outbox; null in all but `store_reset`.
        cause: What the alarm is about; null where there is no alarm.
        phase: Of a `sensor_fault` whether it begins, goes on, ends or was acknowledged; null in all others.
        reason: Why an alarm is told again; null in all events but `updated`, and sensor faults that are.
        action: What an operator did; of other events of an alarm, how it was acknowledged, null where it was not.
        collapsed: Of `flood_begun` and `flood_ended` the number of alarms that were raised and not told; null else.
    """

    schema: Literal["edge-vae/event/1"] = "edge-vae/event/1"
    event_id: Ulid
    alarm_id: Ulid | None
    seq: AtLeast1
    asset: Text
    event: EventKind
    severity: Severity
    time: Time
    time_quality: TimeQuality
    boot_id: Text
    monotonic_ns: AtLeast0
    score: float | None
    peak_score: float | None
    threshold: float | None
    ratio: float | None
    channels: tuple[Channel, ...]
    window: Window | None
    model: Model | None
    quality: Quality | None
    replayed: bool
    dropped: AtLeast0 | None
    cause: Cause | None
    reason: UpdateReason | None
    action: Action | None
    collapsed: AtLeast1 | None
    phase: Phase | None
    salvaged: AtLeast0 | None = None

    def __post_init__(self) -> None:
        _nulls_for_unreadable(self, "score", "peak_score", "threshold", "ratio")


class ActiveAlarm(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An alarm that has been raised and not cleared.

    Attributes:
        alarm_id: `event_id` of its `raised` event; null where none was published: below the least severity, shelved, or
            in a flood.
        since: When its condition began.
        peak_score: Highest score so far; null for a limit.
        acknowledged: By whom and when; null where nobody has.
    """

    alarm_id: Ulid | None
    severity: Severity
    cause: Cause
    since: Time
    peak_score: float | None
    acknowledged: Action | None

    def __post_init__(self) -> None:
        _nulls_for_unreadable(self, "peak_score")


class State(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Present state of one asset, retained by the broker.

    Attributes:
        since: When this state began.
        time: When the message was made.
        alarms: Those that are active, told or not.
        shelved: By whom and until when; null where the asset is not shelved.
        flood: Whether alarms are counted and not told, because there are too many.
    """

    schema: Literal["edge-vae/state/1"] = "edge-vae/state/1"
    asset: Text
    state: AssetState
    since: Time
    time: Time
    score: float | None
    threshold: float | None
    model: Model | None
    alarms: tuple[ActiveAlarm, ...]
    shelved: Action | None
    flood: bool

    def __post_init__(self) -> None:
        _nulls_for_unreadable(self, "score", "threshold")


class AssetCounters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one pipeline has done since it was started, and how it is.

    Attributes:
        samples: Given out by its source.
        windows: Scored.
        dropped: Samples that were not read in time, or were no news.
        malformed: Readings and lines that could not be read.
        removed: Samples that were left out because a reading was missing.
        raised: Alarms raised.
        cleared: Alarms cleared.
        sensor_faults: Faults of sensors or of the source that have begun.
        failures: Times that it broke and was started again.
        last_sample_age_s: Seconds since the latest sample; null before the first.
        score: Of the latest window.
        threshold: In force.
    """

    asset: Text
    state: AssetState
    samples: AtLeast0
    windows: AtLeast0
    dropped: AtLeast0
    malformed: AtLeast0
    removed: AtLeast0
    raised: AtLeast0
    cleared: AtLeast0
    sensor_faults: AtLeast0
    failures: AtLeast0
    last_sample_age_s: float | None
    score: float | None
    threshold: float | None

    def __post_init__(self) -> None:
        _nulls_for_unreadable(self, "last_sample_age_s", "score", "threshold")


class AgentCounters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an agent has done since it was started, and what it takes of its machine.

    Attributes:
        uptime_s: Seconds since the start.
        cpu_s: Processor time.
        rss_bytes: Resident memory; null, like the next two, where the kernel does not tell.
        open_files: Descriptors in use.
        disk_written_bytes: What was sent to storage.
        outbox_messages: Messages that wait in the outbox.
        outbox_bytes: Their size.
        outbox_dropped: Messages that the outbox dropped, since its file was made.
        published: Messages handed to the broker, repetitions included.
        acknowledged: Messages that the broker took.
        refused: Messages that the broker would not take, each time.
        connects: Connections that the broker took.
        reconnects: Those of them after the first.
        assets: Each pipeline's.
    """

    uptime_s: float
    cpu_s: float
    rss_bytes: AtLeast0 | None
    open_files: AtLeast0 | None
    disk_written_bytes: AtLeast0 | None
    outbox_messages: AtLeast0
    outbox_bytes: AtLeast0
    outbox_dropped: AtLeast0
    published: AtLeast0
    acknowledged: AtLeast0
    refused: AtLeast0
    connects: AtLeast0
    reconnects: AtLeast0
    assets: tuple[AssetCounters, ...]


class Status(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Birth and last will of an agent, retained by the broker, and refreshed once a minute.

    Attributes:
        agent: Version of this package.
        pipelines: Names of the assets that are watched.
        time: When the message was made; null in a last will, which the broker sends at a time unknown to the agent.
        counters: Of that time; null in a last will.
    """

    schema: Literal["edge-vae/status/1"] = "edge-vae/status/1"
    state: Literal["online", "offline"]
    agent: Text
    boot_id: Text
    pipelines: tuple[Text, ...]
    time: Time | None
    counters: AgentCounters | None


class Reply(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The answer to a command; a command that comes again with the same id is not done again, but answered the same.

    Attributes:
        id: That of the request.
        asset: Whom the command was for.
        command: What was to be done.
        ok: Whether it was done, or has begun.
        message: What was done, or why not, for a person.
        time: When the message was made.
    """

    schema: Literal["edge-vae/reply/1"] = "edge-vae/reply/1"
    id: RequestId
    asset: Text
    command: Text
    ok: bool
    message: Text
    time: Time


_PRIORITIES: Mapping[str, Priority] = {
    "raised": Priority.BEGINNING,
    "cleared": Priority.END,
    "updated": Priority.UPDATE,
}
_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Event)


def encode(message: Event | Reply | State | Status) -> bytes:
    """The message as JSON."""
    return _ENCODER.encode(message)


def priority(event: Event) -> Priority:
    """What an event is worth when not all can be kept."""
    return _PRIORITIES.get(event.phase or event.event, Priority.NOTE)


def as_replayed(payload: bytes) -> bytes:
    """The same event, marked as one that waited in the outbox; what is no event is returned as it is."""
    try:
        message: Any = msgspec.json.decode(payload)
    except ValueError:
        return payload
    if not isinstance(message, dict) or "replayed" not in message:
        return payload
    return _ENCODER.encode(message | {"replayed": True})


def corrected(payload: bytes, boot_id: str, offset_s: float) -> bytes | None:
    """The same event with times of a clock that is right by now; None for one whose times are not known any better.

    Args:
        payload: Of an event with times of this machine's clock.
        boot_id: The boot that `offset_s` belongs to.
        offset_s: What the wall clock is ahead of the monotonic clock.
    """
    try:
        event = _DECODER.decode(payload)
    except msgspec.MsgspecError:
        return None
    if event.time_quality != "unsynchronised" or event.boot_id != boot_id:
        return None
    at_s = event.monotonic_ns / 1e9 + offset_s
    window, error_s = event.window, at_s - parse_time(event.time)
    if window is not None:
        start, end = (format_time(parse_time(time) + error_s) for time in (window.start, window.end))
        window = Window(start=start, end=end)
    changes = {"time": format_time(at_s), "time_quality": "corrected", "window": window}
    return _ENCODER.encode(msgspec.structs.replace(event, **changes))


def notice_maker(stamper: Callable[[], Stamp]) -> Callable[..., bytes]:
    """Makes the payloads of notices, as the outbox asks for them."""
    return lambda kind, **facts: encode(notice(kind, stamp=stamper(), **facts))


def notice(
    kind: Literal["dropped", "set_aside", "store_reset"],
    *,
    asset: str,
    seq: int,
    dropped: int | None,
    salvaged: int | None = None,
    stamp: Stamp,
) -> Event:
    """An event about an asset's messages rather than its samples: no score, no window, no model."""
    return Event(
        event_id=stamp.event_id, alarm_id=None, seq=seq, asset=asset, event=kind, severity="warning",
        time=stamp.time, time_quality=stamp.time_quality, boot_id=stamp.boot_id, monotonic_ns=stamp.monotonic_ns,
        score=None, peak_score=None, threshold=None, ratio=None, channels=(), window=None, model=None, quality=None,
        replayed=False, dropped=dropped, cause=None, reason=None, action=None, collapsed=None, phase=None,
        salvaged=salvaged,
    )  # fmt: skip
