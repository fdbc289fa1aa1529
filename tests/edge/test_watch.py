from __future__ import annotations

import json
import os
import pty
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.publish import multiple

from broker import DEADLINE_S, Mosquitto, free_port, wait_until
from edge_vae.board import Board
from edge_vae.errors import BrokerError
from edge_vae.publish.mqtt import MqttSettings
from edge_vae.watch import snapshot

pytestmark = pytest.mark.broker

NODE = "edge-vae/plant-1/gateway-1"
SINCE = "2026-03-01T12:00:00.000000Z"
WATCH = """
import sys
from edge_vae.publish.mqtt import MqttSettings
from edge_vae.watch import watch
settings = MqttSettings(host=sys.argv[1], port=int(sys.argv[2]), client_id="watch")
watch(settings, base_topic="edge-vae", out=sys.stdout)
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as running:
        yield running


def settings(broker: Mosquitto, **more: Any) -> MqttSettings:
    return MqttSettings(host=broker.host, port=broker.port, client_id="watch", **more)


def publish(broker: Mosquitto, messages: dict[str, Any]) -> None:
    """Hand the broker retained messages; returns when it has them."""
    retained = [{"topic": topic, "payload": json.dumps(it), "qos": 1, "retain": True} for topic, it in messages.items()]
    multiple(retained, hostname=broker.host, port=broker.port)


def publish_states(broker: Mosquitto, state: str, *assets: str) -> None:
    message = {"state": state, "since": SINCE, "score": 1, "threshold": 5}
    publish(broker, {f"{NODE}/{asset}/state": message for asset in assets})


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """The port of a server that says the same to everybody."""

    class Talker(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(answer)

    with socketserver.TCPServer(("127.0.0.1", 0), Talker) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def states(board: Board) -> dict[str, str]:
    return {row.asset: row.state for row in board.rows}


# once


@pytest.mark.parametrize("protocol", [5, 311])
def test_snapshot_is_what_the_broker_has_retained(broker: Mosquitto, protocol: Any) -> None:
    publish(broker, {f"{NODE}/status": {"state": "online", "pipelines": ["pump-3", "fan-1"]}})
    publish_states(broker, "alarm", "pump-3")
    assert states(snapshot(settings(broker, protocol=protocol), base_topic="edge-vae")) == {
        "pump-3": "alarm",
        "fan-1": "unknown",
    }


def test_snapshot_is_whole_when_there_is_more_than_fits_in_flight(broker: Mosquitto) -> None:
    names = [f"asset-{number:03}" for number in range(300)]
    publish_states(broker, "normal", *names)
    assert list(states(snapshot(settings(broker), base_topic="edge-vae"))) == names


def test_snapshot_of_a_quiet_broker_is_empty(broker: Mosquitto) -> None:
    assert snapshot(settings(broker), base_topic="edge-vae").rows == []


def test_snapshot_without_a_broker_says_where_none_was() -> None:
    port = free_port()
    with pytest.raises(
        BrokerError, match=rf"broker 127\.0\.0\.1:{port}: expected an MQTT broker .* refused.* Check host"
    ):
        snapshot(MqttSettings(host="127.0.0.1", port=port, client_id="watch"), base_topic="edge-vae")


def test_snapshot_of_a_broker_that_hangs_ends(broker: Mosquitto) -> None:
    broker.freeze()
    try:
        with pytest.raises(BrokerError, match=r"no answer within 0\.3 s"):
            snapshot(settings(broker), base_topic="edge-vae", timeout_s=0.3)
    finally:
        broker.thaw()


def test_something_else_behind_the_port_is_no_broker() -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        stranger = MqttSettings(host="127.0.0.1", port=port, client_id="watch")
        with pytest.raises(BrokerError, match="expected an MQTT broker that answers"):
            snapshot(stranger, base_topic="edge-vae")


def test_refused_login_says_what_to_check(tmp_path: Path) -> None:
    (tmp_path / "passwords").write_text("")
    with Mosquitto(tmp_path, extra=f"allow_anonymous false\npassword_file {tmp_path / 'passwords'}") as broker:
        who = settings(broker, username="somebody", password="wrong")
        with pytest.raises(BrokerError, match=r"received Not authorized\. Check username"):
            snapshot(who, base_topic="edge-vae")


def test_refused_subscription_says_what_to_check(tmp_path: Path) -> None:
    # Plain access lists of mosquitto grant every subscription and then send nothing; its plugin refuses.
    (plugin,) = Path("/usr/lib").glob("*/mosquitto_dynamic_security.so")
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"defaultACLAccess": {"subscribe": False}}))
    extra = f"plugin {plugin}\nplugin_opt_config_file {rules}"
    denied = r"expected leave to subscribe to edge-vae/#, received Not authorized\. Check"
    with Mosquitto(tmp_path, extra=extra) as broker, pytest.raises(BrokerError, match=denied):
        snapshot(settings(broker), base_topic="edge-vae")


# following


class Watching:
    """`watch` in a process of its own, and what it has written."""

    def __init__(self, broker: Mosquitto, *, terminal: bool) -> None:
        source, sink = pty.openpty() if terminal else os.pipe()
        command = [sys.executable, "-c", WATCH, broker.host, str(broker.port)]
        environment = os.environ | {"COLUMNS": "100", "LINES": "8"}
        self.process = subprocess.Popen(command, stdout=sink, stderr=subprocess.PIPE, env=environment)
        os.close(sink)
        self._source, self._written = source, b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        return self._written.decode(errors="replace")

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.text or self.process.poll() is not None, f"{text!r} is shown")
        assert text in self.text, (self.text, self.process.stderr.read())

    def interrupt(self) -> tuple[int, bytes]:
        """Exit status and standard error after Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, errors

    def close(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=DEADLINE_S)
        self._reader.join(DEADLINE_S)
        os.close(self._source)

    def _read(self) -> None:
        try:
            while piece := os.read(self._source, 4096):
                self._written += piece
        except OSError:
            return  # the other end of a terminal is gone


