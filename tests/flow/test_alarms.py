"""Alarms over a real broker: shelved, acknowledged, repeated, and not lost by an agent that is killed."""

from __future__ import annotations

import csv
import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agent_process import AgentProcess, events, pipeline, write_config
from broker import DEADLINE_S, Mosquitto, Received, Subscriber, program
from edge_vae import schema
from plain_bundle import write_plain_bundle

pytestmark = pytest.mark.broker

NODE = "edge-vae/plant-1/gateway-1"
AT_ONCE = {"on_delay": [1, 1], "off_delay": [1, 1], "deadband": 0.0}
QUIET, LOUD = 0.01, 200.0


def publish(broker: Mosquitto, topic: str, message: str) -> None:
    command = [program("mosquitto_pub", package="mosquitto-clients"), "-h", broker.host, "-p", str(broker.port)]
    subprocess.run([*command, "-q", "1", "-t", topic, "-m", message], check=True, timeout=DEADLINE_S)


def rows(broker: Mosquitto, *levels: float) -> None:
    publish(broker, "rig/pump", "\n".join(json.dumps({"level": level}) for level in levels))


def of(messages: list[Received], leaf: str) -> list[dict[str, Any]]:
    return [json.loads(message.payload) for message in messages if message.topic.endswith(f"/{leaf}")]


def kinds(messages: list[Received]) -> list[str]:
    """What was told, each event once: one whose delivery was cut off comes again under its id."""
    return list({event["event_id"]: event["event"] for event in events(messages)}.values())


def validated(messages: list[Received]) -> list[Received]:
    validators = {name: jsonschema.Draft202012Validator(json.loads(schema.text(name))) for name in schema.NAMES}
    for message in messages:
        leaf = message.topic.rpartition("/")[2]
        if leaf in validators:
            validators[leaf].validate(json.loads(message.payload))
    return messages


@pytest.fixture
def config(broker: Mosquitto, tmp_path: Path) -> Path:
    bundle = write_plain_bundle(tmp_path / "plain.evb")
    pump = pipeline("pump", bundle, {"type": "mqtt", "topic": "rig/pump"}, alarm=AT_ONCE)
    return write_config(tmp_path, broker.port, pump)


def ask(broker: Mosquitto, subscriber: Subscriber, command: str, request_id: str, **more: Any) -> dict[str, Any]:
    """The reply to a command."""
    publish(broker, f"{NODE}/pump/cmd/{command}", json.dumps({"id": request_id, **more}))
    found = subscriber.wait_for(
        lambda messages: request_id in [reply["id"] for reply in of(messages, "reply")], f"reply to {command}"
    )
    (reply,) = (reply for reply in of(found, "reply") if reply["id"] == request_id)
    return reply


def ready(agent: AgentProcess) -> None:
    agent.wait_for_log("source connected: topic=rig/pump")
    agent.wait_for_log(f"topic={NODE}/+/cmd/+")


