"""The tables of an OPC UA source: the server, how the channel to it is secured, and which node is which channel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, field

from edge_vae.broker_config import Credential, lonely_password
from edge_vae.toml_table import Mistake, Table

__all__ = ["OpcUaConfig", "OpcUaNode", "OpcUaSecurity"]

DEFAULT_PORT = 4840
"""Registered for OPC UA over TCP."""
LARGEST_NAMESPACE, LARGEST_NUMBER = 2**16 - 1, 2**32 - 1
"""What a node id can hold (OPC UA Part 3, 8.2)."""
NODE_NUMBERS = re.compile(r"(?:ns=(?P<ns>\d+);|nsu=[^;]+;)?(?:i=(?P<i>\d+))?")
HOUR_MS = 3_600_000.0

ChannelName = Annotated[str, Meta(min_length=1, extra={"expected": "the name of a channel"})]
ServerUrl = Annotated[
    str,
    Meta(
        pattern=r"^opc\.tcp://(\[[0-9A-Fa-f:.]+\]|[^\s/@:\[\]?#]+)(:[1-9][0-9]{0,4})?(/[^\s?#]*)?(?![\s\S])",
        extra={"expected": 'the address of a server, such as "opc.tcp://192.0.2.7:4840", without user or password'},
    ),
]
NodeId = Annotated[
    str,
    Meta(
        pattern=(
            r"^(ns=[0-9]{1,5};|nsu=[^;\s]+;)?"
            r"(i=[0-9]{1,10}|s=[^\x00-\x1f]+|g=[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|b=[A-Za-z0-9+/]+={0,2})"
            r"(?![\s\S])"
        ),
        extra={"expected": 'a node id, such as "ns=2;s=Pump.Pressure", "ns=2;i=5" or "nsu=urn:plant;s=Pump.Pressure"'},
    ),
]


class OpcUaSecurity(Table, frozen=True, kw_only=True):
    """A secured channel: our certificate with its key, and that of the server, without which any server is believed."""

    policy: Literal["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"] = "Basic256Sha256"
    mode: Literal["Sign", "SignAndEncrypt"] = "SignAndEncrypt"
    cert_file: Credential
    key_file: Credential
    server_cert_file: Credential | None = None


class OpcUaNode(Table, frozen=True, kw_only=True):
    """Where one channel is read."""

    channel: ChannelName
    node: NodeId

    def mistakes(self) -> Iterator[Mistake]:
        """Numbers have as many bits as the protocol has for them."""
        if match := NODE_NUMBERS.match(self.node):
            for name, largest in (("ns", LARGEST_NAMESPACE), ("i", LARGEST_NUMBER)):
                if match[name] is not None and int(match[name]) > largest:
                    yield ("node",), f"expected {name} of at most {largest}, received {match[name]}"


class OpcUaConfig(Table, frozen=True, kw_only=True, tag_field="type", tag="opcua"):
    """Nodes of an OPC UA server: all read at once at an even rate, or told by the server when they change."""

    url: ServerUrl
    read: Literal["poll", "subscribe"] = "poll"
    rate_hz: Annotated[float, Meta(gt=0, le=1000)] | None = None
    sampling_interval_ms: Annotated[float, Meta(ge=0, le=HOUR_MS)] | None = None
    publishing_interval_ms: Annotated[float, Meta(gt=0, le=HOUR_MS)] | None = None
    queue_size: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    username: Annotated[str, Meta(min_length=1)] | None = None
    password_file: Credential | None = None
    security: OpcUaSecurity | None = None
    nodes: Annotated[
        tuple[OpcUaNode, ...],
        Meta(min_length=1, extra={"expected": "one or more tables, each headed [[pipeline.source.node]]"}),
    ] = field(name="node")

    def mistakes(self) -> Iterator[Mistake]:
        """A channel has one node and a node one channel; intervals are for subscriptions."""
        yield from lonely_password(self.username, self.password_file)
        if self.read != "subscribe":
            for name in ("sampling_interval_ms", "publishing_interval_ms", "queue_size"):
                if getattr(self, name) is not None:
                    yield (name,), f'expected read = "subscribe" beside it, received read = "{self.read}"'
        for key in ("channel", "node"):
            seen: dict[str, int] = {}
            for index, node in enumerate(self.nodes):
                if (first := seen.setdefault(getattr(node, key), index)) != index:
                    yield ("node", index, key), f"expected a {key} of its own, received that of node[{first}]"
        try:
            urlsplit(self.url).port  # noqa: B018 (it is looked at for the error)
        except ValueError as error:
            yield ("url",), f"expected a port from 1 to 65535, received: {error}"

    def names(self) -> tuple[str, ...]:
        """The channels that have a node."""
        return tuple(node.channel for node in self.nodes)

    @property
    def address(self) -> str:
        """The URL with its port."""
        parts = urlsplit(self.url)
        return self.url if parts.port else parts._replace(netloc=f"{parts.netloc}:{DEFAULT_PORT}").geturl()
