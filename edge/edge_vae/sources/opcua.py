"""Samples of an OPC UA server, read all at once at an even rate, or told by it when they change.

A session belongs to its connection: when that is lost, everything is made anew. The library works in an event loop that
belongs to the one thread which reads the device, and turns only while that thread waits for samples.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

import numpy as np

from edge_vae.errors import MissingExtraError, SourceError
from edge_vae.opcua_config import OpcUaConfig
from edge_vae.sources.decode import Rows
from edge_vae.sources.fed import TURN_S, Readings
from edge_vae.sources.poll_clock import PollClock

try:
    from asyncua import Client, ua

    from edge_vae.sources.opcua_login import Login
    from edge_vae.sources.opcua_nodes import Nodes
    from edge_vae.sources.opcua_subscription import told
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
SLOW = "polls take longer than the rate allows, some are left out: source=%s rate_hz=%g poll_s=%.3g"
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
        self.skipped = 0
        """Polls that were left out because the one before took too long."""

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
        """The steps of a connection; in the turns between them the thread sees whether it is to stop."""
        step: asyncio.Task[Any] = loop.create_task(self._connect(client))
        try:
            began_s = time.monotonic()
            for _ in _turns(loop, step):
                if time.monotonic() - began_s > CONNECT_S:
                    raise asyncio.TimeoutError
                yield None
            step.result()
            nothing = Rows(np.empty((0, len(self._nodes))), np.empty(0))
            yield nothing
            rows = self._polled(client)
            if self._config.read == "subscribe":
                rows = told(client, self._nodes, self._config, rate_hz=self._rate_hz, timeout_s=TIMEOUT_S)
            while True:
                step = loop.create_task(_next(rows))
                for _ in _turns(loop, step):
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

        A row has the time at which its poll began: what a server gives to a value is the time of its last change.
        """
        request, clock, slow = self._nodes.reading(), PollClock(1.0 / self._rate_hz, time.monotonic()), False
        while True:
            await asyncio.sleep(clock.next_s - time.monotonic())
            began_s, at_s, skipped = time.monotonic(), time.time(), clock.skipped
            answer = await client.uaclient.read(request)
            clock.polled(began_s, time.monotonic())
            self.skipped += clock.skipped - skipped
            if not slow and clock.usual_s * self._rate_hz > 1.0:
                slow = True
                log.warning(SLOW, self._config.url, self._rate_hz, clock.usual_s)
            readings = [self._nodes.number(channel, value) for channel, value in enumerate(answer)]
            doubts = [self._nodes.doubts(value) for value in answer]
            yield Rows(np.array([readings]), np.array([at_s]), np.array([doubts]) if any(doubts) else None)

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


def _turns(loop: asyncio.AbstractEventLoop, step: asyncio.Task[Any]) -> Iterator[None]:
    """Turn the loop until a step is done, and give the thread a moment every `TURN_S`."""
    while not step.done():
        loop.run_until_complete(asyncio.wait({step}, timeout=TURN_S))
        if not step.done():
            yield


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
