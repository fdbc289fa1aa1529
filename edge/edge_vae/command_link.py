"""The connection that commands come in by, and their answers go out by."""

from __future__ import annotations

import logging
import time
from typing import Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode

from edge_vae.command import Send
from edge_vae.publish.mqtt import MqttSettings
from edge_vae.sources.subscription import QOS, Subscription

__all__ = ["CommandLink", "Take"]

log = logging.getLogger(__name__)


class Take(Protocol):
    """Takes a command in; called in the connection's thread."""

    def __call__(self, topic: str, payload: bytes, *, retained: bool, send: Send) -> None:
        """`send` answers over the connection that the command came by."""
        ...


class CommandLink:
    """A connection of its own beside the publisher's, for as long as it is wanted.

    So whatever commands do to a connection (a broker that parts from a client that subscribes or answers where it may
    not, a flood of requests), the one that delivers alarms goes on. The agent works without this one.

    Args:
        topic: The filter of all commands.
        settings: The broker, and a client id that no other client of it has.
        take: Called for every message.

    Raises:
        OSError: The files for TLS cannot be used.
    """

    def __init__(self, topic: str, settings: MqttSettings, *, take: Take) -> None:
        self._topic, self._take, self._refused_before = topic, take, False
        self._busy_since_ns: int | None = None
        self._subscription = Subscription(
            topic, settings, name="commands", on_message=self._on_message, on_refused=self._on_refused
        )

    @property
    def progress_ns(self) -> int:
        """Monotonic time since when a command is being taken in; now, if none is: waiting for one is no hanging."""
        return self._busy_since_ns or time.monotonic_ns()

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._subscription.start()

    def stop(self) -> None:
        """Part from the broker, for good."""
        self._subscription.stop()

    def _on_message(self, client: paho.Client, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:  # of a topic that is no text, so that it names no asset
            return
        self._busy_since_ns = time.monotonic_ns()
        try:
            self._take(topic, bytes(message.payload), retained=message.retain, send=_sender(client))
        finally:
            self._busy_since_ns = None

    def _on_refused(self, reason: str) -> None:
        level = logging.DEBUG if self._refused_before else logging.WARNING
        log.log(level, "commands not heard, subscription refused: topic=%s reason=%s", self._topic, reason)
        self._refused_before = True


def _sender(client: paho.Client) -> Send:
    def send(topic: str, payload: bytes) -> None:
        code = client.publish(topic, payload, qos=QOS).rc
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            log.warning("answer not sent topic=%r reason=%s", topic, paho.error_string(code))

    return send
