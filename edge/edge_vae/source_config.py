"""The tables that say where the samples of a machine come from; `type` says which kind of source it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge_vae.broker_config import Credential, Host, MqttConfig, Port, TlsConfig, lonely_password
from edge_vae.modbus_config import ModbusConfig
from edge_vae.opcua_config import OpcUaConfig
from edge_vae.toml_table import Mistake, Table
from edge_vae.toml_text import literal

__all__ = [
    "DEFAULT_QUEUED_ROWS",
    "Join",
    "JoinConfig",
    "ModbusConfig",
    "MqttSourceConfig",
    "OpcUaConfig",
    "ReplayConfig",
    "SourceConfig",
    "StdinConfig",
    "source_mistakes",
]

DEFAULT_QUEUED_ROWS = 100_000
DEFAULT_LATE_S = 1.0
MAX_LATE_S = 3600.0
"""Samples wait for so long, and their alarms with them."""
DEFAULT_MAX_AGE_S = 10.0

TopicFilter = Annotated[
    str,
    Meta(
        pattern=r"^(#|([^+#\0]+|\+)(/[^+#\0/]*|/\+)*(/#)?)(?![\s\S])",
        extra={"expected": "an MQTT topic or filter, with + for one whole level and # for all last ones"},
    ),
]
ColumnName = Annotated[str, Meta(min_length=1, extra={"expected": "the name of a column"})]
RowFormat = Literal["jsonl", "csv"]
Join = Literal["hold", "linear", "mean"]
"""How a channel's readings become its value at the moment of a sample. `hold`: the last reading up to then. `linear`:
between the readings before and after; where none has come after, held. `mean`: of the readings since the sample before;
of none, held."""


class RowSourceConfig(Table, frozen=True, kw_only=True):
    """What sources of rows have in common, whose columns are seen only when they come."""

    channels: Annotated[tuple[ColumnName, ...], Meta(min_length=1)] | None = None

    def names(self) -> tuple[str, ...]:
        """The channels that this source is to give; empty: those that the bundle wants."""
        return self.channels or ()


class ReplayConfig(RowSourceConfig, frozen=True, kw_only=True, tag_field="type", tag="replay"):
    """Recorded files, played as if they happened now; speed 0 is flat out, 1 as recorded."""

    path: Path
    speed: Annotated[float, Meta(ge=0)] = 1.0
    rate_hz: Annotated[float, Meta(gt=0)] | None = None
    time: ColumnName | None = None


class StdinConfig(RowSourceConfig, frozen=True, kw_only=True, tag_field="type", tag="stdin"):
    """Rows that another program writes into this one."""

    format: RowFormat = "jsonl"
    time: ColumnName | None = None


class MqttSourceConfig(RowSourceConfig, frozen=True, kw_only=True, tag_field="type", tag="mqtt"):
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
        yield from lonely_password(self.username, self.password_file)
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


SourceConfig = ReplayConfig | StdinConfig | MqttSourceConfig | ModbusConfig | OpcUaConfig
"""Where the samples of a machine come from; `type` says which."""


class JoinConfig(Table, frozen=True, kw_only=True):
    """How the readings of several sources become samples at the bundle's rate; channels that are not named are held."""

    linear: tuple[ColumnName, ...] = ()
    mean: tuple[ColumnName, ...] = ()
    late_s: Annotated[float, Meta(ge=0, le=MAX_LATE_S)] = DEFAULT_LATE_S
    max_age_s: Annotated[float, Meta(gt=0)] = DEFAULT_MAX_AGE_S

    def mistakes(self) -> Iterator[Mistake]:
        """A channel is joined in one way."""
        for name in self.linear:
            if name in self.mean:
                yield ("mean",), f"expected each channel once, received {literal(name)} here and in linear"

    def by_channel(self) -> dict[str, Join]:
        """The way of each channel that is not held."""
        linear: dict[str, Join] = dict.fromkeys(self.linear, "linear")
        return linear | dict.fromkeys(self.mean, "mean")


def source_mistakes(sources: Sequence[SourceConfig], join: JoinConfig | None) -> Iterator[Mistake]:
    """What is wrong between several sources of one pipeline, with keys relative to it."""
    seen: dict[str, int] = {}
    for index, source in enumerate(sources):
        names = source.names()
        if len(sources) > 1 and not names:
            yield ("source", index, "channels"), "expected the channels of each of several sources, received nothing"
        for name in names:
            if (first := seen.setdefault(name, index)) != index:
                yield ("source", index), f"expected channels of its own, received {literal(name)}, as source[{first}]"
    if join is not None and len(sources) > 1 and all(source.names() for source in sources):
        for way in ("linear", "mean"):
            for name in getattr(join, way):
                if name not in seen:
                    yield ("join", way), f"expected channels of the sources, received {literal(name)}"
