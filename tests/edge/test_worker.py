"""What a pipeline's thread does with commands, whatever its source does; the rest of its life is in test_agent."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from agent_process import pipeline, replay, write_config
from broker import DEADLINE_S, free_port, wait_until
from edge_vae import agent as module
from edge_vae.agent import Agent
from edge_vae.broker_config import MqttConfig, TlsConfig
from edge_vae.clock import format_time
from edge_vae.command import Order, Outcome
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
        return Agent(read_config(write_config(tmp_path, free_port(), f"{tables}\n{more}")))

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


def told(worker: Worker, order_id: str) -> Outcome:
    """What the worker answers to an order."""
    answers: list[Outcome] = []
    worker.mailbox.put(Order(order_id, answers.append))
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
    (tmp_path / "ca.pem").write_text("no certificate")
    mqtt = MqttConfig(port=free_port(), tls=TlsConfig(ca_file=tmp_path / "ca.pem"))
    made._outbox.close()
    with running(Agent(msgspec.structs.replace(read_config(tmp_path / "agent.toml"), mqtt=mqtt))) as worker:
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
