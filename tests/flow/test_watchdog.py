"""What a service manager hears of agents that hang, in one stage or as a whole, and of one whose broker does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent_process import AgentProcess, pipeline, replay, write_config
from broker import Mosquitto, free_port
from plain_bundle import write_plain_bundle

pytestmark = pytest.mark.broker

WATCHDOG_S = 1.0
ROWS = "time,level\n" + "".join(f"2026-01-01T00:00:0{second}Z,0.0\n" for second in range(8))


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def write_rows(fifo: Path) -> None:
    """Give whoever reads it the whole recording; returns when it is being read."""
    with fifo.open("w") as stream:
        stream.write(ROWS)


def test_watchdog_fires_on_a_frozen_stage_and_process_and_never_on_a_dead_or_frozen_broker(tmp_path: Path) -> None:
    bundle = write_plain_bundle(tmp_path / "plain.evb")
    fifo = tmp_path / "recording.csv"
    os.mkfifo(fifo)
    waiting = pipeline("waits", bundle, {"type": "mqtt", "topic": "rig/waits"})
    with Mosquitto(folder(tmp_path / "broker")) as broker:
        frozen = write_config(folder(tmp_path / "1"), broker.port, pipeline("hangs", bundle, replay(fifo)), waiting)
        alone = write_config(folder(tmp_path / "2"), free_port(), waiting)
        served = write_config(folder(tmp_path / "3"), broker.port, waiting)
        with (
            AgentProcess(frozen, watchdog_s=WATCHDOG_S) as hanging,
            AgentProcess(alone, watchdog_s=WATCHDOG_S) as lonely,
            AgentProcess(served, watchdog_s=WATCHDOG_S) as stuck,
        ):
            write_rows(fifo)  # it has a look at the recording, which then blocks whoever opens it to read on
            stuck.wait_for_log("broker connected")
            stuck.wait_told("READY=1")
            broker.freeze()
            # A stage that is read in vain: the manager is told as soon as it has hung for long enough.
            assert "WATCHDOG=1" in hanging.wait_told("READY=1", "WATCHDOG=trigger")
            hanging.wait_for_log("stage makes no progress stage=pipeline hangs doing=reading")
            assert hanging.silent(1.5 * WATCHDOG_S)
            # The brokers of the others were away, or frozen, for longer than that.
            for agent in (lonely, stuck):
                assert set(agent.wait_told(*["WATCHDOG=1"] * 4)) <= {"READY=1", "WATCHDOG=1"}
                assert "no progress" not in agent.log
            # As a whole: not one word, and no stage is blamed afterwards.
            stuck.freeze()
            assert stuck.silent(1.5 * WATCHDOG_S)
            stuck.thaw()
            assert set(stuck.wait_told(*["WATCHDOG=1"] * 2)) == {"WATCHDOG=1"}
            # What hung goes on: all is well again.
            write_rows(fifo)
            hanging.wait_told("WATCHDOG=1")
            hanging.wait_for_log("stage goes on again stage=pipeline hangs")
            broker.thaw()
