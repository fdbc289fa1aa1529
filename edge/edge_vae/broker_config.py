"""The tables that say how to reach a broker: for the agent's own messages, and for sources that subscribe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from edge_vae.errors import ConfigError, Problem
from edge_vae.toml_table import CREDENTIAL, Mistake, Table
from edge_vae.topics import topic_level

__all__ = [
    "Credential",
    "Host",
    "MqttConfig",
    "Name",
    "Port",
    "TlsConfig",
    "lonely_password",
    "no_level",
    "read_password",
]

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 1883
DEFAULT_BASE_TOPIC = "edge-vae"
DEFAULT_KEEPALIVE_S = 30

# (?![\s\S]) is the end of the text in every dialect of regular expressions; $ also matches before a last newline.
Name = Annotated[
    str, Meta(pattern=r"^[^/+#\s$][^/+#\s]*(?![\s\S])", extra={"expected": "a name without / + # $ and blanks"})
]
Port = Annotated[int, Meta(ge=1, le=65535)]
Host = Annotated[str, Meta(min_length=1, extra={"expected": "a host name or address"})]
Credential = Annotated[Path, CREDENTIAL]


class TlsConfig(Table, frozen=True, kw_only=True):
    """TLS to a broker: the system's authorities or our own, and a certificate where the broker asks for one."""

    ca_file: Credential | None = None
    cert_file: Credential | None = None
    key_file: Credential | None = None

    def mistakes(self) -> Iterator[Mistake]:
        """A certificate is of use only with its key."""
        if (self.cert_file is None) != (self.key_file is None):
            given, missing = ("cert_file", "key_file") if self.key_file is None else ("key_file", "cert_file")
            yield (missing,), f"expected a {missing} beside {given}, received nothing"


class MqttConfig(Table, frozen=True, kw_only=True):
    """A broker, and how to reach it."""

    host: Host = DEFAULT_HOST
    port: Port = DEFAULT_PORT
    base_topic: Name = DEFAULT_BASE_TOPIC
    protocol: Literal[5, 311] = 5
    username: str | None = None
    password_file: Credential | None = None
    tls: TlsConfig | None = None
    keepalive_s: Annotated[int, Meta(ge=5, le=3600)] = DEFAULT_KEEPALIVE_S

    def mistakes(self) -> Iterator[Mistake]:
        """The base is the first level of every topic, and a password belongs to a user."""
        yield from no_level("base_topic", self.base_topic)
        yield from lonely_password(self.username, self.password_file)


def read_password(file: Path | None) -> str | None:
    """The password in a password file, without its last newline; None where no file is named.

    Raises:
        ConfigError: The file cannot be read, is no text, or is empty.
    """
    if file is None:
        return None
    try:
        password = file.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise _bad_password(file, f"received: {error}") from error
    if not password:
        raise _bad_password(file, "received an empty file")
    return password


def no_level(key: str, name: str) -> Iterator[Mistake]:
    """That a name cannot stand as one level of a topic, if so."""
    try:
        topic_level(name, what="a name")
    except ValueError as error:
        yield (key,), str(error)


def lonely_password(username: str | None, password_file: Path | None) -> Iterator[Mistake]:
    """A password belongs to a user."""
    if password_file is not None and username is None:
        yield ("username",), "expected a username beside password_file, received nothing"


def _bad_password(file: Path, received: str) -> ConfigError:
    return ConfigError(str(file), [Problem(1, "password_file", f"expected one line of UTF-8 text, {received}")])
