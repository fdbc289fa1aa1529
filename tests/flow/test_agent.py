"""Recordings of faulty machines through the real agent and a real broker, to a plain subscriber."""

from __future__ import annotations

import csv
import json
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agent_process import (
    EVERY_WINDOW,
    AgentProcess,
    events,
    long_recording,
    pipeline,
    replay,
    until_goodbye,
    write_config,
)
from broker import DEADLINE_S, Mosquitto, Received, Subscriber, free_port, program
from edge_vae import schema

pytestmark = pytest.mark.broker

NODE = "edge-vae/plant-1/gateway-1"
Events = list[dict[str, Any]]


@dataclass(frozen=True)
class Replayed:
    """What a subscriber got while every faulty file of the rig was replayed, each as an asset of its own."""

    messages: list[Received]
    kept: list[Received]
    log: str
    raised: list[str]

    def of(self, asset: str) -> Events:
        """The events of one asset, in the order in which they came."""
        return [event for event in events(self.messages) if event["asset"] == asset]

    def alarms_of(self, asset: str) -> Events:
        """Those of them that are about the machine, and not about a sensor."""
        return [event for event in self.of(asset) if event["event"] != "sensor_fault"]


@pytest.fixture(scope="module")
def replayed(rig: Path, bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    folder = tmp_path_factory.mktemp("replayed")
    pipelines = [pipeline(file.stem, bundle_path, replay(file)) for file in recordings(rig)]
    with Mosquitto(folder) as broker, Subscriber(broker, "#") as subscriber:
        with AgentProcess(write_config(folder, broker.port, *pipelines), "--once") as agent:
            assert agent.wait() == 0
            messages = until_goodbye(subscriber)
        with Subscriber(broker, "#") as later:
            kept = later.wait_for_count(len(pipelines) + 1)
        return Replayed(messages, kept, agent.log, agent.logged("raised"))


@pytest.fixture(scope="module")
def busiest(replayed: Replayed, rig: Path) -> Path:
    """The file that gives most events."""
    return max(recordings(rig), key=lambda file: len(replayed.of(file.stem)))


def recordings(rig: Path) -> list[Path]:
    return sorted((rig / "faulty").glob("*.csv"))


def plain(found: Events) -> list[tuple[Any, ...]]:
    """What depends on samples and model alone."""
    return [(e["event"], e["time"], e["window"], round(e["score"], 6), e["channels"][0]["name"]) for e in found]


# messages


def test_every_message_validates_against_its_shipped_schema(replayed: Replayed) -> None:
    validators = {name: jsonschema.Draft202012Validator(json.loads(schema.text(name))) for name in schema.NAMES}
    for message in replayed.messages:
        validators[message.topic.rpartition("/")[2]].validate(json.loads(message.payload))
    assert {event["event"] for event in events(replayed.messages)} == {"raised", "cleared", "sensor_fault"}


def test_the_recording_with_a_frozen_transmitter_is_the_one_with_a_sensor_fault(replayed: Replayed) -> None:
    found = [event for event in events(replayed.messages) if event["event"] == "sensor_fault"]
    assert [(e["asset"], e["phase"], e["cause"]["kind"], e["cause"]["channel"]) for e in found] == [
        ("sensor-stuck", "raised", "stuck", "pressure_bar"), ("sensor-stuck", "cleared", "stuck", "pressure_bar"),
    ]  # fmt: skip


def test_each_asset_has_its_own_topic_and_nothing_else_is_published(replayed: Replayed, rig: Path) -> None:
    leaves = {f"{NODE}/{file.stem}/{leaf}" for file in recordings(rig) for leaf in ("event", "state")}
    topics = {message.topic for message in replayed.messages}
    assert topics <= leaves | {f"{NODE}/status"}
    assert {topic for topic in leaves if topic.endswith("/state")} <= topics
    for message in replayed.messages:
        if not message.topic.endswith("/status"):
            assert json.loads(message.payload)["asset"] == message.topic.split("/")[3]


def test_raised_and_cleared_alternate_and_share_an_alarm_id(replayed: Replayed, rig: Path) -> None:
    for file in recordings(rig):
        found = replayed.alarms_of(file.stem)
        assert [event["event"] for event in found] == (["raised", "cleared"] * len(found))[: len(found)]
        for raised, cleared in zip(found[::2], found[1::2], strict=False):
            assert raised["alarm_id"] == cleared["alarm_id"] == raised["event_id"] != cleared["event_id"]
    assert len({event["alarm_id"] for file in recordings(rig) for event in replayed.alarms_of(file.stem)}) == len(
        replayed.raised
    )


def test_sequence_numbers_rise_by_one_for_each_asset(replayed: Replayed, rig: Path) -> None:
    for file in recordings(rig):
        assert [event["seq"] for event in replayed.of(file.stem)] == list(range(1, len(replayed.of(file.stem)) + 1))


def test_what_was_logged_as_raised_is_what_arrived(replayed: Replayed) -> None:
    arrived = [event["event_id"] for event in events(replayed.messages) if event["event"] == "raised"]
    assert sorted(arrived) == sorted(replayed.raised) != []


def test_event_says_how_bad_where_when_and_by_which_model(replayed: Replayed, bundle_path: Path) -> None:
    for event in (event for event in events(replayed.messages) if event["event"] != "sensor_fault"):
        shares = [channel["share"] for channel in event["channels"]]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1.0)
        assert event["ratio"] == pytest.approx(event["score"] / event["threshold"])
        assert event["peak_score"] >= event["score"]
        assert event["window"]["start"] < event["window"]["end"] == event["time"]
        assert event["model"]["sha256"] == sha256(bundle_path.read_bytes()).hexdigest()


