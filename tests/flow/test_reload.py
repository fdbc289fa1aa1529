"""A running agent whose configuration changes: pipelines are swapped, or all stays as it is."""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from agent_process import EVERY_WINDOW, AgentProcess, events, pipeline, statuses, write_config
from broker import ADDRESS, DEADLINE_S, Mosquitto, Subscriber, free_port, program, wait_until
from plain_bundle import write_plain_bundle

pytestmark = pytest.mark.broker

NODE = "edge-vae/plant-1/gateway-1"


@contextmanager
def sensor(broker: Mosquitto, asset: str) -> Iterator[list[int]]:
    """Publishes samples of an asset for as long as the block lasts, one message each; their number is in the list."""
    sent, over = [0], threading.Event()
    command = [program("mosquitto_pub", package="mosquitto-clients"), "-h", broker.host, "-p", str(broker.port)]
    with subprocess.Popen([*command, "-q", "1", "-t", f"rig/{asset}", "-l"], stdin=subprocess.PIPE) as publisher:
        assert publisher.stdin is not None

        def publish() -> None:
            for number in itertools.count(1):
                publisher.stdin.write(b'{"level": 0.0}\n')
                publisher.stdin.flush()
                sent[0] = number
                if over.wait(0.002):
                    return

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            yield sent
        finally:
            over.set()
            thread.join(DEADLINE_S)
            publisher.stdin.close()


class Rig:
    """A folder with a bundle, and the configurations of an agent whose samples come from the broker."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self.folder, self.broker, self.health = folder, broker, free_port()
        self.bundle = write_plain_bundle(folder / "plain.evb")

    def write(self, *assets: str, bundle: Path | None = None, more: str = "", **severity: str) -> Path:
        """An `agent.toml` with these assets; `severity` names the severity of an asset's alarms."""
        tables = [self._table(asset, bundle or self.bundle, severity.get(asset)) for asset in assets]
        health = f'[health]\nprometheus = "{ADDRESS}:{self.health}"\n'
        return write_config(self.folder, self.broker.port, *tables, health, more)

    def count(self, name: str, asset: str) -> float:
        """What Prometheus is told of an asset."""
        client = HTTPConnection(ADDRESS, self.health, timeout=DEADLINE_S)
        try:
            client.request("GET", "/metrics")
            page = client.getresponse().read().decode()
        finally:
            client.close()
        found = dict(line.rsplit(" ", 1) for line in page.splitlines())
        return float(found.get(f'edge_vae_{name}{{asset="{asset}"}}', "nan"))

    def _table(self, asset: str, bundle: Path, severity: str | None) -> str:
        alarm: dict[str, Any] = EVERY_WINDOW | ({"severity": severity} if severity else {})
        return pipeline(asset, bundle, {"type": "mqtt", "topic": f"rig/{asset}"}, alarm=alarm)


@pytest.fixture
def rig(tmp_path: Path, broker: Mosquitto) -> Rig:
    return Rig(tmp_path, broker)


def publish(broker: Mosquitto, topic: str, message: str) -> None:
    command = [program("mosquitto_pub", package="mosquitto-clients"), "-h", broker.host, "-p", str(broker.port)]
    subprocess.run([*command, "-q", "1", "-t", topic, "-m", message], check=True, timeout=DEADLINE_S)


def alarm(broker: Mosquitto, asset: str) -> None:
    publish(broker, f"rig/{asset}", "\n".join(json.dumps({"level": 200.0}) for _ in range(5)))


def test_pipelines_that_stay_lose_no_sample_while_others_come_change_and_go(broker: Mosquitto, rig: Rig) -> None:
    config = rig.write("stays", "changes", "goes")
    with Subscriber(broker, "edge-vae/#") as subscriber, AgentProcess(config) as agent:
        agent.wait_for_log("source connected", count=3)
        with sensor(broker, "stays") as sent:
            wait_until(lambda: sent[0] > 50, "samples before")
            rig.write("comes", "changes", "stays", changes="critical")
            agent.reload()
            told = agent.wait_told("RELOADING=1", "READY=1")
            agent.wait_for_log("source connected", count=5)
            seen = sent[0]
            wait_until(lambda: sent[0] > seen + 50, "samples after")
        wait_until(lambda: rig.count("samples_total", "stays") == sent[0], "every sample")
        assert rig.count("windows_total", "stays") == sent[0] - 3  # one stream from the first to the last
        assert "MONOTONIC_USEC=" in next(word for word in told if word.startswith("RELOADING"))
        for asset in ("stays", "changes", "comes", "goes"):
            alarm(broker, asset)
        found = events(subscriber.wait_for(lambda messages: len(events(messages)) == 3, "the alarms"))
        assert {event["asset"]: event["severity"] for event in found} == {
            "stays": "warning", "changes": "critical", "comes": "warning",
        }  # fmt: skip
        status = subscriber.wait_for(
            lambda messages: statuses(messages)[-1]["pipelines"] == ["comes", "changes", "stays"], "the new status"
        )
        assert statuses(status)[0]["pipelines"] == ["stays", "changes", "goes"]
        assert "started comes, changes, ended goes, 1 went on unchanged" in agent.log
        assert agent.stop() == 0


