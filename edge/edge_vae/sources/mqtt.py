"""Samples that others publish over MQTT."""

from __future__ import annotations

import time as clock
from collections.abc import Sequence
from typing import Literal

import paho.mqtt.client as paho

from edge_vae.errors import SourceError
from edge_vae.publish.mqtt import MqttSettings
from edge_vae.sample import Block
from edge_vae.sources.csv_rows import CsvRows
from edge_vae.sources.json_rows import JsonRows
from edge_vae.sources.publications import Arrived
from edge_vae.sources.row_buffer import RowBuffer
from edge_vae.sources.subscription import Subscription

__all__ = ["MqttSource"]


class MqttSource:
    """Rows out of the messages of a topic; each message holds one row or several.

    The broker need not be there when the source is opened, and may come and go. A retained message is a reading of old,
    and is counted as dropped.

    Args:
        topic: The topic or filter to subscribe to.
        settings: The broker, and the login.
        format: `jsonl` (objects with names) or `csv` (readings in the order of the channels, without header, with or
            without the time in front of them).
        time: Key of the time in JSON; by default it is recognised.
        max_rows: Rows that may wait to be read; when there are more the oldest are dropped and counted.
    """

    exhausted = False
    progress_ns: int | None = None

    def __init__(
        self,
        topic: str,
        settings: MqttSettings,
        *,
        format: Literal["jsonl", "csv"] = "jsonl",  # noqa: A002 (the word of the configuration)
        time: str | None = None,
        max_rows: int,
    ) -> None:
        self._topic, self._settings, self._format, self._time = topic, settings, format, time
        self._source = f"topic {topic}"
        self._buffer = RowBuffer(max_rows, source=self._source)
        self._decoder: CsvRows | JsonRows | None = None
        self._subscription: Subscription | None = None
        self._refused = ""
        self._starts = True
        self._stale = self._malformed = 0
        self.samples = 0

    @property
    def malformed(self) -> int:
        """How many readings and messages could not be read."""
        return self._malformed + (self._decoder.malformed if self._decoder else 0)

    @property
    def dropped(self) -> int:
        """How many rows waited for too long, and how many messages were retained ones."""
        return self._buffer.dropped + self._stale

    def check(self, channels: Sequence[str]) -> None:
        """Raise nothing: which channels there are is seen when messages come."""

    def open(self, channels: Sequence[str]) -> None:
        """Begin to connect.

        Raises:
            SourceError: The files for TLS cannot be used.
        """
        self.close()
        self._malformed = self.malformed
        if self._format == "csv":
            self._decoder = CsvRows(channels, header=False, source=self._source)
        else:
            self._decoder = JsonRows(channels, time=self._time, source=self._source)
        self._refused, self._starts = "", True
        try:
            self._subscription = Subscription(
                self._topic,
                self._settings,
                name="source",
                on_message=self._on_message,
                on_refused=self._on_refused,
                on_arrived=self._on_arrived,
            )
        except (OSError, ValueError) as error:
            raise self._failed("TLS", expected="a CA, certificate and key", received=str(error)) from error
        self._subscription.start()

    def wait_subscribed(self, timeout_s: float) -> bool:
        """Whether the broker has granted the subscription, waiting for that at most this long."""
        return self._subscription is not None and self._subscription.wait(timeout_s)

    def read(self, timeout_s: float, *, at_least: int = 1) -> list[Block]:
        """All rows that have come, waiting for that many at most this long.

        Raises:
            SourceError: The broker refuses the subscription.
        """
        taken = self._buffer.take(0.0 if self._refused else timeout_s, at_least)
        if taken is None:
            if self._refused:
                raise self._failed("subscribing", expected="leave to subscribe", received=self._refused)
            return []
        rows, arrived_ns = taken
        starts, self._starts = self._starts, False
        self.samples += len(rows)
        return [Block(rows.values, rows.times, arrived_ns, starts_session=starts)]

    def close(self) -> None:
        """Part from the broker; rows that wait are dropped and counted."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.stop()
        self._buffer.clear()

    def _failed(self, what: str, *, expected: str, received: str) -> SourceError:
        return SourceError(f"{self._source} at {self._settings.host}: {what}", expected=expected, received=received)

    def _on_message(self, _client: paho.Client, message: paho.MQTTMessage) -> None:
        """What comes before the subscription is granted, as retained messages may."""
        kept = [] if message.retain else [bytes(message.payload)]
        self._on_arrived(Arrived(kept, retained=int(message.retain)))

    def _on_arrived(self, arrived: Arrived) -> None:
        self._stale += arrived.retained
        if self._decoder is not None:
            self._buffer.put(self._decoder.messages(arrived.payloads), clock.monotonic_ns())

    def _on_refused(self, reason: str) -> None:
        self._refused = reason
        self._buffer.wake()
