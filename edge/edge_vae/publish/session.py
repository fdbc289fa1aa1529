"""What is said over one connection: the birth, the present states, then the stored messages in order."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Collection
from dataclasses import dataclass

from edge_vae.backoff import Backoff
from edge_vae.event import as_replayed
from edge_vae.outbox import Outbox
from edge_vae.publish import Acknowledged, Link, LinkEvent, Lost, Opened, Refused
from edge_vae.publish.pace import Pace

__all__ = ["Counters", "Refusals", "Retained", "Session"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counters:
    """What happened since the agent started.

    Attributes:
        published: Messages handed to the broker, repetitions included.
        acknowledged: Messages that the broker took.
        refused: Messages that the broker would not take; each is tried again.
        connects: Connections that the broker took.
        lost: Connections that ended unasked.
    """

    published: int = 0
    acknowledged: int = 0
    refused: int = 0
    connects: int = 0
    lost: int = 0


class Retained:
    """The latest message of each retained topic, and which of them the broker lacks. Threads may share it."""

    def __init__(self) -> None:
        self._latest: dict[str, bytes] = {}
        self._waiting: dict[str, None] = {}
        self._lock = threading.Lock()

    def put(self, topic: str, payload: bytes) -> None:
        """Replace the message of a topic; an older one that still waits is never published."""
        with self._lock:
            self._latest[topic] = payload
            self._waiting[topic] = None

    def drop(self, topic: str) -> None:
        """Forget a topic: nothing is published on it any more."""
        with self._lock:
            self._latest.pop(topic, None)
            self._waiting.pop(topic, None)

    def again(self, topic: str) -> None:
        """Publish the topic's latest message once more, if it was not dropped."""
        with self._lock:
            if topic in self._latest:
                self._waiting[topic] = None

    def all_again(self) -> None:
        """Publish every topic's latest message once more, in the order in which the topics were first put."""
        with self._lock:
            self._waiting = dict.fromkeys(self._latest)

    def waiting(self, skip_topics: Collection[str]) -> list[str]:
        """The topics to publish, without those to skip."""
        with self._lock:
            return [topic for topic in self._waiting if topic not in skip_topics]

    def take(self, topic: str) -> bytes | None:
        """The latest message of a topic, which waits no longer; None when it was dropped."""
        with self._lock:
            self._waiting.pop(topic, None)
            return self._latest.get(topic)


class Refusals:
    """Topics that the broker will not take at present, each until a time of its own.

    They outlive the connection, since some brokers (mosquitto 2.0) part from a client after they refused its message:
    sent again at once on every connection, one forbidden topic would keep all others from being delivered.

    Args:
        backoff: How long a topic is left out, by the number of refusals in a row.
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._in_a_row: dict[str, int] = {}
        self._until_s: dict[str, float] = {}

    @property
    def topics(self) -> Collection[str]:
        """The topics to leave out."""
        return self._until_s.keys()

    def add(self, topic: str, now_s: float) -> float | None:
        """Seconds for which the topic is left out from now on; None when it already is."""
        if topic in self._until_s:
            return None
        in_a_row = self._in_a_row.get(topic, 0)
        delay_s = self._backoff.delay_s(in_a_row)
        self._in_a_row[topic], self._until_s[topic] = in_a_row + 1, now_s + delay_s
        return delay_s

    def forget(self, topic: str) -> None:
        """The broker took a message on this topic: the next refusal is a first one."""
        self._in_a_row.pop(topic, None)

    def expire(self, now_s: float) -> bool:
        """Whether there are topics whose time is over; they are left out no longer."""
        over = [topic for topic, until_s in self._until_s.items() if now_s >= until_s]
        for topic in over:
            del self._until_s[topic]
        return bool(over)

    def nap_s(self, now_s: float) -> float:
        """Seconds until the first topic's time is over."""
        return min(self._until_s.values(), default=float("inf")) - now_s


