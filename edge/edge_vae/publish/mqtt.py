"""MQTT 5 and 3.1.1 through paho, one fresh client a connection, so that the outbox stays the only queue.

paho would keep messages in memory while the broker is down, send them all at once afterwards, and reconnect by itself.
Here a thread lives as long as one connection and does all reading and writing; what was not acknowledged dies with it.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import paho.mqtt.client as paho
from paho.mqtt import MQTTException
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_vae.publish import Acknowledged, LinkEvent, Lost, Opened, Refused, Wake, Will

__all__ = ["MqttLink", "MqttSettings", "TlsFiles"]

log = logging.getLogger(__name__)

TURN_S = 1.0
"""The thread looks at its deadlines at least this often."""
CLOSE_S = 1.0
"""So long a farewell may take before the socket is simply closed."""
BLAMED = frozenset({0x80, 0x81, 0x82, 0x83, 0x87, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B})
"""Reason codes of a DISCONNECT that may be about a message, and not about the broker's own life: unspecified, malformed
packet, protocol error, implementation specific, not authorized, topic name invalid, packet too large, quota exceeded,
payload format invalid, retain and QoS not supported."""
RECEIVE_MAXIMUM = 65535
"""What MQTT 5 lets a client assume when the broker does not say (3.2.2.3.3); MQTT 3.1.1 has no such limit."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files for TLS: the authority to trust (default: those of the system), and a client certificate if wanted."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """How to reach a broker.

    Attributes:
        host: Name or address.
        port: 1883 by custom, 8883 with TLS.
        client_id: The broker allows one connection for each.
        protocol: MQTT version, 5 or 3.1.1.
        username: None to connect without.
        password: Kept out of the representation.
        tls: None to connect in the clear.
        keepalive_s: A dead connection is noticed after at most twice this.
        connect_timeout_s: For TCP, for the TLS handshake, and until the broker has answered.
    """

    host: str
    port: int
    client_id: str
    protocol: Literal[5, 311] = 5
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: TlsFiles | None = None
    keepalive_s: int = 30
    connect_timeout_s: float = 5.0

    def new_client(self) -> paho.Client:
        """A client for one connection, logged in by name and password; TLS, callbacks and a will are its user's."""
        version = MQTTProtocolVersion.MQTTv5 if self.protocol == 5 else MQTTProtocolVersion.MQTTv311
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=self.client_id, protocol=version, reconnect_on_failure=False
        )
        client.connect_timeout = self.connect_timeout_s
        if self.username is not None:
            client.username_pw_set(self.username, self.password)
        return client


@dataclass(frozen=True, slots=True)
class _Answer:
    """A PUBACK: the packet's number, and why the broker refused it, empty if it did not."""

    mid: int
    refusal: str


