"""The thread of one pipeline: from its source through its windows to the outbox, restarted by itself when it breaks."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import threading
import time
from collections.abc import Sequence

import msgspec

from edge_vae import clock
from edge_vae.alarm_memory import Memory
from edge_vae.annunciator import Notice
from edge_vae.backoff import Backoff, Retries
from edge_vae.command import Mailbox
from edge_vae.config import PipelineConfig
from edge_vae.errors import EdgeVaeError, OutboxError
from edge_vae.event import AssetCounters, AssetState, Event, Model, encode, priority
from edge_vae.feedback import Feedback
from edge_vae.found import Found
from edge_vae.kept_alarms import KeptAlarms
from edge_vae.learned_file import LearnedFile
from edge_vae.operations import Operations
from edge_vae.outbox import Outbox
from edge_vae.pipeline import Pipeline
from edge_vae.publish.delivery import Delivery
from edge_vae.recorder import Recorder
from edge_vae.reporter import Reporter
from edge_vae.sample import Block
from edge_vae.sources import Source
from edge_vae.stamp import Stamper
from edge_vae.topics import Topics
from edge_vae.watchdog import Progress

__all__ = ["Worker"]

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 0.5
"""A source is asked for samples for so long at a time, so that a stop, a command and the watchdog never wait longer."""
STATE_EVERY_S = 10.0
"""The retained state is refreshed with the latest score this often while nothing changes."""
OWN_CLOCK_S = 2.0
"""A clock that nothing keeps right is off by more against a sensor's own, or else the difference does not matter."""


