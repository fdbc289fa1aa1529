"""The nodes of an OPC UA server that hold the readings: found, read, and named where they cannot be."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence

from asyncua import Client, ua

from edge_vae.errors import SourceError
from edge_vae.opcua_config import OpcUaNode
from edge_vae.toml_words import nearest

__all__ = ["Nodes"]

log = logging.getLogger(__name__)

NUMBERS = frozenset(
    ua.VariantType[name]
    for name in ("Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double")
)
A_NODE = "a node of this server"
REFUSALS = {
    ua.StatusCodes.BadNodeIdUnknown: A_NODE,
    ua.StatusCodes.BadNodeIdInvalid: A_NODE,
    ua.StatusCodes.BadAttributeIdInvalid: "a variable",
    ua.StatusCodes.BadNotReadable: "leave to read it",
    ua.StatusCodes.BadUserAccessDenied: "leave to read it",
    ua.StatusCodes.BadSecurityModeInsufficient: "leave to read it",
}
"""What was expected where a node cannot be read until a person has changed something."""
CODE = 0xFFFF0000
"""The part of a status that says what it is; the rest are flags (OPC UA Part 4, 7.39)."""
MAX_BROWSED = 500
"""So many nodes are looked at for one that was probably meant, not the whole of a large plant."""


class Nodes:
    """The nodes of some channels, in their order, once they were found on a server.

    Args:
        server: How to call it.
        nodes: What the configuration says of the channels that are wanted.
    """

    def __init__(self, server: str, nodes: Sequence[OpcUaNode]) -> None:
        self._server, self._nodes = server, nodes
        self._strange: set[tuple[int, str]] = set()
        self.malformed = self.uncertain = 0
        self.ids: list[ua.NodeId] = []

    def __len__(self) -> int:
        return len(self._nodes)

    async def find(self, client: Client) -> None:
        """Learn the ids of the nodes, and see that each of them can be read and is a number.

        Raises:
            SourceError: One of them is not there, may not be read, or is no number.
            UaError, OSError: The server does not answer as it should.
        """
        self.ids = await self._resolved(client)
        for channel, value in enumerate(await client.uaclient.read(self.reading())):
            await self.expect_readable(client, channel, value.StatusCode)
            if _is_there(value) and not _is_number(value.Value):
                raise self._wrong(channel, "a number", _kind(value.Value))

    async def expect_readable(self, client: Client, channel: int, status: ua.StatusCode | None) -> None:
        """Raise SourceError where a status refuses a node, with the one that was probably meant."""
        if expected := REFUSALS.get(_code(status)):
            meant = await self._meant(client, channel) if expected == A_NODE else ""
            raise self._wrong(channel, expected, _name(status), meant)

    def reading(self) -> ua.ReadParameters:
        """The request that reads all of them at once, and from the device, not from the server's memory."""
        wanted = [ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.Value) for node in self.ids]
        return ua.ReadParameters(MaxAge=0, TimestampsToReturn=ua.TimestampsToReturn.Neither, NodesToRead=wanted)

    def monitored(self, channel: int, *, sampling_ms: float, queue_size: int) -> ua.MonitoredItemCreateRequest:
        """The request that has the server tell each new value or status of a node."""
        return ua.MonitoredItemCreateRequest(
            ua.ReadValueId(NodeId=self.ids[channel], AttributeId=ua.AttributeIds.Value),
            ua.MonitoringMode.Reporting,
            ua.MonitoringParameters(
                ClientHandle=channel, SamplingInterval=sampling_ms, QueueSize=queue_size, DiscardOldest=True
            ),
        )

    def expect_monitored(self, channel: int, status: ua.StatusCode) -> None:
        """Raise SourceError where the server does not tell new values of a node."""
        if status.is_bad():
            raise self._wrong(channel, "a node that can be subscribed to", _name(status), 'Or use read = "poll".')

    def number(self, channel: int, value: ua.DataValue) -> float:
        """What was read; NaN where the server calls it bad. What it calls uncertain is kept and counted.

        Raises:
            SourceError: The node cannot be read any more.
        """
        status = value.StatusCode
        if expected := REFUSALS.get(_code(status)):
            raise self._wrong(channel, expected, _name(status))
        if status is not None and not status.is_good():
            self.uncertain += self.doubts(value)
            self._tell(channel, _name(status))
        if not _is_there(value):
            return math.nan
        if not _is_number(value.Value):
            self.malformed += 1
            self._tell(channel, _kind(value.Value))
            return math.nan
        return float(value.Value.Value)

    @staticmethod
    def doubts(value: ua.DataValue) -> bool:
        """Whether the server calls a reading uncertain."""
        return value.StatusCode is not None and bool(value.StatusCode.is_uncertain())

    def _tell(self, channel: int, what: str) -> None:
        """Log what is strange about the readings of a channel, each thing once a connection."""
        if (channel, what) not in self._strange:
            self._strange.add((channel, what))
            node = self._nodes[channel]
            log.warning("reading is not good channel=%s node=%s received=%s", node.channel, node.node, what)

    def _wrong(self, channel: int, expected: str, received: str, action: str = "") -> SourceError:
        node = self._nodes[channel]
        what = f"{self._server}: channel {node.channel}, node {node.node}"
        return SourceError(what, expected=expected, received=received, action=action)

    async def _resolved(self, client: Client) -> list[ua.NodeId]:
        """The ids with the numbers that this server gives to the namespaces today."""
        ids = [ua.NodeId.from_string(node.node) for node in self._nodes]
        if not any(isinstance(node, ua.ExpandedNodeId) for node in ids):
            return ids
        uris = list(await client.get_namespace_array())
        for channel, node in enumerate(ids):
            if isinstance(node, ua.ExpandedNodeId):
                if node.NamespaceUri not in uris:
                    meant = nearest(node.NamespaceUri, uris)
                    expected = f"a namespace that this server has ({', '.join(uris)})"
                    action = f"Did you mean nsu={meant}?" if meant else ""
                    raise self._wrong(channel, expected, f"nsu={node.NamespaceUri}", action)
                ids[channel] = ua.NodeId(node.Identifier, uris.index(node.NamespaceUri), node.NodeIdType)
        return ids

    async def _meant(self, client: Client, channel: int) -> str:
        """The question whether a variable of the same namespace with a similar name was meant, if there is one."""
        wanted = self.ids[channel]
        if not isinstance(wanted.Identifier, str):
            return ""
        try:
            known = await _names(client, wanted.NamespaceIndex)
        except (
            ua.UaError,
            OSError,
            asyncio.TimeoutError,
        ):  # the help is missing then, and the error is told all the same
            return ""
        meant = nearest(wanted.Identifier, known)
        return f"Did you mean ns={wanted.NamespaceIndex};s={meant}?" if meant else ""


