"""Samples of an OPC UA server, read all at once at an even rate, or told by it when they change.

A session belongs to its connection: when that is lost, everything is made anew. The library works in an event loop that
belongs to the one thread which reads the device, and turns only while that thread waits for samples.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import time
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np

from edge_vae.errors import MissingExtraError, SourceError
from edge_vae.opcua_config import OpcUaConfig
from edge_vae.sources.decode import Rows
from edge_vae.sources.fed import TURN_S, Readings
from edge_vae.sources.hold import Change, Hold
from edge_vae.sources.sample_clock import SampleClock

try:
    from asyncua import Client, ua

    from edge_vae.sources.opcua_login import Login
    from edge_vae.sources.opcua_nodes import Nodes
except ModuleNotFoundError as error:
    raise MissingExtraError('a source of type "opcua"', module=str(error.name), extra="opcua") from error

__all__ = ["OpcUaDevice"]

log = logging.getLogger(__name__)

TIMEOUT_S = 4.0
"""A server that has not answered a request for so long is gone."""
CONNECT_S = 15.0
"""All requests until the first reading together: on a small PLC the secured ones take seconds each."""
LEAVE_S = 1.0
"""So long a server may take to say goodbye."""
SESSION_S = 60.0
"""A session that nobody closed is forgotten by the server after this, and makes room for the next one."""
CHANNEL_S = 3600.0
"""Lifetime of the keys of the secured channel; they are renewed after three quarters of it."""
LEAST_PUBLISHING_MS = 100.0
"""Servers publish no faster by themselves; samples between two messages wait in the server's queue."""
OTHER_CLOCK_S = 10.0
"""A server's clock that is off by more is told once a connection."""
_USER = ("leave to log in", "Correct username and password_file under [pipeline.source].")
_CERTIFICATE = ("a server that trusts cert_file", "Let the server trust it: it often lies among its rejected ones.")
REFUSALS = {
    "BadIdentityTokenRejected": _USER,
    "BadIdentityTokenInvalid": _USER,
    "BadUserAccessDenied": _USER,
    "BadCertificateUntrusted": _CERTIFICATE,
    "BadSecurityChecksFailed": _CERTIFICATE,
}
"""What was expected where a server refuses a client, and what can be done."""


