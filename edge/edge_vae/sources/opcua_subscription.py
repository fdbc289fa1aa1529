"""A subscription of an OPC UA server: what it tells of its nodes, as samples at an even rate by its own clock."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator
from datetime import datetime, timezone

from asyncua import Client, ua

from edge_vae.errors import SourceError
from edge_vae.opcua_config import OpcUaConfig
from edge_vae.sources.decode import Rows
from edge_vae.sources.hold import Change, Hold
from edge_vae.sources.opcua_nodes import Nodes

__all__ = ["told"]

log = logging.getLogger(__name__)

LEAST_PUBLISHING_MS = 100.0
"""Asked for no faster by default: samples between two messages wait in the server's queue."""
LIFETIME_MS = 60_000.0
"""A subscription that nobody listens to is forgotten by the server after this."""
OTHER_CLOCK_S = 10.0
"""A server's clock that is off by more is told once a connection."""


async def told(
    client: Client, nodes: Nodes, config: OpcUaConfig, *, rate_hz: float, timeout_s: float
) -> AsyncGenerator[Rows, None]:
    """Rows of what the server publishes, see `Hold`.

    Args:
        client: A connected one.
        nodes: Found on the server.
        config: With the intervals.
        rate_hz: Rows a second.
        timeout_s: How long a message may be late.

    Raises:
        SourceError: The server does not tell of a node, or ends the subscription.
        UaError, OSError, TimeoutError: The connection is lost.
    """
    messages: asyncio.Queue[ua.PublishResult] = asyncio.Queue()
    silence_s, settle_s = await _subscribe(client, nodes, config, messages, period_ms=1000.0 / rate_hz)
    hold, first = Hold(2 * len(nodes), rate_hz=rate_hz, settle_s=settle_s), True
    while True:
        message = (await asyncio.wait_for(messages.get(), silence_s + timeout_s)).NotificationMessage
        now_s = time.time()
        told_s = _unix_seconds(message.PublishTime, now_s)
        if first and abs(told_s - now_s) > OTHER_CLOCK_S:
            log.warning("the server's clock is another source=%s ahead_s=%.0f", config.url, told_s - now_s)
        first = False
        rows = hold.push(_changes(message, nodes, config.url), told_s=told_s, monotonic_s=time.monotonic())
        values, doubts = rows.values[:, : len(nodes)], rows.values[:, len(nodes) :] > 0.0
        yield Rows(values, rows.times, doubts if doubts.any() else None)


async def _subscribe(
    client: Client, nodes: Nodes, config: OpcUaConfig, messages: asyncio.Queue[ua.PublishResult], *, period_ms: float
) -> tuple[float, float]:
    """Have the server tell changes; in seconds, how long it may be silent, and how long it may take to see a change."""
    sampling_ms = period_ms if config.sampling_interval_ms is None else config.sampling_interval_ms
    publishing_ms = config.publishing_interval_ms or max(period_ms, LEAST_PUBLISHING_MS)
    granted = await client.uaclient.create_subscription(
        ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=publishing_ms,
            RequestedLifetimeCount=max(3, math.ceil(LIFETIME_MS / publishing_ms)),
            RequestedMaxKeepAliveCount=1,  # a word in each interval, which says that nothing has changed
        ),
        messages.put_nowait,
    )
    publishing_ms = granted.RevisedPublishingInterval
    queue_size = config.queue_size or math.ceil(publishing_ms / max(sampling_ms, 1.0)) + 1
    wanted = [nodes.monitored(i, sampling_ms=sampling_ms, queue_size=queue_size) for i in range(len(nodes))]
    items = await client.uaclient.create_monitored_items(
        ua.CreateMonitoredItemsParameters(granted.SubscriptionId, ua.TimestampsToReturn.Both, wanted)
    )
    for channel, item in enumerate(items):
        nodes.expect_monitored(channel, item.StatusCode)
    settle_ms = max(0.0, *(item.RevisedSamplingInterval for item in items))
    return 2 * granted.RevisedMaxKeepAliveCount * publishing_ms / 1000.0, settle_ms / 1000.0


def _changes(message: ua.NotificationMessage, nodes: Nodes, url: str) -> list[Change]:
    """New values of the channels, and behind all of these whether the server doubts them, 1 or 0, held as they are."""
    changes: list[Change] = []
    for notification in message.NotificationData or ():
        if isinstance(notification, ua.StatusChangeNotification):
            notification.Status.check()
            raise SourceError(url, expected="a subscription that goes on", received="its end")
        for item in getattr(notification, "MonitoredItems", None) or ():
            at_s = _unix_seconds(item.Value.SourceTimestamp or item.Value.ServerTimestamp, math.nan)
            channel = item.ClientHandle
            changes.append((channel, at_s, nodes.number(channel, item.Value)))
            changes.append((len(nodes) + channel, at_s, float(nodes.doubts(item.Value))))
    return changes


def _unix_seconds(at: datetime | None, otherwise: float) -> float:
    """Seconds since 1970; OPC UA counts from 1601, and says so where it has no time."""
    if at is None:
        return otherwise
    seconds = (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()
    return seconds if seconds > 0 else otherwise
