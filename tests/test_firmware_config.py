"""Every file of firmware_config is parsed or started by the program it is for."""

from __future__ import annotations

import errno
import os
import pwd
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

import test_service_files
from broker import ADDRESS, DEADLINE_S, Mosquitto, Subscriber, free_port, program, wait_until
from edge_vae import broker_config, config, source_config
from edge_vae.event import Channel, encode, notice
from edge_vae.stamp import Stamp
from edge_vae.topics import Topics

FOLDER = Path(__file__).parents[1] / "firmware_config"
AGENT_TOML = FOLDER / "edge-vae" / "agent.toml"
BROKER_CONF = FOLDER / "mosquitto" / "edge-vae.conf"
DURABLE = FOLDER / "subscribers" / "durable.sh"
SCADA = FOLDER / "subscribers" / "scada.py"
FILES = {AGENT_TOML, BROKER_CONF, DURABLE, SCADA}
CERTIFICATES = Path(__file__).parent / "edge" / "tls"
EVENT_TOPIC = Topics("edge-vae", "plant-1", "gateway-1").event("pump-3")


def test_every_file_is_tested_here_or_as_a_part_of_the_service() -> None:
    files = {path for path in FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in files if path.parent.name not in test_service_files.CHECKS} == FILES


# agent.toml


def test_example_configuration_loads() -> None:
    loaded = config.read_config(AGENT_TOML)
    assert loaded.node.site == "plant-1"
    assert [type(pipeline.source) for pipeline in loaded.pipelines] == [source_config.MqttSourceConfig]