def test_broker_keeps_the_last_state_of_every_asset_and_that_the_agent_said_goodbye(
    replayed: Replayed, rig: Path
) -> None:
    kept = {message.topic: json.loads(message.payload) for message in replayed.kept}
    assert all(message.retained for message in replayed.kept)
    status = kept.pop(f"{NODE}/status")
    assert (status["state"], status["pipelines"]) == ("offline", [file.stem for file in recordings(rig)])
    assert status["time"] is not None  # a last will has none
    expected = {}
    for file in recordings(rig):
        last = replayed.alarms_of(file.stem)[-1:]
        expected[f"{NODE}/{file.stem}/state"] = "alarm" if last and last[0]["event"] == "raised" else "normal"
    assert {topic: state["state"] for topic, state in kept.items()} == expected


def test_agent_scores_as_the_score_command_does(
    replayed: Replayed, rig: Path, bundle_path: Path, edge_vae: Callable[..., Any], tmp_path: Path
) -> None:
    edge_vae("score", bundle_path, rig / "faulty", "--label", "anomaly", "-o", tmp_path / "scores.csv")
    expected = defaultdict(list)
    before = defaultdict(lambda: "0")
    with (tmp_path / "scores.csv").open() as file:
        for row in csv.DictReader(file):
            asset = Path(row["session"]).stem
            if row["alarm"] != before[asset]:
                expected[asset].append(("raised" if row["alarm"] == "1" else "cleared", float(row["score"])))
            before[asset] = row["alarm"]
    assert expected
    for asset, turns in expected.items():
        received = [(event["event"], event["score"]) for event in replayed.alarms_of(asset)]
        assert [kind for kind, _ in received] == [kind for kind, _ in turns]
        assert [score for _, score in received] == pytest.approx([score for _, score in turns], rel=1e-4)


# sources


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_samples_from_a_pipe_give_the_same_events_as_a_replay(
    form: str, busiest: Path, bundle_path: Path, replayed: Replayed, broker: Mosquitto, tmp_path: Path
) -> None:
    source = pipeline("piped", bundle_path, {"type": "stdin", "format": form})
    with (
        Subscriber(broker, "#") as subscriber,
        AgentProcess(write_config(tmp_path, broker.port, source), "--once", stdin=subprocess.PIPE) as agent,
    ):
        assert agent.process.stdin is not None
        agent.process.stdin.write(busiest.read_bytes() if form == "csv" else b"\n".join(json_lines(busiest)))
        agent.process.stdin.close()
        assert agent.wait() == 0
        assert plain(events(until_goodbye(subscriber))) == plain(replayed.of(busiest.stem)) != []


