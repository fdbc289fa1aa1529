"""What a pipeline's thread does with commands, whatever its source does; the rest of its life is in test_agent."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from agent_process import pipeline, replay, write_config
from broker import DEADLINE_S, free_port, wait_until
from edge_vae import agent as module
from edge_vae.agent import Agent
from edge_vae.broker_config import MqttConfig, TlsConfig
from edge_vae.clock import format_time
from edge_vae.command import Ack, Order, Outcome, Rebaseline, Request, Shelve, Unshelve
from edge_vae.config import read_config
from edge_vae.errors import SourceError
from edge_vae.event import notice
from edge_vae.pipeline import Learned
from edge_vae.sample import Block
from edge_vae.sources.memory import MemorySource
from edge_vae.stamp import Stamper
from edge_vae.worker import Worker, _is_of_own_clock
from plain_bundle import level_of, write_plain_bundle

BASELINE = 8
QUIET, TALL = 0.01, level_of(3.5)

Make = Callable[..., Agent]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes an agent whose one source is this one, and whose broker is away."""
    monkeypatch.setattr(module, "DRAIN_S", 0.05)

    def made(source: MemorySource, *, more: str = "", baseline: int = BASELINE) -> Agent:
        bundle = write_plain_bundle(tmp_path / "plain.evb", baseline=baseline)
        tables = pipeline("pump", bundle, replay(tmp_path / "unused.csv"))
        monkeypatch.setattr(module, "open_sources", lambda *configs, **settings: source)
        config = write_config(tmp_path, free_port(), f"{tables}\n{more}")
        return Agent(read_config(config), config)

    return made


@contextmanager
def running(made: Agent) -> Iterator[Worker]:
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        yield made._workers[0]
    finally:
        made.stop()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def told(worker: Worker, request: Request | str) -> Outcome:
    """What the worker answers to a request, by default to rebaseline."""
    answers: list[Outcome] = []
    worker.mailbox.put(Order(Rebaseline(id=request) if isinstance(request, str) else request, answers.append))
    wait_until(lambda: bool(answers), "the answer")
    (answer,) = answers
    return answer


def samples(*levels: float) -> Block:
    return Block(np.array(levels)[:, None], np.full(len(levels), np.nan), 0)


class Silent(MemorySource):
    """Gives its blocks, then waits for more that never come."""

    @property
    def exhausted(self) -> bool:
        return False

    def read(self, timeout_s: float, *, at_least: int = 1) -> list[Block]:
        found = super().read(timeout_s)
        if not found:
            self._closed.wait(0.01)
        return found


class Broken(MemorySource):
    """Cannot be opened."""

    def open(self, channels: Sequence[str]) -> None:
        msg = "no such device"
        raise SourceError(msg)


def test_command_is_carried_out_while_no_samples_come(make: Make) -> None:
    with running(make(Silent([samples(*[QUIET] * (BASELINE + 4))]))) as worker:
        wait_until(lambda: worker._core.windows == 1, "a window")
        assert told(worker, "1") == Outcome(ok=True, message="the baseline is learned from the next 8 samples")
        assert worker._core.state == "learning"


def test_command_is_carried_out_while_the_source_is_broken_and_the_state_stays_fault(make: Make) -> None:
    with running(make(Broken([]))) as worker:
        wait_until(lambda: worker._state[0] == "fault", "the fault")
        assert told(worker, "1").ok
        assert worker._state[0] == "fault"


def test_command_after_the_last_sample_is_refused(make: Make) -> None:
    with running(make(MemorySource([samples(QUIET)]))) as worker:
        wait_until(lambda: worker.finished, "the end of the source")
        assert told(worker, "1") == Outcome(ok=False, message="there are no more samples")