class OpcUaDevice:
    """The nodes of one server.

    Args:
        config: Its table.
        rate_hz: Samples a second that the bundle expects; the table may say otherwise.

    Raises:
        ConfigError: A password or certificate cannot be used.
    """

    def __init__(self, config: OpcUaConfig, *, rate_hz: float) -> None:
        self._config, self._rate_hz = config, config.rate_hz or rate_hz
        self._login = Login(config)
        self._nodes = Nodes(config.url, ())
        self._malformed = self._uncertain = 0

    @property
    def malformed(self) -> int:
        """How many readings were no numbers."""
        return self._malformed + self._nodes.malformed

    @property
    def uncertain(self) -> int:
        """How many readings the server itself called uncertain; they are kept."""
        return self._uncertain + self._nodes.uncertain

    def check(self, channels: Sequence[str]) -> None:
        """Raise SourceError if a channel has no node."""
        if missing := [channel for channel in channels if channel not in self._config.names()]:
            raise SourceError(
                self._config.url,
                expected=f"a node for each channel of the bundle ({', '.join(channels)})",
                received=f"none for {', '.join(missing)}",
                action="Add [[pipeline.source.node]] with channel and node for it.",
            )

    def readings(self, channels: Sequence[str]) -> Readings:
        """Rows as they come.

        Raises:
            SourceError: The server does not answer as it should, or does not have a node.
        """
        wanted = {node.channel: node for node in self._config.nodes}
        self._malformed, self._uncertain = self.malformed, self.uncertain
        self._nodes = Nodes(self._config.url, [wanted[channel] for channel in channels])
        # One traceback after another about a network that is gone; what matters of it is told in one line.
        logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)
        loop = _Loop()
        client = Client(self._config.address, timeout=TIMEOUT_S, watchdog_intervall=TIMEOUT_S)
        client.session_timeout, client.secure_channel_timeout = int(SESSION_S * 1000), int(CHANNEL_S * 1000)
        try:
            yield from self._conversation(loop, client)
        except (asyncio.TimeoutError, OSError, ua.UaError) as error:
            raise self._lost(error) from error
        finally:
            _let_go(loop, client)

    def _conversation(self, loop: asyncio.AbstractEventLoop, client: Client) -> Readings:
        """The steps of a connection; between them the thread sees whether it is to stop."""
        nothing = Rows(np.empty((0, len(self._nodes))), np.empty(0))
        step: asyncio.Task[Any] = loop.create_task(self._connect(client))
        try:
            loop.run_until_complete(asyncio.wait({step}, timeout=CONNECT_S))
            if not step.done():
                raise asyncio.TimeoutError
            step.result()
            yield nothing
            rows = self._polled(client) if self._config.read == "poll" else self._told(client)
            while True:
                step = loop.create_task(_next(rows))
                while not step.done():
                    loop.run_until_complete(asyncio.wait({step}, timeout=TURN_S))
                    if not step.done():
                        yield nothing
                yield step.result()
        finally:
            step.cancel()

    async def _connect(self, client: Client) -> None:
        await self._login.show(client)
        await client.connect()
        await self._nodes.find(client)
        if self._login.password_in_clear(client):
            log.warning("the password was sent unencrypted, add [pipeline.source.security] source=%s", self._config.url)

    async def _polled(self, client: Client) -> AsyncGenerator[Rows, None]:
        """One row a period, of one request each; what is missed while the server is slow stays missing.

        A row has the time of its poll: the time that a server gives to a value is that of its last change.
        """
        request, period_s, clock = self._nodes.reading(), 1.0 / self._rate_hz, SampleClock(self._rate_hz)
        began_s, polls, passed = time.monotonic(), 0, 1
        while True:
            await asyncio.sleep(began_s + polls * period_s - time.monotonic())
            asked_s = time.monotonic()
            answer = await client.uaclient.read(request)
            halfway_s = (time.monotonic() - asked_s) / 2
            times = clock.times(passed, monotonic_s=asked_s + halfway_s, wall_s=time.time() - halfway_s)
            yield Rows(np.array([[self._nodes.number(i, value) for i, value in enumerate(answer)]]), times[-1:])
            passed = max(1, math.floor((time.monotonic() - began_s) / period_s) - polls)
            polls += passed

    async def _told(self, client: Client) -> AsyncGenerator[Rows, None]:
        """What the server publishes, held and sampled by its own clock."""
        told: asyncio.Queue[ua.PublishResult] = asyncio.Queue()
        silence_s, settle_s = await self._subscribe(client, told)
        hold = Hold(len(self._nodes), rate_hz=self._rate_hz, settle_s=settle_s)
        first = True
        while True:
            message = (await asyncio.wait_for(told.get(), silence_s)).NotificationMessage
            now_s = time.time()
            told_s = _unix_seconds(message.PublishTime, now_s)
            if first and abs(told_s - now_s) > OTHER_CLOCK_S:
                log.warning("the server's clock is another source=%s ahead_s=%.0f", self._config.url, told_s - now_s)
            first = False
            yield hold.push(self._changes(message), told_s=told_s, monotonic_s=time.monotonic())

    def _changes(self, message: ua.NotificationMessage) -> list[Change]:
        changes: list[Change] = []
        for notification in message.NotificationData or ():
            if isinstance(notification, ua.StatusChangeNotification):
                notification.Status.check()
                raise SourceError(self._config.url, expected="a subscription that goes on", received="its end")
            for item in getattr(notification, "MonitoredItems", None) or ():
                value, channel = item.Value, item.ClientHandle
                at_s = _unix_seconds(value.SourceTimestamp or value.ServerTimestamp, math.nan)
                changes.append((channel, at_s, self._nodes.number(channel, value)))
        return changes

    async def _subscribe(self, client: Client, told: asyncio.Queue[ua.PublishResult]) -> tuple[float, float]:
        """Have the server tell changes; how long it may be silent, and how long it may take to see a change."""
        period_ms = 1000.0 / self._rate_hz
        sampling_ms = period_ms if self._config.sampling_interval_ms is None else self._config.sampling_interval_ms
        publishing_ms = self._config.publishing_interval_ms or max(period_ms, LEAST_PUBLISHING_MS)
        granted = await client.uaclient.create_subscription(
            ua.CreateSubscriptionParameters(
                RequestedPublishingInterval=publishing_ms,
                RequestedLifetimeCount=max(3, math.ceil(SESSION_S * 1000 / publishing_ms)),
                RequestedMaxKeepAliveCount=1,  # a word in each interval, which says that nothing has changed
            ),
            told.put_nowait,
        )
        queue = self._config.queue_size or math.ceil(granted.RevisedPublishingInterval / max(sampling_ms, 1.0)) + 1
        wanted = [
            self._nodes.monitored(channel, sampling_ms=sampling_ms, queue_size=queue)
            for channel in range(len(self._nodes))
        ]
        items = await client.uaclient.create_monitored_items(
            ua.CreateMonitoredItemsParameters(granted.SubscriptionId, ua.TimestampsToReturn.Both, wanted)
        )
        for channel, item in enumerate(items):
            self._nodes.expect_monitored(channel, item.StatusCode)
        silence_s = 2 * granted.RevisedMaxKeepAliveCount * granted.RevisedPublishingInterval / 1000 + TIMEOUT_S
        return silence_s, max(0.0, *(item.RevisedSamplingInterval for item in items)) / 1000

    def _lost(self, error: Exception) -> SourceError:
        """What is wrong with a connection, in words of this configuration."""
        expected, received, action = "a connection", str(error) or type(error).__name__, ""
        security = self._config.security
        if isinstance(error, asyncio.TimeoutError):
            received = "no answer in time"
            if security is not None and security.server_cert_file is not None:
                action = "A server may also be silent where server_cert_file is not its certificate."
        elif isinstance(error, ua.UaStatusCodeError):
            name, meaning = ua.status_codes.get_name_and_doc(error.code)
            received = f"{name} ({meaning.rstrip('.')})"
            expected, action = REFUSALS.get(name, (expected, action))
        elif "No matching endpoints" in received:
            kind = f"policy {security.policy} and mode {security.mode}" if security else "no security"
            expected, received = f"an endpoint with {kind}", "none"
            action = "Correct [pipeline.source.security], or let the server offer it."
        return SourceError(self._config.url, expected=expected, received=received, action=action)