async def _names(client: Client, namespace: int) -> list[str]:
    """The string identifiers of variables of a namespace, as far as a short walk from the objects folder meets them."""
    level, seen, names = [ua.NodeId(ua.ObjectIds.ObjectsFolder)], {ua.NodeId(ua.ObjectIds.Server)}, []
    while level and len(seen) < MAX_BROWSED:
        wanted = [
            ua.BrowseDescription(
                NodeId=node,
                BrowseDirection=ua.BrowseDirection.Forward,
                ReferenceTypeId=ua.NodeId(ua.ObjectIds.HierarchicalReferences),
                IncludeSubtypes=True,
                NodeClassMask=ua.NodeClass.Object | ua.NodeClass.Variable,
                ResultMask=ua.BrowseResultMask.NodeClass,
            )
            for node in level[: MAX_BROWSED // 10]
        ]
        level = level[len(wanted) :]
        view = ua.BrowseParameters(
            View=ua.ViewDescription(), RequestedMaxReferencesPerNode=MAX_BROWSED, NodesToBrowse=wanted
        )
        for result in await client.uaclient.browse(view):
            for reference in result.References or []:
                if reference.NodeId in seen or len(seen) >= MAX_BROWSED:
                    continue
                seen.add(reference.NodeId)
                level.append(reference.NodeId)
                if reference.NodeClass == ua.NodeClass.Variable and reference.NodeId.NamespaceIndex == namespace:
                    names.append(str(reference.NodeId.Identifier))
    return names


def _code(status: ua.StatusCode | None) -> int:
    return 0 if status is None else status.value & CODE


def _name(status: ua.StatusCode | None) -> str:
    return str(ua.StatusCode(_code(status)).name)


def _is_there(value: ua.DataValue) -> bool:
    bad = value.StatusCode is not None and value.StatusCode.is_bad()
    return not bad and value.Value is not None and value.Value.Value is not None


def _is_number(variant: ua.Variant) -> bool:
    return variant.VariantType in NUMBERS and not isinstance(variant.Value, list)


def _kind(variant: ua.Variant) -> str:
    name = getattr(variant.VariantType, "name", "a type that is not built in")
    return f"an array of {name}" if isinstance(variant.Value, list) else name
