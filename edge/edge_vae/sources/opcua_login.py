"""What an OPC UA server is shown: a user with a password, and a certificate with which the channel is secured."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from asyncua import Client, ua
from asyncua.crypto import security_policies
from asyncua.crypto.uacrypto import CertProperties
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from edge_vae.broker_config import read_password
from edge_vae.errors import ConfigError, Problem
from edge_vae.opcua_config import OpcUaConfig, OpcUaSecurity

__all__ = ["Login"]

POLICIES: dict[str, type[security_policies.SecurityPolicy]] = {
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128_Sha256_RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256_Sha256_RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}
A_CERTIFICATE = "an X.509 certificate in PEM or DER"
A_KEY = "the RSA key of cert_file in PEM or DER, without a passphrase"

T = TypeVar("T")


class Login:
    """User and certificates of one configuration, read once.

    Raises:
        ConfigError: A password or certificate cannot be used.
    """

    def __init__(self, config: OpcUaConfig) -> None:
        self._username, self._password = config.username, read_password(config.password_file)
        self._secured = _Secured(config.security) if config.security else None

    async def show(self, client: Client) -> None:
        """Give all of it to a client that is not connected yet.

        Raises:
            UaError, OSError: The server's certificate had to be asked for, and it does not answer as it should.
        """
        client.name = "edge-vae"
        client.description = f"edge-vae at {socket.gethostname()}"
        client.application_uri = f"urn:{socket.gethostname()}:edge-vae"
        if self._username is not None:
            client.set_user(self._username)
        if self._password is not None:
            client.set_password(self._password)
        if self._secured is not None:
            await self._secured.show(client)

    def password_in_clear(self, client: Client) -> bool:
        """Whether the connected server was sent the password as it is: neither it nor the channel was encrypted."""
        encrypted = client.security_policy.Mode == ua.MessageSecurityMode.SignAndEncrypt
        policy = client.server_policy(ua.UserTokenType.UserName).SecurityPolicyUri
        none = security_policies.SecurityPolicyNone.URI
        return self._password is not None and not encrypted and policy in {None, "", none}


class _Secured:
    """The certificates of a secured channel."""

    def __init__(self, security: OpcUaSecurity) -> None:
        self._policy, self._mode = POLICIES[security.policy], ua.MessageSecurityMode[security.mode]
        certificate = _loaded(security.cert_file, "cert_file", A_CERTIFICATE, _certificate)
        key = _loaded(security.key_file, "key_file", A_KEY, _key)
        if key.public_key() != certificate.public_key():
            raise _wrong(security.key_file, "key_file", A_KEY, "another key")
        self._uri = _application_uri(certificate)
        if not self._uri:
            expected = "a certificate that names an application URI (subjectAltName = URI:urn:...)"
            raise _wrong(security.cert_file, "cert_file", expected, "one without")
        self._certificate = CertProperties(certificate.public_bytes(serialization.Encoding.DER), "der")
        plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        self._key = CertProperties(key.private_bytes(serialization.Encoding.DER, *plain), "der")
        self._server: CertProperties | None = None
        if security.server_cert_file is not None:
            server = _loaded(security.server_cert_file, "server_cert_file", A_CERTIFICATE, _certificate)
            self._server = CertProperties(server.public_bytes(serialization.Encoding.DER), "der")

    async def show(self, client: Client) -> None:
        # A server refuses a client that calls itself other than its certificate does (OPC UA Part 4, 6.1.3).
        client.application_uri = self._uri
        await client.set_security(
            self._policy, self._certificate, self._key, server_certificate=self._server, mode=self._mode
        )


def _application_uri(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    return next(iter(names.get_values_for_type(x509.UniformResourceIdentifier)), "")


def _certificate(data: bytes) -> x509.Certificate:
    pem = data.lstrip().startswith(b"-----")
    return x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)


def _key(data: bytes) -> RSAPrivateKey:
    pem = data.lstrip().startswith(b"-----")
    load = serialization.load_pem_private_key if pem else serialization.load_der_private_key
    key = load(data, password=None)
    if not isinstance(key, RSAPrivateKey):
        msg = f"a key of another kind, {type(key).__name__.lstrip('_')}"
        raise TypeError(msg)
    return key


def _loaded(file: Path, name: str, expected: str, load: Callable[[bytes], T]) -> T:
    try:
        return load(file.read_bytes())
    except (OSError, TypeError, ValueError) as error:
        # cryptography's own words are about ASN.1, over several lines.
        received = "one with a passphrase" if "encrypted" in str(error) else str(error).split(". ")[0].splitlines()[0]
        raise _wrong(file, name, expected, received) from error


def _wrong(file: Path, key: str, expected: str, received: str) -> ConfigError:
    return ConfigError(str(file), [Problem(1, key, f"expected {expected}, received {received}")])
