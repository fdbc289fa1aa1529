"""A broker for the demo alone: mosquitto where it is installed, else the pip-installable amqtt."""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edge_vae.broker_config import MqttConfig
from edge_vae.errors import BrokerError, EdgeVaeError
from edge_vae_converters.demo.child import child, last_words

__all__ = ["Amqtt", "Mosquitto", "RunningBroker", "broker", "check_port", "installed"]

HOST = "127.0.0.1"
START_S = 20.0
"""Far more than a broker takes to listen; amqtt imports for about a second."""
PAUSE_S = 0.02
SBIN = "/usr/sbin:/usr/local/sbin"
"""Where Debian puts mosquitto, which is not on every user's PATH."""


@dataclass(frozen=True, slots=True)
class Mosquitto:
    """Eclipse mosquitto, by the path of its program."""

    program: str
    name = "mosquitto"
    protocol: ClassVar[Literal[5, 311]] = 5

    def command(self, folder: Path, port: int) -> list[str]:
        """What to start, after its configuration was written to the folder."""
        lines = [f"listener {port} {HOST}", "allow_anonymous true", "persistence false", "log_dest stderr"]
        if os.getuid() == 0:  # root's mosquitto changes to another user, who may not exist here
            lines.append(f"user {pwd.getpwuid(0).pw_name}")
        file = folder / "mosquitto.conf"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [self.program, "-c", str(file)]


@dataclass(frozen=True, slots=True)
class Amqtt:
    """amqtt, a broker in Python, in a process of its own."""

    name = "amqtt"
    protocol: ClassVar[Literal[5, 311]] = 311
    """It does not speak MQTT 5."""

    def command(self, folder: Path, port: int) -> list[str]:
        """What to start, after its configuration was written to the folder."""
        anybody = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        config = {"listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}"}}, "plugins": anybody}
        file = folder / "amqtt.yaml"
        file.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")  # JSON is YAML
        return [sys.executable, "-m", "amqtt.scripts.broker_script", "-c", str(file)]


@dataclass(frozen=True, slots=True)
class RunningBroker:
    """A broker that accepts connections: its name, and how an agent reaches it."""

    name: str
    mqtt: MqttConfig


def installed() -> Mosquitto | Amqtt:
    """The broker to start on this machine.

    Raises:
        EdgeVaeError: There is none.
    """
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path=SBIN)
    if program is not None:
        return Mosquitto(program)
    if importlib.util.find_spec("amqtt") is not None:
        return Amqtt()
    raise EdgeVaeError(
        "edge-vae demo",
        expected="an MQTT broker to start, mosquitto or amqtt",
        received="neither installed",
        action="Install one of them: sudo apt-get install mosquitto, or pip install 'edge-vae[demo]'",
    )


def check_port(port: int) -> None:
    """Raise BrokerError when a broker cannot listen on this loopback port."""
    try:
        _bind(port)
    except OSError as error:
        what = f"port {port}"
        raise BrokerError(
            what,
            expected="a port of this machine that is free for the demo's broker",
            received="one that cannot be had: " + (error.strerror or str(error)).lower(),
            action="Choose another one with --port, or leave --port away and a free one is taken.",
        ) from error


@contextmanager
def broker(kind: Mosquitto | Amqtt, folder: Path, *, port: int | None = None) -> Iterator[RunningBroker]:
    """A broker that listens on a loopback port, and has ended when the context is left.

    Args:
        kind: Which one.
        folder: For its configuration and its log.
        port: To listen on; by default one that is free.

    Raises:
        BrokerError: The port is taken, or the broker does not start.
    """
    if port is not None:
        check_port(port)
    port = _bind(0) if port is None else port
    log = folder / "broker.log"
    with child(kind.command(folder, port), log) as process:
        _wait_until_open(kind.name, port, process, log)
        yield RunningBroker(kind.name, MqttConfig(host=HOST, port=port, protocol=kind.protocol))


def _bind(port: int) -> int:
    """The port that a listener gets which asks for this one."""
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as brokers do: connections that were closed do not count
        probe.bind((HOST, port))
        got: int = probe.getsockname()[1]
        return got


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _wait_until_open(name: str, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        if _accepts(port):
            return
        time.sleep(PAUSE_S)
    status = process.poll()
    received = "no answer" if status is None else f"its end with status {status}: {last_words(log)}"
    what = f"{name} on port {port}"
    raise BrokerError(
        what,
        expected=f"a broker that listens within {START_S:g} s",
        received=received,
        action=f"See {log}.",
    )
