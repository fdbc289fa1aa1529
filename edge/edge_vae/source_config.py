"""The tables that say where the samples of a machine come from; `type` says which kind of source it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

from edge_vae.broker_config import Credential, Host, MqttConfig, Port, TlsConfig, lonely_password
from edge_vae.modbus_config import ModbusConfig
from edge_vae.opcua_config import OpcUaConfig
from edge_vae.toml_table import Mistake, Table
from edge_vae.toml_text import literal

__all__ = [
    "DEFAULT_QUEUED_ROWS",
    "IioConfig",
    "Join",
    "JoinConfig",
    "ModbusConfig",
    "MqttSourceConfig",
    "OpcUaConfig",
    "ReplayConfig",
    "SerialConfig",
    "SourceConfig",
    "StdinConfig",
    "source_mistakes",
]

DEFAULT_QUEUED_ROWS = 100_000
"""Five seconds of the fastest source, and 5 MB of six channels."""
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
MOST_BAUD = 4_000_000
"""What Linux has a constant for, and more than USB adapters reach."""
MOST_RATE_HZ = 10_000_000.0
"""No converter that Linux reads through a buffer of the kernel is faster."""
MOST_SCANS = 2**20
"""A buffer is memory of the kernel."""
ELEMENT = re.compile(r"(?!in_)[a-z][a-z0-9_-]*(\[[0-9]{1,3}\])?")
Elements = Annotated[
    dict[str, str],
    Meta(min_length=1, extra={"expected": 'a scan element for each channel, as { vibration = "accel_x" }'}),
]
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


class SerialConfig(RowSourceConfig, frozen=True, kw_only=True, tag_field="type", tag="serial"):
    """Lines that a device writes to a serial port: JSON objects, or CSV whose columns are named here or in a header."""

    port: Path
    baudrate: Annotated[int, Meta(ge=50, le=MOST_BAUD)]
    bytesize: Literal[5, 6, 7, 8] = 8
    parity: Literal["none", "even", "odd", "mark", "space"] = "none"
    stopbits: Literal[1, 2] = 1
    flow_control: Literal["none", "rts/cts", "xon/xoff"] = "none"
    format: RowFormat = "jsonl"
    columns: Annotated[tuple[ColumnName, ...], Meta(min_length=1)] | None = None
    header: bool = False
    time: ColumnName | None = None
    rate_hz: Annotated[float, Meta(gt=0)] | None = None

    def mistakes(self) -> Iterator[Mistake]:
        """Columns are of CSV, have names of their own, and are named in one place; without names none is the time."""
        if self.format == "jsonl":
            for key, given in (("columns", self.columns), ("header", self.header)):
                if given:
                    yield (key,), 'expected none with format = "jsonl", where each object names its readings'
        elif self.columns is not None and self.header:
            yield ("columns",), "expected none beside header = true, with which the device names them"
        elif self.time is not None and not self.header and self.time not in (self.columns or ()):
            yield ("time",), "expected one of columns, or header = true: nothing else says where the time stands"
        if self.columns is not None and len(set(self.columns)) < len(self.columns):
            yield ("columns",), f"expected each name once, received {literal(self.columns)}"


class IioConfig(Table, frozen=True, kw_only=True, tag_field="type", tag="iio"):
    """The buffer of a Linux IIO device, set up by the agent or found set up (`setup = false`)."""

    device: Annotated[str, Meta(min_length=1, extra={"expected": "a device, such as adxl355 or iio:device0"})]
    channels: Elements
    setup: bool = True
    trigger: Annotated[str, Meta(min_length=1, extra={"expected": "the name of a trigger"})] | None = None
    rate_hz: Annotated[float, Meta(gt=0, le=MOST_RATE_HZ)] | None = None
    length: Annotated[int, Meta(ge=2, le=MOST_SCANS)] | None = None
    watermark: Annotated[int, Meta(ge=1, le=MOST_SCANS)] | None = None
    root: Path = field(default_factory=lambda: Path("/sys"))
    dev: Path = field(default_factory=lambda: Path("/dev"))

    def mistakes(self) -> Iterator[Mistake]:
        """What somebody else sets up is not set here; a buffer holds what it waits for; an element is one channel."""
        if not self.setup:
            for key in ("trigger", "length", "watermark"):
                if getattr(self, key) is not None:
                    yield (key,), "expected setup = true beside it, received setup = false"
        if self.length is not None and self.watermark is not None and self.watermark >= self.length:
            yield ("watermark",), f"expected less than length = {self.length}, received {self.watermark}"
        seen: dict[str, str] = {}
        for channel, element in self.channels.items():
            if not ELEMENT.fullmatch(element):
                expected = 'a scan element, such as "accel_x" or "rot_quaternion[2]"'
                yield ("channels", channel), f"expected {expected}, received {literal(element)}"
            if (first := seen.setdefault(element, channel)) != channel:
                yield ("channels", channel), f"expected a scan element of its own, received that of {first}"

    def names(self) -> tuple[str, ...]:
        """The channels that it provides."""
        return tuple(self.channels)


SourceConfig = ReplayConfig | StdinConfig | MqttSourceConfig | ModbusConfig | SerialConfig | IioConfig | OpcUaConfig
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
