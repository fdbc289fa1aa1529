"""The agent's configuration, `agent.toml`: what may stand in it, and what holds when it does not."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from edge_vae import toml_file, toml_text
from edge_vae.alarm_config import AlarmConfig, LimitConfig, limit_mistakes
from edge_vae.broker_config import MqttConfig, Name, no_level
from edge_vae.drift import DEFAULT_HOURS
from edge_vae.errors import Problem
from edge_vae.modbus_config import ModbusConfig, shared_line_mistakes
from edge_vae.overflow import OnFull
from edge_vae.publish.pace import DEFAULT_DRAIN_PER_S, MAX_DRAIN_PER_S
from edge_vae.sensor_config import SensorConfig
from edge_vae.source_config import JoinConfig, ReplayConfig, SourceConfig, StdinConfig, source_mistakes
from edge_vae.toml_lines import Key, dotted
from edge_vae.toml_table import Mistake, Table
from edge_vae.toml_words import one_of

__all__ = [
    "AgentConfig",
    "BaselineConfig",
    "DriftConfig",
    "FeedbackConfig",
    "HealthConfig",
    "NodeConfig",
    "OutboxConfig",
    "PipelineConfig",
    "ThresholdConfig",
    "effective",
    "missing_files",
    "read_config",
    "schema",
]

MAX_PORT = 65535
DEFAULT_OUTBOX_BYTES = 64 * 2**20
DEFAULT_FEEDBACK_BYTES = 16 * 2**20
"""Two hundred alarms of six channels with windows of 64 samples."""
MIN_OUTBOX_BYTES = 64 * 2**10
DEFAULT_LIMIT = 0.5
"""Half of the bundle's threshold: beyond that the machine is another one, and wants another bundle."""
MAX_DRIFT_HOURS = 8760.0
"""A year: whatever takes longer comes with the seasons."""
MIN_BASELINE_SAMPLES = 2
"""A spread needs two samples; how many are enough is for the bundle to say."""

Listen = Annotated[
    str,
    Meta(
        pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):[0-9]{1,5}(?![\s\S])",
        extra={"expected": 'an address and a port, such as "127.0.0.1:9464" or "[::1]:9464"'},
    ),
]


def default_state_dir() -> Path:
    """Where state is kept when the file does not say: systemd's state directory, else one in the user's home."""
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(given) if given else Path.home() / ".local" / "state" / "edge-vae"


class NodeConfig(Table, frozen=True, kw_only=True):
    """This gateway: site and name stand in every topic."""

    site: Name
    name: Name = field(default_factory=socket.gethostname)
    state_dir: Path = field(default_factory=default_state_dir)

    def mistakes(self) -> Iterator[Mistake]:
        """Both names are levels of every topic."""
        yield from no_level("site", self.site)
        yield from no_level("name", self.name)


class OutboxConfig(Table, frozen=True, kw_only=True):
    """The store of undelivered messages, and how fast a backlog leaves it."""

    max_bytes: Annotated[int, Meta(ge=MIN_OUTBOX_BYTES)] = DEFAULT_OUTBOX_BYTES
    on_full: OnFull = "drop_oldest"
    drain_per_s: Annotated[float, Meta(gt=0, le=MAX_DRAIN_PER_S)] = DEFAULT_DRAIN_PER_S