def test_shelf_and_acknowledgement_outlive_an_agent_that_is_killed(config: Path, broker: Mosquitto) -> None:
    with Subscriber(broker, "edge-vae/#") as subscriber:
        with AgentProcess(config) as agent:
            ready(agent)
            rows(broker, *[LOUD] * 4)
            subscriber.wait_for(lambda messages: kinds(messages) == ["raised"], "the alarm")
            assert ask(broker, subscriber, "ack", "1", by="jo", note="seen", verdict="true")["ok"]
            assert ask(broker, subscriber, "shelve", "2", minutes=600, by="jo")["ok"]
            agent.kill()
        with AgentProcess(config) as agent:
            ready(agent)
            before = len(of(subscriber.messages, "state"))
            rows(broker, *[LOUD] * 4)  # still the same excursion
            subscriber.wait_for(
                lambda messages: any(state["score"] is not None for state in of(messages, "state")[before:]), "a state"
            )
            state = of(subscriber.messages, "state")[-1]
            assert (state["state"], state["shelved"]["by"]) == ("shelved", "jo")
            assert state["alarms"][0]["acknowledged"]["note"] == "seen"
            rows(broker, *[QUIET] * 4)
            subscriber.wait_for(lambda messages: of(messages, "state")[-1]["alarms"] == [], "the end in the state")
            assert ask(broker, subscriber, "unshelve", "3")["ok"]
            subscriber.wait_for(lambda messages: kinds(messages)[-1] == "cleared", "the end")
            assert agent.stop() == 0
        messages = validated(subscriber.drain())
    assert kinds(messages) == ["raised", "acknowledged", "shelved", "unshelved", "cleared"]
    raised, acknowledged, *_, cleared = {event["event_id"]: event for event in events(messages)}.values()
    assert raised["event_id"] == raised["alarm_id"] == acknowledged["alarm_id"] == cleared["alarm_id"]
    assert cleared["action"]["verdict"] == "true"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_alarm_is_neither_raised_twice_nor_left_uncleared_by_an_agent_that_is_killed_anywhere(
    seed: int, config: Path, broker: Mosquitto
) -> None:
    chance = random.Random(seed)
    with Subscriber(broker, "edge-vae/#") as subscriber:
        for _ in range(3):
            with AgentProcess(config) as agent:
                agent.wait_for_log("source connected: topic=rig/pump")
                # Many turns in one block, and a kill somewhere behind one of them.
                rows(broker, *([LOUD] * 4 + [QUIET] * 4) * 200)
                agent.wait_for_log("alarm ", count=chance.randint(1, 60))
                agent.kill()
        with AgentProcess(config) as agent:
            agent.wait_for_log("source connected: topic=rig/pump")
            before = len(of(subscriber.messages, "state"))
            rows(broker, *[QUIET] * 8)
            subscriber.wait_for(
                lambda messages: "normal" in [state["state"] for state in of(messages, "state")[before:]], "normal"
            )
            assert agent.stop() == 0
        found = {event["event_id"]: event for event in events(validated(subscriber.drain()))}.values()
    assert [event["seq"] for event in found] == list(range(1, len(found) + 1))
    assert [event["event"] for event in found] == ["raised", "cleared"] * (len(found) // 2)
    pairs = [event["alarm_id"] for event in found]
    assert pairs[::2] == pairs[1::2]
    assert len(set(pairs)) == len(found) // 2 > 3


def test_wrong_requests_are_answered_with_what_was_expected(config: Path, broker: Mosquitto) -> None:
    with Subscriber(broker, "edge-vae/#") as subscriber, AgentProcess(config) as agent:
        ready(agent)
        for number, (command, more, words) in enumerate(
            [
                ("shelve", {}, '"minutes": 60'),
                ("shelve", {"minutes": 0}, "> 0"),
                ("shelve", {"minutes": 1e9}, "<= 10080"),
                ("shelve", {"minutes": 5, "by": "x" * 300}, "<= 256"),
                ("unshelve", {}, "expected an asset that is shelved"),
                ("unshelve", {"minutes": 5}, "unknown field `minutes`"),
                ("ack", {}, "received no alarm that was published"),
                ("ack", {"alarm_id": "x"}, "alarm_id"),
                ("ack", {"verdict": "perhaps"}, '"true" or "false" or "unknown"'),
            ]
        ):
            reply = ask(broker, subscriber, command, str(number), **more)
            assert not reply["ok"]
            assert words in reply["message"]
        assert events(subscriber.messages) == []
        assert agent.stop() == 0


LIMIT = '\n[[pipeline.limit]]\nchannel = "level"\nhigh = 100\ndeadband = 10\nseverity = "critical"\n'


def test_limit_is_an_alarm_of_its_own_beside_that_of_the_model(config: Path, broker: Mosquitto) -> None:
    config.write_text(config.read_text() + LIMIT)
    with Subscriber(broker, "edge-vae/#") as subscriber, AgentProcess(config) as agent:
        ready(agent)
        rows(broker, LOUD)  # no window yet
        subscriber.wait_for(lambda messages: kinds(messages) == ["raised"], "the limit's alarm")
        rows(broker, *[LOUD] * 3, *[QUIET] * 4)
        subscriber.wait_for(lambda messages: kinds(messages).count("cleared") == 2, "both ends")
        assert agent.stop() == 0
        found = events(validated(subscriber.drain()))
    told = [(event["event"], event["severity"], event["cause"]["kind"]) for event in found]
    assert sorted(told) == [
        ("cleared", "critical", "high"), ("cleared", "warning", "model"),
        ("raised", "critical", "high"), ("raised", "warning", "model"),
    ]  # fmt: skip
    assert found[0]["cause"] == {"kind": "high", "channel": "level", "value": LOUD, "peak": LOUD, "limit": 100.0}
    assert (found[0]["score"], found[0]["channels"][0]["share"]) == (None, 1.0)


def test_limit_of_an_unknown_channel_ends_with_78_and_its_line(config: Path) -> None:
    config.write_text(config.read_text() + LIMIT.replace("level", "levle"))
    line = config.read_text().split("\n").index('channel = "levle"') + 1
    with AgentProcess(config) as agent:
        assert agent.wait() == 78
    (told,) = agent.lines
    assert told.startswith(f"edge-vae: {config}:{line}: pipeline[0].limit[0].channel: expected a channel of ")


def test_verdicts_become_a_data_set_that_training_and_evaluation_take(
    broker: Mosquitto, tmp_path: Path, edge_vae: Callable[..., Any], rig: Path, bundle_path: Path
) -> None:
    source = {"type": "mqtt", "topic": "rig/pump"}
    config = write_config(tmp_path, broker.port, pipeline("pump", bundle_path, source, alarm=AT_ONCE))
    with (rig / "faulty" / "leak.csv").open() as file:
        samples = [
            {name: text if name == "time" else float(text) for name, text in row.items()}
            for row in csv.DictReader(file)
        ]
    with Subscriber(broker, "edge-vae/#") as subscriber, AgentProcess(config) as agent:
        ready(agent)
        for at in range(0, len(samples), 200):
            publish(broker, "rig/pump", "\n".join(map(json.dumps, samples[at : at + 200])))
        found = subscriber.wait_for(lambda messages: kinds(messages).count("cleared") >= 4, "alarms")
        alarm_ids = [event["alarm_id"] for event in events(found) if event["event"] == "cleared"][:4]
        for number, verdict in enumerate(["true", "false", "true", "unknown"]):
            reply = ask(broker, subscriber, "ack", f"{number}", alarm_id=alarm_ids[number], verdict=verdict)
            assert (reply["ok"], alarm_ids[number] in reply["message"]) == (True, True)
        while_it_runs = edge_vae("feedback", "export", "-o", tmp_path / "judged", "--config", config)
        assert "judged: 2 real alarms and 1 false ones, label column anomaly; 1 of unknown" in while_it_runs.stdout
        assert agent.stop() == 0
    data = tmp_path / "judged" / "pump"
    assert {file.stem for file in data.iterdir()} == set(alarm_ids[:3])
    told = edge_vae("evaluate", bundle_path, data, "--label", "anomaly", "-o", tmp_path / "pictures", "--json").stdout
    assert json.loads(told)
    (tmp_path / "one-view.toml").write_text('[training]\nepochs = 1\n[calibration]\nscore = ["window.nll"]\n')
    options = ("--config", tmp_path / "one-view.toml", "--window", 8, "--stride", 8, "--model", "linear")
    edge_vae("train", data, "--label", "anomaly", *options, "-o", tmp_path / "run")
