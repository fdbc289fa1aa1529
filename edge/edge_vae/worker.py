"""The thread of one pipeline: from its source through its windows to the outbox, restarted by itself when it breaks."""

from __future__ import annotations

import functools
import logging
import math
import threading
import time
from random import Random

import msgspec

from edge_vae import clock
from edge_vae.alarm import Change
from edge_vae.backoff import Backoff
from edge_vae.command import Mailbox, Outcome
from edge_vae.config import PipelineConfig
from edge_vae.errors import EdgeVaeError, OutboxError
from edge_vae.event import AssetState, Event, EventKind, Model, Severity, State, Window, encode, priority
from edge_vae.learned_file import LearnedFile
from edge_vae.outbox import Outbox
from edge_vae.pipeline import Drift, Pipeline, Strange, Turn
from edge_vae.publish.delivery import Delivery
from edge_vae.sample import Block
from edge_vae.sources import Source
from edge_vae.stamp import Stamper
from edge_vae.topics import Topics

__all__ = ["Worker"]

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 0.5
"""A source is asked for samples for so long at a time, so that a stop, a command and the watchdog never wait longer."""
STATE_EVERY_S = 10.0
"""The retained state is refreshed with the latest score this often while nothing changes."""
STEADY_S = 10.0
"""A pipeline that ran for so long was a good one: the next wait after it is a short one."""
OWN_CLOCK_S = 2.0
"""A clock that nothing keeps right is off by more against a sensor's own, or else the difference does not matter."""
_DEFAULT_SEVERITY: Severity = "warning"


