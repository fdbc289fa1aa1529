"""Samples of a device that is read by a thread of its own, for as long as they are wanted."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Protocol

from edge_vae.backoff import Backoff, Retries
from edge_vae.errors import EdgeVaeError
from edge_vae.sample import Block
from edge_vae.sources.decode import Rows
from edge_vae.sources.row_buffer import RowBuffer

__all__ = ["TURN_S", "Device", "FedSource", "Readings"]

log = logging.getLogger(__name__)

TURN_S = 0.25
"""A device gives what has come at least this often, if only nothing, so that a stop never waits for a silent one."""
STOP_S = 2.0
"""So long the end of the thread is waited for; one that hangs in a driver ends by itself."""
FIRST_RETRY_S, LAST_RETRY_S = 0.5, 30.0

Readings = Generator[Rows | None, None, None]
"""Rows as they come, None while the device is being connected, which begins when the first are asked for; it is let go
when the generator is closed."""


class Device(Protocol):
    """Something that is connected to, and then read until it breaks."""

    @property
    def malformed(self) -> int:
        """How many readings could not be read."""
        ...

    def check(self, channels: Sequence[str]) -> None:
        """Raise SourceError if the device can never give these channels as it is configured."""
        ...

    def readings(self, channels: Sequence[str]) -> Readings:
        """A generator that connects, then yields the rows that came since it was asked last, at least every `TURN_S`.

        The first rows, empty ones perhaps, say that it is connected; until then it may yield None.

        Raises:
            SourceError, OSError: It cannot be connected, or broke; it is tried again.
        """
        ...


class FedSource:
    """The rows of a device, which is connected again whenever it broke; a lost connection starts no session.

    Args:
        device: What to read.
        name: How to call it in the log.
        max_rows: Rows that may wait to be read; when there are more the oldest are dropped and counted.
        lost: How many the device itself had to leave out.
    """

    exhausted = False

    def __init__(self, device: Device, *, name: str, max_rows: int, lost: Callable[[], int] = lambda: 0) -> None:
        self._device, self._name, self._lost = device, name, lost
        self._buffer = RowBuffer(max_rows, source=name)
        self._stopping, self._connected = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._starts = True
        self._asked_ns: int | None = None
        self._connected_s = math.inf
        self.samples = 0
        self.failure = ""
        """Why the device is not connected; empty where it is, or was not tried yet."""

    @property
    def malformed(self) -> int:
        """How many readings could not be read."""
        return self._device.malformed

    @property
    def dropped(self) -> int:
        """How many rows waited for too long, or never came into being."""
        return self._buffer.dropped + self._lost()

    @property
    def progress_ns(self) -> int | None:
        """Monotonic time when the device was last asked for something; now, if nothing is asked of it."""
        return self._asked_ns or time.monotonic_ns()

    def check(self, channels: Sequence[str]) -> None:
        """Raise SourceError if the device is configured for other channels."""
        self._device.check(channels)

    def open(self, channels: Sequence[str]) -> None:
        """Begin to connect.

        Raises:
            SourceError: The device is configured for other channels.
        """
        self.close()
        self.check(channels)
        self._starts = True
        # Each thread has a stop of its own: one that still hangs in a driver must not go on when the next one starts.
        self._stopping, self._connected = threading.Event(), threading.Event()
        self._thread = threading.Thread(
            target=self._live, args=(tuple(channels), self._stopping, self._connected), name=self._name, daemon=True
        )
        self._thread.start()

    def wait_connected(self, timeout_s: float) -> bool:
        """Whether the device is connected, waiting for that at most this long."""
        return self._connected.wait(timeout_s)

    def read(self, timeout_s: float, *, at_least: int = 1) -> list[Block]:
        """All rows that have come, waiting for that many at most this long."""
        taken = self._buffer.take(timeout_s, at_least)
        if taken is None:
            return []
        rows, arrived_ns = taken
        starts, self._starts = self._starts, False
        self.samples += len(rows)
        return [Block(rows.values, rows.times, arrived_ns, starts_session=starts, uncertain=rows.uncertain)]

    def close(self) -> None:
        """Let go of the device; rows that wait are dropped and counted."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_S)
            self._thread = None
        self._buffer.clear()

    def _live(self, channels: tuple[str, ...], stopping: threading.Event, connected: threading.Event) -> None:
        retries = Retries(Backoff(first_s=FIRST_RETRY_S, cap_s=LAST_RETRY_S))
        while not stopping.is_set():
            self._asked_ns, self._connected_s = time.monotonic_ns(), math.inf
            try:
                self._converse(channels, stopping, connected)
            except (EdgeVaeError, OSError) as error:
                self._failed(error, known=retries.again and not connected.is_set())
            except Exception as error:
                log.exception("unforeseen source=%s", self._name)
                self._failed(error, known=True)
            self._asked_ns = None
            connected.clear()
            stopping.wait(retries.delay_s(time.monotonic() - self._connected_s))

    def _converse(self, channels: tuple[str, ...], stopping: threading.Event, connected: threading.Event) -> None:
        """One connection, from beginning to end."""
        with closing(self._device.readings(channels)) as readings:
            for rows in readings:
                if rows is not None and not connected.is_set():
                    log.info("source connected source=%s", self._name)
                    self.failure, self._connected_s = "", time.monotonic()
                    connected.set()
                if stopping.is_set():
                    return
                self._asked_ns = time.monotonic_ns()
                if rows is not None:
                    self._buffer.put(rows, self._asked_ns)

    def _failed(self, error: Exception, *, known: bool) -> None:
        self.failure = str(error)
        log.log(logging.DEBUG if known else logging.WARNING, "source broke source=%s reason=%s", self._name, error)
