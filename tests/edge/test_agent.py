"""What the agent does when something inside it fails; its whole life against a real broker is in tests/flow."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from agent_process import EVERY_WINDOW, pipeline, replay, write_config
from broker import DEADLINE_S, free_port, wait_until
from edge_vae import agent as module
from edge_vae.agent import Agent
from edge_vae.alarm import AlarmRules
from edge_vae.alarm_config import AlarmConfig
from edge_vae.bundle import Bundle
from edge_vae.config import read_config
from edge_vae.errors import MissingExtraError, OutboxError, SourceError
from edge_vae.sample import Block
from edge_vae.sources.memory import MemorySource


@pytest.fixture
def configured(rig: Path, bundle_path: Path, tmp_path: Path) -> Path:
    """A configuration whose recording raises alarms, and whose broker is away."""
    source = replay(rig / "faulty")
    return write_config(tmp_path, free_port(), pipeline("pump", bundle_path, source, alarm=EVERY_WINDOW))


@pytest.fixture(autouse=True)
def _without_patience(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "DRAIN_S", 0.05)


@contextmanager
def running(made: Agent) -> Iterator[list[int]]:
    """The agent in a thread of its own, stopped at the end; its exit status is put into the list."""
    status: list[int] = []
    thread = threading.Thread(target=lambda: status.append(made.run()))
    thread.start()
    try:
        yield status
    finally:
        made.stop()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def stored(made: Agent) -> list[dict[str, Any]]:
    return [msgspec.json.decode(message.payload) for message in made._outbox.pending(0, 10_000)]


def with_source(
    monkeypatch: pytest.MonkeyPatch, configured: Path, source: MemorySource, *, once: bool = False
) -> Agent:
    monkeypatch.setattr(module, "open_sources", lambda *configs, **settings: source)
    return Agent(read_config(configured), once=once)


@pytest.fixture
def alarming(bundle_path: Path) -> list[Block]:
    """Samples that raise an alarm: far from everything that the model has seen."""
    manifest = Bundle.read(bundle_path).manifest
    far = manifest.scaler.centre + 50 * manifest.scaler.scale
    return [Block(np.tile(far, (2 * manifest.window.length, 1)), np.full(2 * manifest.window.length, np.nan), 0)]


class Breaking(MemorySource):
    """Raises the next of some errors each time it has given some blocks since it was opened; then it is sound."""

    def __init__(self, blocks: Sequence[Block], *errors: Exception, after: int) -> None:
        super().__init__(blocks)
        self._errors, self._after, self._given = list(errors), after, 0

    def open(self, channels: Sequence[str]) -> None:
        super().open(channels)
        self._given = 0

    def read(self, timeout_s: float, *, at_least: int = 1) -> list[Block]:
        if self._given == self._after and self._errors:
            raise self._errors.pop(0)
        self._given += 1
        return super().read(timeout_s, at_least=at_least)


# rules


def test_rules_of_the_configuration_replace_those_of_the_bundle_one_by_one() -> None:
    bundle = AlarmRules(on_delay=(4, 5), off_delay=(2, 2), deadband=0.3)
    assert module._rules(bundle, AlarmConfig()) == bundle
    changed = module._rules(bundle, AlarmConfig(on_delay=(1, 2), deadband=0.0))
    assert changed == AlarmRules(on_delay=(1, 2), off_delay=(2, 2), deadband=0.0)


# faults


def test_alarm_that_a_full_disk_does_not_take_is_stored_when_it_does(
    configured: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = Agent(read_config(configured))
    refuse(made, "ON")  # SQLite's own way to refuse every write
    with running(made):
        wait_until(lambda: "alarm not stored, trying again" in caplog.text, "a failed attempt")
        assert "alarm raised" not in caplog.text
        refuse(made, "OFF")
        wait_until(lambda: "source exhausted" in caplog.text, "the end of the recording")
        found = stored(made)
    assert [event["seq"] for event in found] == list(range(1, len(found) + 1))
    assert [event["event"] for event in found[:2]] == ["raised", "cleared"]
    assert all(event["event_id"] in caplog.text for event in found)


def test_once_ends_with_the_error_of_a_full_disk(configured: Path) -> None:
    made = Agent(read_config(configured), once=True)
    refuse(made, "ON")
    with pytest.raises(OutboxError, match="cannot keep messages"):
        made.run()


def refuse(made: Agent, word: str) -> None:
    made._outbox._file.db.execute(f"PRAGMA query_only = {word}")


def test_unforeseen_error_is_logged_whole_and_the_pipeline_goes_on(
    configured: Path, alarming: list[Block], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = Breaking(alarming, RuntimeError("nobody thought of this"), after=0)
    made = with_source(monkeypatch, configured, source)
    with running(made):
        wait_until(lambda: bool(stored(made)), "the alarm")
        assert [event["event"] for event in stored(made)] == ["raised"]
    assert "Traceback" in caplog.text
    assert "trying again asset=pump error=RuntimeError('nobody thought of this')" in caplog.text


def test_once_ends_with_any_error_of_a_source(
    configured: Path, alarming: list[Block], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = MissingExtraError("reading pump.parquet", module="pyarrow", extra="parquet")
    made = with_source(monkeypatch, configured, Breaking(alarming, error, after=0), once=True)
    with pytest.raises(MissingExtraError, match="pyarrow"):
        made.run()


def test_source_that_breaks_again_and_again_is_waited_for_longer_each_time(
    configured: Path, alarming: list[Block], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []

    class Recorded:
        def delay_s(self, attempt: int) -> float:
            attempts.append(attempt)
            return 0.0

    source = Breaking(alarming * 2, *[SourceError("torn cable")] * 5, after=1)
    made = with_source(monkeypatch, configured, source)
    made._workers[0]._backoff = Recorded()
    with running(made):
        wait_until(lambda: made._workers[0].finished, "the end of the source")
    assert attempts == [0, 1, 2, 3, 4]
    assert source.samples == (5 + 2) * len(alarming[0].times)


# the end


@pytest.mark.parametrize(("once", "status"), [(False, 0), (True, 1)])
def test_stop_gives_up_draining_after_a_while_and_says_what_waits(
    once: bool, status: int, configured: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = Agent(read_config(configured), once=once)
    with running(made) as ended:
        wait_until(lambda: "source exhausted" in caplog.text, "the end of the recording")
        waiting = len(stored(made))
    assert ended == [status]
    assert f"agent stopped waiting_messages={waiting}" in caplog.text
    assert waiting > 0


# the watchdog


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], list[bytes]]]:
    """What a service manager was told since the last call; it wants a sign ten times a second."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))

        def since() -> list[bytes]:
            found = []
            with suppress(BlockingIOError):
                while True:
                    found.append(manager.recv(4096))
            return found

        yield since


class Hanging(MemorySource):
    """Hangs in its first read, until it is told to go on."""

    def __init__(self) -> None:
        super().__init__([], endless=True)
        self.hangs, self.goes_on = threading.Event(), threading.Event()

    def read(self, timeout_s: float, *, at_least: int = 1) -> list[Block]:
        self.hangs.set()
        self.goes_on.wait(DEADLINE_S)
        return super().read(timeout_s, at_least=at_least)


def test_watchdog_gets_no_sign_while_a_stage_hangs(
    told: Callable[[], list[bytes]],
    configured: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "STALLED_S", 1.5)
    source = Hanging()
    made = with_source(monkeypatch, configured, source)
    with running(made):
        try:
            wait_until(lambda: b"WATCHDOG=1" in told(), "a first sign")
            wait_until(lambda: "stage makes no progress stage=pump" in caplog.text, "the hanging stage")
            told()
            seen = caplog.text.count("no progress")
            wait_until(lambda: caplog.text.count("no progress") > seen + 2, "three more turns")
            assert told() == []
        finally:
            source.goes_on.set()
        wait_until(lambda: b"WATCHDOG=1" in told(), "a sign after it went on")
    assert source.hangs.is_set()