class HealthConfig(Table, frozen=True, kw_only=True):
    """Where whoever looks after the agent can ask how it is; absent: nowhere."""

    prometheus: Listen | None = None

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port to listen at."""
        return None if self.prometheus is None else _host_and_port(self.prometheus)

    def mistakes(self) -> Iterator[Mistake]:
        """A port has 16 bits."""
        if self.prometheus is not None and not 1 <= (port := _host_and_port(self.prometheus)[1]) <= MAX_PORT:
            yield ("prometheus",), f"expected a port from 1 to {MAX_PORT}, received {port}"


class FeedbackConfig(Table, frozen=True, kw_only=True):
    """The samples around alarms, kept for verdicts on them; 0 bytes keep none."""

    max_bytes: Annotated[int, Meta(ge=0)] = DEFAULT_FEEDBACK_BYTES


class BaselineConfig(Table, frozen=True, kw_only=True):
    """Learning what this machine is like today, before the first score; what is not set is as the bundle says.

    `on` says when: at the start of each session, which a bundle with a baseline cannot do without, and on the command
    `rebaseline`. Without "command" such a command is refused.
    """

    samples: Annotated[int, Meta(ge=MIN_BASELINE_SAMPLES)] | None = None
    on: Annotated[tuple[Literal["start", "command"], ...], Meta(min_length=1)] = ("start", "command")

    def mistakes(self) -> Iterator[Mistake]:
        """The threshold of a bundle with a baseline was fitted on sessions that had learned theirs."""
        if "start" not in self.on:
            yield ("on",), f'expected "start" among them, received {toml_text.literal(self.on)}'
        if len(set(self.on)) < len(self.on):
            yield ("on",), f"expected each of them once, received {toml_text.literal(self.on)}"


class ThresholdConfig(Table, frozen=True, kw_only=True):
    """Whether the threshold follows the tail that this machine shows, and how far.

    Off by default: the threshold of the bundle was fitted on data that somebody had called normal, and one that learns
    from whatever runs can be raised by a fault that grows slowly, before anybody has seen it. `limit` bounds how far,
    and an alarm, the time after it, and drift stop it; it may still hide the beginning of a fault.
    """

    adapt: bool = False
    limit: Annotated[float, Meta(gt=0, lt=1)] = DEFAULT_LIMIT

    def mistakes(self) -> Iterator[Mistake]:
        """A limit of what does not happen was meant otherwise."""
        if not self.adapt and self.limit != DEFAULT_LIMIT:
            yield ("limit",), "expected adapt = true beside a limit, received adapt = false"


class DriftConfig(Table, frozen=True, kw_only=True):
    """Whether a slow change of normal operation is told, and after how many hours of it."""

    detect: bool = True
    hours: Annotated[float, Meta(gt=0, le=MAX_DRIFT_HOURS)] = DEFAULT_HOURS

    def mistakes(self) -> Iterator[Mistake]:
        """Hours of what is not looked for were meant otherwise."""
        if not self.detect and self.hours != DEFAULT_HOURS:
            yield ("hours",), "expected detect = true beside hours, received detect = false"


class PipelineConfig(Table, frozen=True, kw_only=True):
    """One machine: its samples, and the bundle that judges them."""

    asset: Name
    bundle: Path
    source: SourceConfig | Annotated[tuple[SourceConfig, ...], Meta(min_length=1)]
    join: JoinConfig | None = None
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    alarm: AlarmConfig = field(default_factory=AlarmConfig)
    limits: tuple[LimitConfig, ...] = field(default=(), name="limit")
    sensor: SensorConfig = field(default_factory=SensorConfig)
    threshold: ThresholdConfig = field(default_factory=ThresholdConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)

    def mistakes(self) -> Iterator[Mistake]:
        """The asset is a level of its topics, several sources share its channels, and each limit makes an alarm."""
        yield from no_level("asset", self.asset)
        yield from source_mistakes(_all(self.source), self.join)
        yield from limit_mistakes(self.limits, self.alarm.min_severity)

    @property
    def sources(self) -> tuple[SourceConfig, ...]:
        """The only source, or several."""
        return _all(self.source)


class AgentConfig(Table, frozen=True, kw_only=True):
    """The whole of `agent.toml`."""

    node: NodeConfig
    mqtt: MqttConfig = field(default_factory=MqttConfig)
    outbox: OutboxConfig = field(default_factory=OutboxConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    feedback: FeedbackConfig = field(default_factory=FeedbackConfig)
    pipelines: Annotated[
        tuple[PipelineConfig, ...],
        Meta(min_length=1, extra={"expected": "one or more tables, each headed [[pipeline]]"}),
    ] = field(name="pipeline")

    def mistakes(self) -> Iterator[Mistake]:
        """Assets share topics, standard input and serial lines: names and the input are had once, lines set alike."""
        seen: dict[str, int] = {}
        for index, pipeline in enumerate(self.pipelines):
            if (first := seen.setdefault(pipeline.asset, index)) != index:
                yield ("pipeline", index, "asset"), f"expected a name of its own, received that of pipeline[{first}]"
        readers = [key for key, source in _keyed_sources(self.pipelines) if isinstance(source, StdinConfig)]
        for key in readers[1:]:
            yield (*key, "type"), f"expected one reader of standard input, received another beside {dotted(readers[0])}"
        lines = [(key, source) for key, source in _keyed_sources(self.pipelines) if isinstance(source, ModbusConfig)]
        yield from shared_line_mistakes(lines)


def _all(source: SourceConfig | tuple[SourceConfig, ...]) -> tuple[SourceConfig, ...]:
    return source if isinstance(source, tuple) else (source,)


def _keyed_sources(pipelines: Iterable[PipelineConfig]) -> Iterator[tuple[Key, SourceConfig]]:
    """Every source, and its key."""
    for index, pipeline in enumerate(pipelines):
        key: Key = ("pipeline", index, "source")
        for number, source in enumerate(_all(pipeline.source)):
            yield (key if source is pipeline.source else (*key, number)), source


def read_config(file: str | Path) -> AgentConfig:
    """The agent's configuration as a file says it.

    Raises:
        ConfigError: With every problem, its line and its key.
    """
    return toml_file.read(file, AgentConfig)


def missing_files(config: AgentConfig, file: str | Path) -> list[Problem]:
    """The bundles, recordings and channels that a configuration names and that are not there, with their lines.

    Raises:
        BundleError: A bundle that limits or sensors need the channels of is damaged.
    """
    found: list[Mistake] = []
    for index, pipeline in enumerate(config.pipelines):
        if not pipeline.bundle.is_file():
            message = f"expected a bundle, received {pipeline.bundle}, where there is no file"
            found.append((("pipeline", index, "bundle"), message))
        elif pipeline.limits or pipeline.sensor.channels:
            found += _unknown_channels(pipeline, ("pipeline", index))
    for key, source in _keyed_sources(config.pipelines):
        if isinstance(source, ReplayConfig) and not source.path.exists():
            message = f"expected a file or folder, received {source.path}, where there is none"
            found.append(((*key, "path"), message))
    return toml_file.problems_at(file, found)


def _unknown_channels(pipeline: PipelineConfig, key: Key) -> Iterator[Mistake]:
    from edge_vae.bundle import Bundle

    known = Bundle.read(pipeline.bundle).manifest.channel_names
    named: list[tuple[Key, str]] = [(("limit", i), limit.channel) for i, limit in enumerate(pipeline.limits)]
    named += [(("sensor", "channel", i), table.channel) for i, table in enumerate(pipeline.sensor.channels)]
    for where, channel in named:
        if channel not in known:
            message = f"expected a channel of {pipeline.bundle}, {one_of(known)}, received {toml_text.literal(channel)}"
            yield (*key, *where, "channel"), message


def effective(config: AgentConfig) -> str:
    """What is really in force, as TOML: defaults filled in, paths absolute, no secret but the path of its file."""
    return toml_text.document(config)


def schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) of `agent.toml`, for editors that complete and check while one types."""
    return msgspec.json.schema(AgentConfig, schema_hook=_path_schema)


def _path_schema(kind: type) -> dict[str, Any]:
    if kind is Path:
        return {"type": "string", "minLength": 1}
    raise NotImplementedError(kind)


def _host_and_port(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)
