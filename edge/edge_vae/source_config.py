"""The tables that say where the samples of a machine come from; `type` says which kind of source it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge_vae.broker_config import Credential, Host, MqttConfig, Port, TlsConfig, lonely_password
from edge_vae.toml_table import Mistake, Table

__all__ = ["MqttSourceConfig", "ReplayConfig", "SourceConfig", "StdinConfig"]

DEFAULT_QUEUED_ROWS = 100_000

TopicFilter = Annotated[
    str,
    Meta(
        pattern=r"^(#|([^+#\0]+|\+)(/[^+#\0/]*|/\+)*(/#)?)(?![\s\S])",
        extra={"expected": "an MQTT topic or filter, with + for one whole level and # for all last ones"},
    ),
]
ColumnName = Annotated[str, Meta(min_length=1, extra={"expected": "the name of a column"})]
RowFormat = Literal["jsonl", "csv"]


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


SourceConfig = ReplayConfig | StdinConfig | MqttSourceConfig
"""Where the samples of a machine come from; `type` says which."""
