"""Ways to a broker: one contract, kept by MQTT and by a twin in memory.

A link lives for one connection. It is opened, tells what happens as events, ends with exactly one `Lost`, and is not
used again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Acknowledged", "Connect", "Link", "LinkEvent", "Lost", "Opened", "Refused", "Wake", "Will"]

Wake = Callable[[], None]
"""Called from any thread when a link has new events; must return at once."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when the connection ends without a farewell."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """The broker took the connection; it accepts that many unacknowledged messages at a time."""

    receive_maximum: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker took responsibility for the message with this key."""

    key: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker answered that it will not take the message with this key."""

    key: int
    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is over or never came about; what was not acknowledged may or may not have arrived.

    Attributes:
        by_broker: Whether the other side ended it without a reason of its own, or said what nobody understands.
    """

    reason: str
    by_broker: bool = False


LinkEvent = Opened | Acknowledged | Refused | Lost


class Link(Protocol):
    """One connection life. Every method returns at once; all but the making of events belong to one thread."""

    def open(self) -> None:
        """Begin to connect; `Opened` or `Lost` follows."""
        ...

    def publish(self, key: int, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        """Hand over a message after `Opened`; with QoS 1 `Acknowledged`, `Refused` or `Lost` follows."""
        ...

    def events(self) -> list[LinkEvent]:
        """What happened since the last call, in order."""
        ...

    def close(self) -> None:
        """Part from the broker so that no will is published; `Lost` follows."""
        ...


class Connect(Protocol):
    """Makes a link that is not open yet."""

    def __call__(self, *, will: Will, wake: Wake) -> Link:
        """A fresh link; `wake` is called whenever it has new events."""
        ...
