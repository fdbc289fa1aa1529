"""What is normal changes: a baseline is learned anew on command, drift is told, a threshold follows its tail."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agent_process import EVERY_WINDOW, AgentProcess, events, pipeline, replay, until_goodbye, write_config
from broker import DEADLINE_S, Mosquitto, Received, Subscriber, program, wait_until
from edge_vae import schema
from edge_vae.bundle import Modes
from edge_vae.cli import run
from plain_bundle import level_of, plain_threshold, write_plain_bundle

pytestmark = pytest.mark.broker

NODE = "edge-vae/plant-1/gateway-1"
BASELINE = 40


def publish(broker: Mosquitto, topic: str, message: str, *options: str) -> None:
    command = [program("mosquitto_pub", package="mosquitto-clients"), "-h", broker.host, "-p", str(broker.port)]
    subprocess.run([*command, "-q", "1", "-t", topic, "-m", message, *options], check=True, timeout=DEADLINE_S)


def rows(broker: Mosquitto, *levels: float) -> None:
    """Samples for the pump, in one message, so that the agent takes them together."""
    publish(broker, "rig/pump", "\n".join(json.dumps({"level": level}) for level in levels))


def request(broker: Mosquitto, request_id: str, *options: str, asset: str = "pump") -> None:
    publish(broker, f"{NODE}/{asset}/cmd/rebaseline", json.dumps({"id": request_id}), *options)


def of(messages: list[Received], leaf: str) -> list[dict[str, Any]]:
    return [json.loads(message.payload) for message in messages if message.topic.endswith(f"/{leaf}")]


def states(messages: list[Received]) -> list[tuple[str, bool]]:
    """State of the pump, and whether a window was scored already."""
    return [(state["state"], state["score"] is not None) for state in of(messages, "state") if state["asset"] == "pump"]


@contextmanager
def watched(
    broker: Mosquitto, folder: Path, *, more: str = "", baseline: int = BASELINE
) -> Iterator[tuple[AgentProcess, Subscriber]]:
    """An agent whose pump has learned its baseline at level 50 and shows it in its first window."""
    bundle = write_plain_bundle(folder / "plain.evb", baseline=baseline)
    pump = pipeline("pump", bundle, {"type": "mqtt", "topic": "rig/pump"}, alarm=EVERY_WINDOW)
    config = write_config(folder, broker.port, f"{pump}\n{more}")
    with Subscriber(broker, "edge-vae/#") as subscriber, AgentProcess(config) as agent:
        agent.wait_for_log("source connected: topic=rig/pump")
        agent.wait_for_log(f"topic={NODE}/+/cmd/+")
        rows(broker, *[50.0 if baseline else 0.0] * (baseline + 4))
        subscriber.wait_for(lambda messages: ("normal", True) in states(messages), "the first window")
        yield agent, subscriber


# a baseline on command


def test_command_learns_the_baseline_anew_once_and_alarms_go_on(broker: Mosquitto, tmp_path: Path) -> None:
    with watched(broker, tmp_path) as (agent, subscriber):
        request(broker, "after-maintenance")
        subscriber.wait_for(lambda messages: len(of(messages, "reply")) == 1, "the reply")
        subscriber.wait_for(lambda messages: states(messages)[-1][0] == "learning", "the state learning")
        rows(broker, *[90.0] * (BASELINE + 4))
        subscriber.wait_for(lambda messages: states(messages)[-1] == ("normal", True), "the new baseline")
        request(broker, "after-maintenance")
        found = subscriber.wait_for(lambda messages: len(of(messages, "reply")) == 2, "the reply once more")
        assert events(found) == []
        rows(broker, *[200.0] * 4)  # an alarm now: the second request did not begin a baseline
        subscriber.wait_for(lambda messages: len(events(messages)) == 1, "the alarm")
        assert agent.stop() == 0
        messages = until_goodbye(subscriber)
    validator = jsonschema.Draft202012Validator(json.loads(schema.text("reply")))
    replies = of(messages, "reply")
    for reply in replies:
        validator.validate(reply)
        assert (reply["id"], reply["ok"], reply["asset"]) == ("after-maintenance", True, "pump")
        assert reply["message"] == f"the baseline is learned from the next {BASELINE} samples"
    assert [message.retained for message in messages if message.topic.endswith("/reply")] == [False, False]
    assert agent.log.count("baseline is learned anew, by command asset=pump") == 1


def test_what_is_no_command_is_answered_or_logged_and_alarms_go_on(broker: Mosquitto, tmp_path: Path) -> None:
    with watched(broker, tmp_path, baseline=0) as (agent, subscriber):
        for payload in ("", "{", "x" * 5000):
            publish(broker, f"{NODE}/pump/cmd/rebaseline", payload)
        publish(broker, f"{NODE}/pump/cmd/rebaseline", '{"id": "1", "samples": 3}')
        publish(broker, f"{NODE}/pump/cmd/explode", '{"id": "2"}')
        request(broker, "3", asset="pump-99")
        request(broker, "4")
        found = subscriber.wait_for(lambda messages: len(of(messages, "reply")) == 4, "four replies")
        agent.wait_for_log("command not understood", count=3)
        rows(broker, *[200.0] * 4)
        subscriber.wait_for(lambda messages: len(events(messages)) == 1, "the alarm")
        assert agent.stop() == 0
    answered = {reply["id"]: (reply["ok"], reply["message"]) for reply in of(found, "reply")}
    assert not any(ok for ok, _ in answered.values())
    assert "unknown field" in answered["1"][1]
    assert answered["2"][1] == "expected one of the commands ack, rebaseline, shelve, unshelve, reload"
    assert answered["3"][1] == "expected one of the assets pump"
    assert answered["4"][1] == "expected a bundle with a baseline, received one that has none"
    assert "Traceback" not in agent.log


def test_command_that_the_broker_has_kept_is_refused(broker: Mosquitto, tmp_path: Path) -> None:
    request(broker, "old", "-r")
    with watched(broker, tmp_path) as (agent, subscriber):
        found = subscriber.wait_for(lambda messages: len(of(messages, "reply")) >= 1, "the reply")
        assert of(found, "reply")[0]["message"].startswith("expected a command that is not retained")
        assert "learned anew" not in agent.log
        assert agent.stop() == 0


def test_command_is_refused_where_the_configuration_leaves_it_out(broker: Mosquitto, tmp_path: Path) -> None:
    bundle = write_plain_bundle(tmp_path / "other.evb", baseline=BASELINE)
    source = {"type": "mqtt", "topic": "rig/other"}
    other = pipeline("other", bundle, source) + '\n[pipeline.baseline]\non = ["start"]\n'
    with watched(broker, tmp_path, more=other) as (agent, subscriber):
        request(broker, "1", asset="other")
        found = subscriber.wait_for(lambda messages: len(of(messages, "reply")) == 1, "the reply")
        assert of(found, "reply")[0]["ok"] is False
        assert 'expected "command" in on under [pipeline.baseline]' in of(found, "reply")[0]["message"]
        assert agent.stop() == 0


def test_broker_that_takes_no_answers_does_not_hold_up_alarms(tmp_path: Path) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic read #\ntopic deny edge-vae/+/+/+/cmd/+/reply\ntopic readwrite #\n")
    with (
        Mosquitto(tmp_path, extra=f"acl_file {rules}") as broker,
        watched(broker, tmp_path) as (agent, subscriber),
    ):
        request(broker, "1")
        agent.wait_for_log("command answered asset='pump'")
        subscriber.wait_for(lambda messages: states(messages)[-1][0] == "learning", "the state learning")
        rows(broker, *[50.0] * (BASELINE + 4), *[200.0] * 4)
        subscriber.wait_for(lambda messages: len(events(messages)) >= 1, "the alarm")
        assert agent.stop() == 0
        messages = until_goodbye(subscriber)
    assert of(messages, "reply") == []
    assert "broker connection lost" not in agent.log  # that of the alarms


def test_commands_are_heard_again_after_the_broker_was_away(broker: Mosquitto, tmp_path: Path) -> None:
    with watched(broker, tmp_path) as (agent, subscriber):
        broker.kill()
        subscriber.close()
        broker.start()
        agent.wait_for_log(f"commands connected: topic={NODE}/+/cmd/+", count=2)
        with Subscriber(broker, "edge-vae/#") as again:
            request(broker, "1")
            found = again.wait_for(lambda messages: len(of(messages, "reply")) == 1, "the reply")
        assert of(found, "reply")[0]["ok"] is True
        assert agent.stop() == 0


# drift


def recording(file: Path, scores: list[float]) -> Path:
    """A recording with these scores, but for windows in which they change; 0 stands for a quiet sample."""
    levels = [level_of(score) if score else 0.01 for score in scores]
    lines = [f"{1_700_000_000 + i / 10:.1f},{level:.6f}" for i, level in enumerate(levels)]
    file.write_text("\n".join(["time,level", *lines]) + "\n")
    return file


def once(broker: Mosquitto, config: Path) -> tuple[AgentProcess, list[Received]]:
    with Subscriber(broker, "edge-vae/#") as subscriber, AgentProcess(config, "--once") as agent:
        assert agent.wait() == 0
        return agent, until_goodbye(subscriber)


def test_drift_is_an_event_of_its_own_and_no_alarm(broker: Mosquitto, tmp_path: Path) -> None:
    bundle = write_plain_bundle(tmp_path / "plain.evb")
    source = replay(recording(tmp_path / "slow.csv", [0.0] * 50 + [2.5] * 200))
    config = write_config(
        tmp_path, broker.port, pipeline("pump", bundle, source) + "\n[pipeline.drift]\nhours = 0.001\n"
    )
    agent, messages = once(broker, config)
    (event,) = events(messages)
    jsonschema.Draft202012Validator(json.loads(schema.text("event"))).validate(event)
    assert (event["event"], event["severity"], event["alarm_id"], event["seq"]) == ("drift", "info", None, 1)
    assert 1.5 < event["score"] < event["threshold"] == 4.0
    assert event["window"]["start"] < event["window"]["end"] == event["time"]
    (channel,) = event["channels"]
    assert channel["name"] == "level"
    assert channel["value"] == pytest.approx(level_of(2.5), rel=0.1)
    assert of(messages, "state")[-1]["state"] == "normal"
    assert f"drift begins asset=pump event_id={event['event_id']} seq=1" in agent.log


def test_drift_is_told_once_by_an_agent_that_is_killed_while_it_begins_and_after_it_was_told(
    broker: Mosquitto, tmp_path: Path
) -> None:
    bundle = write_plain_bundle(tmp_path / "plain.evb")
    pump = pipeline("pump", bundle, {"type": "mqtt", "topic": "rig/pump"}, alarm=EVERY_WINDOW)
    config = write_config(tmp_path, broker.port, pump + "\n[pipeline.drift]\nhours = 0.001\n")

    def killed(windows: int, kept: str, told: str = "source connected") -> AgentProcess:
        """An agent that got so many drifting windows, and was killed once its file and its log said this."""
        with AgentProcess(config) as agent:
            agent.wait_for_log("source connected: topic=rig/pump")
            rows(broker, *[level_of(2.5)] * (windows + 3))
            wait_until(lambda: any(kept in file.read_text() for file in tmp_path.glob("state/learned-*.json")), kept)
            agent.wait_for_log(told)
            agent.kill()
            return agent

    with Subscriber(broker, "edge-vae/#") as subscriber:
        assert "drift begins" not in killed(8, '"windows":8').log
        # An agent that began anew would have told nothing.
        assert "windows=12" in killed(4, '"active":true', told="drift begins").log
        with AgentProcess(config) as agent:
            agent.wait_for_log("source connected: topic=rig/pump")
            rows(broker, *[level_of(2.5)] * 30, *[200.0] * 4)
            messages = subscriber.wait_for(lambda found: "raised" in [e["event"] for e in events(found)], "the alarm")
            assert agent.stop() == 0
    # An agent that is killed before it heard that the broker has an event sends it again, under the same id.
    told = {event["event_id"]: (event["event"], event["seq"]) for event in events(messages)}
    assert list(told.values()) == [("drift", 1), ("raised", 2)]


# operating modes

MODES = Modes(("recipe",), ((1.0,), (2.0,)), ((0.0,),) * 2, ((1.0,),) * 2)


def mode_recording(file: Path, recipes: list[str]) -> Path:
    """A quiet recording of a machine that says which recipe it runs, or fails to."""
    rows = [f"{1_700_000_000 + i / 10:.1f},0.01,{recipe}" for i, recipe in enumerate(recipes)]
    file.write_text("\n".join(["time,level,recipe", *rows]) + "\n")
    return file


def test_missing_mode_in_a_recording_is_a_gap_and_no_unknown_mode(broker: Mosquitto, tmp_path: Path) -> None:
    bundle = write_plain_bundle(tmp_path / "plain.evb", baseline=BASELINE, modes=MODES)
    recipes = ["", *["1"] * (BASELINE + 20), "", "nan", *["1"] * 10, "?", *["1"] * 10]
    source = replay(mode_recording(tmp_path / "pump.csv", recipes))
    agent, messages = once(broker, write_config(tmp_path, broker.port, pipeline("pump", bundle, source)))
    assert events(messages) == []
    assert of(messages, "state")[-1]["state"] == "normal"
    # 20 samples behind the baseline, 10 and 10 give 17, 7 and 7 windows: nothing was learned anew.
    assert f"source exhausted asset=pump samples={len(recipes)} windows=31" in agent.log


def test_score_finds_the_windows_that_the_agent_finds_where_the_mode_is_missing(tmp_path: Path) -> None:
    bundle = write_plain_bundle(tmp_path / "plain.evb", baseline=BASELINE, modes=MODES)
    file = mode_recording(tmp_path / "pump.csv", [*["1"] * (BASELINE + 20), "", "nan", *["1"] * 10])
    scores = tmp_path / "scores.csv"
    assert run(["score", str(bundle), str(file), "-o", str(scores)]) == 0
    rows = [line.split(",")[1] for line in scores.read_text().splitlines()[1:]]
    assert rows == [str(row) for row in (*range(BASELINE + 3, BASELINE + 20), *range(BASELINE + 25, BASELINE + 32))]


def test_unknown_mode_is_told_once(broker: Mosquitto, tmp_path: Path) -> None:
    bundle = write_plain_bundle(tmp_path / "plain.evb", modes=MODES)
    source = replay(mode_recording(tmp_path / "pump.csv", [*["2"] * 10, *["3"] * 5, "", *["3"] * 5]))
    agent, messages = once(broker, write_config(tmp_path, broker.port, pipeline("pump", bundle, source)))
    (event,) = events(messages)
    jsonschema.Draft202012Validator(json.loads(schema.text("event"))).validate(event)
    assert (event["event"], event["channels"][0]["name"], event["channels"][0]["value"]) == (
        "unknown_mode",
        "recipe",
        3.0,
    )
    assert of(messages, "state")[-1]["state"] == "fault"
    assert "unknown mode asset=pump" in agent.log


# a threshold that follows its tail

ADAPTS = "\n[pipeline.threshold]\nadapt = true\n"
TALL_PEAKS = ([0.0] * 8 + [3.5] * 8) * 60
"""Two windows each: a single high one would raise no alarm, and is no peak."""


def adapting(broker: Mosquitto, folder: Path, scores: list[float]) -> tuple[AgentProcess, list[Received]]:
    bundle = write_plain_bundle(folder / "plain.evb")
    source = replay(recording(folder / "pump.csv", scores))
    config = write_config(folder, broker.port, pipeline("pump", bundle, source, alarm=EVERY_WINDOW) + ADAPTS)
    return once(broker, config)


def test_threshold_that_was_learned_survives_a_restart_and_is_that_of_the_events(
    broker: Mosquitto, tmp_path: Path
) -> None:
    _, first = adapting(broker, tmp_path, TALL_PEAKS)
    learned = of(first, "state")[-1]["threshold"]
    assert 4.0 < learned <= 6.0
    _, second = adapting(broker, tmp_path, [0.0] * 4 + [20.0] * 4)
    assert of(second, "state")[-1]["threshold"] == pytest.approx(learned, rel=1e-3)
    (event,) = events(second)
    assert (event["event"], event["threshold"]) == ("raised", pytest.approx(learned, rel=1e-3))
    assert event["ratio"] == pytest.approx(event["score"] / event["threshold"])


def test_damaged_file_of_a_learned_threshold_leaves_that_of_the_bundle(broker: Mosquitto, tmp_path: Path) -> None:
    adapting(broker, tmp_path, TALL_PEAKS)
    (kept,) = (tmp_path / "state").glob("learned-*.json")
    kept.write_bytes(kept.read_bytes()[:-9])
    agent, messages = adapting(broker, tmp_path, [0.0] * 4)
    assert of(messages, "state")[-1]["threshold"] == pytest.approx(4.0, rel=1e-4)
    assert agent.log.count("what was learned is not read, beginning anew asset=pump") == 1


def test_bundle_whose_threshold_cannot_adapt_is_refused_with_78(broker: Mosquitto, tmp_path: Path) -> None:
    threshold = plain_threshold(value=2.0, kind="rank")
    bundle = write_plain_bundle(tmp_path / "plain.evb", threshold=threshold)
    source = replay(recording(tmp_path / "pump.csv", [0.0] * 4))
    config = write_config(tmp_path, broker.port, pipeline("pump", bundle, source) + ADAPTS)
    with AgentProcess(config, "--once") as agent:
        assert agent.wait() == 78
    assert "plain.evb: a threshold that cannot adapt" in agent.lines[-1]
    assert "Leave adapt = true" in agent.lines[-1]