class MqttLink:
    """One connection to an MQTT broker."""

    def __init__(self, settings: MqttSettings, *, will: Will, wake: Wake) -> None:
        self._settings, self._will, self._wake = settings, will, wake
        self._news: deque[LinkEvent | _Answer] = deque()
        self._keys: dict[int, int] = {}
        self._client: paho.Client | None = None
        self._closing = threading.Event()
        self._ended, self._ended_by_broker = "", False
        self._deadline_s = 0.0

    def open(self) -> None:
        """Start the thread that connects; `Opened` or `Lost` follows."""
        threading.Thread(target=self._live, name="mqtt-link", daemon=True).start()

    def publish(self, key: int, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        """Hand over a message; with QoS 1 `Acknowledged` follows when the broker's PUBACK says that it has it."""
        client = self._client
        if client is None:
            return
        try:
            mid = client.publish(topic, payload, qos=qos, retain=retain).mid
        except ValueError as error:
            self._tell(Refused(key, str(error)))
            return
        if qos:
            # Answers meet this table in events(), which runs in this same thread, so none can come too early.
            self._keys[mid] = key

    def events(self) -> list[LinkEvent]:
        """What happened since the last call, in order."""
        news = [self._news.popleft() for _ in range(len(self._news))]
        events = (self._answered(item) if isinstance(item, _Answer) else item for item in news)
        return [event for event in events if event is not None]

    def close(self) -> None:
        """Send DISCONNECT, so that no will is published; `Lost` follows."""
        self._closing.set()
        if (client := self._client) is not None:
            client.disconnect()

    def _answered(self, answer: _Answer) -> LinkEvent | None:
        key = self._keys.pop(answer.mid, None)
        if key is None:  # QoS 0: paho reports that it was written, which says nothing about its arrival
            return None
        return Refused(key, answer.refusal) if answer.refusal else Acknowledged(key)

    def _tell(self, item: LinkEvent | _Answer) -> None:
        self._news.append(item)
        self._wake()

    def _live(self) -> None:
        reason = "the thread of the connection failed"
        try:
            reason = self._converse(self._new_client())
        except (OSError, ValueError, MQTTException) as error:
            reason = f"{type(error).__name__}: {error}"
        finally:
            self._client = None  # paho's client and this link refer to each other: without this its sockets stay open
            self._tell(Lost(reason, self._ended_by_broker))

    def _converse(self, client: paho.Client) -> str:
        """Why the connection ended."""
        client.connect(self._settings.host, self._settings.port, self._settings.keepalive_s)
        if self._closing.is_set():
            return "closed"
        self._client = client
        self._deadline_s = time.monotonic() + self._settings.connect_timeout_s
        closing = False
        try:
            code = MQTTErrorCode.MQTT_ERR_SUCCESS
            while code == MQTTErrorCode.MQTT_ERR_SUCCESS and not self._ended:
                if self._closing.is_set() and not closing:
                    closing, self._deadline_s = True, time.monotonic() + CLOSE_S
                    client.disconnect()
                left_s = self._deadline_s - time.monotonic()
                if left_s <= 0:
                    return "closed" if closing else "no answer from the broker"
                code = client.loop(min(TURN_S, left_s))
            return self._ended or paho.error_string(code)
        finally:
            if (open_socket := client.socket()) is not None:
                open_socket.close()

    def _new_client(self) -> paho.Client:
        settings = self._settings
        client = settings.new_client()
        client.max_inflight_messages_set(0)  # no limit here: a message that paho held back would be in a second queue
        client.will_set(self._will.topic, self._will.payload, qos=1, retain=True)
        if settings.tls is not None:
            client.tls_set_context(_tls_context(settings.tls))
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_publish, client.on_socket_open = self._on_publish, _without_delay
        # With this callback set, publish() in another thread only queues and wakes; this link's thread alone writes.
        client.on_socket_register_write = _written_by_the_loop
        return client

    def _on_connect(
        self, _client: paho.Client, _userdata: Any, _flags: Any, code: ReasonCode, properties: Properties | None
    ) -> None:
        if code.is_failure:
            self._ended = f"refused: {code}"
            return
        self._deadline_s = float("inf")
        log.info("broker connected host=%s port=%d", self._settings.host, self._settings.port)
        self._tell(Opened(getattr(properties, "ReceiveMaximum", RECEIVE_MAXIMUM)))

    def _on_disconnect(
        self, _client: paho.Client, _userdata: Any, flags: Any, code: ReasonCode, _properties: Properties | None
    ) -> None:
        # What paho calls an unspecified error of its own side is a connection that the other side ended or reset; a
        # protocol error of its own side is an answer that it cannot read, as mosquitto 2.0 gives to a large message.
        from_server = flags.is_disconnect_packet_from_server
        nameless = not from_server and str(code) == "Unspecified error"
        reason = "connection lost" if nameless else str(code)
        blamed = code.value in BLAMED if from_server else nameless or str(code) == "Protocol error"
        self._ended_by_broker = blamed and not self._ended and not self._closing.is_set()
        self._ended = self._ended or ("closed" if self._closing.is_set() else reason)

    def _on_publish(
        self, _client: paho.Client, _userdata: Any, mid: int, code: ReasonCode, _properties: Properties
    ) -> None:
        self._tell(_Answer(mid, str(code) if code.is_failure else ""))


class _TlsSocket(ssl.SSLSocket):
    """Closes when the handshake fails; paho would leave it open."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 (the signature of the base class)
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _tls_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=None if files.ca_file is None else str(files.ca_file))
    context.sslsocket_class = _TlsSocket
    if files.cert_file is not None:
        context.load_cert_chain(files.cert_file, files.key_file)
    return context


def _without_delay(_client: paho.Client, _userdata: Any, opened: Any) -> None:
    """Send small packets at once: an alarm must not wait for the acknowledgement of the packet before it."""
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _written_by_the_loop(_client: paho.Client, _userdata: Any, _opened: Any) -> None:
    """Nothing to register: the thread that reads is woken by paho and writes too."""
