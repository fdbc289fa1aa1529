"""The agent: source -> samples -> windows -> score -> threshold -> alarm -> outbox -> publisher, for every pipeline.

Each pipeline has a thread of its own and is restarted by itself; the publisher has one; the main thread answers signals
and the watchdog. The broker is never needed to start.
"""

from __future__ import annotations

import functools
import logging
import math
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Literal

import msgspec

from edge_vae import __version__, clock, notify
from edge_vae.alarm import AlarmRules, Change
from edge_vae.backoff import Backoff
from edge_vae.bundle import Bundle
from edge_vae.config import AgentConfig, AlarmConfig, PipelineConfig, missing_files
from edge_vae.connection import connection
from edge_vae.detector import load
from edge_vae.errors import ConfigError, EdgeVaeError, OutboxError
from edge_vae.event import AssetState, Event, Model, Severity, State, Status, Window, encode, notice
from edge_vae.outbox import Outbox
from edge_vae.pipeline import Pipeline, Turn
from edge_vae.publish.delivery import Delivery
from edge_vae.publish.mqtt import MqttLink
from edge_vae.sample import Block
from edge_vae.sources import Source, open_source
from edge_vae.stamp import Stamper
from edge_vae.topics import Topics

__all__ = ["Agent", "run"]

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 0.5
"""A source is asked for samples for so long at a time, so that a stop and the watchdog never wait longer."""
STATE_EVERY_S = 10.0
"""The retained state is refreshed with the latest score this often while nothing changes."""
STALLED_S = 30.0
"""A stage without progress for so long hangs, and only then the watchdog fires: scoring a block takes milliseconds."""
STEADY_S = 10.0
"""A pipeline that ran for so long was a good one: the next wait after it is a short one."""
DRAIN_S = 10.0
"""On SIGTERM the outbox may drain for so long; what is left is sent after the next start."""
_TICK_S = 0.2
_DEFAULT_SEVERITY: Severity = "warning"


class Agent:
    """All pipelines of one configuration, their outbox and their publisher.

    Args:
        config: What `agent.toml` says.
        once: End when every finite source is exhausted and the outbox is empty.

    Raises:
        ConfigError, BundleError: Something must be changed by a person.
        OutboxError: The state directory cannot be used.
    """

    def __init__(self, config: AgentConfig, *, once: bool = False) -> None:
        self._once = once
        node, mqtt = config.node, config.mqtt
        self._stamper = Stamper(clock.boot_id())
        topics = Topics(mqtt.base_topic, node.site, node.name)
        settings = connection(mqtt, client_id=f"edge-vae-{node.site}-{node.name}")
        loaded = [(pipeline, _loaded(pipeline)) for pipeline in config.pipelines]
        self._outbox = Outbox(
            node.state_dir,
            assets={pipeline.asset: topics.event(pipeline.asset) for pipeline in config.pipelines},
            notice=self._notice,
            max_bytes=config.outbox.max_bytes,
            on_full=config.outbox.on_full,
        )
        assets = tuple(pipeline.asset for pipeline in config.pipelines)
        status = Status(state="online", agent=__version__, boot_id=clock.boot_id(), pipelines=assets, time=None)
        self._delivery = Delivery(
            self._outbox,
            functools.partial(MqttLink, settings),
            topics=topics,
            status=status,
            backoff=Backoff(Random()),  # noqa: S311 (jitter, not a secret)
        )
        self._stop = threading.Event()
        self._workers = [
            _Worker(
                pipeline, model, core, source=open_source(pipeline.source, mqtt=mqtt), topics=topics,
                outbox=self._outbox, stamper=self._stamper, delivery=self._delivery, stop=self._stop, once=once,
            )
            for pipeline, (model, core) in loaded
        ]  # fmt: skip

    def run(self) -> int:
        """Watch until told to stop; the exit status."""
        self._delivery.start()
        for worker in self._workers:
            worker.start()
        while not self._stop.is_set() and not all(worker.tried.is_set() for worker in self._workers):
            self._stop.wait(_TICK_S / 10)
        notify.ready()
        log.info("agent ready version=%s pipelines=%d", __version__, len(self._workers))
        self._supervise()
        notify.stopping()
        self._stop.set()
        for worker in self._workers:
            worker.join()
        drained = self._delivery.stop(DRAIN_S)
        waiting = self._outbox.count
        self._outbox.close()
        log.info("agent stopped waiting_messages=%d", waiting)
        for worker in self._workers:
            if worker.failure is not None:
                raise worker.failure
        return 0 if drained or not self._once else 1

    def stop(self) -> None:
        """Ask the agent to end; safe from any thread and from a signal handler."""
        self._stop.set()

    def _supervise(self) -> None:
        """Answer the watchdog while every stage makes progress, until it is time to end."""
        interval_s = notify.watchdog_interval_s()
        told_s = 0.0
        while not self._stop.wait(_TICK_S):
            now_s = time.monotonic()
            if interval_s is not None and now_s - told_s >= min(interval_s, 1.0) and self._progressing():
                notify.watchdog()
                told_s = now_s
            if self._once and all(worker.finished for worker in self._workers):
                failed = any(worker.failure for worker in self._workers)
                if failed or self._outbox.count == 0:
                    return

    def _progressing(self) -> bool:
        now_ns = time.monotonic_ns()
        stages = {"delivery": self._delivery.progress_ns}
        stages |= {w.asset: w.progress_ns for w in self._workers if not w.finished}
        stalled = [name for name, at_ns in stages.items() if now_ns - at_ns > STALLED_S * 1e9]
        for name in stalled:
            log.error("stage makes no progress stage=%s", name)
        return not stalled

    def _notice(self, kind: Literal["dropped", "store_reset"], *, asset: str, seq: int, dropped: int | None) -> bytes:
        return encode(notice(kind, asset=asset, seq=seq, dropped=dropped, stamp=self._stamper()))