class Worker:
    """The thread of one pipeline: reads its source, pushes, reports what changed, carries out commands.

    Args:
        config: The pipeline's tables.
        model: Its bundle, as events name it.
        core: What samples are pushed into.
        source: Where they come from.
        learned_file: Where what the pipeline learns is kept.
        topics: Where events go.
        outbox: Takes the events.
        stamper: Stamps them.
        delivery: Takes the states.
        stop: Set when the agent ends.
        once: End with the first error.
    """

    def __init__(
        self,
        config: PipelineConfig,
        model: Model,
        core: Pipeline,
        *,
        source: Source,
        learned_file: LearnedFile,
        topics: Topics,
        outbox: Outbox,
        stamper: Stamper,
        delivery: Delivery,
        stop: threading.Event,
        once: bool,
    ) -> None:
        self.asset = config.asset
        self._model, self._core, self._source = model, core, source
        self._topic, self._outbox, self._stamper, self._delivery = topics.event(config.asset), outbox, stamper, delivery
        self._severity, self._obeys = config.alarm.severity or _DEFAULT_SEVERITY, "command" in config.baseline.on
        self._learned_file, self._stop, self._once = learned_file, stop, once
        self.mailbox = Mailbox()
        """Commands to this asset."""
        self._alarm_id: str | None = None
        self._state: tuple[AssetState, str] = ("normal", "")
        self._state_sent_s = -math.inf
        self._backoff = Backoff(Random())  # noqa: S311 (jitter, not a secret)
        self.tried, self.finished = threading.Event(), False
        self.failure: Exception | None = None
        self.progress_ns = time.monotonic_ns()
        self._thread = threading.Thread(target=self._run, name=f"pipeline {config.asset}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the thread's end, which follows the stop within one read."""
        self._thread.join(2 * READ_TIMEOUT_S + 2.0)

    def _run(self) -> None:
        attempt = 0
        try:
            while not self._stop.is_set() and not self.finished:
                began_s = time.monotonic()
                self._read_until_broken()
                if time.monotonic() - began_s >= STEADY_S:
                    attempt = 0
                if not self.finished:
                    self._pause(self._backoff.delay_s(attempt))
                attempt += 1
        finally:
            self.finished = True
            self.tried.set()
            self.mailbox.close("there are no more samples")
            self._keep_learned(force=True)
            self._source.close()

    def _read_until_broken(self) -> None:
        """Read until the source ends, breaks, or the agent stops."""
        try:
            self._source.open(self._core.columns)
            self.tried.set()
            while not self._stop.is_set() and not self.finished:
                self._read()
        except EdgeVaeError as error:
            self._broken(error)
        except Exception as error:
            # A fault of this program; it must not end the pipeline for good.
            log.exception("unforeseen asset=%s", self.asset)
            self._broken(error)

    def _read(self) -> None:
        blocks = self._source.read(READ_TIMEOUT_S, at_least=self._core.awaited)
        self.mailbox.serve(self._rebaseline)
        for block in blocks:
            self._take(block)
        self._keep_learned()
        self.progress_ns = time.monotonic_ns()
        if not blocks and not self._state[1]:
            self._set_state("fault")  # nothing has come yet, and nobody was told anything
        if self._source.exhausted:
            samples, windows = self._source.samples, self._core.windows
            log.info("source exhausted asset=%s samples=%d windows=%d", self.asset, samples, windows)
            self._tell_state(force=True)
            self.finished = True

    def _broken(self, error: Exception) -> None:
        what = str(error) if isinstance(error, EdgeVaeError) else repr(error)
        log.error("pipeline broke, trying again asset=%s error=%s", self.asset, what)
        self._source.close()
        self.tried.set()
        self._set_state("fault")
        if self._once:
            self.failure, self.finished = error, True

    def _pause(self, seconds: float) -> None:
        """Wait, and go on showing progress, until the time is over or the agent stops."""
        until = time.monotonic() + seconds
        while not self._stop.is_set() and time.monotonic() < until:
            self.progress_ns = time.monotonic_ns()
            self.mailbox.serve(self._rebaseline)
            self._stop.wait(min(READ_TIMEOUT_S, seconds))

    def _take(self, block: Block) -> None:
        for found in self._core.push(block):
            if isinstance(found, Strange):
                self._report_strange(found)
            elif isinstance(found, Drift):
                self._report_drift(found)
            else:
                self._report_turn(found)
        self.progress_ns = time.monotonic_ns()
        self._tell_state(force=False)

    def _report_turn(self, turn: Turn) -> None:
        """Store the event; only then is it logged, and only what is logged was promised."""
        raised = turn.change is Change.RAISED
        event = self._event("raised" if raised else "cleared", turn, peak_score=turn.peak_score)
        alarm_id = event.event_id if raised else self._alarm_id
        seq = self._put(msgspec.structs.replace(event, alarm_id=alarm_id))
        self._alarm_id = alarm_id if raised else None
        first = turn.channels[0]
        log.info(
            "alarm %s asset=%s event_id=%s seq=%d score=%.3f threshold=%.3f channel=%s share=%.2f",
            event.event, self.asset, event.event_id, seq, turn.score, turn.threshold, first.name, first.share,
        )  # fmt: skip

    def _report_drift(self, drift: Drift) -> None:
        event = self._event("drift", drift, severity="info")
        seq, first = self._put(event), drift.channels[0]
        self._keep_learned(force=True)  # else, killed within the next minute, it would be told again
        log.info(
            "drift begins asset=%s event_id=%s seq=%d windows=%d mean_score=%.3f threshold=%.3f channel=%s share=%.2f",
            self.asset, event.event_id, seq, drift.windows, drift.score, drift.threshold, first.name, first.share,
        )  # fmt: skip

    def _report_strange(self, strange: Strange) -> None:
        stamp = self._stamper()
        event = Event(
            event_id=stamp.event_id,
            alarm_id=None,
            seq=1,
            asset=self.asset,
            event="unknown_mode",
            severity="info",
            time=clock.format_time(strange.time_s) if math.isfinite(strange.time_s) else stamp.time,
            time_quality=stamp.time_quality,
            boot_id=stamp.boot_id,
            monotonic_ns=strange.arrived_ns,
            score=None,
            peak_score=None,
            threshold=None,
            ratio=None,
            channels=strange.channels,
            window=None,
            model=self._model,
            quality="good",
            replayed=False,
            dropped=None,
        )
        seq = self._put(event)
        mode = " ".join(f"{column.name}={column.value:g}" for column in strange.channels)
        log.info("unknown mode asset=%s event_id=%s seq=%d %s", self.asset, event.event_id, seq, mode)

    def _event(
        self, kind: EventKind, what: Turn | Drift, *, severity: Severity | None = None, peak_score: float | None = None
    ) -> Event:
        stamp = self._stamper()
        timed = math.isfinite(what.start_s) and math.isfinite(what.end_s)
        return Event(
            event_id=stamp.event_id,
            alarm_id=None,
            seq=1,
            asset=self.asset,
            event=kind,
            severity=severity or self._severity,
            time=clock.format_time(what.end_s) if timed else stamp.time,
            time_quality=stamp.time_quality,
            boot_id=stamp.boot_id,
            monotonic_ns=what.arrived_ns,
            score=what.score,
            peak_score=peak_score,
            threshold=what.threshold,
            ratio=what.score / what.threshold,
            channels=what.channels,
            window=Window(start=clock.format_time(what.start_s), end=clock.format_time(what.end_s)) if timed else None,
            model=self._model,
            quality="good",
            replayed=False,
            dropped=None,
        )

    def _rebaseline(self) -> Outcome:
        """Carry out the command of this name, in the thread that pushes samples."""
        if not self._obeys:
            return Outcome(ok=False, message='expected "command" in on under [pipeline.baseline] of the configuration')
        samples = self._core.rebaseline()
        if not samples:
            return Outcome(ok=False, message="expected a bundle with a baseline, received one that has none")
        log.info("baseline is learned anew, by command asset=%s samples=%d", self.asset, samples)
        self._keep_learned(force=True)
        if self._state[0] != "fault":  # there, the next samples tell the state
            self._tell_state(force=True)
        return Outcome(ok=True, message=f"the baseline is learned from the next {samples} samples")

    def _keep_learned(self, *, force: bool = False) -> None:
        self._learned_file.save(self._core.learned, time.monotonic(), force=force)

    def _put(self, event: Event) -> int:
        """The event's sequence number, once it is on disk; a full disk holds the pipeline up, and loses no alarm."""
        own_clock = event.time_quality == "unsynchronised" and _is_of_own_clock(event)
        store = functools.partial(
            self._outbox.put, self.asset, self._topic, functools.partial(_with_seq, event),
            priority=priority(event.event), own_clock=own_clock,
        )  # fmt: skip
        attempt = 0
        while True:
            try:
                return store()
            except OutboxError as error:  # noqa: PERF203 (each try waits for the disk)
                if self._once or self._stop.is_set():
                    raise
                log.warning("alarm not stored, trying again asset=%s error=%s", self.asset, error)
                self._pause(self._backoff.delay_s(attempt))
                attempt += 1

    def _tell_state(self, *, force: bool) -> None:
        state = self._core.state
        if state != self._state[0] or force or time.monotonic() - self._state_sent_s >= STATE_EVERY_S:
            self._set_state(state)

    def _set_state(self, state: AssetState) -> None:
        now = clock.format_time(time.time())
        if state != self._state[0] or not self._state[1]:
            self._state = (state, now)
        message = State(
            asset=self.asset, state=state, since=self._state[1], time=now, score=self._core.score,
            threshold=self._core.threshold, model=self._model,
        )  # fmt: skip
        self._delivery.set_state(self.asset, encode(message))
        self._state_sent_s = time.monotonic()


def _is_of_own_clock(event: Event) -> bool:
    """Whether the event's time is what this machine's clock says of the moment at which its samples arrived."""
    at_s = event.monotonic_ns / 1e9 + time.time() - time.monotonic()
    return abs(clock.parse_time(event.time) - at_s) <= OWN_CLOCK_S


def _with_seq(event: Event, seq: int) -> bytes:
    return encode(msgspec.structs.replace(event, seq=seq))
