"""One of several sources of a pipeline, read by a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from edge_vae.backoff import Backoff, Retries
from edge_vae.errors import EdgeVaeError
from edge_vae.sample import Block
from edge_vae.sources import Source

__all__ = ["Member"]

log = logging.getLogger(__name__)

READ_S = 0.25
"""A member is asked for samples for so long at a time, so that a stop never waits for a silent one."""
WAITING_BLOCKS = 8
"""Blocks that may wait for the join; then a recording waits, and a sensor's own buffer fills."""
STOP_S = 2.0


class Member:
    """One of the sources, read by a thread of its own.

    Args:
        source: What to read.
        channels: What it has.
        recorded: That it is a recording, of which an error is final.
        wake: Called when there is something new.
    """

    def __init__(self, source: Source, channels: Sequence[str], *, recorded: bool, wake: Callable[[], None]) -> None:
        self.source, self.channels, self._recorded, self._wake = source, tuple(channels), recorded, wake
        self._waiting: queue.Queue[Block] = queue.Queue(WAITING_BLOCKS)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._over = False
        self._failure: Exception | None = None
        self._asked_ns: int | None = None
        self.arrived_ns = 0

    @property
    def ended(self) -> bool:
        """Whether everything was read and taken."""
        return self._over and self._waiting.empty()

    @property
    def progress_ns(self) -> int:
        """Monotonic time since when the source, or what it reads in turn, is asked for something; now, if it is not."""
        now_ns = time.monotonic_ns()
        return min(self._asked_ns or now_ns, self.source.progress_ns or now_ns)

    def next(self) -> Block | None:
        """The next block, if there is one.

        Raises:
            SourceError: The recording cannot be read.
        """
        try:
            block = self._waiting.get_nowait()
        except queue.Empty:
            if self._failure is not None:
                raise self._failure from None
            return None
        self.arrived_ns = block.arrived_ns
        return block

    def open(self) -> None:
        """Start to read.

        Raises:
            SourceError: The source lacks a channel.
        """
        self.source.open(self.channels)
        self._waiting, self._stopping = queue.Queue(WAITING_BLOCKS), threading.Event()
        self._over, self._failure, self.arrived_ns = False, None, time.monotonic_ns()
        self._thread = threading.Thread(
            target=self._live, args=(self._stopping,), name=f"source {self.channels[0]}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopping.set()

    def close(self) -> None:
        """Wait for the thread's end, then let the source go."""
        if self._thread is not None:
            self._thread.join(STOP_S)
            self._thread = None
        self.source.close()

    def _live(self, stopping: threading.Event) -> None:
        retries = Retries(Backoff())
        while not stopping.is_set() and not self._over:
            began_s = time.monotonic()
            error = self._read_until_broken(stopping, again=retries.again)
            if error is None:
                return
            if self._recorded:
                self._failure = error
                self._wake()
                return
            log.warning("source broke, trying again channels=%s reason=%s", ",".join(self.channels), error)
            self.source.close()
            stopping.wait(retries.delay_s(time.monotonic() - began_s))

    def _read_until_broken(self, stopping: threading.Event, *, again: bool) -> Exception | None:
        try:
            if again:
                self._asked_ns = time.monotonic_ns()
                self.source.open(self.channels)
            while not stopping.is_set() and not self._over:
                self._asked_ns = time.monotonic_ns()
                blocks, self._asked_ns = self.source.read(READ_S), None
                self._hand_on(blocks, stopping)
                self._over = self.source.exhausted
                self._wake()
        except EdgeVaeError as error:
            return error
        except Exception as error:
            log.exception("unforeseen channels=%s", ",".join(self.channels))
            return error
        finally:
            self._asked_ns = None
        return None

    def _hand_on(self, blocks: Sequence[Block], stopping: threading.Event) -> None:
        """Wait until there is room for each block, as long as it may take."""
        for block in blocks:
            waiting = True
            while waiting and not stopping.is_set():
                with contextlib.suppress(queue.Full):
                    self._waiting.put(block, timeout=READ_S)
                    waiting = False
            self._wake()
