"""A subscription that is renewed whenever the broker comes back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from random import Random
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.reasoncodes import ReasonCode

from edge_vae.backoff import Backoff
from edge_vae.publish.mqtt import MqttSettings

__all__ = ["Subscription"]

log = logging.getLogger(__name__)

QOS = 1
MAX_ANSWERS = 64
"""Answers that may wait for a slow broker: whoever misses one asks again."""
STOP_S = 1.0
"""So long a farewell may take; a thread that still waits for TCP then ends by itself."""

OnMessage = Callable[[paho.Client, paho.MQTTMessage], None]
"""Is given each message, and the client that it came by, to answer by."""


class Subscription:
    """One topic of one broker, for as long as it is wanted; a thread connects, and waits longer after each failure.

    Args:
        topic: The topic or filter.
        settings: The broker, and the login.
        name: What it is, in the log.
        on_message: Called in paho's thread.
        on_refused: Called in paho's thread with the reason why the broker does not grant the subscription.

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
    ) -> None:
        self._topic, self._settings, self._name = topic, settings, name
        self._tell_message, self._tell_refused = on_message, on_refused
        self._granted, self._ended, self._stopping = threading.Event(), threading.Event(), threading.Event()
        self._failures = 0
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
        backoff = Backoff(Random())  # noqa: S311 (jitter, no secret)
        while not self._stopping.is_set():
            self._ended.clear()
            try:
                self._converse(self._new_client())
            except (OSError, ValueError) as error:
                self._failed(str(error))
            self._granted.clear()
            self._stopping.wait(backoff.delay_s(max(0, self._failures - 1)))

    def _converse(self, client: paho.Client) -> None:
        """One connection, from beginning to end; paho leaks two sockets when a client is used for another."""
        client.connect(self._settings.host, self._settings.port, self._settings.keepalive_s)
        client.loop_start()
        if not self._stopping.is_set() and not self._ended.wait(self._settings.connect_timeout_s):
            if self._granted.is_set():
                self._ended.wait()
            else:
                self._failed("no answer")
        client.disconnect()
        client.loop_stop()

    def _failed(self, reason: str) -> None:
        level = logging.DEBUG if self._failures else logging.WARNING
        host, port = self._settings.host, self._settings.port
        log.log(
            level, "%s not connected: topic=%s host=%s port=%d reason=%s", self._name, self._topic, host, port, reason
        )
        self._failures += 1

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
            self._failures = 0
            self._granted.set()

    def _on_message(self, client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        self._tell_message(client, message)
