"""The agent: source -> samples -> windows -> score -> threshold -> alarm -> outbox -> publisher, for every pipeline.

Each pipeline has a thread of its own and is restarted by itself; the publisher has one; commands come in by another
connection; the main thread answers signals and the watchdog. The broker is never needed to start.
"""

from __future__ import annotations

import functools
import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from edge_vae import __version__, clock, notify
from edge_vae.alarm import AlarmRules
from edge_vae.backoff import Backoff
from edge_vae.bundle import Bundle
from edge_vae.command import Desk
from edge_vae.command_link import CommandLink
from edge_vae.config import AgentConfig, AlarmConfig, PipelineConfig, missing_files
from edge_vae.connection import connection
from edge_vae.detector import load
from edge_vae.errors import BundleError, ConfigError
from edge_vae.event import Model, Status, notice_maker
from edge_vae.heap import keep_small
from edge_vae.learned_file import LearnedFile
from edge_vae.outbox import Outbox
from edge_vae.pipeline import Learned, Pipeline
from edge_vae.probe import expect_sound
from edge_vae.publish.delivery import Delivery
from edge_vae.publish.mqtt import MqttLink, MqttSettings
from edge_vae.sources.joined import open_sources
from edge_vae.stamp import Stamper
from edge_vae.topics import Topics
from edge_vae.worker import Worker

__all__ = ["Agent", "assemble", "run"]

log = logging.getLogger(__name__)

STALLED_S = 30.0
"""A stage without progress for so long hangs, and only then the watchdog fires: scoring a block takes milliseconds."""
DRAIN_S = 10.0
"""On SIGTERM the outbox may drain for so long; what is left is sent after the next start."""
_TICK_S = 0.2


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
        loaded = [(pipeline, *_loaded(pipeline, node.state_dir)) for pipeline in config.pipelines]
        self._outbox = Outbox(
            node.state_dir,
            assets={pipeline.asset: topics.event(pipeline.asset) for pipeline in config.pipelines},
            notice=notice_maker(self._stamper),
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
            drain_per_s=config.outbox.drain_per_s,
        )
        self._stop = threading.Event()
        self._workers = [
            Worker(
                pipeline, model, core,
                source=open_sources(
                    pipeline.sources, pipeline.join, mqtt=mqtt, rate_hz=core.rate_hz, columns=core.columns
                ),
                learned_file=learned_file, topics=topics, outbox=self._outbox, stamper=self._stamper,
                delivery=self._delivery, stop=self._stop, once=once,
            )
            for pipeline, model, core, learned_file in loaded
        ]  # fmt: skip
        wanted = not once and any("command" in pipeline.baseline.on for pipeline in config.pipelines)
        self._commands = self._command_link(topics, settings) if wanted else None

    def run(self) -> int:
        """Watch until told to stop; the exit status."""
        self._delivery.start()
        for worker in self._workers:
            worker.start()
        if self._commands is not None:
            self._commands.start()
        while not self._stop.is_set() and not all(worker.tried.is_set() for worker in self._workers):
            self._stop.wait(_TICK_S / 10)
        notify.ready()
        log.info("agent ready version=%s pipelines=%d", __version__, len(self._workers))
        self._supervise()
        notify.stopping()
        self._stop.set()
        if self._commands is not None:
            self._commands.stop()
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

    def _command_link(self, topics: Topics, settings: MqttSettings) -> CommandLink | None:
        """The connection for commands; None where it cannot be made, which no alarm may depend on."""
        desk = Desk(topics, {worker.asset: worker.mailbox for worker in self._workers})
        settings = replace(settings, client_id=f"{settings.client_id}-commands")
        try:
            return CommandLink(topics.commands, settings, take=desk.take)
        except (OSError, ValueError) as error:
            log.error("commands not heard, files for TLS cannot be used: error=%s", error)  # noqa: TRY400 (no fault here)
            return None

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


def assemble(config: PipelineConfig, bundle: Bundle, *, learned: Learned | None = None) -> Pipeline:
    """The pipeline that a configuration describes, with its bundle and what was learned before.

    Raises:
        InferenceError: There is nothing here that runs models.
        BundleError: The bundle does not score here as it should, or has no threshold that can adapt and is to.
    """
    expect_sound(bundle, config.bundle)
    detector = load(bundle, path=str(config.bundle))
    try:
        return Pipeline(
            detector,
            rules=_rules(bundle.manifest.alarm, config.alarm),
            baseline=config.baseline.samples,
            drift_hours=config.drift.hours if config.drift.detect else None,
            adapt_limit=config.threshold.limit if config.threshold.adapt else None,
            learned=learned,
        )
    except ValueError as error:
        what = f"{config.bundle}: a threshold that cannot adapt: {error}"
        action = "Leave adapt = true under [pipeline.threshold] out, or convert with fewer false alarms a day."
        raise BundleError(what, action=action) from error


def _loaded(config: PipelineConfig, state_dir: Path) -> tuple[Model, Pipeline, LearnedFile]:
    bundle = Bundle.read(config.bundle)
    manifest = bundle.manifest
    model = Model(name=manifest.name, version=manifest.version, sha256=bundle.sha256)
    learned_file = LearnedFile(state_dir, asset=config.asset, bundle=model.sha256, channels=len(manifest.channels))
    return model, assemble(config, bundle, learned=learned_file.load()), learned_file


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
    keep_small()
    agent = Agent(config, once=once)
    for number in (signal.SIGTERM, signal.SIGINT):
        signals(number, lambda *_: agent.stop())
    return agent.run()