class Session:
    """One connection's traffic, with at most `window` messages unacknowledged.

    Stored messages are sent in order for each asset, and the assets take turns. Those that were there before the
    connection, the backlog, are marked as replayed and leave at the pace that is set; a new message waits for the
    backlog of its own asset alone. A topic that the broker refuses is left out for a while, so that one forbidden asset
    does not hold up the others, and then sent again from its first message on.

    A connection starts with one message at a time and takes one more with each stored message that is acknowledged, as
    the slow start of TCP does (RFC 5681, section 3.1). A broker that parts from a client after a refusal would discard
    the refusal with the messages that it has not read yet; one that stands alone is always heard. A message over which
    a broker may have parted from us before is sent alone too, so that only one can be to blame.

    Args:
        link: Fresh, not open.
        outbox: Messages leave it when they are acknowledged.
        retained: The present status and states.
        window: Limit on unacknowledged messages that the connection may reach; the broker may set a lower one.
        drain_per_s: Messages of the backlog a second.
        refusals: Shared with the sessions before and after.
        counters: Shared with the sessions before and after.
    """

    def __init__(
        self,
        link: Link,
        *,
        outbox: Outbox,
        retained: Retained,
        refusals: Refusals,
        window: int,
        drain_per_s: float,
        counters: Counters,
    ) -> None:
        self._link, self._outbox, self._retained, self._refusals = link, outbox, retained, refusals
        self._window, self._limit, self._counters = 1, window, counters
        self._pace, self._held_back = Pace(drain_per_s, burst=window), False
        self._in_flight: dict[int, str] = {}
        self._alone: int | None = None
        self._waits_alone = False
        self._delivered: list[int] = []
        self._backlog: dict[str, int] = {}
        self._after: dict[str, int] = {}
        self._floor = self._turns = 0
        self._own_key = 0
        self._takes, self._answered = True, False
        self.opened_s: float | None = None
        """When the broker took the connection; None before."""
        self.lost: str | None = None
        """Why the connection is over; None before."""
        self.suspects: tuple[int, ...] = ()
        """Keys of the stored messages that the broker may have ended the connection over."""
        link.open()

    @property
    def idle(self) -> bool:
        """Whether everything that was said is acknowledged and nothing is left that could be said now."""
        return not (self._in_flight or self._delivered or self._retained.waiting(self._refusals.topics))

    def nap_s(self, now_s: float) -> float:
        """Seconds until there is something to do though nothing happens."""
        return min(self._refusals.nap_s(now_s), self._pace.nap_s(now_s) if self._held_back else float("inf"))

    def turn(self, now_s: float) -> None:
        """Take in what happened and send what may be sent; returns at once.

        Raises:
            OutboxError: The outbox failed; nothing is lost, and the next turn tries again.
        """
        for event in self._link.events():
            self._hear(event, now_s)
        speaks = self.opened_s is not None and self.lost is None
        if speaks:
            if self._refusals.expire(now_s):
                self._begin()
            self._send_retained()
        if self._delivered:
            self._outbox.delete(*self._delivered)
            self._delivered.clear()
        if speaks and self._takes:
            self._send_stored(now_s)

    def farewell(self, topic: str, payload: bytes) -> None:
        """Send no more stored messages, only this retained one."""
        self._takes = False
        self._retained.put(topic, payload)

    def close(self) -> None:
        """Part from the broker; `lost` is set in a later turn."""
        self._link.close()

    def _begin(self) -> None:
        """Send from the first stored message on; all that are stored now are a backlog."""
        self._floor = self._outbox.last_key
        self._backlog, self._after = self._outbox.waiting(), {}

    def _hear(self, event: LinkEvent, now_s: float) -> None:
        if isinstance(event, Acknowledged):
            self._acknowledged(event.key)
        elif isinstance(event, Refused):
            self._refused(event.key, event.reason, now_s)
        elif isinstance(event, Opened):
            self.opened_s = now_s
            self._limit = min(self._limit, event.receive_maximum)
            self._counters.connects += 1
            self._begin()
            self._retained.all_again()
        elif isinstance(event, Lost):
            self.lost = event.reason
            # A broker that has answered nothing at all is not well, whatever the message.
            if event.by_broker and self._answered:
                self.suspects = tuple(key for key in self._in_flight if key > 0)

    def _acknowledged(self, key: int) -> None:
        self._counters.acknowledged += 1
        self._answered = True
        self._refusals.forget(self._in_flight.pop(key))
        if key > 0:
            self._delivered.append(key)
            self._window = min(self._window + 1, self._limit)

    def _refused(self, key: int, reason: str, now_s: float) -> None:
        self._counters.refused += 1
        topic = self._in_flight.pop(key)
        if key > 0:
            self._outbox.release([key])
        else:
            self._retained.again(topic)
        delay_s = self._refusals.add(topic, now_s)
        if delay_s is not None:
            log.warning("publish refused topic=%s reason=%s retry_in_s=%.1f", topic, reason, delay_s)

    @property
    def _room(self) -> int:
        """How many more messages may be sent now."""
        if self._in_flight and (self._waits_alone or self._alone in self._in_flight):
            return 0
        return self._window - len(self._in_flight)

    def _send_retained(self) -> None:
        for topic in self._retained.waiting(self._refusals.topics):
            if self._room <= 0:
                return
            if (payload := self._retained.take(topic)) is not None:
                self._own_key -= 1
                self._publish(self._own_key, topic, payload, retain=True)

    def _send_stored(self, now_s: float) -> None:
        """Send what there is room for, of each asset its share; another asset is the first every time."""
        self._held_back = False
        self._waits_alone &= bool(self._in_flight)
        waiting = self._outbox.waiting()
        assets = [asset for asset, last in waiting.items() if last > self._position(asset)]
        self._turns += 1
        for index in range(len(assets)):
            asset = assets[(index + self._turns) % len(assets)]
            if (room := self._room) <= 0:
                return
            self._send_from(asset, waiting[asset], math.ceil(room / (len(assets) - index)), now_s)

    def _send_from(self, asset: str, last: int, limit: int, now_s: float) -> None:
        after, backlog = self._position(asset), self._backlog.get(asset, 0)
        if after < backlog:
            allowed = self._pace.allowed(now_s)
            self._held_back |= allowed < limit
            limit = min(limit, allowed)
        if not limit:
            return
        taken = self._outbox.take(asset, after, limit, skip_topics=self._refusals.topics)
        for index, stored in enumerate(taken):
            if self._in_flight and (stored.parted or self._alone in self._in_flight):
                self._waits_alone = True
                self._outbox.release(waiting.key for waiting in taken[index:])
                return
            self._after[asset] = stored.key
            self._alone = stored.key if stored.parted else None
            replayed = stored.key <= backlog
            self._pace.spend(replayed)
            self._publish(
                stored.key, stored.topic, as_replayed(stored.payload) if replayed else stored.payload, retain=False
            )
        if len(taken) < limit:
            self._after[asset] = last

    def _position(self, asset: str) -> int:
        """The key up to which nothing of the asset is left to be sent."""
        return self._after.get(asset, 0 if asset in self._backlog else self._floor)

    def _publish(self, key: int, topic: str, payload: bytes, *, retain: bool) -> None:
        self._in_flight[key] = topic
        self._counters.published += 1
        self._link.publish(key, topic, payload, qos=1, retain=retain)
