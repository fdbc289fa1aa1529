"""Trying what a configuration names: bundles are loaded, sources opened, the broker reached."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

from edge_vae.agent import assemble
from edge_vae.bundle import Bundle
from edge_vae.config import AgentConfig, PipelineConfig
from edge_vae.connection import connection
from edge_vae.errors import BrokerError, SourceError
from edge_vae.pipeline import Pipeline
from edge_vae.publish import Lost, Opened, Will
from edge_vae.publish.mqtt import MqttLink
from edge_vae.source_config import SourceConfig
from edge_vae.sources import open_source
from edge_vae.sources.fed import FedSource
from edge_vae.sources.mqtt import MqttSource

__all__ = ["try_online"]

TIMEOUT_S = 10.0


def try_online(config: AgentConfig) -> Iterator[str]:
    """A line for each thing that works, as it is tried.

    Raises:
        BundleError, SourceError, BrokerError: The first thing that does not.
    """
    _reach(config)  # first: a source may be at the same broker, and would wait for it
    yield f"broker {config.mqtt.host}:{config.mqtt.port} reached"
    for pipeline in config.pipelines:
        core = assemble(pipeline, Bundle.read(pipeline.bundle))
        yield f"{pipeline.asset}: bundle {pipeline.bundle} scores its golden windows"
        for source in pipeline.sources:
            _open(config, pipeline, source, core)
            yield f"{pipeline.asset}: source opened"


def _open(config: AgentConfig, pipeline: PipelineConfig, which: SourceConfig, core: Pipeline) -> None:
    source = open_source(which, mqtt=config.mqtt, rate_hz=core.rate_hz)
    try:
        source.open(core.columns if len(pipeline.sources) == 1 else which.names())
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


def _reach(config: AgentConfig) -> None:
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
