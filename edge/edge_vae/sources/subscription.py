"""A subscription that is renewed whenever the broker comes back."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.reasoncodes import ReasonCode

from edge_vae.backoff import Backoff, Retries
from edge_vae.errors import BrokerError
from edge_vae.publish.mqtt import MqttSettings
from edge_vae.sources.publications import PING, Arrived, Publications

__all__ = ["Subscription"]

log = logging.getLogger(__name__)

QOS = 1
MAX_ANSWERS = 64
"""Answers that may wait for a slow broker: whoever misses one asks again."""
STOP_S = 1.0
"""So long a farewell may take; a thread that still waits for TCP then ends by itself."""

TURN_S = 0.25
"""Whoever reads the socket looks this often whether it is to stop."""
PIECE_BYTES = 2**16

OnMessage = Callable[[paho.Client, paho.MQTTMessage], None]
"""Is given each message, and the client that it came by, to answer by."""
OnArrived = Callable[[Arrived], None]
"""Is given what has arrived, many messages at a time."""


class Subscription:
    """One topic of one broker, for as long as it is wanted; a thread connects, and waits longer after each failure.

    Args:
        topic: The topic or filter.
        settings: The broker, and the login.
        name: What it is, in the log.
        on_message: Called in a thread of the subscription.
        on_refused: Called there with the reason why the broker does not grant the subscription.
        on_arrived: Called in place of `on_message` for what comes after the grant; for topics that carry many messages.

    Raises:
        OSError: The files for TLS cannot be used.
    """

    def __init__(
        self,
        topic: str,
        settings: MqttSettings,
        *,
        name: str,
        on_message: OnMessage,
        on_refused: Callable[[str], None],
        on_arrived: OnArrived | None = None,
    ) -> None:
        self._topic, self._settings, self._name = topic, settings, name
        self._tell_message, self._tell_refused, self._tell_arrived = on_message, on_refused, on_arrived
        self._granted, self._ended, self._stopping = threading.Event(), threading.Event(), threading.Event()
        self._retries, self._granted_s = Retries(Backoff()), math.inf
        self._new_client()  # files that are no certificates are told here, not in the thread
        self._thread = threading.Thread(target=self._live, name=f"mqtt-{name}", daemon=True)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Whether the subscription is granted, waiting for that at most this long."""
        return self._granted.wait(timeout_s)

    def stop(self) -> None:
        """Part from the broker, for good."""
        self._stopping.set()
        self._ended.set()
        self._thread.join(STOP_S)

    def _live(self) -> None:
        while not self._stopping.is_set():
            self._ended.clear()
            self._granted_s = math.inf
            try:
                self._converse(self._new_client())
            except (OSError, ValueError, BrokerError) as error:
                self._failed(str(error))
            except Exception as error:
                log.exception("unforeseen subscription=%s", self._name)
                self._failed(str(error))
            self._granted.clear()
            self._stopping.wait(self._retries.delay_s(time.monotonic() - self._granted_s))

    def _converse(self, client: paho.Client) -> None:
        """One connection, from beginning to end; paho leaks two sockets when a client is used for another."""
        client.connect(self._settings.host, self._settings.port, self._settings.keepalive_s)
        if self._tell_arrived is not None:
            self._converse_in_bulk(client, self._tell_arrived)
            return
        client.loop_start()
        if not self._stopping.is_set() and not self._ended.wait(self._settings.connect_timeout_s):
            if self._granted.is_set():
                self._ended.wait()
            else:
                self._failed("no answer")
        client.disconnect()
        client.loop_stop()

    def _converse_in_bulk(self, client: paho.Client, tell: OnArrived) -> None:
        """The same in this thread; once the subscription is granted, nothing but its messages is to be read."""
        deadline_s = time.monotonic() + self._settings.connect_timeout_s
        try:
            while not (self._ended.is_set() or self._granted.is_set()) and time.monotonic() < deadline_s:
                client.loop(TURN_S)
            if self._granted.is_set() and (connection := client.socket()) is not None:
                self._read(connection, tell)
            elif not self._ended.is_set():
                self._failed("no answer")
        finally:
            self._granted.clear()
            client.disconnect()

    def _read(self, connection: Any, tell: OnArrived) -> None:
        """Everything from the grant to the stop.

        Raises:
            OSError, BrokerError: The connection broke.
        """
        publications, keepalive_s = Publications(self._settings.protocol), self._settings.keepalive_s
        connection.settimeout(TURN_S)
        heard_s = asked_s = time.monotonic()
        while not self._stopping.is_set():
            if data := _received(connection):
                arrived = publications.feed(data)
                tell(arrived)
                connection.sendall(arrived.answer)
                heard_s = time.monotonic()
            if time.monotonic() - asked_s >= keepalive_s:
                if heard_s < asked_s:
                    msg = "the broker does not answer"
                    raise ConnectionError(msg)
                connection.sendall(PING)
                asked_s = time.monotonic()

    def _failed(self, reason: str) -> None:
        known = self._retries.again and not self._granted.is_set()
        level = logging.DEBUG if known else logging.WARNING
        host, port = self._settings.host, self._settings.port
        log.log(
            level, "%s not connected: topic=%s host=%s port=%d reason=%s", self._name, self._topic, host, port, reason
        )

    def _new_client(self) -> paho.Client:
        settings = self._settings
        client = settings.new_client()
        client.max_queued_messages_set(MAX_ANSWERS)
        if (tls := settings.tls) is not None:
            ca, cert, key = (None if file is None else str(file) for file in (tls.ca_file, tls.cert_file, tls.key_file))
            client.tls_set(ca, cert, key)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_subscribe, client.on_message = self._on_subscribe, self._on_message
        return client

    def _on_connect(self, client: paho.Client, _userdata: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        if code.is_failure:
            self._failed(str(code))
            self._ended.set()
        else:
            client.subscribe(self._topic, qos=QOS)

    def _on_disconnect(
        self, _client: paho.Client, _userdata: Any, _flags: Any, code: ReasonCode, _properties: Any
    ) -> None:
        if self._granted.is_set() and not self._stopping.is_set():
            self._failed(str(code))
        self._granted.clear()
        self._ended.set()

    def _on_subscribe(
        self, _client: paho.Client, _userdata: Any, _mid: int, codes: list[ReasonCode], _properties: Any
    ) -> None:
        if refused := [str(code) for code in codes if code.is_failure]:
            self._tell_refused(refused[0])
        else:
            log.info("%s connected: topic=%s host=%s", self._name, self._topic, self._settings.host)
            self._granted_s = time.monotonic()
            self._granted.set()

    def _on_message(self, client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        self._tell_message(client, message)


def _received(connection: Any) -> bytes:
    """What has come, waiting at most a turn for it."""
    try:
        data: bytes = connection.recv(PIECE_BYTES)
    except TimeoutError:
        return b""
    if not data:
        msg = "the broker closed the connection"
        raise ConnectionError(msg)
    return data
