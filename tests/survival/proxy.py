"""A TCP proxy between an agent and its broker that can be paused and cut, and that keeps account of what passes."""

from __future__ import annotations

import json
import selectors
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

from broker import ADDRESS, free_port

__all__ = ["Account", "Proxy"]

PUBLISH, PUBACK = 3, 4
PIECE_BYTES = 1 << 16
UNREAD_S = 0.2
"""So long an acknowledgement may have lain unread in the socket of an agent when its connection was reset."""


@dataclass
class Account:
    """What agents handed to the broker, and what it took.

    Attributes:
        sent: Events (asset, seq, event id) whose PUBLISH reached the broker whole, in that order, repeats and all.
        taken: Ids of events that the broker acknowledged.
        told: The life of the agent in which an event's acknowledgement was passed on to it, by id.
        repeated: Events that reached the broker again.
        unexplained: Of these, how many that an agent sent that had been told so in the same life.
    """

    sent: list[tuple[str, int, str]] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    told: dict[str, int] = field(default_factory=dict)
    repeated: int = 0
    unexplained: int = 0


class Proxy:
    """Listens on a port of its own, connects to the broker for each agent that comes, and passes bytes on.

    Args:
        broker_port: Port of the broker, on this machine.
    """

    def __init__(self, broker_port: int) -> None:
        self._broker_port, self.port = broker_port, free_port()
        self.account = Account()
        self._sent: set[str] = set()
        self.life = 0
        """To be raised whenever an agent is killed: what it had been told it may have forgotten."""
        self._lock = threading.Lock()
        self._open, self._cut, self._ending = threading.Event(), threading.Event(), threading.Event()
        self._open.set()
        self._listener = socket.create_server((ADDRESS, self.port))
        self._listener.settimeout(0.05)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Half-open: connections stay, new ones are taken, and no byte passes."""
        self._open.clear()

    def resume(self) -> None:
        """Pass bytes on again."""
        self._open.set()

    def cut(self) -> None:
        """Reset every connection there is."""
        self._cut.set()
        self._cut = threading.Event()

    def close(self) -> None:
        """End for good."""
        self._ending.set()
        self.cut()
        self._thread.join()
        self._listener.close()

    def _listen(self) -> None:
        while not self._ending.is_set():
            try:
                agent, _ = self._listener.accept()
            except TimeoutError:
                continue
            threading.Thread(target=self._serve, args=(agent, self._cut), daemon=True).start()

    def _serve(self, agent: socket.socket, cut: threading.Event) -> None:
        try:
            broker = socket.create_connection((ADDRESS, self._broker_port), timeout=1)
        except OSError:
            _reset(agent)
            return
        with agent, broker:
            told = self._pass_on(agent, broker, cut, self.life)
            if cut.is_set():
                _reset(agent)
                with self._lock:  # what the agent had not read yet, the reset has thrown away
                    for event_id, at_s in told.items():
                        if time.monotonic() - at_s < UNREAD_S:
                            self.account.told.pop(event_id, None)

    def _pass_on(
        self, agent: socket.socket, broker: socket.socket, cut: threading.Event, life: int
    ) -> dict[str, float]:
        """Until one side ends, or both are cut; the events whose acknowledgement was passed on, and when.

        The life is that of the agent that connected: what passes after its death was not told to the next one.
        """
        ids: dict[int, str] = {}
        told: dict[str, float] = {}
        outward, inward = _Packets(), _Packets()
        with selectors.DefaultSelector() as waiting, suppress(OSError):
            waiting.register(agent, selectors.EVENT_READ)
            waiting.register(broker, selectors.EVENT_READ)
            while not cut.is_set():
                if not self._open.wait(0.02):
                    continue
                for key, _ in waiting.select(0.02):
                    piece = agent.recv(PIECE_BYTES) if key.fileobj is agent else broker.recv(PIECE_BYTES)
                    if not piece or cut.is_set():
                        return told
                    if key.fileobj is agent:
                        broker.sendall(piece)
                        self._outward(outward.feed(piece), ids, life)
                    else:
                        acknowledged = _acknowledged(inward.feed(piece), ids)
                        self._taken(acknowledged)
                        agent.sendall(piece)
                        self._told(acknowledged, told, life)
        return told

    def _outward(self, packets: list[tuple[int, int, bytes]], ids: dict[int, str], life: int) -> None:
        for kind, flags, body in packets:
            if kind == 1:  # CONNECT: the level stands behind the protocol's name
                ids[0] = str(body[6])
            if kind == PUBLISH and flags & 6 and (event := _event(body, level=int(ids.get(0, "5")))):
                packet_id, asset, seq, event_id = event
                ids[packet_id] = event_id
                with self._lock:
                    self.account.repeated += event_id in self._sent
                    self._sent.add(event_id)
                    self.account.sent.append((asset, seq, event_id))
                    self.account.unexplained += self.account.told.get(event_id) == life

    def _taken(self, acknowledged: list[str]) -> None:
        with self._lock:
            self.account.taken.update(acknowledged)

    def _told(self, acknowledged: list[str], told: dict[str, float], life: int) -> None:
        told.update(dict.fromkeys(acknowledged, time.monotonic()))
        with self._lock:
            self.account.told.update(dict.fromkeys(acknowledged, life))


class _Packets:
    """MQTT control packets out of a stream: (kind, flags, body)."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[tuple[int, int, bytes]]:
        self._rest += piece
        packets = []
        while (whole := self._next()) is not None:
            packets.append(whole)
        return packets

    def _next(self) -> tuple[int, int, bytes] | None:
        length, at = 0, 1
        while True:
            if at >= len(self._rest):
                return None
            byte = self._rest[at]
            length |= (byte & 127) << 7 * (at - 1)
            at += 1
            if byte < 128:
                break
        if len(self._rest) < at + length:
            return None
        first, body = self._rest[0], self._rest[at : at + length]
        self._rest = self._rest[at + length :]
        return first >> 4, first & 15, body


def _event(body: bytes, *, level: int) -> tuple[int, str, int, str] | None:
    """Packet id, asset, seq and event id of a PUBLISH of QoS 1 that carries an event."""
    (topic_length,) = struct.unpack_from(">H", body)
    topic, at = body[2 : 2 + topic_length], 2 + topic_length
    if not topic.endswith(b"/event"):
        return None
    (packet_id,) = struct.unpack_from(">H", body, at)
    at += 2
    if level == 5:
        at += 1 + body[at]  # properties, shorter than 128 bytes
    event = json.loads(body[at:])
    return packet_id, event["asset"], event["seq"], event["event_id"]


def _acknowledged(packets: list[tuple[int, int, bytes]], ids: dict[int, str]) -> list[str]:
    """Ids of the events that these packets acknowledge without an error."""
    found = []
    for kind, _, body in packets:
        if kind == PUBACK and (len(body) < 3 or body[2] < 0x80):
            (packet_id,) = struct.unpack_from(">H", body)
            if packet_id in ids:
                found.append(ids[packet_id])
    return found


def _reset(connection: socket.socket) -> None:
    """Close so that the peer sees a reset, as after a cable was pulled and put back."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
