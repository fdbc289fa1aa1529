"""A subscriber as a SCADA system has one: it knows the topics and the JSON of the events, and nothing of the agent."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from edge_vae.broker_config import MqttConfig
from edge_vae.connection import connection
from edge_vae.errors import BrokerError
from edge_vae.event import Channel, Event, Status
from edge_vae.schema import text as schema_text
from edge_vae.subscription import Subscription

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Received", "Subscriber"]

TURN_S = 0.05
GOODBYE_S = 10.0
"""An agent that has ended has said goodbye before; the broker hands that on in milliseconds."""
SHOWN_CHANNELS = 3


@dataclass(frozen=True, slots=True)
class Received:
    """One event as it arrived.

    Attributes:
        event: Its content.
        payload: Its bytes.
        received_ns: Monotonic clock of this machine when it arrived.
    """

    event: Event
    payload: bytes
    received_ns: int

    @property
    def latency_ms(self) -> float:
        """From the arrival of the last sample of the window at the agent to the arrival of the event here."""
        return (self.received_ns - self.event.monotonic_ns) / 1e6

    @property
    def text(self) -> str:
        """What a person sees of it: what happened to which asset, and which channels did it."""
        event = self.event
        head = f"{event.time[:10]} {event.time[11:19]}Z  {event.asset}  {event.event.upper()}"
        if event.score is not None and event.threshold is not None:
            head += f"  score {event.score:.2f}, threshold {event.threshold:.2f}"
        shown = event.channels[:SHOWN_CHANNELS] if event.event == "raised" else ()
        return "\n".join([head, *(f"    {_told(channel)}" for channel in shown)])


class Subscriber:
    """Takes every message below the base topic, and each event once; subscribed as long as its context lasts.

    Args:
        mqtt: The broker.
        status_topic: Where the agent says that it comes and goes.
        show: Called with each event as it arrives.

    Raises:
        BrokerError: The connection is refused or lost; also while listening.
    """

    def __init__(self, mqtt: MqttConfig, *, status_topic: str, show: Callable[[Received], object]) -> None:
        self._mqtt, self._status_topic, self._show = mqtt, status_topic, show
        settings = connection(mqtt, client_id=f"scada-{os.urandom(4).hex()}")
        self._subscription = Subscription(settings, f"{mqtt.base_topic}/#", take=self._take)
        self._check = _schema_check()
        self._seen: set[str] = set()
        self._said_goodbye = False
        self.events: list[Received] = []
        """All events so far, in order of arrival."""

    def __enter__(self) -> Self:
        try:
            self._turn_until(lambda: self._subscription.granted, opens=True)
        except BaseException:
            self._subscription.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._subscription.close()

    @property
    def checks(self) -> bool:
        """Whether every event is validated against the JSON Schema."""
        return self._check is not None

    @property
    def lost(self) -> int:
        """Events that never arrived, by the gaps in the sequence numbers of each asset."""
        counts = Counter(received.event.asset for received in self.events)
        last = {received.event.asset: received.event.seq for received in self.events}
        return sum(last[asset] - count for asset, count in counts.items())

    def listen(self, ended: Callable[[], bool]) -> None:
        """Take messages until the agent has ended and everything it said has arrived.

        Args:
            ended: Whether the agent has ended.

        Raises:
            BrokerError: Its last message does not arrive.
        """
        self._turn_until(ended)
        # The broker keeps the order of what an agent says, so its goodbye comes behind its last event.
        deadline_s = time.monotonic() + GOODBYE_S
        self._turn_until(lambda: self._said_goodbye or time.monotonic() > deadline_s)
        if not self._said_goodbye:
            raise _lost(
                self._mqtt, expected="the agent's last message", received=f"none within {GOODBYE_S:g} s of its end"
            )

    def _turn_until(self, condition: Callable[[], bool], *, opens: bool = False) -> None:
        try:
            if opens:
                self._subscription.open()
            while not condition():
                self._subscription.turn(TURN_S)
        except OSError as error:
            raise _lost(self._mqtt, expected="a connection that lasts", received=str(error)) from error

    def _take(self, topic: str, payload: bytes) -> None:
        received_ns = time.monotonic_ns()
        if topic == self._status_topic:
            self._said_goodbye = msgspec.json.decode(payload, type=Status).state == "offline"
        elif topic.endswith("/event"):
            self._take_event(topic, payload, received_ns)

    def _take_event(self, topic: str, payload: bytes, received_ns: int) -> None:
        try:
            event = msgspec.json.decode(payload, type=Event)
        except msgspec.MsgspecError as error:
            raise _not_an_event(topic, str(error)) from error
        # Delivery is at least once: an event that is sent again carries the id it had before.
        if event.event_id in self._seen:
            return
        self._seen.add(event.event_id)
        if self._check is not None and (problem := self._check(payload)):
            raise _not_an_event(topic, problem)
        self.events.append(Received(event, payload, received_ns))
        self._show(self.events[-1])


def _schema_check() -> Callable[[bytes], str] | None:
    """What the shipped JSON Schema finds wrong with a payload, empty if nothing; None without package jsonschema."""
    if importlib.util.find_spec("jsonschema") is None:
        return None
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(json.loads(schema_text("event")))
    return lambda payload: "; ".join(error.message for error in validator.iter_errors(json.loads(payload)))


def _told(channel: Channel) -> str:
    part = "-" if channel.share is None else f"{channel.share:4.0%}"
    if channel.value is None or channel.expected is None:
        return f"{part} {channel.name}"
    return f"{part} {channel.name}: {channel.value:.4g} where {channel.expected:.4g} was expected"


def _lost(mqtt: MqttConfig, *, expected: str, received: str) -> BrokerError:
    where = f"broker {mqtt.host}:{mqtt.port}"
    return BrokerError(where, expected=expected, received=received, action="See broker.log and agent.log.")


def _not_an_event(topic: str, received: str) -> BrokerError:
    return BrokerError(topic, expected="an event as the schema edge-vae/event/1 describes it", received=received)
