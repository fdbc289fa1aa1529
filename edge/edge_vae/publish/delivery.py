"""The publisher: a thread that keeps one connection after another and empties the outbox through it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from enum import Enum

import msgspec

from edge_vae import clock
from edge_vae.backoff import Backoff, Retries
from edge_vae.clock import TimeQuality, format_time
from edge_vae.errors import OutboxError
from edge_vae.event import Status, corrected, encode
from edge_vae.outbox import Outbox
from edge_vae.publish import Connect, Will
from edge_vae.publish.pace import DEFAULT_DRAIN_PER_S
from edge_vae.publish.session import Counters, Refusals, Retained, Session
from edge_vae.topics import Topics

__all__ = ["Delivery"]

log = logging.getLogger(__name__)

WINDOW = 16
"""Unacknowledged messages at a time: enough to fill a slow line, below the limit of 20 that brokers set by default."""
TURN_S = 1.0
"""The thread turns at least this often, so that a watchdog can tell waiting from hanging."""
GOODBYE_S = 2.0
"""So long the farewell may take, and so long the closing of the connection after it."""


class _Phase(Enum):
    RUNNING = "running"
    DRAINING = "draining"
    LEAVING = "leaving"
    CLOSING = "closing"
    CLOSED = "closed"


class Delivery:
    """Publishes what is in the outbox, and the present state of every asset, whenever there is a broker.

    Args:
        outbox: Emptied in order; a message leaves it when the broker has acknowledged it.
        connect: Makes a link to the broker.
        topics: Where status and states go.
        status: Makes what to say about the agent at that moment; state and time are filled in.
        backoff: Waits after a lost connection and after a refused message.
        window: Limit on unacknowledged messages.
        drain_per_s: So many messages that had to wait for a connection are published a second.
        wall: Seconds since 1970-01-01 UTC.
        time_quality: Whether the wall clock can be trusted at this moment.
    """

    def __init__(
        self,
        outbox: Outbox,
        connect: Connect,
        *,
        topics: Topics,
        status: Callable[[], Status],
        backoff: Backoff,
        window: int = WINDOW,
        drain_per_s: float = DEFAULT_DRAIN_PER_S,
        wall: Callable[[], float] = time.time,
        time_quality: Callable[[], TimeQuality] = clock.time_quality,
    ) -> None:
        self._outbox, self._connect, self._topics, self._status = outbox, connect, topics, status
        self._window, self._drain_per_s, self._wall = window, drain_per_s, wall
        self._time_quality, self._clock_was_right, self._clock_due_s = time_quality, False, 0.0
        self.counters = Counters()
        self.progress_ns = time.monotonic_ns()
        """Monotonic time of the thread's latest turn; it is never more than a little over a second old."""
        self._retained = Retained()
        self._retained.put(topics.status, b"")  # the first topic of all: the birth is published before the states
        self._refusals = Refusals(backoff)
        self._session: Session | None = None
        self._retries, self._retry_at_s = Retries(backoff), 0.0
        self._phase, self._deadline_s = _Phase.RUNNING, float("inf")
        self._drain_s: float | None = None
        self._bell = threading.Event()
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)
        outbox.listen(self._bell.set)

    def start(self) -> None:
        """Start the thread; no broker is needed."""
        self._thread.start()

    def set_state(self, asset: str, payload: bytes) -> None:
        """Publish the present state of an asset, now or on the next connection; only the latest one is kept."""
        self._retained.put(self._topics.state(asset), payload)
        self._bell.set()

    def drop_state(self, asset: str) -> None:
        """Publish no state of this asset any more; what the broker has stays there."""
        self._retained.drop(self._topics.state(asset))

    def refresh_status(self) -> None:
        """Publish anew what is to be said about the agent, if there is a connection; the next one begins with it."""
        if self.connected:
            self._retained.put(self._topics.status, self._announcement("online"))
            self._bell.set()

    @property
    def connected(self) -> bool:
        """Whether there is a connection that the broker took."""
        session = self._session
        return session is not None and session.opened_s is not None and session.lost is None

    def stop(self, drain_s: float) -> bool:
        """Whether the outbox is empty, after at most that many seconds to drain it and a few more to say goodbye."""
        self._drain_s = drain_s
        self._bell.set()
        if self._thread.ident is not None:
            self._thread.join(drain_s + 3 * GOODBYE_S)
        return self._outbox.count == 0

    def _run(self) -> None:
        while self._phase is not _Phase.CLOSED:
            self._turn(time.monotonic())
            self.progress_ns = time.monotonic_ns()
            self._bell.wait(self._nap_s(time.monotonic()))
            self._bell.clear()

    def _turn(self, now_s: float) -> None:
        if now_s >= self._clock_due_s:
            self._clock_due_s = now_s + TURN_S
            self._correct_times()
        if self._session is not None:
            self._let_talk(self._session, now_s)
            if self._session.lost is not None:
                self._part(self._session, now_s)
        elif now_s >= self._retry_at_s and self._phase in (_Phase.RUNNING, _Phase.DRAINING):
            self._session = self._new_session()
        self._advance(now_s)

    def _let_talk(self, session: Session, now_s: float) -> None:
        try:
            session.turn(now_s)
        except OutboxError as error:
            log.warning("outbox failed, trying again error=%s", error)

    def _correct_times(self) -> None:
        """Once the clock is right, set those times right that were taken before in this boot and still wait."""
        is_right = self._time_quality() == "synchronised"
        if is_right == self._clock_was_right:
            return
        self._clock_was_right = is_right
        if is_right:
            offset_s, boot_id = self._wall() - time.monotonic(), self._status().boot_id
            try:
                count = self._outbox.rewrite(lambda payload: corrected(payload, boot_id, offset_s))
            except OutboxError as error:
                self._clock_was_right = False
                log.warning("times not corrected, trying again error=%s", error)
            else:
                log.info("clock is synchronised, corrected_messages=%d", count)

    def _nap_s(self, now_s: float) -> float:
        due_s = self._deadline_s - now_s
        if self._session is None:
            due_s = min(due_s, self._retry_at_s - now_s)
        elif self.connected:
            due_s = min(due_s, self._session.nap_s(now_s))
        return max(0.0, min(TURN_S, due_s))

    def _new_session(self) -> Session:
        self._retained.put(self._topics.status, self._announcement("online"))
        last = msgspec.structs.replace(self._status(), state="offline", time=None, counters=None)
        will = Will(self._topics.status, encode(last))
        link = self._connect(will=will, wake=self._bell.set)
        return Session(
            link,
            outbox=self._outbox,
            retained=self._retained,
            refusals=self._refusals,
            window=self._window,
            drain_per_s=self._drain_per_s,
            counters=self.counters,
        )

    def _announcement(self, state: str) -> bytes:
        return encode(msgspec.structs.replace(self._status(), state=state, time=format_time(self._wall())))

    def _part(self, session: Session, now_s: float) -> None:
        """Give up a connection that is over, and plan the next one."""
        self._session = None
        self._outbox.release()
        if session.suspects:
            try:
                self._outbox.blame(session.suspects, str(session.lost))
            except OutboxError as error:
                log.warning("outbox failed, nobody blamed for the lost connection error=%s", error)
        delay_s = self._retries.delay_s(0.0 if session.opened_s is None else now_s - session.opened_s)
        self._retry_at_s = now_s + delay_s
        if self._phase is _Phase.CLOSING:
            log.info("broker connection closed")
            return
        what = "broker not reached" if session.opened_s is None else "broker connection lost"
        self.counters.lost += session.opened_s is not None
        log.warning("%s reason=%s retry_in_s=%.1f", what, session.lost, delay_s)

    def _advance(self, now_s: float) -> None:
        """Move through the phases of a stop, as far as they are over."""
        if self._phase is _Phase.RUNNING and self._drain_s is not None:
            self._enter(_Phase.DRAINING, now_s + self._drain_s)
        if self._phase is _Phase.DRAINING and (self._drained() or now_s >= self._deadline_s):
            self._enter(_Phase.LEAVING, now_s + GOODBYE_S)
            if self._session is not None and self.connected:
                self._session.farewell(self._topics.status, self._announcement("offline"))
                self._let_talk(self._session, now_s)
        if self._phase is _Phase.LEAVING and (not self.connected or self._idle() or now_s >= self._deadline_s):
            self._enter(_Phase.CLOSING, now_s + GOODBYE_S)
            if self._session is not None:
                self._session.close()
        if self._phase is _Phase.CLOSING and (self._session is None or now_s >= self._deadline_s):
            self._enter(_Phase.CLOSED, now_s)

    def _enter(self, phase: _Phase, deadline_s: float) -> None:
        self._phase, self._deadline_s = phase, deadline_s

    def _idle(self) -> bool:
        return self._session is not None and self._session.idle

    def _drained(self) -> bool:
        return self._outbox.count == 0 and (not self.connected or self._idle())
