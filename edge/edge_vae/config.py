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
from edge_vae.broker_config import MqttConfig, Name, no_level
from edge_vae.drift import DEFAULT_HOURS
from edge_vae.errors import Problem
from edge_vae.modbus_config import ModbusConfig, shared_line_mistakes
from edge_vae.overflow import OnFull
from edge_vae.publish.pace import DEFAULT_DRAIN_PER_S, MAX_DRAIN_PER_S
from edge_vae.source_config import JoinConfig, ReplayConfig, SourceConfig, StdinConfig, source_mistakes
from edge_vae.toml_lines import Key, dotted
from edge_vae.toml_table import Mistake, Table

__all__ = [
    "AgentConfig",
    "AlarmConfig",
    "BaselineConfig",
    "DriftConfig",
    "NodeConfig",
    "OutboxConfig",
    "PipelineConfig",
    "ThresholdConfig",
    "effective",
    "missing_files",
    "read_config",
    "schema",
]

DEFAULT_OUTBOX_BYTES = 64 * 2**20
MIN_OUTBOX_BYTES = 64 * 2**10
DEFAULT_LIMIT = 0.5
"""Half of the bundle's threshold: beyond that the machine is another one, and wants another bundle."""
MAX_DRIFT_HOURS = 8760.0
"""A year: whatever takes longer comes with the seasons."""
MAX_DELAY_WINDOWS = 1000
EXPECTED_DELAY = f"[k, n] with 1 <= k <= n <= {MAX_DELAY_WINDOWS}, for k of the last n windows"
MIN_BASELINE_SAMPLES = 2
"""A spread needs two samples; how many are enough is for the bundle to say."""

Windows = Annotated[int, Meta(ge=1, le=MAX_DELAY_WINDOWS)]
Delay = Annotated[tuple[Windows, Windows], Meta(extra={"expected": EXPECTED_DELAY})]


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


class BaselineConfig(Table, frozen=True, kw_only=True):
    """Learning what this machine is like today, before the first score; what is not set is as the bundle says.

    `on` says when: at the start of each session, which a bundle with a baseline cannot do without, and on the command
    `rebaseline`. Without "command" such a command is refused, and where no pipeline takes one none is subscribed to.
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


class AlarmConfig(Table, frozen=True, kw_only=True):
    """When scores become an alarm; what is not set is as the bundle says."""

    on_delay: Delay | None = None
    off_delay: Delay | None = None
    deadband: Annotated[float, Meta(ge=0, lt=1)] | None = None
    severity: Literal["info", "warning", "critical"] | None = None

    def mistakes(self) -> Iterator[Mistake]:
        """No more windows can be beyond the threshold than are looked at."""
        for name, delay in (("on_delay", self.on_delay), ("off_delay", self.off_delay)):
            if delay is not None and delay[0] > delay[1]:
                yield (name,), f"expected {EXPECTED_DELAY}, received {list(delay)}"


class PipelineConfig(Table, frozen=True, kw_only=True):
    """One machine: its samples, and the bundle that judges them."""

    asset: Name
    bundle: Path
    source: SourceConfig | Annotated[tuple[SourceConfig, ...], Meta(min_length=1)]
    join: JoinConfig | None = None
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    alarm: AlarmConfig = field(default_factory=AlarmConfig)
    threshold: ThresholdConfig = field(default_factory=ThresholdConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)

    def mistakes(self) -> Iterator[Mistake]:
        """The asset is a level of its topics, and several sources share its channels."""
        yield from no_level("asset", self.asset)
        yield from source_mistakes(_all(self.source), self.join)

    @property
    def sources(self) -> tuple[SourceConfig, ...]:
        """The only source, or several."""
        return _all(self.source)


class AgentConfig(Table, frozen=True, kw_only=True):
    """The whole of `agent.toml`."""

    node: NodeConfig
    mqtt: MqttConfig = field(default_factory=MqttConfig)
    outbox: OutboxConfig = field(default_factory=OutboxConfig)
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
    """The bundles and recordings that a configuration names and that are not there, with their lines in its file."""
    found: list[Mistake] = []
    for index, pipeline in enumerate(config.pipelines):
        if not pipeline.bundle.is_file():
            message = f"expected a bundle, received {pipeline.bundle}, where there is no file"
            found.append((("pipeline", index, "bundle"), message))
    for key, source in _keyed_sources(config.pipelines):
        if isinstance(source, ReplayConfig) and not source.path.exists():
            message = f"expected a file or folder, received {source.path}, where there is none"
            found.append(((*key, "path"), message))
    return toml_file.problems_at(file, found)


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