def test_samples_from_a_topic_give_the_same_events_as_a_replay(
    busiest: Path, bundle_path: Path, replayed: Replayed, broker: Mosquitto, tmp_path: Path
) -> None:
    expected = plain(replayed.of(busiest.stem))
    source = pipeline("listening", bundle_path, {"type": "mqtt", "topic": "rig/+/samples"})
    publish = [program("mosquitto_pub", package="mosquitto-clients"), "-h", broker.host, "-p", str(broker.port)]
    with (
        Subscriber(broker, "edge-vae/#") as subscriber,
        AgentProcess(write_config(tmp_path, broker.port, source)) as agent,
    ):
        agent.wait_for_log("source connected: topic=rig/+/samples")
        rows = b"\n".join(json_lines(busiest))
        line_by_line = [*publish, "-t", "rig/1/samples", "-q", "1", "-l"]
        subprocess.run(line_by_line, input=rows, check=True, timeout=DEADLINE_S)
        subscriber.wait_for(lambda messages: len(events(messages)) >= len(expected), f"{len(expected)} events")
        assert agent.stop() == 0
        assert plain(events(until_goodbye(subscriber))) == expected


def json_lines(recording: Path) -> list[bytes]:
    """The rows of a CSV file as a gateway's sensor program would write them."""
    with recording.open() as file:
        rows = [dict(row) for row in csv.DictReader(file)]
    numbers = [{key: text if key == "time" else float(text) for key, text in row.items()} for row in rows]
    return [json.dumps(row).encode() for row in numbers]


# several pipelines


@contextmanager
def beside(
    broken: str, good: Path, bundle_path: Path, broker: Mosquitto, folder: Path, *words: str
) -> Iterator[tuple[AgentProcess, Subscriber]]:
    """An agent with a pipeline that cannot read its source and one that can."""
    config = write_config(folder, broker.port, broken, pipeline("good", bundle_path, replay(good)))
    with Subscriber(broker, "edge-vae/#") as subscriber, AgentProcess(config, *words) as agent:
        yield agent, subscriber


def states(messages: list[Received], asset: str) -> list[str]:
    """The states that an asset went through."""
    found = [json.loads(message.payload) for message in messages if message.topic == f"{NODE}/{asset}/state"]
    return [state["state"] for state in found]


def test_source_whose_broker_is_away_does_not_stop_the_other_pipeline(
    busiest: Path, bundle_path: Path, replayed: Replayed, broker: Mosquitto, tmp_path: Path
) -> None:
    deaf = pipeline("deaf", bundle_path, {"type": "mqtt", "topic": "x", "host": "127.0.0.1", "port": free_port()})
    expected = plain(replayed.of(busiest.stem))
    with beside(deaf, busiest, bundle_path, broker, tmp_path) as (agent, subscriber):
        agent.wait_told("READY=1")
        subscriber.wait_for(lambda messages: len(events(messages)) >= len(expected), "events of the other")
        subscriber.wait_for(
            lambda messages: "fault" in states(messages, "deaf"), "the state of an asset without samples"
        )
        assert agent.stop() == 0
        assert plain(events(until_goodbye(subscriber))) == expected


def test_broken_pipeline_is_started_again_until_its_source_is_mended(
    busiest: Path, bundle_path: Path, replayed: Replayed, broker: Mosquitto, tmp_path: Path
) -> None:
    expected = plain(replayed.of(busiest.stem))
    recording = tmp_path / "recording.csv"
    recording.write_text("time,something_else\n2026-01-01T00:00:00Z,1.0\n")
    with beside(pipeline("mended", bundle_path, replay(recording)), busiest, bundle_path, broker, tmp_path) as (
        agent, subscriber,
    ):  # fmt: skip
        agent.wait_told("READY=1")
        agent.wait_for_log("pipeline broke, trying again asset=mended", count=2)
        subscriber.wait_for(lambda messages: len(events(messages)) == len(expected), "events of the other")
        subscriber.wait_for(lambda messages: states(messages, "mended")[-1:] == ["fault"], "the fault")
        mend = tmp_path / "mend.csv"
        mend.write_bytes(busiest.read_bytes())
        mend.rename(recording)
        subscriber.wait_for(lambda messages: len(events(messages)) == 2 * len(expected), "events of the mended one")
        assert agent.stop() == 0
        found = events(until_goodbye(subscriber))
    assert plain([event for event in found if event["asset"] == "mended"]) == expected
    assert "Traceback" not in agent.log
    assert "has no column" in agent.log


