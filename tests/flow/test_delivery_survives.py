"""Broker or agent killed in the middle of a replay: every alarm that was logged as raised arrives, in order."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from agent_process import (
    EVERY_WINDOW,
    AgentProcess,
    events,
    long_recording,
    pipeline,
    replay,
    statuses,
    until_goodbye,
    write_config,
)
from broker import Mosquitto, Subscriber

pytestmark = pytest.mark.broker

RAISED = "alarm raised"
SEEDS = [1, 2, 3]


@pytest.fixture
def config(rig: Path, bundle_path: Path, broker: Mosquitto, tmp_path: Path) -> Path:
    """An agent that replays for a second or two and raises tens of alarms."""
    source = replay(long_recording(rig, tmp_path, times=4))
    return write_config(tmp_path, broker.port, pipeline("pump", bundle_path, source, alarm=EVERY_WINDOW))


def check_complete_and_in_order(received: list[dict[str, Any]], logged: list[str]) -> None:
    """Nothing that was logged is missing; each event's first arrival is in order, without a gap."""
    assert logged
    assert set(logged) <= {event["event_id"] for event in received}
    first_arrivals = list({event["event_id"]: event["seq"] for event in received}.values())
    assert first_arrivals == list(range(1, len(first_arrivals) + 1))


def has_events(count: int) -> Any:
    return lambda messages: len(events(messages)) >= count


@pytest.mark.parametrize("seed", SEEDS)
def test_broker_killed_in_the_middle_of_a_replay_costs_no_alarm(seed: int, config: Path, broker: Mosquitto) -> None:
    chance = random.Random(seed)
    with Subscriber(broker, "#") as before, AgentProcess(config, "--once") as agent:
        before.wait_for(has_events(chance.randint(1, 20)), "the first events")
        broker.kill()
        agent.wait_for_log("broker connection lost")
        at_the_loss = len(agent.logged("raised"))
        agent.wait_for_log(RAISED, count=at_the_loss + chance.randint(1, 10))
        agent.freeze()  # so that nothing is published before somebody listens
        broker.start()
        received = events(before.drain())
        assert len(received) < 2 * len(agent.logged("raised"))  # something is left to be delivered
        with Subscriber(broker, "#") as after:
            agent.thaw()
            assert agent.wait() == 0
            received += events(until_goodbye(after))
    check_complete_and_in_order(received, agent.logged("raised"))
    assert "agent stopped waiting_messages=0" in agent.log


def test_broker_that_restarts_again_and_again_costs_no_alarm(config: Path, broker: Mosquitto) -> None:
    received: list[dict[str, Any]] = []
    with AgentProcess(config) as agent:
        agent.freeze()
        for _ in range(3):
            with Subscriber(broker, "#") as subscriber:
                agent.thaw()
                subscriber.wait_for(has_events(5), "some events")
                broker.kill()
                agent.freeze()  # so that nothing is published before somebody listens
                received += events(subscriber.drain())
            broker.start()
        with Subscriber(broker, "#") as subscriber:
            agent.thaw()
            agent.wait_for_log("source exhausted")
            assert agent.stop() == 0
            received += events(until_goodbye(subscriber))
    check_complete_and_in_order(received, agent.logged("raised"))


@pytest.mark.parametrize("seed", SEEDS)
def test_agent_killed_at_any_moment_and_started_again_costs_no_alarm(
    seed: int, config: Path, broker: Mosquitto
) -> None:
    moment = random.Random(seed).randint(1, 30)
    with Subscriber(broker, "#") as subscriber:
        with AgentProcess(config, "--once") as agent:
            subscriber.wait_for(has_events(1), "the first event")
            agent.wait_for_log(RAISED, count=moment)
            agent.kill()
        subscriber.wait_for(lambda messages: statuses(messages)[-1]["time"] is None, "the last will")
        logged = agent.logged("raised") + raised_by_another(config)
        received = events(until_goodbye(subscriber))
    check_complete_and_in_order(received, logged)


@pytest.mark.parametrize("seed", SEEDS)
def test_alarms_that_no_broker_has_seen_outlive_the_agent(seed: int, config: Path, broker: Mosquitto) -> None:
    broker.kill()
    with AgentProcess(config, "--once") as agent:
        agent.wait_for_log(RAISED, count=random.Random(seed).randint(1, 30))
        agent.kill()
    broker.start()
    with Subscriber(broker, "#") as subscriber:
        logged = agent.logged("raised") + raised_by_another(config)
        received = events(until_goodbye(subscriber))
    check_complete_and_in_order(received, logged)
    assert all(event["replayed"] for event in received if event["event_id"] in agent.logged("raised"))


def raised_by_another(config: Path) -> list[str]:
    """What a second agent raises, from the beginning of the recording to its end."""
    with AgentProcess(config, "--once") as agent:
        assert agent.wait() == 0
    return agent.logged("raised")
