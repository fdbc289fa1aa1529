"""The present state of every asset, as the messages of all agents tell it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import msgspec

__all__ = ["Board", "Row"]

T = TypeVar("T", bound="_Message")

UNKNOWN, OFFLINE = "unknown", "offline"
"""States that no agent reports: listed but not heard of yet, and its agent has left or was cut off."""
STATE_AFTER = {"raised": "alarm", "cleared": "normal"}
HEADER = ("SITE", "NODE", "ASSET", "STATE", "SCORE", "THRESHOLD", "SINCE", "LAST EVENT")
RIGHT_ALIGNED = {"SCORE", "THRESHOLD"}
COLOURS = {"alarm": "\x1b[31m", "fault": "\x1b[33m", OFFLINE: "\x1b[2m"}
PLAIN = "\x1b[0m"


# A newer agent may say more: unknown fields are left alone here, where the project's own messages refuse them.
class _Message(msgspec.Struct, frozen=True):
    pass


class _Status(_Message, frozen=True):
    state: str
    pipelines: tuple[str, ...] = ()


class _State(_Message, frozen=True):
    state: str
    since: str | None = None
    score: float | None = None
    threshold: float | None = None


class _Channel(_Message, frozen=True):
    name: str
    share: float | None = None


class _Cause(_Message, frozen=True):
    kind: str


class _Event(_Message, frozen=True):
    event: str
    time: str
    phase: str | None = None
    cause: _Cause | None = None
    score: float | None = None
    threshold: float | None = None
    channels: tuple[_Channel, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One asset, as a person reads it.

    Attributes:
        state: What the agent says, or `offline` when it has left, or `unknown` before the first message.
        score: Of the latest message that had one; higher is worse.
        since: When the state began, RFC 3339; empty if unknown.
        last_event: The latest event seen, in a few words; empty if none was.
    """

    site: str
    node: str
    asset: str
    state: str = UNKNOWN
    score: float | None = None
    threshold: float | None = None
    since: str = ""
    last_event: str = ""

    @property
    def line(self) -> str:
        """The row by itself, for a log."""
        fields = (self.state, f"score {_number(self.score)} of {_number(self.threshold)}", f"since {_time(self.since)}")
        last = [f"last event {self.last_event}"] if self.last_event else []
        return _printable(f"{self.site}/{self.node}/{self.asset} " + ", ".join([*fields, *last]))

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts under the header of a table."""
        numbers = (_number(self.score), _number(self.threshold))
        texts = (self.site, self.node, self.asset, self.state, *numbers, _time(self.since), self.last_event or "-")
        return tuple(_printable(text) for text in texts)


@dataclass(slots=True)
class _Node:
    """One agent: whether it is there, which assets it says it has (None: nothing said), and what is known of them."""

    online: bool = True
    listed: frozenset[str] | None = None
    assets: dict[str, Row] = field(default_factory=dict)
    reported: set[str] = field(default_factory=set)

    def rows(self) -> list[Row]:
        # A state that the broker kept of an asset that its agent no longer has is history.
        shown = [row for asset, row in sorted(self.assets.items()) if self.listed is None or asset in self.listed]
        return shown if self.online else [replace(row, state=OFFLINE) for row in shown]


class Board:
    """All assets below one base topic.

    What an agent retains decides; an event tells the state of an asset only as long as no retained state was seen,
    since an event may be one that waited for a connection while the state went on.

    Args:
        base_topic: First level of every topic.
    """

    def __init__(self, base_topic: str) -> None:
        self._base = base_topic
        self._nodes: dict[tuple[str, str], _Node] = {}
        self.malformed = 0
        """Messages under the topics of agents that could not be read."""

    @property
    def rows(self) -> list[Row]:
        """All assets, by site, node and asset."""
        return [row for _, node in sorted(self._nodes.items()) for row in node.rows()]

    def feed(self, topic: str, payload: bytes) -> list[Row]:
        """The rows that a message has changed; empty if it has changed none, or is not about an asset."""
        base, *levels = topic.split("/")
        if base != self._base or len(levels) not in {3, 4}:
            return []
        site, name, *rest = levels
        node = self._nodes.get((site, name), _Node())
        before = set(node.rows())
        try:
            known = self._take(node, Row(site, name, rest[0]), rest[-1], payload)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self.malformed += 1
            return []
        if known:
            self._nodes[site, name] = node
        return [row for row in node.rows() if row not in before]

    def render(self, width: int | None = None, *, colour: bool = False) -> str:
        """A table with a header, a line for each asset, and a last line with the counts.

        Args:
            width: Characters in a line; longer lines are cut. By default they are as long as they need to be.
            colour: Mark states that want attention, with the control sequences of terminals.
        """
        rows = self.rows
        lines = [_cut(line, width) for line in _aligned([HEADER, *(row.cells for row in rows)])]
        if colour:
            lines[1:] = [_coloured(line, row.state) for line, row in zip(lines[1:], rows, strict=True)]
        return "\n".join([*lines, _cut(self._counts(rows), width)])

    def _take(self, node: _Node, fresh: Row, leaf: str, payload: bytes) -> bool:
        """Whether the message was one of ours."""
        if fresh.asset == leaf == "status":
            _take_status(node, fresh, payload)
        elif fresh.asset != leaf == "state":
            _take_state(node, fresh, payload)
        elif fresh.asset != leaf == "event":
            _take_event(node, fresh, payload)
        else:
            return False
        return True

    def _counts(self, rows: list[Row]) -> str:
        in_alarm = sum(row.state == "alarm" for row in rows)
        unreadable = f", {_counted(self.malformed, 'message')} could not be read" if self.malformed else ""
        return f"{_counted(len(rows), 'asset')}, {in_alarm} in alarm{unreadable}"


def _take_status(node: _Node, fresh: Row, payload: bytes) -> None:
    if not payload:  # a retained message that somebody has deleted
        node.online, node.listed = True, None
        return
    status = _decoded(payload, _Status)
    node.online, node.listed = status.state == "online", frozenset(status.pipelines)
    for asset in node.listed:
        node.assets.setdefault(asset, replace(fresh, asset=asset))


def _take_state(node: _Node, fresh: Row, payload: bytes) -> None:
    if not payload:
        node.assets.pop(fresh.asset, None)
        node.reported.discard(fresh.asset)
        return
    message = _decoded(payload, _State)
    node.reported.add(fresh.asset)
    node.assets[fresh.asset] = replace(
        node.assets.get(fresh.asset, fresh),
        state=message.state,
        since=message.since or "",
        score=message.score,
        threshold=message.threshold,
    )


def _take_event(node: _Node, fresh: Row, payload: bytes) -> None:
    event = _decoded(payload, _Event)
    row = replace(node.assets.get(fresh.asset, fresh), last_event=_in_words(event))
    if fresh.asset not in node.reported and event.event in STATE_AFTER:
        state = STATE_AFTER[event.event]
        row = replace(row, state=state, since=event.time, score=event.score, threshold=event.threshold)
    node.assets[fresh.asset] = row


def _decoded(payload: bytes, kind: type[T]) -> T:
    return msgspec.json.decode(payload, type=kind)


def _in_words(event: _Event) -> str:
    if event.event == "sensor_fault" and event.cause is not None:
        names = ", ".join(channel.name for channel in event.channels)
        return f"sensor {event.cause.kind} {event.phase} {_time(event.time)} {names}".rstrip()
    worst = max(event.channels, key=lambda channel: channel.share or 0.0, default=None)
    part = f" {worst.name} {worst.share:.0%}" if worst is not None and worst.share is not None else ""
    return f"{event.event} {_time(event.time)}{part}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _time(text: str) -> str:
    """To the second: 2026-03-01 12:00:00Z."""
    return f"{text[:10]} {text[11:19]}Z" if text else "-"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _printable(text: str) -> str:
    """Topics come from anywhere, and a terminal obeys what it is sent."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _aligned(table: Iterable[tuple[str, ...]]) -> list[str]:
    columns = list(zip(*table, strict=True))
    padded = []
    for column in columns:
        width = max(map(len, column))
        right = column[0] in RIGHT_ALIGNED
        padded.append([text.rjust(width) if right else text.ljust(width) for text in column])
    return ["  ".join(cells).rstrip() for cells in zip(*padded, strict=True)]


def _cut(line: str, width: int | None) -> str:
    return line if width is None or len(line) <= width else line[: max(width - 1, 0)] + "…"


def _coloured(line: str, state: str) -> str:
    return f"{COLOURS[state]}{line}{PLAIN}" if state in COLOURS else line