@contextmanager
def watching(broker: Mosquitto, *, terminal: bool = False) -> Iterator[Watching]:
    process = Watching(broker, terminal=terminal)
    try:
        yield process
    finally:
        process.close()


def test_every_change_is_a_line_where_there_is_no_terminal(broker: Mosquitto) -> None:
    publish_states(broker, "normal", "pump-3")
    with watching(broker) as process:
        process.wait_for("pump-3 normal")
        publish_states(broker, "alarm", "pump-3")
        process.wait_for("pump-3 alarm")
        assert process.text.splitlines() == [
            "plant-1/gateway-1/pump-3 normal, score 1 of 5, since 2026-03-01 12:00:00Z",
            "plant-1/gateway-1/pump-3 alarm, score 1 of 5, since 2026-03-01 12:00:00Z",
        ]


def test_ctrl_c_ends_quietly(broker: Mosquitto) -> None:
    publish_states(broker, "normal", "pump-3")
    with watching(broker) as process:
        process.wait_for("pump-3")
        assert process.interrupt() == (0, b"")


def test_lost_broker_is_told_and_found_again(broker: Mosquitto) -> None:
    publish_states(broker, "normal", "pump-3")
    with watching(broker) as process:
        process.wait_for("pump-3 normal")
        broker.kill()
        process.wait_for(f"no connection to {broker.host}:{broker.port} (")
        broker.start()
        publish_states(broker, "fault", "pump-3")
        process.wait_for("pump-3 fault")


def test_terminal_shows_a_table_that_is_drawn_over_itself(broker: Mosquitto) -> None:
    publish_states(broker, "normal", "pump-3")
    with watching(broker, terminal=True) as process:
        process.wait_for("1 asset, 0 in alarm")
        publish_states(broker, "alarm", "pump-3")
        process.wait_for("1 asset, 1 in alarm")
        latest = process.text.rsplit("\x1b[H", 1)[1]
        assert "SITE     NODE" in latest
        assert "\x1b[31mplant-1  gateway-1  pump-3  alarm" in latest


def test_table_longer_than_the_terminal_says_how_much_is_left_out(broker: Mosquitto) -> None:
    publish_states(broker, "normal", *(f"pump-{number}" for number in range(9)))
    with watching(broker, terminal=True) as process:
        process.wait_for("9 assets, 0 in alarm")
        latest = process.text.rsplit("\x1b[H", 1)[1]
        assert latest.count("\n") == 7
        assert "pump-3" in latest
        assert "... 5 more" in latest
