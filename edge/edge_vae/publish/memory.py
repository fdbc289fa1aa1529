"""A broker inside the process, for tests and for running without a network."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from edge_vae.publish import Acknowledged, LinkEvent, Lost, Opened, Refused, Wake, Will

__all__ = ["MemoryBroker", "MemoryLink", "Message"]


@dataclass(frozen=True, slots=True)
class Message:
    """A message as the broker got it."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


class MemoryBroker:
    """Keeps every message it gets; its `link` is a `Connect`. Threads may share one broker.

    Args:
        up: Whether it takes connections from the start.
        receive_maximum: What it announces as the number of unacknowledged messages that it accepts.
    """

    def __init__(self, *, up: bool = True, receive_maximum: int = 65535) -> None:
        self.receive_maximum = receive_maximum
        self.received: list[Message] = []
        self.retained: dict[str, bytes] = {}
        self.refused_topics: set[str] = set()
        self.fatal: Callable[[Message], bool] = lambda message: False  # noqa: ARG005 (of every message)
        """Tells the messages over which it parts from who sent them."""
        self.silent = False
        """True: messages are kept and never acknowledged, as by a broker that hangs."""
        self._up = up
        self._links: set[MemoryLink] = set()
        self._changed = threading.Condition(threading.RLock())

    def link(self, *, will: Will, wake: Wake) -> MemoryLink:
        """A link to this broker that is not open yet."""
        return MemoryLink(self, will=will, wake=wake)

    def start(self) -> None:
        """Take connections from now on."""
        with self._changed:
            self._up = True

    def stop(self) -> None:
        """Go down as if killed: all connections are lost, no will is published, what was received stays."""
        with self._changed:
            self._up = False
            self._lose_all("broker is down")

    def cut(self) -> None:
        """Lose all connections, as when a cable is pulled, and publish their wills."""
        with self._changed:
            for link in self._links:
                self._keep(Message(link.will.topic, link.will.payload, qos=1, retain=True))
            self._lose_all("connection cut")

    def wait_for(self, predicate: Callable[[], bool], timeout_s: float) -> bool:
        """Whether the predicate, asked after every message that arrives, came true in time."""
        with self._changed:
            return self._changed.wait_for(predicate, timeout_s)

    def attach(self, link: MemoryLink) -> bool:
        """Whether the broker took the connection."""
        with self._changed:
            if self._up:
                self._links.add(link)
            return self._up

    def detach(self, link: MemoryLink) -> None:
        """End a connection without publishing its will."""
        with self._changed:
            self._links.discard(link)

    def take(self, link: MemoryLink, message: Message) -> str | None:
        """Why the message is refused, empty if it is not; None when there is no answer to be expected."""
        with self._changed:
            if link not in self._links:
                return None
            if message.topic in self.refused_topics:
                return "Not authorized"
            if self.fatal(message):
                self._links.discard(link)
                link.lose("Packet too large", by_broker=True)
                return None
            self._keep(message)
            return None if self.silent else ""

    def _keep(self, message: Message) -> None:
        self.received.append(message)
        if message.retain:
            self.retained[message.topic] = message.payload
        self._changed.notify_all()

    def _lose_all(self, reason: str) -> None:
        links, self._links = self._links, set()
        for link in links:
            link.lose(reason)


class MemoryLink:
    """One connection to a MemoryBroker."""

    def __init__(self, broker: MemoryBroker, *, will: Will, wake: Wake) -> None:
        self.will = will
        self._broker, self._wake = broker, wake
        self._events: deque[LinkEvent] = deque()
        self._ended = False

    def open(self) -> None:
        """Connect; `Opened` or `Lost` is there at once."""
        if self._broker.attach(self):
            self._tell(Opened(self._broker.receive_maximum))
        else:
            self.lose("broker is down")

    def publish(self, key: int, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        """Hand over a message; the answer is there at once."""
        refusal = self._broker.take(self, Message(topic, payload, qos, retain))
        if refusal is not None and qos:
            self._tell(Refused(key, refusal) if refusal else Acknowledged(key))

    def events(self) -> list[LinkEvent]:
        """What happened since the last call, in order."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def close(self) -> None:
        """Part from the broker; `Lost` is there at once."""
        self._broker.detach(self)
        self.lose("closed")

    def lose(self, reason: str, *, by_broker: bool = False) -> None:
        """End this connection, if it has not ended yet."""
        if not self._ended:
            self._ended = True
            self._tell(Lost(reason, by_broker))

    def _tell(self, event: LinkEvent) -> None:
        self._events.append(event)
        self._wake()