class Worker:
    """The thread of one pipeline: reads its source, pushes, reports what changed, carries out commands.

    Args:
        config: The pipeline's tables.
        model: Its bundle, as events name it.
        core: What samples are pushed into.
        source: Where they come from.
        learned_file: Where what the pipeline learns is kept.
        feedback: Where the samples around its alarms are kept, and verdicts on them.
        topics: Where events go.
        outbox: Takes the events.
        stamper: Stamps them.
        delivery: Takes the states.
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
        feedback: Feedback,
        topics: Topics,
        outbox: Outbox,
        stamper: Stamper,
        delivery: Delivery,
        once: bool,
    ) -> None:
        self.asset = config.asset
        self._model, self._core, self._source, self._learned_file = model, core, source, learned_file
        self._topic, self._outbox, self._delivery = topics.event(config.asset), outbox, delivery
        self._stop, self._once = threading.Event(), once
        self._reporter = Reporter(config.asset, model, core, stamper=stamper, put=self._store)
        self._alarms, self._unstored = KeptAlarms(outbox, config.asset), False
        core.resume(self._alarms.load(), time.monotonic_ns())
        self._feedback, self._recorder = feedback, core.recorder if feedback.on else None
        self._operations = Operations(
            config.asset, core, rebaselines="command" in config.baseline.on, feedback=feedback, report=self._obeyed
        )
        self.mailbox = Mailbox()
        """Commands to this asset."""
        self._deaf = True
        """Whether no samples come, which the core knows nothing of."""
        self._state: tuple[AssetState, str] = ("normal", "")
        self._shown: tuple[object, ...] = ()
        self._state_sent_s = -math.inf
        self._backoff = Backoff()
        self.tried, self.finished = threading.Event(), False
        self.failure: Exception | None = None
        self.progress_ns, self._doing = time.monotonic_ns(), "opening"
        self._raised = self._cleared = self._sensor_faults = self._failures = 0
        self._last_sample_ns: int | None = None
        self._thread = threading.Thread(target=self._run, name=f"pipeline {config.asset}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Have the thread end."""
        self._stop.set()

    def join(self) -> bool:
        """Whether the thread has ended, waiting for that a little; it follows the stop within one read."""
        self._thread.join(2 * READ_TIMEOUT_S + 2.0)
        return not self._thread.is_alive()

    @property
    def bundle(self) -> str:
        """SHA-256 of its bundle."""
        return self._model.sha256

    def stages(self) -> dict[str, Progress]:
        """How far the thread is, and that of its source if it has one; empty once there is nothing more to do."""
        if self.finished:
            return {}
        stages = {f"pipeline {self.asset}": Progress(self.progress_ns, self._doing, self._core.windows)}
        if (read_ns := self._source.progress_ns) is not None:
            stages[f"source {self.asset}"] = Progress(read_ns, "reading")
        return stages

    def counters(self) -> AssetCounters:
        """What was counted since the start; any thread may ask."""
        source, core, last_ns = self._source, self._core, self._last_sample_ns
        return AssetCounters(
            asset=self.asset,
            state=self._state[0],
            samples=source.samples,
            windows=core.windows,
            dropped=source.dropped,
            malformed=source.malformed,
            removed=core.removed,
            raised=self._raised,
            cleared=self._cleared,
            sensor_faults=self._sensor_faults,
            failures=self._failures,
            last_sample_age_s=None if last_ns is None else (time.monotonic_ns() - last_ns) / 1e9,
            score=core.score,
            threshold=core.threshold,
        )

    def _run(self) -> None:
        retries = Retries(self._backoff)
        try:
            while not self._stop.is_set() and not self.finished:
                began_s = time.monotonic()
                self._read_until_broken()
                if not self.finished:
                    self._pause(retries.delay_s(time.monotonic() - began_s))
        finally:
            self.finished = True
            self.tried.set()
            self.mailbox.close("there are no more samples")
            self._keep_learned(force=True)
            self._keep_alarms(force=True)
            if self._recorder is not None:
                self._recorder.flush()
                self._keep_samples(self._recorder)
            self._source.close()

    def _read_until_broken(self) -> None:
        """Read until the source ends, breaks, or the agent stops."""
        self._doing = "opening"
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
        self._doing = "reading"
        blocks = self._source.read(READ_TIMEOUT_S, at_least=self._core.awaited)
        self._doing = "scoring"
        self._serve()
        for block in blocks:
            self._take(block)
        self._keep_learned()
        self._keep_alarms()
        self.progress_ns = time.monotonic_ns()
        if not blocks and not self._state[1]:  # nothing has come yet, and nobody was told anything
            self._tell_state(force=True)
        if self._source.exhausted:
            samples, windows = self._source.samples, self._core.windows
            log.info("source exhausted asset=%s samples=%d windows=%d", self.asset, samples, windows)
            self._tell_state(force=True)
            self.finished = True

    def _serve(self) -> None:
        """Carry out commands, and whatever is due whether there are samples or not."""
        self.mailbox.serve(self._operations)
        if found := self._core.tick(time.monotonic_ns()):
            self._report(found)

    def _broken(self, error: Exception) -> None:
        what = str(error) if isinstance(error, EdgeVaeError) else repr(error)
        log.error("pipeline broke, trying again asset=%s error=%s", self.asset, what)
        self._failures += 1
        self._source.close()
        self.tried.set()
        self._deaf = True
        self._tell_state(force=True)
        if self._once:
            self.failure, self.finished = error, True

    def _pause(self, seconds: float) -> None:
        """Wait, and carry out commands meanwhile."""
        self._doing, until = "waiting", time.monotonic() + seconds
        while not self._stop.is_set() and time.monotonic() < until:
            with contextlib.suppress(OutboxError):  # the agent stops, and the next one will find the same to tell
                self._serve()
            self._wait(min(READ_TIMEOUT_S, seconds))

    def _wait(self, seconds: float) -> None:
        """Wait, and go on showing progress, until the time is over or the agent stops."""
        until = time.monotonic() + seconds
        while not self._stop.is_set() and (left_s := until - time.monotonic()) > 0:
            self.progress_ns = time.monotonic_ns()
            self._stop.wait(min(READ_TIMEOUT_S, left_s))

    def _take(self, block: Block) -> None:
        self._last_sample_ns = time.monotonic_ns()
        found = self._core.push(block)
        if self._recorder is not None:
            self._recorder.push(block)
        self._deaf = False
        self._report(found, arrived_ns=block.arrived_ns)
        self.progress_ns = time.monotonic_ns()

    def _report(self, found: Sequence[Found], *, arrived_ns: int | None = None) -> None:
        """Store what is to be told, then tell the state that has come of it."""
        for one in found:
            self._reporter.report(one, arrived_ns=arrived_ns)
            if self._recorder is not None and isinstance(one, Notice):
                self._recorder.follow(one)
        self._tell_state(force=bool(found))
        if self._recorder is not None:
            self._keep_samples(self._recorder)

    def _keep_samples(self, recorder: Recorder) -> None:
        for excerpt in recorder.due():
            self._feedback.keep(self.asset, self._core.columns, excerpt)

    def _obeyed(self, found: Sequence[Notice]) -> None:
        """A command was carried out, and brought this."""
        self._keep_learned(force=True)
        self._report(found)
        self._tell_state(force=True)

    def _keep_learned(self, *, force: bool = False) -> None:
        self._learned_file.save(self._core.learned, time.monotonic(), force=force)

    def _keep_alarms(self, *, force: bool = False) -> None:
        if not self._unstored:
            self._alarms.save(self._core.memory, time.monotonic(), force=force)

    def _store(self, event: Event, memory: Memory | None) -> int:
        seq = self._put(event, memory)
        self._raised += event.event == "raised"
        self._cleared += event.event == "cleared"
        self._sensor_faults += event.phase == "raised"
        if event.event == "drift":
            self._keep_learned(force=True)  # else, killed within the next minute, it would be told again
        return seq

    def _put(self, event: Event, memory: Memory | None) -> int:
        """The event's sequence number, once it is on disk; a full disk holds the pipeline up, and loses no alarm."""
        own_clock = event.time_quality == "unsynchronised" and _is_of_own_clock(event)
        store = functools.partial(
            self._outbox.put, self.asset, self._topic, functools.partial(_with_seq, event),
            priority=priority(event), own_clock=own_clock, kept=self._alarms.beside(memory),
        )  # fmt: skip
        retries = Retries(self._backoff)
        while True:
            try:
                return store()
            except OutboxError as error:  # noqa: PERF203 (each try waits for the disk)
                if self._once or self._stop.is_set():
                    self._unstored = True
                    raise
                log.warning("alarm not stored, trying again asset=%s error=%s", self.asset, error)
                self._wait(retries.delay_s())

    def _tell_state(self, *, force: bool) -> None:
        state: AssetState = "fault" if self._deaf else self._core.state
        memory = self._core.memory
        shown = (state, tuple(memory.alarms), memory.shelved, memory.flood is not None)
        if shown != self._shown or force or time.monotonic() - self._state_sent_s >= STATE_EVERY_S:
            self._shown = shown
            self._set_state(state)

    def _set_state(self, state: AssetState) -> None:
        if state != self._state[0] or not self._state[1]:
            self._state = (state, clock.format_time(time.time()))
        self._delivery.set_state(self.asset, encode(self._reporter.state(*self._state)))
        self._state_sent_s = time.monotonic()


def _is_of_own_clock(event: Event) -> bool:
    """Whether the event's time is what this machine's clock says of the moment at which its samples arrived."""
    at_s = event.monotonic_ns / 1e9 + time.time() - time.monotonic()
    return abs(clock.parse_time(event.time) - at_s) <= OWN_CLOCK_S


def _with_seq(event: Event, seq: int) -> bytes:
    return encode(msgspec.structs.replace(event, seq=seq))
