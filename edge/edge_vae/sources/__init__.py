"""Where samples come from: one contract for all sources.

A source is opened with the channels of a bundle, then read until it is exhausted or closed. `read` never takes longer
than it is told to, since whoever calls it also answers a watchdog. A source belongs to one thread.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

from edge_vae.broker_config import MqttConfig
from edge_vae.sample import Block
from edge_vae.source_config import (
    DEFAULT_QUEUED_ROWS,
    IioConfig,
    JoinConfig,
    ModbusConfig,
    OpcUaConfig,
    ReplayConfig,
    SerialConfig,
    SourceConfig,
    StdinConfig,
)
from edge_vae.sources.fed import FedSource
from edge_vae.sources.memory import MemorySource
from edge_vae.sources.replay import ReplaySource
from edge_vae.sources.stdin import StdinSource

__all__ = ["MemorySource", "ReplaySource", "Source", "StdinSource", "open_source", "open_sources"]


class Source(Protocol):
    """Samples of one machine, in the order in which they were taken."""

    @property
    def samples(self) -> int:
        """How many samples were given out."""
        ...

    @property
    def dropped(self) -> int:
        """How many had to be dropped because they were not taken or read in time, or were no news."""
        ...

    @property
    def malformed(self) -> int:
        """How many readings and lines could not be read."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether there will never be another sample; a recording ends, a sensor does not."""
        ...

    @property
    def progress_ns(self) -> int | None:
        """Monotonic time when a thread of its own last came back from the device; None where there is no such thread.

        Now, while that thread waits to try again: one that waits does not hang.
        """
        ...

    def check(self, channels: Sequence[str]) -> None:
        """Find out, without opening it, whether it can give these channels.

        Raises:
            SourceError: It cannot; where that is seen only when samples come, nothing is raised.
            MissingExtraError: Reading it needs a package that is not installed.
        """
        ...

    def open(self, channels: Sequence[str]) -> None:
        """Begin, or begin again.

        Args:
            channels: Names of the channels, in the order that the blocks will have.

        Raises:
            SourceError: It cannot be opened, or lacks a channel.
        """
        ...

    def read(self, timeout_s: float, *, at_least: int = 1) -> list[Block]:
        """What has come since the last call; empty if nothing came within the timeout.

        Args:
            timeout_s: How long to wait.
            at_least: Samples to wait for; what is there when the time is over is given out though it be less. Whoever
                scores windows need not be woken for every sample.

        The first block after `open`, and the first of each further recording, starts a session.

        Raises:
            SourceError: The source broke; it may be closed and opened again.
        """
        ...

    def close(self) -> None:
        """Let go of what the source holds; may be called twice."""
        ...


def open_source(config: SourceConfig, *, mqtt: MqttConfig, rate_hz: float) -> Source:
    """The source that a configuration describes, still to be opened with its channels.

    Args:
        config: The table `[pipeline.source]`.
        mqtt: The agent's own broker, where the source names no other.
        rate_hz: Samples a second that the bundle expects.

    Raises:
        ConfigError: A password or certificate cannot be used.
        MissingExtraError: The source's library is not installed.
    """
    if isinstance(config, ReplayConfig):
        return ReplaySource(config.path, speed=config.speed, rate_hz=config.rate_hz, time=config.time)
    if isinstance(config, StdinConfig):
        return StdinSource(format=config.format, time=config.time)
    if isinstance(config, ModbusConfig):
        from edge_vae.sources.modbus import ModbusDevice

        device = ModbusDevice(config, rate_hz=rate_hz)
        return FedSource(device, name=device.name, max_rows=DEFAULT_QUEUED_ROWS, lost=lambda: device.skipped)
    if isinstance(config, SerialConfig):
        from edge_vae.sources.serial_line import SerialLine

        line = SerialLine(config, rate_hz=rate_hz)
        return FedSource(line, name=f"serial {config.port}", max_rows=DEFAULT_QUEUED_ROWS)
    if isinstance(config, IioConfig):
        from edge_vae.sources.iio import IioBuffer

        return FedSource(IioBuffer(config, rate_hz=rate_hz), name=f"iio {config.device}", max_rows=DEFAULT_QUEUED_ROWS)
    if isinstance(config, OpcUaConfig):
        from edge_vae.sources.opcua import OpcUaDevice  # its library takes 35 MiB

        server = OpcUaDevice(config, rate_hz=rate_hz)
        return FedSource(server, name=config.url, max_rows=DEFAULT_QUEUED_ROWS, lost=lambda: server.skipped)
    # paho takes 12 MiB, which an agent that only publishes has anyway, and a workstation that reads recordings has not.
    from edge_vae.connection import connection
    from edge_vae.sources.mqtt import MqttSource

    settings = connection(config.broker(mqtt), client_id=f"edge-vae-in-{os.urandom(4).hex()}")
    return MqttSource(config.topic, settings, format=config.format, time=config.time, max_rows=config.max_rows)


def open_sources(
    configs: Sequence[SourceConfig],
    join: JoinConfig | None,
    *,
    mqtt: MqttConfig,
    rate_hz: float,
    columns: Sequence[str],
) -> Source:
    """The source of a pipeline, still to be opened: the only one as it is, several, or one that is to be, joined.

    Args:
        configs: The tables `[pipeline.source]`.
        join: The table `[pipeline.join]`.
        mqtt: The agent's own broker, where a source names no other.
        rate_hz: Samples a second that the bundle expects.
        columns: Channels that the bundle expects; a single source has them all.

    Raises:
        ConfigError: A password file cannot be read.
    """
    sources = [open_source(config, mqtt=mqtt, rate_hz=rate_hz) for config in configs]
    if len(sources) == 1 and join is None:
        return sources[0]
    from edge_vae.sources.joined import JoinedSource  # most machines have one source, and memory is short

    rules = join or JoinConfig()
    return JoinedSource(
        sources,
        [config.names() or columns for config in configs],
        rate_hz=rate_hz,
        late_s=rules.late_s,
        max_age_s=rules.max_age_s,
        join=rules.by_channel(),
        recorded=[isinstance(config, ReplayConfig) for config in configs],
    )
