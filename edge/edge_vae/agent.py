"""The agent: source -> samples -> windows -> score -> threshold -> alarm -> outbox -> publisher, for every pipeline.

Each pipeline has a thread of its own and is restarted by itself; the publisher has one; commands come in by another
connection, and its counters go out by a port; the main thread answers signals and the watchdog. The broker is never
needed to start.
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
from typing import TYPE_CHECKING, Any

from edge_vae import __version__, clock, notify
from edge_vae.assembly import Assembly, assemble
from edge_vae.backoff import Backoff
from edge_vae.command import Desk, Send
from edge_vae.command_link import CommandLink
from edge_vae.config import AgentConfig, PipelineConfig, missing_files, read_config
from edge_vae.connection import connection
from edge_vae.counters import count
from edge_vae.errors import ConfigError
from edge_vae.event import AgentCounters, Status, notice_maker
from edge_vae.feedback import Feedback
from edge_vae.learned_file import LearnedFile
from edge_vae.outbox import Outbox
from edge_vae.probe import tried
from edge_vae.publish.delivery import Delivery
from edge_vae.publish.mqtt import MqttLink, MqttSettings
from edge_vae.reload import Reload, changes
from edge_vae.resident import keep_heap_small, let_go_of_start_up
from edge_vae.sources import Source, open_sources
from edge_vae.stamp import Stamper
from edge_vae.topics import Topics
from edge_vae.watchdog import Progress, Watchdog
from edge_vae.worker import Worker
from edge_vae.workers import Workers

if TYPE_CHECKING:  # of use only where somebody wants it
    from edge_vae.health_port import HealthPort

__all__ = ["Agent", "run"]

log = logging.getLogger(__name__)

DRAIN_S = 10.0
"""On SIGTERM the outbox may drain for so long; what is left is sent after the next start."""
STATUS_EVERY_S = 60.0
"""The retained status is refreshed with the counters this often."""
_TICK_S = 0.2


class Agent:
    """All pipelines of one configuration, their outbox and their publisher.

    Args:
        config: What `agent.toml` says.
        file: Where that stands, to be read anew when that is wished.
        once: End when every finite source is exhausted and the outbox is empty.

    Raises:
        ConfigError, BundleError: Something must be changed by a person.
        OutboxError: The state directory cannot be used.
    """

    def __init__(self, config: AgentConfig, file: Path, *, once: bool = False) -> None:
        self._config, self._file, self._once = config, file, once
        node, mqtt = config.node, config.mqtt
        self._started_s, self._stop, self._stamper = time.monotonic(), threading.Event(), Stamper(clock.boot_id())
        self._topics = Topics(mqtt.base_topic, node.site, node.name)
        settings = connection(mqtt, client_id=f"edge-vae-{node.site}-{node.name}")
        parts = [self._parts(pipeline) for pipeline in config.pipelines]
        self._outbox = Outbox(
            node.state_dir,
            assets=self._event_topics(config),
            notice=notice_maker(self._stamper),
            max_bytes=config.outbox.max_bytes,
            on_full=config.outbox.on_full,
        )
        self._delivery = Delivery(
            self._outbox,
            functools.partial(MqttLink, settings),
            topics=self._topics,
            status=self._status,
            backoff=Backoff(),
            drain_per_s=config.outbox.drain_per_s,
        )
        self._feedback = Feedback(node.state_dir, max_bytes=config.feedback.max_bytes)
        self._workers = Workers(self._worker(assembly, source) for assembly, source in parts)
        self._commands = None if once else self._command_link(settings)
        address = config.health.address
        self._health = self._health_port(address) if address else None
        self._watchdog, self._reload = Watchdog(notify.watchdog_timeout_s()), Reload(self._take_new_configuration)

    def run(self) -> int:
        """Watch until told to stop; the exit status."""
        self._delivery.start()
        self._workers.start()
        for part in self._beside():
            part.start()
        while not self._stop.is_set() and not all(worker.tried.is_set() for worker in self._workers):
            self._stop.wait(_TICK_S / 10)
        notify.ready()
        let_go_of_start_up()
        log.info("agent ready version=%s pipelines=%d", __version__, len(self._workers))
        self._supervise()
        notify.stopping()
        return self._end()

    def stop(self) -> None:
        """Ask the agent to end; safe from any thread and from a signal handler."""
        self._stop.set()

    def reload(self) -> None:
        """Ask for the configuration to be read anew; safe from any thread and from a signal handler."""
        self._reload.ask(lambda _: None)  # it is logged

    def _supervise(self) -> None:
        """Answer the watchdog while every stage makes progress, until it is time to end."""
        told_s = time.monotonic()
        while not self._stop.wait(_TICK_S):
            now_s = time.monotonic()
            self._watchdog.turn(self._stages(), now_s)
            self._reload.turn()
            if now_s - told_s >= STATUS_EVERY_S:
                self._delivery.refresh_status()
                told_s = now_s
            over = self._once and all(worker.finished for worker in self._workers)
            if over and (self._workers.failure or self._outbox.count == 0):
                return

    def _end(self) -> int:
        """Let what is under way come to its end; the exit status."""
        for part in self._beside():
            part.stop()
        self._workers.stop()
        self._reload.join()
        drained = self._delivery.stop(DRAIN_S)
        waiting = self._outbox.count
        self._outbox.close()
        log.info("agent stopped waiting_messages=%d", waiting)
        if self._workers.failure is not None:
            raise self._workers.failure
        return 0 if drained or not self._once else 1

    def _parts(self, pipeline: PipelineConfig) -> tuple[Assembly, Source]:
        made, mqtt = assemble(pipeline), self._config.mqtt
        manifest = made.detector.manifest
        source = open_sources(
            pipeline.sources, pipeline.join, mqtt=mqtt, rate_hz=manifest.rate_hz, columns=manifest.source_columns
        )
        return made, source

    def _worker(self, made: Assembly, source: Source) -> Worker:
        asset, channels = made.config.asset, len(made.detector.manifest.channels)
        learned_file = LearnedFile(
            self._config.node.state_dir, asset=asset, bundle=made.model.sha256, channels=channels
        )
        return Worker(
            made.config, made.model, made.pipeline(learned_file.load(), new_id=self._stamper.new_id), source=source,
            learned_file=learned_file, feedback=self._feedback, topics=self._topics, outbox=self._outbox,
            stamper=self._stamper, delivery=self._delivery, once=self._once,
        )  # fmt: skip

    def _command_link(self, settings: MqttSettings) -> CommandLink | None:
        """The connection for commands; None where it cannot be made, which no alarm may depend on."""
        settings = replace(settings, client_id=f"{settings.client_id}-commands")
        try:
            return CommandLink(self._topics.commands, settings, take=self._take_command)
        except (OSError, ValueError) as error:
            log.error("commands not heard, files for TLS cannot be used: error=%s", error)  # noqa: TRY400 (no fault here)
            return None

    def _take_command(self, topic: str, payload: bytes, *, retained: bool, send: Send) -> None:
        mailboxes = {worker.asset: worker.mailbox for worker in self._workers}
        desk = Desk(self._topics, mailboxes, of_agent={"reload": self._reload.ask})
        desk.take(topic, payload, retained=retained, send=send)

    def _take_new_configuration(self) -> str:
        """What has changed, once that is in force; all is as it was when this raises an EdgeVaeError."""
        config = read_whole(self._file)
        running = {worker.asset: worker.bundle for worker in self._workers}
        found = changes(self._config, config, running=running, file=self._file)
        tried.cache_clear()  # what failed for want of memory may go better now
        begin = [self._parts(pipeline) for pipeline in found.begin]
        for made, source in begin:
            source.check(made.detector.manifest.source_columns)
        self._config = config
        self._outbox.serve(self._event_topics(config))
        self._workers.swap(
            [pipeline.asset for pipeline in config.pipelines],
            {made.config.asset: functools.partial(self._worker, made, source) for made, source in begin},
        )
        for asset in found.leave:
            self._delivery.drop_state(asset)
        self._delivery.refresh_status()
        return found.text

    def _stages(self) -> dict[str, Progress]:
        """How far each stage is."""
        stages = {"delivery": Progress(self._delivery.progress_ns, "delivering")}
        if self._commands is not None:
            stages["commands"] = Progress(self._commands.progress_ns, "answering")
        if self._health is not None:
            stages["health"] = Progress(self._health.progress_ns, "answering")
        return stages | self._workers.stages()

    def _beside(self) -> list[CommandLink | HealthPort]:
        """What no alarm depends on."""
        return [part for part in (self._commands, self._health) if part is not None]

    def _counters(self) -> AgentCounters:
        return count(self._workers, self._outbox, self._delivery, started_s=self._started_s)

    def _status(self) -> Status:
        assets, counters = self._workers.assets, self._counters()
        return Status(
            state="online", agent=__version__, boot_id=clock.boot_id(), pipelines=assets, time=None, counters=counters
        )

    def _health_port(self, address: tuple[str, int]) -> HealthPort:
        from edge_vae.health_port import HealthPort
        from edge_vae.metrics import CONTENT_TYPE

        return HealthPort(address, self._page, content_type=CONTENT_TYPE)

    def _page(self) -> str:
        """What Prometheus gets."""
        from edge_vae.metrics import exposition

        now_ns = time.monotonic_ns()
        quiet_s = {name: max(0, now_ns - stage.at_ns) / 1e9 for name, stage in self._stages().items()}
        return exposition(self._counters(), version=__version__, connected=self._delivery.connected, quiet_s=quiet_s)

    def _event_topics(self, config: AgentConfig) -> dict[str, str]:
        return {pipeline.asset: self._topics.event(pipeline.asset) for pipeline in config.pipelines}


def read_whole(file: Path) -> AgentConfig:
    """The configuration in a file, with every file that it names.

    Raises:
        ConfigError: It is wrong, or a bundle or recording that it names does not exist.
    """
    config = read_config(file)
    if missing := missing_files(config, file):
        raise ConfigError(str(file), missing)
    return config


def run(file: Path, *, once: bool = False, signals: Callable[..., Any] = signal.signal) -> int:
    """Run the agent of a configuration file until SIGTERM, SIGINT or, with `once`, the end of its sources.

    SIGHUP has it read the file anew; with `once` that ends it, as it ends any program whose terminal is gone.

    Raises:
        ConfigError: The file is wrong, or a bundle or recording that it names does not exist.
    """
    config = read_whole(file)
    keep_heap_small()
    threading.excepthook = _log_fault
    agent = Agent(config, file, once=once)
    for number in (signal.SIGTERM, signal.SIGINT):
        signals(number, lambda *_: agent.stop())
    if not once:
        signals(signal.SIGHUP, lambda *_: agent.reload())
    return agent.run()


def _log_fault(fault: threading.ExceptHookArgs) -> None:
    """A thread that a fault of this program has ended; the watchdog finds out what it was needed for."""
    if fault.exc_value is not None:
        log.critical("thread ended thread=%s", fault.thread and fault.thread.name, exc_info=fault.exc_value)
