"""A subscription to a broker that is read in the caller's own thread, and knows when what was retained has arrived."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from edge_vae.errors import BrokerError
from edge_vae.publish.mqtt import MqttSettings

__all__ = ["Subscription"]

QUIET_S = 0.3
"""Brokers of several nodes send what they have retained after they have answered; so long a silence ends it."""
FOR_A_PERSON = {0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C}
"""Reason codes of MQTT 5 (2.4) that the same login would get again: wrong protocol, client id or password, not
authorized, banned, wrong method."""
NEVER_SUBSCRIBED = "edge-vae-watch/never-subscribed"

Take = Callable[[str, bytes], object]
"""Is given topic and payload of every message."""


class Subscription:
    """One connection; everything happens in the thread that calls.

    Args:
        settings: The broker.
        topic: The filter to subscribe to.
        take: Called for every message.
    """

    def __init__(self, settings: MqttSettings, topic: str, *, take: Take) -> None:
        self._settings, self._topic, self._take = settings, topic, take
        self._client = self._new_client()
        self._refusal: BrokerError | None = None
        self._lost = ""
        self._granted_by_s = 0.0
        self._round_trip, self._latest_s = False, 0.0
        self.granted = False
        """Whether the broker has granted the subscription."""

    @property
    def complete(self) -> bool:
        """Whether all that the broker had retained has arrived; MQTT has no word for the last of them."""
        return self._round_trip and time.monotonic() - self._latest_s >= QUIET_S

    def open(self) -> None:
        """Connect; OSError if nobody answers."""
        self._client.connect(self._settings.host, self._settings.port, self._settings.keepalive_s)
        self._granted_by_s = time.monotonic() + self._settings.connect_timeout_s

    def turn(self, timeout_s: float) -> None:
        """Take what comes within the timeout; OSError if the connection is lost, BrokerError if it is refused."""
        until_s = time.monotonic() + timeout_s
        while (left_s := until_s - time.monotonic()) > 0:
            code = self._client.loop(left_s)
            if self._refusal is not None:
                raise self._refusal
            if code != MQTTErrorCode.MQTT_ERR_SUCCESS or self._lost:
                raise ConnectionError(self._lost or paho.error_string(code))
        if not self.granted and until_s > self._granted_by_s:
            msg = "no answer from the broker"
            raise TimeoutError(msg)

    def close(self) -> None:
        """Part from the broker."""
        self._client.disconnect()
        if (opened := self._client.socket()) is not None:
            opened.close()

    def _new_client(self) -> paho.Client:
        settings = self._settings
        client = settings.new_client()
        self._set_tls(client)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_subscribe, client.on_unsubscribe = self._on_subscribe, self._on_unsubscribe
        client.on_message = self._on_message
        return client

    def _set_tls(self, client: paho.Client) -> None:
        if (tls := self._settings.tls) is None:
            return
        ca, cert, key = (None if file is None else str(file) for file in (tls.ca_file, tls.cert_file, tls.key_file))
        try:
            client.tls_set(ca, cert, key)
        except (OSError, ValueError) as error:
            raise _refused(
                self._settings, expected="a CA, certificate and key that fit", received=str(error)
            ) from error

    def _on_connect(self, client: paho.Client, _userdata: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        if not code.is_failure:
            # QoS 0: messages of QoS 1 wait for acknowledgements of earlier ones, and its later answers overtake them.
            client.subscribe(self._topic, qos=0)
        elif code.value in FOR_A_PERSON:
            self._refusal = _refused(self._settings, expected="leave to connect", received=str(code))
        else:
            self._lost = str(code)

    def _on_disconnect(
        self, _client: paho.Client, _userdata: Any, _flags: Any, code: ReasonCode, _properties: Any
    ) -> None:
        self._lost = self._lost or str(code)

    def _on_subscribe(
        self, client: paho.Client, _userdata: Any, _mid: int, codes: list[ReasonCode], _properties: Any
    ) -> None:
        if refused := [str(code) for code in codes if code.is_failure]:
            self._refusal = _refused(
                self._settings, expected=f"leave to subscribe to {self._topic}", received=refused[0]
            )
            return
        self.granted = True
        # The answer to this, which changes nothing, comes behind the retained messages.
        client.unsubscribe(NEVER_SUBSCRIBED)

    def _on_unsubscribe(self, _client: paho.Client, _userdata: Any, _mid: int, _codes: Any, _properties: Any) -> None:
        self._round_trip, self._latest_s = True, time.monotonic()

    def _on_message(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        self._latest_s = time.monotonic()
        with suppress(UnicodeDecodeError):  # of a topic that is no text, which none of ours is
            self._take(message.topic, bytes(message.payload))


def _refused(settings: MqttSettings, *, expected: str, received: str) -> BrokerError:
    return BrokerError(
        f"broker {settings.host}:{settings.port}",
        expected=expected,
        received=received,
        action="Check username, password_file and tls under [mqtt], and the broker's access rules.",
    )