class _Worker:
    """The thread of one pipeline: reads its source, pushes, reports what changed."""

    def __init__(
        self,
        config: PipelineConfig,
        model: Model,
        core: Pipeline,
        *,
        source: Source,
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
        self._severity = config.alarm.severity or _DEFAULT_SEVERITY
        self._channels, self._stop, self._once = core.channel_names, stop, once
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
            self._source.close()

    def _read_until_broken(self) -> None:
        """Read until the source ends, breaks, or the agent stops."""
        try:
            self._source.open(self._channels)
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
        blocks = self._source.read(READ_TIMEOUT_S)
        for block in blocks:
            self._take(block)
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
            self._stop.wait(min(READ_TIMEOUT_S, seconds))

    def _take(self, block: Block) -> None:
        for turn in self._core.push(block):
            self._report(turn)
        self.progress_ns = time.monotonic_ns()
        self._tell_state(force=False)

    def _report(self, turn: Turn) -> None:
        """Store the event; only then is it logged, and only what is logged was promised."""
        stamp = self._stamper()
        raised = turn.change is Change.RAISED
        alarm_id = stamp.event_id if raised else self._alarm_id
        timed = math.isfinite(turn.start_s) and math.isfinite(turn.end_s)
        event = Event(
            event_id=stamp.event_id,
            alarm_id=alarm_id,
            seq=1,
            asset=self.asset,
            event="raised" if raised else "cleared",
            severity=self._severity,
            time=clock.format_time(turn.end_s) if timed else stamp.time,
            time_quality=stamp.time_quality,
            boot_id=stamp.boot_id,
            monotonic_ns=turn.arrived_ns,
            score=turn.score,
            peak_score=turn.peak_score,
            threshold=self._core.threshold,
            ratio=turn.score / self._core.threshold,
            channels=turn.channels,
            window=Window(start=clock.format_time(turn.start_s), end=clock.format_time(turn.end_s)) if timed else None,
            model=self._model,
            quality="good",
            replayed=False,
            dropped=None,
        )
        seq = self._put(event)
        self._alarm_id = alarm_id if raised else None
        first = turn.channels[0]
        log.info(
            "alarm %s asset=%s event_id=%s seq=%d score=%.3f threshold=%.3f channel=%s share=%.2f",
            event.event, self.asset, event.event_id, seq, turn.score, self._core.threshold, first.name, first.share,
        )  # fmt: skip

    def _put(self, event: Event) -> int:
        """The event's sequence number, once it is on disk; a full disk holds the pipeline up, and loses no alarm."""
        attempt = 0
        while True:
            try:
                return self._outbox.put(self.asset, self._topic, functools.partial(_with_seq, event))
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


def _with_seq(event: Event, seq: int) -> bytes:
    return encode(msgspec.structs.replace(event, seq=seq))


def _loaded(pipeline: PipelineConfig) -> tuple[Model, Pipeline]:
    bundle = Bundle.read(pipeline.bundle)
    detector = load(bundle, path=str(pipeline.bundle))
    described = bundle.manifest
    core = Pipeline(detector, rules=_rules(described.alarm, pipeline.alarm), baseline=pipeline.baseline.samples)
    return Model(name=described.name, version=described.version, sha256=bundle.sha256), core


def _rules(defaults: AlarmRules, wished: AlarmConfig) -> AlarmRules:
    """The bundle's rules with what the configuration changes."""
    named = {name: getattr(wished, name) for name in ("on_delay", "off_delay", "deadband")}
    return msgspec.structs.replace(defaults, **{name: value for name, value in named.items() if value is not None})


def run(config: AgentConfig, file: Path, *, once: bool = False, signals: Callable[..., Any] = signal.signal) -> int:
    """Run the agent of a configuration file until SIGTERM, SIGINT or, with `once`, the end of its sources.

    Raises:
        ConfigError: A bundle or recording that it names does not exist.
    """
    if missing := missing_files(config, file):
        raise ConfigError(str(file), missing)
    agent = Agent(config, once=once)
    for number in (signal.SIGTERM, signal.SIGINT):
        signals(number, lambda *_: agent.stop())
    return agent.run()
