"""The agent's configuration, `agent.toml`: what may stand in it, and what holds when it does not."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from edge_vae import toml_file, toml_text
from edge_vae.drift import DEFAULT_HOURS
from edge_vae.errors import ConfigError, Problem
from edge_vae.toml_table import CREDENTIAL, Mistake, Table
from edge_vae.topics import topic_level

__all__ = [
    "AgentConfig",
    "AlarmConfig",
    "BaselineConfig",
    "DriftConfig",
    "MqttConfig",
    "MqttSourceConfig",
    "NodeConfig",
    "OutboxConfig",
    "PipelineConfig",
    "ReplayConfig",
    "SourceConfig",
    "StdinConfig",
    "ThresholdConfig",
    "TlsConfig",
    "effective",
    "missing_files",
    "read_config",
    "read_password",
    "schema",
]

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 1883
DEFAULT_BASE_TOPIC = "edge-vae"
DEFAULT_KEEPALIVE_S = 30
DEFAULT_OUTBOX_BYTES = 64 * 2**20
MIN_OUTBOX_BYTES = 64 * 2**10
DEFAULT_QUEUED_ROWS = 100_000
DEFAULT_LIMIT = 0.5
"""Half of the bundle's threshold: beyond that the machine is another one, and wants another bundle."""
MAX_DRIFT_HOURS = 8760.0
"""A year: whatever takes longer comes with the seasons."""
MAX_DELAY_WINDOWS = 1000
EXPECTED_DELAY = f"[k, n] with 1 <= k <= n <= {MAX_DELAY_WINDOWS}, for k of the last n windows"
MIN_BASELINE_SAMPLES = 2
"""A spread needs two samples; how many are enough is for the bundle to say."""

# (?![\s\S]) is the end of the text in every dialect of regular expressions; $ also matches before a last newline.
Name = Annotated[
    str, Meta(pattern=r"^[^/+#\s$][^/+#\s]*(?![\s\S])", extra={"expected": "a name without / + # $ and blanks"})
]
TopicFilter = Annotated[
    str,
    Meta(
        pattern=r"^(#|([^+#\0]+|\+)(/[^+#\0/]*|/\+)*(/#)?)(?![\s\S])",
        extra={"expected": "an MQTT topic or filter, with + for one whole level and # for all last ones"},
    ),
]
Port = Annotated[int, Meta(ge=1, le=65535)]
Host = Annotated[str, Meta(min_length=1, extra={"expected": "a host name or address"})]
Credential = Annotated[Path, CREDENTIAL]
Windows = Annotated[int, Meta(ge=1, le=MAX_DELAY_WINDOWS)]
Delay = Annotated[tuple[Windows, Windows], Meta(extra={"expected": EXPECTED_DELAY})]
ColumnName = Annotated[str, Meta(min_length=1, extra={"expected": "the name of a column"})]
RowFormat = Literal["jsonl", "csv"]


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
        yield from _no_level("site", self.site)
        yield from _no_level("name", self.name)


class TlsConfig(Table, frozen=True, kw_only=True):
    """TLS to a broker: the system's authorities or our own, and a certificate where the broker asks for one."""

    ca_file: Credential | None = None
    cert_file: Credential | None = None
    key_file: Credential | None = None

    def mistakes(self) -> Iterator[Mistake]:
        """A certificate is of use only with its key."""
        if (self.cert_file is None) != (self.key_file is None):
            given, missing = ("cert_file", "key_file") if self.key_file is None else ("key_file", "cert_file")
            yield (missing,), f"expected a {missing} beside {given}, received nothing"


class MqttConfig(Table, frozen=True, kw_only=True):
    """A broker, and how to reach it."""

    host: Host = DEFAULT_HOST
    port: Port = DEFAULT_PORT
    base_topic: Name = DEFAULT_BASE_TOPIC
    protocol: Literal[5, 311] = 5
    username: str | None = None
    password_file: Credential | None = None
    tls: TlsConfig | None = None
    keepalive_s: Annotated[int, Meta(ge=5, le=3600)] = DEFAULT_KEEPALIVE_S

    def mistakes(self) -> Iterator[Mistake]:
        """The base is the first level of every topic, and a password belongs to a user."""
        yield from _no_level("base_topic", self.base_topic)
        yield from _lonely_password(self.username, self.password_file)


class OutboxConfig(Table, frozen=True, kw_only=True):
    """The store of undelivered messages."""

    max_bytes: Annotated[int, Meta(ge=MIN_OUTBOX_BYTES)] = DEFAULT_OUTBOX_BYTES
    on_full: Literal["drop_oldest", "drop_newest"] = "drop_oldest"


