"""Trying what a configuration names: the broker is reached, the port listened at, bundles loaded, sources opened."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_vae.assembly import assemble
from edge_vae.bundle import Bundle, Manifest
from edge_vae.config import AgentConfig, PipelineConfig
from edge_vae.connection import connection
from edge_vae.errors import BrokerError, BundleError, SetupError, SourceError
from edge_vae.health_port import listener
from edge_vae.outbox_file import LOCK
from edge_vae.publish import Lost, Opened, Will
from edge_vae.publish.mqtt import MqttLink
from edge_vae.source_config import SourceConfig
from edge_vae.sources import open_source
from edge_vae.sources.fed import FedSource
from edge_vae.sources.mqtt import MqttSource

__all__ = ["Trial", "agent_runs", "trials", "try_online"]

TIMEOUT_S = 10.0
LOCKS = Path("/proc/locks")


@dataclass(frozen=True, slots=True)
class Trial:
    """Something that a configuration names.

    Attributes:
        name: What it is.
        run: Tries it, and says what was found; an EdgeVaeError says what is wrong.
    """

    name: str
    run: Callable[[], str]


def try_online(config: AgentConfig) -> Iterator[str]:
    """A line for each thing that works, as it is tried.

    Raises:
        BundleError, SourceError, BrokerError: The first thing that does not.
    """
    return (trial.run() for trial in trials(config))


def trials(config: AgentConfig) -> Iterator[Trial]:
    """What there is to try, one after the other; where the agent runs, its port and its sources are left to it."""
    running = agent_runs(config.node.state_dir)
    # The broker first: a source may be at the same one, and would wait for it.
    yield Trial("broker", lambda: _reach(config))
    if (address := config.health.address) and not running:
        yield Trial("health port", lambda: _listen(address))
    for pipeline in config.pipelines:
        yield from _trials_of(config, pipeline, running=running)


def agent_runs(state_dir: Path) -> bool:
    """Whether an agent uses this state directory at this moment; its lock is looked at, not taken."""
    try:
        status, locks = (state_dir / LOCK).stat(), LOCKS.read_text().splitlines()
    except OSError:
        return False
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    return any("FLOCK" in line and device in line.split() for line in locks)


def _trials_of(config: AgentConfig, pipeline: PipelineConfig, *, running: bool) -> Iterator[Trial]:
    yield Trial(f"{pipeline.asset} bundle", lambda: _load(pipeline))
    try:
        manifest = Bundle.read(pipeline.bundle).manifest
    except BundleError:  # as the trial has said
        return
    for source in () if running else pipeline.sources:
        yield Trial(f"{pipeline.asset} source", functools.partial(_open, config, pipeline, source, manifest))


def _load(pipeline: PipelineConfig) -> str:
    assemble(pipeline)
    return f"{pipeline.asset}: bundle {pipeline.bundle} scores its golden windows"


def _open(config: AgentConfig, pipeline: PipelineConfig, which: SourceConfig, manifest: Manifest) -> str:
    source = open_source(which, mqtt=config.mqtt, rate_hz=manifest.rate_hz)
    try:
        source.open(manifest.source_columns if len(pipeline.sources) == 1 else which.names())
        if isinstance(source, MqttSource) and not source.wait_subscribed(TIMEOUT_S):
            source.read(0.0)  # raises where the broker has said why
            what = f"{pipeline.asset}: the source's broker"
            raise SourceError(
                what,
                expected="leave to subscribe",
                received=f"no answer within {TIMEOUT_S:g} s",
                action="Start that broker, or correct host and port under [pipeline.source].",
            )
        if isinstance(source, FedSource) and not source.wait_connected(TIMEOUT_S):
            what = f"{pipeline.asset}: the source"
            raise SourceError(
                what,
                expected="a device that answers",
                received=source.failure or f"no answer within {TIMEOUT_S:g} s",
                action="Switch it on and connect it, or correct [pipeline.source].",
            )
    finally:
        source.close()
    return f"{pipeline.asset}: source opened"


def _listen(address: tuple[str, int]) -> str:
    host, port = address
    try:
        listener(address).close()
    except OSError as error:
        what = f"health port {host}:{port}"
        raise SetupError(
            what,
            expected="an address of this machine, and a port that no other program has",
            received=str(error),
            action="Correct prometheus under [health].",
        ) from error
    return f"health port {host}:{port} free"


def _reach(config: AgentConfig) -> str:
    """Connect once, with a last will on a topic of its own that nobody reads."""
    bell = threading.Event()
    name = f"edge-vae-check-{os.urandom(4).hex()}"
    link = MqttLink(
        connection(config.mqtt, client_id=name), will=Will(f"{config.mqtt.base_topic}/check/{name}", b""), wake=bell.set
    )
    link.open()
    bell.wait(TIMEOUT_S)
    events = link.events()
    link.close()
    if not any(isinstance(event, Opened) for event in events):
        silence = f"no answer within {TIMEOUT_S:g} s"
        what = f"broker {config.mqtt.host}:{config.mqtt.port}"
        raise BrokerError(
            what,
            expected="a connection",
            received=next((event.reason for event in events if isinstance(event, Lost)), silence),
            action="Start the broker, or correct [mqtt] in the file.",
        )
    return f"broker {config.mqtt.host}:{config.mqtt.port} reached"
