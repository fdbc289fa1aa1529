"""A real OPC UA server in a thread of this process, and a network in front of it that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from asyncua import Server, ua
from asyncua.common.callback import CallbackType
from asyncua.crypto import cert_gen
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.crypto.uacrypto import pem_from_key
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from broker import ADDRESS, DEADLINE_S, free_port

__all__ = ["NAMESPACE", "PASSWORD", "USER", "Network", "OpcUaServer", "make_certificate"]

NAMESPACE = "urn:edge-vae:test-rig"
INDEX = 2
BUILD_S = 10 * DEADLINE_S
"""The thousands of standard nodes take a second and a half of a core, which a busy machine does not have at once."""
USER, PASSWORD = "reader", "s3cret"


class OpcUaServer:
    """A server on a loopback port of its own with the nodes of a pump; users are anonymous, or `reader` with `s3cret`.

    Args:
        certificate: Its certificate and key; without, it offers no security.
        anonymous: Whether it lets in who does not log in.
    """

    def __init__(self, *, certificate: tuple[Path, Path] | None = None, anonymous: bool = True) -> None:
        self.port = free_port()
        self.url = f"opc.tcp://{ADDRESS}:{self.port}"
        self._certificate, self._anonymous = certificate, anonymous
        self.trusted = True
        """Whether it takes the certificate of a client."""
        self.on_read: Any = None
        """Called before each Read of the pump's nodes, with whether it is the first one of a session."""
        self._fresh = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="opcua server", daemon=True)

    def __enter__(self) -> OpcUaServer:  # noqa: PYI034 (typing.Self is not in Python 3.10)
        self._thread.start()
        self.do(self._init(), within_s=BUILD_S)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)
        self._loop.close()

    def do(self, work: Coroutine[Any, Any, Any], *, within_s: float = DEADLINE_S) -> Any:
        """Run this in the server's thread."""
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(within_s)

    def start(self) -> None:
        """Listen, on the same port as before."""
        self.do(self._server.start())

    def stop(self) -> None:
        """Close all connections and forget all sessions."""
        self.do(self._server.stop())

    def write(self, name: str, value: Any, *, status: int = ua.StatusCodes.Good, source: float | None = None) -> None:
        """Give a node of the pump a value, with a status and the time of its source."""
        at = datetime.now(timezone.utc) if source is None else datetime.fromtimestamp(source, timezone.utc)
        self.do(self._nodes[name].write_value(ua.DataValue(value, ua.StatusCode(status), at)))

    def serve(self, name: str, value: ua.DataValue) -> None:
        """Let whoever reads a node get this, whatever type it has."""
        node = self._nodes[name].nodeid
        self._server.iserver.aspace.set_attribute_value_callback(node, ua.AttributeIds.Value, lambda *_: value)

    def sessions(self) -> int:
        """How many clients are there."""
        return len(self._server.bserver.clients)

    async def _init(self) -> None:
        self._server = Server(user_manager=self)
        self._server.set_endpoint(self.url)
        self._server.disable_clock()
        await self._server.init()
        if self._certificate is None:
            self._server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        else:
            await self._server.load_certificate(self._certificate[0])
            await self._server.load_private_key(self._certificate[1])
            self._server.set_certificate_validator(self._validate)
        assert await self._server.register_namespace(NAMESPACE) == INDEX
        pump = await self._server.nodes.objects.add_object(ua.NodeId("Pump", INDEX), f"{INDEX}:Pump")
        values = {
            "Pressure": ua.Variant(0.5, ua.VariantType.Double),
            "Current": ua.Variant(1.25, ua.VariantType.Float),
            "Speed": ua.Variant(1480, ua.VariantType.UInt16),
            "Level": ua.Variant(3.0, ua.VariantType.Double),
            "Running": ua.Variant(True, ua.VariantType.Boolean),
            "Name": ua.Variant("P-3", ua.VariantType.String),
            "Spectrum": ua.Variant([1.0, 2.0], ua.VariantType.Double),
            "Secret": ua.Variant(1.0, ua.VariantType.Double),
        }
        self._nodes = {
            name: await pump.add_variable(ua.NodeId(f"Pump.{name}", INDEX), f"{INDEX}:{name}", value)
            for name, value in values.items()
        }
        self.serve("Secret", ua.DataValue(StatusCode=ua.StatusCode(ua.StatusCodes.BadUserAccessDenied)))
        self._server.subscribe_server_callback(CallbackType.PreRead, self._before_read)

    async def _end(self) -> None:
        """End what the server does not: sessions of clients that never said goodbye."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._loop.shutdown_default_executor()

    def get_user(
        self, server: Any, username: str | None = None, password: str | None = None, certificate: Any = None
    ) -> User | None:
        """Let a user in; the server asks this at the beginning of each session."""
        self._fresh = True
        known = username == USER and password == PASSWORD if username else self._anonymous
        return User(role=UserRole.User) if known else None

    async def _validate(self, certificate: Any, application: Any) -> None:
        if not self.trusted:
            raise ua.uaerrors.BadCertificateUntrusted

    def _before_read(self, event: Any, _dispatcher: Any) -> None:
        wanted = event.request_params.NodesToRead
        if self.on_read is not None and event.is_external and wanted[0].NodeId.NamespaceIndex == INDEX:
            first, self._fresh = self._fresh, False
            self.on_read(first)


class Network:
    """What lies between a client and a server on this machine; it can stand still without anybody being told.

    Args:
        port: Port of the server.
    """

    def __init__(self, port: int) -> None:
        self._server = port
        self._flowing = threading.Event()
        self._flowing.set()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Network:  # noqa: PYI034 (typing.Self is not in Python 3.10)
        self._listener = socket.create_server((ADDRESS, 0))
        self.port = self._listener.getsockname()[1]
        self._begin(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flowing.set()
        for end in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in self._threads:
            thread.join(DEADLINE_S)

    def freeze(self) -> None:
        """Let nothing pass any more; both ends believe that they are connected."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Let everything pass again."""
        self._flowing.set()

    def _begin(self, work: Any, *words: Any) -> None:
        thread = threading.Thread(target=work, args=words, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection((ADDRESS, self._server))
            except OSError:
                return
            self._sockets += [client, server]
            self._begin(self._pass, client, server)
            self._begin(self._pass, server, client)

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                self._flowing.wait()
                other.sendall(data)
            self._flowing.wait()
            other.shutdown(socket.SHUT_WR)


def make_certificate(
    folder: Path, name: str, *, uri: str | None = None, key: RSAPrivateKey | None = None
) -> RSAPrivateKey:
    """A certificate `<name>.pem` of an application that calls itself so, and its key `<name>.key.pem`."""
    key = key or cert_gen.generate_private_key()
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    names += [x509.UniformResourceIdentifier(uri)] if uri else []
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    certificate = cert_gen.generate_self_signed_app_certificate(key, name, {}, names, uses)
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / f"{name}.key.pem").write_bytes(pem_from_key(key))
    return key