class ReplayConfig(Table, frozen=True, kw_only=True, tag_field="type", tag="replay"):
    """Recorded files, played as if they happened now; speed 0 is flat out, 1 as recorded."""

    path: Path
    speed: Annotated[float, Meta(ge=0)] = 1.0
    rate_hz: Annotated[float, Meta(gt=0)] | None = None
    time: ColumnName | None = None


class StdinConfig(Table, frozen=True, kw_only=True, tag_field="type", tag="stdin"):
    """Rows that another program writes into this one."""

    format: RowFormat = "jsonl"
    time: ColumnName | None = None


class MqttSourceConfig(Table, frozen=True, kw_only=True, tag_field="type", tag="mqtt"):
    """Rows that others publish: on the agent's own broker or, where `host` is given, on another one."""

    topic: TopicFilter
    format: RowFormat = "jsonl"
    time: ColumnName | None = None
    host: Host | None = None
    port: Port | None = None
    username: str | None = None
    password_file: Credential | None = None
    tls: TlsConfig | None = None
    max_rows: Annotated[int, Meta(ge=1)] = DEFAULT_QUEUED_ROWS

    def mistakes(self) -> Iterator[Mistake]:
        """A password belongs to a user, and a row without header has no names."""
        yield from _lonely_password(self.username, self.password_file)
        if self.format == "csv" and self.time is not None:
            yield ("time",), 'expected no name with format = "csv": messages have no header, and the time comes first'

    def broker(self, own: MqttConfig) -> MqttConfig:
        """The broker to subscribe at. Another host never gets the user, password or certificates of the agent's own."""
        base = MqttConfig(protocol=own.protocol, keepalive_s=own.keepalive_s) if self.host else own
        named = {name: getattr(self, name) for name in ("host", "port", "tls")}
        if self.username is not None:
            named |= {"username": self.username}
            base = msgspec.structs.replace(base, password_file=self.password_file)
        return msgspec.structs.replace(base, **{name: value for name, value in named.items() if value is not None})


SourceConfig = ReplayConfig | StdinConfig | MqttSourceConfig
"""Where the samples of a machine come from; `type` says which."""


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
    source: SourceConfig
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    alarm: AlarmConfig = field(default_factory=AlarmConfig)
    threshold: ThresholdConfig = field(default_factory=ThresholdConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)

    def mistakes(self) -> Iterator[Mistake]:
        """The asset is a level of its topics."""
        return _no_level("asset", self.asset)


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
        """Assets share topics and standard input, so each name and the input can be had once."""
        seen: dict[str, int] = {}
        for index, pipeline in enumerate(self.pipelines):
            if (first := seen.setdefault(pipeline.asset, index)) != index:
                yield ("pipeline", index, "asset"), f"expected a name of its own, received that of pipeline[{first}]"
        readers = [index for index, pipeline in enumerate(self.pipelines) if isinstance(pipeline.source, StdinConfig)]
        for index in readers[1:]:
            yield (
                ("pipeline", index, "source", "type"),
                f"expected one reader of standard input, received another beside pipeline[{readers[0]}]",
            )


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
        key, source = ("pipeline", index), pipeline.source
        if not pipeline.bundle.is_file():
            found.append(((*key, "bundle"), f"expected a bundle, received {pipeline.bundle}, where there is no file"))
        if isinstance(source, ReplayConfig) and not source.path.exists():
            message = f"expected a file or folder, received {source.path}, where there is none"
            found.append(((*key, "source", "path"), message))
    return toml_file.problems_at(file, found)


def read_password(mqtt: MqttConfig) -> str | None:
    """The password in the password file, without its last newline; None where no file is named.

    Raises:
        ConfigError: The file cannot be read, is no text, or is empty.
    """
    if mqtt.password_file is None:
        return None
    try:
        password = mqtt.password_file.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise _bad_password(mqtt.password_file, f"received: {error}") from error
    if not password:
        raise _bad_password(mqtt.password_file, "received an empty file")
    return password


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


def _no_level(key: str, name: str) -> Iterator[Mistake]:
    try:
        topic_level(name, what="a name")
    except ValueError as error:
        yield (key,), str(error)


def _lonely_password(username: str | None, password_file: Path | None) -> Iterator[Mistake]:
    if password_file is not None and username is None:
        yield ("username",), "expected a username beside password_file, received nothing"


def _bad_password(file: Path, received: str) -> ConfigError:
    return ConfigError(str(file), [Problem(1, "password_file", f"expected one line of UTF-8 text, {received}")])