def test_broken_pipeline_makes_once_end_with_1_after_the_others_have_delivered(
    busiest: Path, bundle_path: Path, replayed: Replayed, broker: Mosquitto, tmp_path: Path
) -> None:
    (tmp_path / "empty.csv").write_text("")
    broken = pipeline("empty", bundle_path, replay(tmp_path / "empty.csv"))
    with beside(broken, busiest, bundle_path, broker, tmp_path, "--once") as (agent, subscriber):
        assert agent.wait() == 1
        assert plain(events(until_goodbye(subscriber))) == plain(replayed.of(busiest.stem))
    assert agent.lines[-1].startswith("edge-vae: ")
    assert "empty.csv" in agent.lines[-1]
    assert "Traceback" not in agent.log


# life of the agent


def test_service_manager_is_told_of_readiness_of_life_and_of_the_end(
    rig: Path, bundle_path: Path, broker: Mosquitto, tmp_path: Path
) -> None:
    source = pipeline("pump", bundle_path, {"type": "mqtt", "topic": "x"})
    with AgentProcess(write_config(tmp_path, broker.port, source), watchdog_s=0.4) as agent:
        agent.wait_told("READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1")
        agent.process.terminate()
        agent.wait_told("STOPPING=1")
        assert agent.wait() == 0


def test_sigterm_in_the_middle_of_a_replay_delivers_what_was_raised_and_ends_with_0(
    rig: Path, bundle_path: Path, broker: Mosquitto, tmp_path: Path
) -> None:
    source = pipeline("pump", bundle_path, replay(long_recording(rig, tmp_path)), alarm=EVERY_WINDOW)
    with Subscriber(broker, "#") as subscriber, AgentProcess(write_config(tmp_path, broker.port, source)) as agent:
        subscriber.wait_for(lambda messages: len(events(messages)) > 2, "the first events")
        assert agent.stop() == 0
        found = until_goodbye(subscriber)
    assert "agent stopped waiting_messages=0" in agent.log
    assert "source exhausted" not in agent.log  # so it was really in the middle
    assert {event["event_id"] for event in events(found)} >= set(agent.logged("raised")) != set()


def test_ctrl_c_ends_the_agent_quietly(bundle_path: Path, broker: Mosquitto, tmp_path: Path) -> None:
    source = pipeline("pump", bundle_path, {"type": "mqtt", "topic": "x"})
    with AgentProcess(write_config(tmp_path, broker.port, source)) as agent:
        agent.wait_told("READY=1")
        assert agent.stop(number=2) == 0
    assert "Traceback" not in agent.log
    assert "Interrupt" not in agent.log


def test_agent_starts_without_a_broker_and_delivers_when_it_comes_up(
    busiest: Path, bundle_path: Path, replayed: Replayed, tmp_path: Path
) -> None:
    broker = Mosquitto(tmp_path)
    config = write_config(tmp_path, broker.port, pipeline("pump", bundle_path, replay(busiest)))
    with AgentProcess(config, "--once") as agent:
        agent.wait_told("READY=1")
        agent.wait_for_log("source exhausted")
        agent.wait_for_log("broker not reached")
        agent.freeze()  # so that nothing is published before somebody listens
        with broker, Subscriber(broker, "#") as subscriber:
            agent.thaw()
            assert agent.wait() == 0
            found = events(until_goodbye(subscriber))
    assert plain(found) == plain(replayed.of(busiest.stem))
    assert all(event["replayed"] for event in found)


def test_two_agents_cannot_share_a_state_directory(bundle_path: Path, broker: Mosquitto, tmp_path: Path) -> None:
    config = write_config(tmp_path, broker.port, pipeline("pump", bundle_path, {"type": "mqtt", "topic": "x"}))
    with AgentProcess(config) as first:
        first.wait_told("READY=1")
        with AgentProcess(config) as second:
            assert second.wait() == 1
        (line,) = second.lines
        assert line.startswith("edge-vae: ")
        assert "expected one agent for each state_dir, received a lock of another process. Stop the other agent" in line
        assert first.stop() == 0
