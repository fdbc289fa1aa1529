"""What a running agent tells of itself: to Prometheus, in its retained status, and on its standard error."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import jsonschema
import pytest

from agent_process import EDGE_VAE, EVERY_WINDOW, AgentProcess, pipeline, statuses, write_config
from broker import ADDRESS, DEADLINE_S, Mosquitto, Subscriber, free_port, program, wait_until
from edge_vae import agent as module
from edge_vae import schema
from edge_vae.agent import Agent, read_whole
from plain_bundle import write_plain_bundle

pytestmark = pytest.mark.broker


def publish(broker: Mosquitto, *levels: float) -> None:
    """Samples for the pump, in one message, so that the agent takes them together."""
    rows = "\n".join(json.dumps({"level": level}) for level in levels)
    command = [program("mosquitto_pub", package="mosquitto-clients"), "-h", broker.host, "-p", str(broker.port)]
    subprocess.run([*command, "-q", "1", "-t", "rig/pump", "-m", rows], check=True, timeout=DEADLINE_S)


def configured(folder: Path, port: int, health: int) -> Path:
    bundle = write_plain_bundle(folder / "plain.evb")
    pump = pipeline("pump", bundle, {"type": "mqtt", "topic": "rig/pump"}, alarm=EVERY_WINDOW)
    return write_config(folder, port, pump, f'[health]\nprometheus = "{ADDRESS}:{health}"\n')


def page(port: int) -> str:
    client = HTTPConnection(ADDRESS, port, timeout=DEADLINE_S)
    try:
        client.request("GET", "/metrics")
        return client.getresponse().read().decode()
    finally:
        client.close()


def metrics(port: int) -> dict[str, float]:
    lines = (line.rsplit(" ", 1) for line in page(port).splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def delivered(found: dict[str, float]) -> bool:
    """Whether two events, the status and at least the states in which it was are out, and all acknowledged."""
    return found["edge_vae_acknowledged_total"] == found["edge_vae_published_total"] >= 4


def test_metrics_of_a_running_agent_are_right_and_promtool_finds_nothing_wrong(
    broker: Mosquitto, tmp_path: Path
) -> None:
    port = free_port()
    with AgentProcess(configured(tmp_path, broker.port, port)) as agent:
        agent.wait_for_log("source connected")
        publish(broker, *[0.0] * 6, *[200.0] * 4, *[0.0] * 4)
        publish(broker, 0.0, 0.0)
        wait_until(lambda: metrics(port).get('edge_vae_windows_total{asset="pump"}') == 13, "the windows")
        wait_until(lambda: metrics(port)['edge_vae_alarms_cleared_total{asset="pump"}'] == 1, "the end of the alarm")
        wait_until(lambda: metrics(port)["edge_vae_outbox_messages"] == 0, "the delivery")
        wait_until(lambda: delivered(metrics(port)), "the acknowledgements")
        found = metrics(port)
        assert found['edge_vae_samples_total{asset="pump"}'] == 16
        assert found['edge_vae_alarms_raised_total{asset="pump"}'] == 1
        assert found['edge_vae_alarms_cleared_total{asset="pump"}'] == 1
        assert found['edge_vae_state{asset="pump",state="normal"}'] == 1
        assert found['edge_vae_threshold{asset="pump"}'] == 4.0
        assert 0 <= found['edge_vae_last_sample_age_seconds{asset="pump"}'] < DEADLINE_S
        assert {f'edge_vae_stage_quiet_seconds{{stage="{stage}"}}' for stage in STAGES} <= set(found)
        assert found["edge_vae_connected"] == 1
        assert found["process_resident_memory_bytes"] > 2**20
        assert found["process_open_fds"] == pytest.approx(
            len(list(Path(f"/proc/{agent.process.pid}/fd").iterdir())), abs=1
        )
        checked = subprocess.run(
            [program("promtool", package="prometheus"), "check", "metrics"],
            input=page(port).encode(), capture_output=True, check=False, timeout=DEADLINE_S,
        )  # fmt: skip
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
        broker.kill()
        wait_until(lambda: metrics(port)["edge_vae_connected"] == 0, "the loss")


STAGES = ("delivery", "commands", "health", "pipeline pump")


@contextmanager
def running(made: Agent) -> Iterator[None]:
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        yield
    finally:
        made.stop()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def test_retained_status_is_refreshed_with_the_counters(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "STATUS_EVERY_S", 0.1)
    config = configured(tmp_path, broker.port, free_port())
    validator = jsonschema.Draft202012Validator(json.loads(schema.text("status")))
    with Subscriber(broker, "edge-vae/#") as subscriber, running(Agent(read_whole(config), config)):
        wait_until(lambda: "source connected" in caplog.text, "the subscription")
        publish(broker, *[200.0] * 5)
        found = subscriber.wait_for(
            lambda messages: any(counted(status, "raised") for status in statuses(messages)), "the counters"
        )
    for status in statuses(found):
        validator.validate(status)
        assert status["state"] == "online"
    assert counted(statuses(found)[-1], "windows") == 2
    assert statuses(found)[-1]["counters"]["connects"] == 1


def counted(status: dict[str, object], name: str) -> int:
    (asset,) = status["counters"]["assets"]  # type: ignore[index] # as the schema has it
    return int(asset[name])


@pytest.mark.parametrize(("words", "json_lines"), [((), False), (("--log-format", "json"), True)])
def test_log_is_what_the_journal_understands_where_it_goes_there(
    words: tuple[str, ...], json_lines: bool, tmp_path: Path
) -> None:
    (tmp_path / "agent.csv").write_text("time,level\n2026-01-01T00:00:00Z,0.0\n")
    source = {"type": "replay", "path": str(tmp_path / "agent.csv"), "speed": 0}
    config = write_config(tmp_path, free_port(), pipeline("pump", write_plain_bundle(tmp_path / "p.evb"), source))
    with (tmp_path / "stderr").open("w+") as stderr:
        status = os.fstat(stderr.fileno())
        environment = os.environ | {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        command = [*EDGE_VAE, *words, "run", "--config", str(config), "--once"]
        with subprocess.Popen(command, stderr=stderr, env=environment) as process:
            wait_until(lambda: "broker not reached" in (tmp_path / "stderr").read_text(), "an attempt to connect")
            for event in ("exhausted", "agent ready"):  # threads of their own, in either order
                wait_until(lambda said=event: said in (tmp_path / "stderr").read_text(), event)
            process.kill()
    lines = (tmp_path / "stderr").read_text().splitlines()
    assert all(line.startswith(("<6>", "<4>")) for line in lines)
    assert any(line.startswith("<4>") and "broker not reached" in line for line in lines)
    if json_lines:
        assert {"source exhausted", "agent ready"} <= {json.loads(line[3:])["event"] for line in lines}