def test_files_for_tls_that_cannot_be_used_cost_the_commands_and_not_the_agent(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = make(Silent([samples(*[QUIET] * (BASELINE + 4))]))
    config = tmp_path / "agent.toml"
    (tmp_path / "ca.pem").write_text("no certificate")
    mqtt = MqttConfig(port=free_port(), tls=TlsConfig(ca_file=tmp_path / "ca.pem"))
    made._outbox.close()
    with running(Agent(msgspec.structs.replace(read_config(config), mqtt=mqtt), config)) as worker:
        wait_until(lambda: worker._core.windows == 1, "a window")
    assert "commands not heard, files for TLS cannot be used" in caplog.text


ADAPTS = "[pipeline.threshold]\nadapt = true\n"


def test_what_was_learned_is_kept_at_the_end_and_forgotten_by_command(make: Make) -> None:
    peaks = ([QUIET] * 8 + [TALL] * 8) * 20  # two windows each: a single one would raise no alarm
    made = make(Silent([samples(*[QUIET] * BASELINE, *peaks)]), more=ADAPTS)
    with running(made) as worker:
        wait_until(lambda: worker._core.windows > 200, "the peaks")
        wait_until(lambda: worker._learned_file.load() != Learned(), "the file")
    kept = worker._learned_file.load()
    assert kept == worker._core.learned
    assert kept.tail.peaks > 10
    assert kept.drift.sum > 0
    again = make(Silent([samples(QUIET)]), more=ADAPTS)
    with running(again) as worker:
        assert worker._core.threshold > 4.0
        assert worker._core.learned.drift.sum > 0
        assert told(worker, "1").ok
        assert worker._learned_file.load() == Learned()
        assert worker._core.threshold == 4.0


def test_drift_is_kept_on_disk_before_its_event_is_logged(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    drifting = Silent([samples(*[QUIET] * BASELINE), *(samples(TALL) for _ in range(80))])
    with running(make(drifting, more="[pipeline.drift]\nhours = 1e-6\n")) as worker:
        wait_until(lambda: "drift begins asset=pump" in caplog.text, "the drift")
        assert worker._learned_file.load().drift.active


# alarms


class Fed(Silent):
    """Gives what it is fed, piece by piece."""

    def __init__(self) -> None:
        super().__init__([])
        self._fed: deque[Block] = deque()

    def feed(self, *levels: float) -> None:
        self._fed.append(samples(*levels))

    def read(self, timeout_s: float, *, at_least: int = 1) -> list[Block]:
        if self._fed:
            return [self._fed.popleft()]
        self._closed.wait(0.01)
        return []


def told_events(made: Agent) -> list[dict[str, Any]]:
    return [json.loads(stored.payload) for stored in made._outbox.pending(0, 1000)]


def kinds(made: Agent) -> list[str]:
    return [event["event"] for event in told_events(made)]


def has_told(made: Agent, *expected: str) -> None:
    wait_until(lambda: len(kinds(made)) >= len(expected), f"{expected}")
    assert kinds(made) == list(expected)


def last_state(made: Agent) -> dict[str, Any]:
    (payload,) = (value for topic, value in made._delivery._retained._latest.items() if topic.endswith("/state"))
    return json.loads(payload)


EVERY = "[pipeline.alarm]\non_delay = [1, 1]\noff_delay = [1, 1]\n"


def test_shelved_alarm_is_told_by_the_state_alone_and_raised_when_the_shelf_is_over(make: Make) -> None:
    source = Fed()
    made = make(source, more=EVERY, baseline=0)
    with running(made) as worker:
        assert told(worker, Shelve(id="1", minutes=30.0, by="jo", note="cleaning")).ok
        source.feed(*[200.0] * 4)
        wait_until(lambda: worker._core.windows == 1, "a window")
        assert kinds(made) == ["shelved"]
        state = last_state(made)
        assert (state["state"], state["shelved"]["by"], state["shelved"]["note"]) == ("shelved", "jo", "cleaning")
        wait_until(lambda: len(last_state(made)["alarms"]) == 1, "the alarm in the state")
        assert last_state(made)["alarms"][0]["alarm_id"] is None
        assert told(worker, Unshelve(id="2")).ok
        has_told(made, "shelved", "unshelved", "raised")
        assert told(worker, Unshelve(id="3")) == Outcome(
            ok=False, message="expected an asset that is shelved, received one that is not"
        )
        assert last_state(made)["state"] == "alarm"


def test_acknowledgement_stands_in_the_state_and_is_an_event(make: Make) -> None:
    source = Fed()
    made = make(source, more=EVERY, baseline=0)
    with running(made) as worker:
        assert not told(worker, Ack(id="1")).ok
        source.feed(*[200.0] * 4)
        has_told(made, "raised")
        (raised,) = told_events(made)
        assert told(worker, Ack(id="2", by="jo", note="known", verdict="false")).message == (
            f"acknowledged: {raised['alarm_id']}; verdict kept with samples: {raised['alarm_id']}"
        )
        acknowledged = told_events(made)[1]
        assert (acknowledged["event"], acknowledged["alarm_id"]) == ("acknowledged", raised["event_id"])
        assert (acknowledged["action"]["by"], acknowledged["action"]["verdict"]) == ("jo", "false")
        assert last_state(made)["alarms"][0]["acknowledged"] == acknowledged["action"]
        assert not told(worker, Ack(id="3", alarm_id="0" * 26)).ok


def test_alarm_of_before_a_restart_is_not_raised_again_and_cleared_under_its_id(make: Make) -> None:
    for levels, expected in (([200.0] * 4, ["raised"]), ([200.0] * 6, ["raised"]), ([0.0] * 4, ["raised", "cleared"])):
        source = Fed()
        made = make(source, more=EVERY, baseline=0)
        with running(made) as worker:
            source.feed(*levels)
            wait_until(lambda worker=worker, levels=levels: worker._core.windows == len(levels) - 3, "the windows")
            has_told(made, *expected)
            found = told_events(made)
    raised, cleared = found
    assert raised["event_id"] == raised["alarm_id"] == cleared["alarm_id"] != cleared["event_id"]
    assert cleared["peak_score"] == pytest.approx(raised["peak_score"])


def test_what_is_kept_of_alarms_and_cannot_be_read_costs_nothing_else(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    first = make(Fed(), baseline=0)
    first._outbox.keep("pump", "alarms", b"\xff")
    first._outbox.close()
    source = Fed()
    made = make(source, more=EVERY, baseline=0)
    assert "state of the alarms is not read, beginning anew asset=pump" in caplog.text
    with running(made):
        source.feed(*[200.0] * 4)
        has_told(made, "raised")


@pytest.mark.parametrize(
    ("late_s", "ahead_s", "own"), [(0.0, 0.0, True), (60.0, 0.0, True), (0.0, 3600.0, False), (0.0, -1e9, False)]
)
def test_a_time_is_this_machines_if_its_clock_said_so_when_the_samples_came(
    late_s: float, ahead_s: float, own: bool
) -> None:
    now_s, now_ns = time.time(), time.monotonic_ns()
    told = msgspec.structs.replace(
        notice("dropped", asset="pump", seq=1, dropped=1, stamp=Stamper("b")()),
        time=format_time(now_s - late_s + ahead_s), monotonic_ns=max(0, now_ns - int(late_s * 1e9)),
    )  # fmt: skip
    assert _is_of_own_clock(told) is own
