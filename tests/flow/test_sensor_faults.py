"""Sensor faults over a real broker: events of their own, which an agent that is killed neither repeats nor forgets."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agent_process import AgentProcess, events, pipeline, write_config
from broker import DEADLINE_S, Mosquitto, Subscriber, program
from edge_vae import schema
from edge_vae.bundle import Channel
from plain_bundle import write_plain_bundle

pytestmark = pytest.mark.broker

QUIET = 0.01
SENSOR = """
[pipeline.sensor]
on_s = 0.5
off_s = 1.0
silent_s = 1.0
[[pipeline.sensor.channel]]
channel = "level"
high = 500.0
"""


def rows(broker: Mosquitto, *levels: float | None) -> None:
    command = [program("mosquitto_pub", package="mosquitto-clients"), "-h", broker.host, "-p", str(broker.port)]
    message = "\n".join(json.dumps({"level": level}) for level in levels)
    subprocess.run([*command, "-q", "1", "-t", "rig/pump", "-m", message], check=True, timeout=DEADLINE_S)


def lively(samples: int) -> list[float]:
    return [QUIET + i * 1e-6 for i in range(samples)]


def faults(messages: Any) -> list[tuple[str, str]]:
    return [(event["phase"], event["cause"]["kind"]) for event in events(messages)]


@pytest.fixture
def config(broker: Mosquitto, tmp_path: Path) -> Path:
    bundle = write_plain_bundle(tmp_path / "plain.evb", channels=(Channel("level", 0.0, 1.0, 0.0, 1.0, 1),))
    pump = pipeline("pump", bundle, {"type": "mqtt", "topic": "rig/pump"})
    return write_config(tmp_path, broker.port, pump + SENSOR)


def test_fault_of_a_sensor_outlives_an_agent_that_is_killed_and_ends_under_its_id(
    config: Path, broker: Mosquitto
) -> None:
    with Subscriber(broker, "edge-vae/#") as subscriber:
        with AgentProcess(config) as agent:
            agent.wait_for_log("source connected: topic=rig/pump")
            rows(broker, *lively(10), *[None] * 6)
            subscriber.wait_for(lambda messages: ("raised", "missing") in faults(messages), "the fault")
            agent.kill()
        with AgentProcess(config) as agent:
            agent.wait_for_log("source connected: topic=rig/pump")
            rows(broker, *[None] * 6, *lively(12))
            subscriber.wait_for(lambda messages: ("cleared", "missing") in faults(messages), "its end")
            rows(broker, *[500.0] * 6)
            subscriber.wait_for(lambda messages: ("raised", "rail") in faults(messages), "the rail")
            assert agent.stop() == 0
        messages = subscriber.drain()
    found = {event["event_id"]: event for event in events(messages)}.values()
    for event in found:
        jsonschema.validate(event, json.loads(schema.text("event")))
    raised, cleared, rail = (event for event in found if event["cause"]["kind"] in ("missing", "rail"))
    assert {event["event"] for event in (raised, cleared, rail)} == {"sensor_fault"}
    assert raised["event_id"] == raised["alarm_id"] == cleared["alarm_id"] != rail["alarm_id"]
    assert (raised["quality"], cleared["quality"], raised["cause"]["channel"]) == ("bad", "good", "level")
    assert (rail["cause"]["value"], rail["cause"]["limit"]) == (500.0, 500.0)
    assert rail["channels"] == [{"name": "level", "share": None, "value": 500.0, "expected": None, "quality": "bad"}]


def test_source_that_never_gives_anything_is_silent_and_its_state_a_fault(config: Path, broker: Mosquitto) -> None:
    with Subscriber(broker, "edge-vae/#") as subscriber, AgentProcess(config) as agent:
        found = subscriber.wait_for(events, "the silence")
        (event,) = events(found)
        assert (event["event"], event["phase"], event["cause"]["kind"]) == ("sensor_fault", "raised", "silent")
        assert event["channels"] == []
        subscriber.wait_for(lambda messages: any(_active(m) == ["silent"] for m in messages), "the state")
        assert agent.stop() == 0


def _active(message: Any) -> list[str]:
    """What is active, by a state of the asset that is a fault."""
    state = json.loads(message.payload) if message.topic.endswith("/pump/state") else {}
    return [alarm["cause"]["kind"] for alarm in state.get("alarms", ())] if state.get("state") == "fault" else []