def test_every_setting_that_is_commented_out_can_be_uncommented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mqtt.pass").write_text("secret\n")
    for name in ("ca.pem", "opcua.pass", "opcua.pem", "opcua.key", "plc.der"):
        (tmp_path / name).write_text("a certificate or password\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    uncommented = tmp_path / "agent.toml"
    uncommented.write_text(re.sub(r"^#(?=\S)", "", AGENT_TOML.read_text(), flags=re.MULTILINE))
    loaded = config.read_config(uncommented)
    assert [type(pipeline.source) for pipeline in loaded.pipelines] == [
        source_config.MqttSourceConfig,
        source_config.OpcUaConfig,
        source_config.ReplayConfig,
        source_config.ModbusConfig,
        source_config.SerialConfig,
        source_config.IioConfig,
    ]
    assert broker_config.read_password(loaded.mqtt.password_file) == "secret"


def test_what_the_example_shows_are_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = config.read_config(AGENT_TOML)
    assert loaded.outbox == config.OutboxConfig()
    assert loaded.feedback == config.FeedbackConfig()
    assert loaded.mqtt == broker_config.MqttConfig()
    shown = dict(re.findall(r"^#(\w+) = (\S+)", AGENT_TOML.read_text(), flags=re.MULTILINE))
    assert shown["base_topic"].strip('"') == loaded.mqtt.base_topic
    assert int(shown["protocol"]) == loaded.mqtt.protocol


# mosquitto


@dataclass
class Installed:
    """A broker set up as Debian does it, with our file in conf.d; only ports and places are the test's own."""

    folder: Path
    changes: dict[str, str] = field(default_factory=dict)
    host: str = ADDRESS
    port: int = field(default_factory=free_port)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Until the end of the block, where it gets a SIGTERM."""
        command = [program("mosquitto", package="mosquitto"), "-c", str(self._configuration())]
        with (self.folder / "log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                wait_until(lambda: self._accepts(process), "the broker accepts connections")
                yield
            finally:
                wait_until(lambda: self._ends(process), "the broker ends")

    @staticmethod
    def _ends(process: subprocess.Popen[bytes]) -> bool:
        """Whether it has ended, told to once more: it forgets a SIGTERM that comes right before its loop begins."""
        process.terminate()
        return process.poll() is not None

    def _configuration(self) -> Path:
        ours, main = self.folder / "conf.d" / BROKER_CONF.name, self.folder / "mosquitto.conf"
        ours.parent.mkdir(exist_ok=True)
        text = BROKER_CONF.read_text()
        for old, new in {"listener 1883": f"listener {self.port}", **self.changes}.items():
            assert old in text
            text = text.replace(old, new)
        ours.write_text(text)
        user = f"user {pwd.getpwuid(os.getuid()).pw_name}" if os.getuid() == 0 else ""
        debian = ["persistence true", f"persistence_location {self.folder}/", "log_dest stderr", user]
        main.write_text("\n".join([*debian, f"include_dir {ours.parent}", ""]))
        return main

    def _accepts(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, (self.folder / "log").read_text()
        try:
            socket.create_connection((self.host, self.port), timeout=1).close()
        except OSError:
            return False
        return True


def where(broker: Installed | Mosquitto) -> list[str]:
    return ["-h", broker.host, "-p", str(broker.port)]


def client(name: str, *words: str) -> bytes:
    """What mosquitto_sub or mosquitto_pub prints."""
    command = [program(name, package="mosquitto-clients"), *words]
    return subprocess.run(command, check=True, timeout=DEADLINE_S, stdout=subprocess.PIPE).stdout


def publish(broker: Installed | Mosquitto, topic: str, payload: bytes, *options: str) -> None:
    client("mosquitto_pub", *where(broker), "-q", "1", "-t", topic, "-m", payload.decode(), *options)


def event(kind: str, event_id: str) -> bytes:
    stamp = Stamp(
        event_id=event_id, time="2026-03-01T00:00:00.000000Z", time_quality="synchronised", boot_id="b", monotonic_ns=5
    )
    plain = notice("store_reset", asset="pump-3", seq=1, dropped=None, stamp=stamp)
    channels = tuple(
        Channel(name=name, share=None, value=None, expected=None, quality="good") for name in ("Current", "Pressure")
    )
    return encode(msgspec.structs.replace(plain, event=kind, channels=channels))


RAISED = event("raised", "01ARZ3NDEKTSV4RRFFQ69G5FAV")
CLEARED = event("cleared", "01BX5ZZKBKACTAV9WEVGEMMVRZ")


@pytest.mark.broker
def test_broker_keeps_states_through_a_restart(tmp_path: Path) -> None:
    broker = Installed(tmp_path)
    with broker.running():
        publish(broker, "edge-vae/plant-1/gateway-1/pump-3/state", b"kept", "-r")
    with broker.running(), Subscriber(broker, "edge-vae/#") as subscriber:
        assert [message.payload for message in subscriber.wait_for_count(1)] == [b"kept"]


@pytest.mark.broker
def test_broker_cannot_be_reached_from_the_network(tmp_path: Path) -> None:
    broker = Installed(tmp_path)
    with broker.running(), socket.socket() as elsewhere:
        # All of 127/8 is this machine; the listener is bound to one address of it.
        assert elsewhere.connect_ex(("127.0.0.2", broker.port)) == errno.ECONNREFUSED


@pytest.mark.broker
def test_network_listener_wants_certificate_and_user(tmp_path: Path) -> None:
    passwords = tmp_path / "passwd"
    subprocess.run(
        [program("mosquitto_passwd", package="mosquitto"), "-b", "-c", str(passwords), "scada", "secret"],
        check=True, timeout=DEADLINE_S, capture_output=True,
    )  # fmt: skip
    tls_port = free_port()
    changes = {
        "#listener 8883": f"listener {tls_port} {ADDRESS}",
        "#per_listener_settings": "per_listener_settings",
        "#certfile /etc/mosquitto/certs/server.pem": f"certfile {CERTIFICATES / 'server.pem'}",
        "#keyfile /etc/mosquitto/certs/server.key": f"keyfile {CERTIFICATES / 'server.key'}",
        "#password_file /etc/mosquitto/passwd": f"password_file {passwords}",
    }
    secure = ["-h", ADDRESS, "-p", str(tls_port), "--cafile", str(CERTIFICATES / "ca.pem"), "-t", "x", "-E"]
    broker = Installed(tmp_path, changes)
    with broker.running():
        client("mosquitto_sub", *secure, "-u", "scada", "-P", "secret")
        with pytest.raises(subprocess.CalledProcessError):
            client("mosquitto_sub", *secure)
        client("mosquitto_sub", *where(broker), "-t", "x", "-E")


# subscribers


@pytest.mark.broker
def test_durable_subscriber_gets_what_came_while_it_and_the_broker_were_away(tmp_path: Path) -> None:
    broker = Installed(tmp_path)

    def durable(*words: str) -> str:
        command = [str(DURABLE), *where(broker), *words]
        return subprocess.run(command, check=True, timeout=DEADLINE_S, capture_output=True, text=True).stdout

    with broker.running():
        durable("-E")
        publish(broker, EVENT_TOPIC, RAISED)
    with broker.running():
        assert durable("-C", "1") == f"{EVENT_TOPIC} {RAISED.decode()}\n"


@pytest.mark.broker
def test_scada_prints_an_event_that_comes_twice_once(tmp_path: Path) -> None:
    printed, errors = tmp_path / "printed", tmp_path / "errors"
    with Mosquitto(tmp_path) as broker, printed.open("wb") as out, errors.open("wb") as err:
        command = [sys.executable, str(SCADA), broker.host, str(broker.port)]
        with subprocess.Popen(command, stdout=out, stderr=err) as scada:
            try:
                wait_until(lambda: b"Sending SUBACK to scada" in broker.log.read_bytes(), "the program has subscribed")
                for payload in (RAISED, RAISED, b"not json", b"{}", CLEARED):
                    publish(broker, EVENT_TOPIC, payload)
                wait_until(lambda: "cleared" in printed.read_text(), "the last event is printed")
            finally:
                scada.terminate()
    assert printed.read_text().splitlines() == [
        "2026-03-01T00:00:00.000000Z pump-3 raised warning Current, Pressure",
        "2026-03-01T00:00:00.000000Z pump-3 cleared warning Current, Pressure",
    ]
    assert errors.read_text().count("not an event") == 2