def test_new_bundle_under_the_old_name_is_taken(broker: Mosquitto, rig: Rig) -> None:
    config = rig.write("pump")
    with Subscriber(broker, "edge-vae/#") as subscriber, AgentProcess(config) as agent:
        agent.wait_told("READY=1")
        write_plain_bundle(rig.bundle, name="better", version=2)
        agent.reload()
        agent.wait_told("RELOADING=1", "READY=1")
        agent.wait_for_log("source connected", count=2)
        alarm(broker, "pump")
        (event,) = events(subscriber.wait_for(lambda messages: len(events(messages)) == 1, "the alarm"))
        assert (event["model"]["name"], event["model"]["version"]) == ("better", 2)
        assert agent.stop() == 0


def test_command_has_the_configuration_read_anew_and_is_answered(broker: Mosquitto, rig: Rig) -> None:
    config = rig.write("pump")
    with Subscriber(broker, f"{NODE}/pump/cmd/reload/reply") as subscriber, AgentProcess(config) as agent:
        agent.wait_for_log(f"topic={NODE}/+/cmd/+")
        publish(broker, f"{NODE}/pump/cmd/reload", '{"id": "1"}')
        subscriber.wait_for_count(1)
        config.write_text("[node")
        publish(broker, f"{NODE}/pump/cmd/reload", '{"id": "2"}')
        replies = [json.loads(message.payload) for message in subscriber.wait_for_count(2)]
    assert [(reply["id"], reply["command"], reply["ok"]) for reply in replies] == [
        ("1", "reload", True), ("2", "reload", False),
    ]  # fmt: skip
    assert replies[0]["message"] == "configuration in force: 1 went on unchanged"
    assert replies[1]["message"].startswith("configuration kept: ")


BROKEN: list[tuple[Callable[[Rig], object], str]] = [
    (lambda rig: (rig.folder / "agent.toml").write_text("[node"), "agent.toml:1: syntax: expected TOML"),
    (lambda rig: rig.write("pump", "fan", more="[mqtt2]\n"), "mqtt2: unknown key"),
    (lambda rig: rig.write("pump", "fan", bundle=rig.folder / "no.evb"), "bundle: expected a bundle, received"),
    (lambda rig: rig.write("fan", bundle=rig.folder / "torn.evb"), "torn.evb: "),
    (lambda rig: rig.write("pump", more="[outbox]\nmax_bytes = 70000\n"), "outbox.max_bytes: expected what it was"),
    (lambda rig: (rig.folder / "agent.toml").unlink(), "agent.toml:1: file: expected a TOML file that can be read"),
]
"""What makes a configuration that cannot be used, and what is said of it."""


def test_new_configuration_that_cannot_be_used_changes_nothing_and_says_why(broker: Mosquitto, rig: Rig) -> None:
    (rig.folder / "torn.evb").write_bytes(rig.bundle.read_bytes()[:-100])
    config = rig.write("pump")
    with AgentProcess(config) as agent:
        agent.wait_told("READY=1")
        agent.wait_for_log("source connected")
        with sensor(broker, "pump") as sent:
            for number, (write, why) in enumerate(BROKEN, start=1):
                write(rig)
                agent.reload()
                agent.wait_told("RELOADING=1", "READY=1")
                agent.wait_for_log("configuration kept, the new one cannot be used error=", count=number)
                assert why in [line for line in agent.lines if "configuration kept" in line][-1]
        wait_until(lambda: rig.count("samples_total", "pump") == sent[0], "every sample")
        assert rig.count("windows_total", "pump") == sent[0] - 3
        assert "Traceback" not in agent.log
        assert agent.log.count("source connected") == 1
        assert agent.stop() == 0