class _Loop(asyncio.SelectorEventLoop):
    """Asks for addresses in its own thread: one of an executor that hangs there would hold up the process's end."""

    def __init__(self) -> None:
        super().__init__()
        self.set_exception_handler(lambda _loop, context: log.debug("in the loop: %s", context))

    async def getaddrinfo(self, host: Any, port: Any, **how: Any) -> Any:
        return socket.getaddrinfo(host, port, **how)


async def _next(rows: AsyncGenerator[Rows, None]) -> Rows:
    return await anext(rows)


def _let_go(loop: asyncio.AbstractEventLoop, client: Client) -> None:
    """End a connection, politely for a moment, and then whatever is left of it."""
    protocol = client.uaclient.protocol
    leaving = loop.create_task(client.disconnect())
    loop.run_until_complete(asyncio.wait({leaving}, timeout=LEAVE_S))
    if protocol is not None and protocol.transport is not None:
        protocol.transport.abort()
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=LEAVE_S))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(asyncio.sleep(0))  # closed sockets are let go in the loop's next turn
    loop.close()


def _unix_seconds(at: datetime | None, otherwise: float) -> float:
    """Seconds since 1970; OPC UA counts from 1601, and says so where it has no time."""
    if at is None:
        return otherwise
    seconds = (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()
    return seconds if seconds > 0 else otherwise
