"""Sensors at a wire through the real agent to a subscriber: a serial line and an IIO buffer."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_process import EVERY_WINDOW, AgentProcess, events, pipeline, write_config
from broker import Mosquitto, Subscriber
from iio_tree import IioTree
from plain_bundle import write_plain_bundle

pytestmark = pytest.mark.broker

LEVELS = [1.0] * 8 + [4.0] * 8 + [1.0] * 8
"""A healthy pump, a fault, and a healthy pump again, at ten samples a second."""

Wired = tuple[dict[str, Any], Callable[[], None]]


def serial_line(folder: Path) -> Wired:
    device, port = os.openpty()

    def give() -> None:
        os.write(device, b"cut\n" + b"".join(b"%.1f\r\n" % level for level in LEVELS))

    return {"type": "serial", "port": os.ttyname(port), "baudrate": 115_200, "format": "csv"}, give


def iio_buffer(folder: Path) -> Wired:
    tree = IioTree(folder, {"voltage0": "le:u16/16>>0"}, attributes={"in_voltage_scale": "0.001"})

    def give() -> None:
        began_ns = time.time_ns()
        for number, level in enumerate(LEVELS):
            tree.write(struct.pack("<Hxxxxxxq", int(level * 1000), began_ns + number * 100_000_000))

    places = {"root": str(tree.root), "dev": str(tree.dev)}
    return {"type": "iio", "device": "adxl355", "channels": {"level": "voltage0"}, **places}, give


@pytest.mark.parametrize("wired", [serial_line, iio_buffer])
def test_a_fault_at_a_wired_sensor_is_an_alarm(
    broker: Mosquitto, tmp_path: Path, wired: Callable[[Path], Wired]
) -> None:
    source, give = wired(tmp_path)
    tables = pipeline("pump", write_plain_bundle(tmp_path / "plain.evb"), source, alarm=EVERY_WINDOW)
    with (
        Subscriber(broker, "edge-vae/+/+/+/event") as subscriber,
        AgentProcess(write_config(tmp_path, broker.port, tables)) as agent,
    ):
        agent.wait_for_log("source connected")
        give()
        raised, cleared = events(subscriber.wait_for_count(2))

    assert [raised["event"], cleared["event"]] == ["raised", "cleared"]
    assert raised["channels"][0]["name"] == "level"
    assert abs(raised["channels"][0]["value"] - 4.0) < 3.0
