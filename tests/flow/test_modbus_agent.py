"""A machine behind Modbus, through the real agent and a real broker."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from agent_process import EVERY_WINDOW, AgentProcess, events, pipeline, write_config
from broker import ADDRESS, Mosquitto, Subscriber, free_port
from edge_vae import online
from edge_vae.config import read_config
from edge_vae.errors import SourceError
from modbus_server import ModbusServer, device
from plain_bundle import level_of, write_plain_bundle

pytestmark = pytest.mark.broker

REGISTER = """
[[pipeline.source.register]]
channel = "level"
address = 0
type = "float32"
"""


def words(level: float) -> tuple[int, ...]:
    found: tuple[int, ...] = struct.unpack(">2H", struct.pack(">f", level))
    return found


def config(folder: Path, broker: Mosquitto, **source: Any) -> Path:
    bundle = write_plain_bundle(folder / "plain.evb")
    tables = pipeline("pump", bundle, {"type": "modbus", "host": ADDRESS, **source}, alarm=EVERY_WINDOW)
    return write_config(folder, broker.port, tables + REGISTER)


def test_an_alarm_is_raised_and_cleared_even_if_the_device_was_gone_in_between(
    broker: Mosquitto, tmp_path: Path
) -> None:
    normal, fault = words(level_of(1.0)), words(level_of(20.0))
    with (
        ModbusServer(device(normal)) as server,
        Subscriber(broker, "#") as subscriber,
        AgentProcess(config(tmp_path, broker, port=server.port, rate_hz=50)) as agent,
    ):
        agent.wait_for_log("source connected")
        server.stop()
        agent.wait_for_log("source broke")
        server.devices = [device(fault)]
        server.start()
        subscriber.wait_for(lambda got: len(events(got)) == 1, "the alarm")
        server.stop()
        server.devices = [device(normal)]
        server.start()
        cleared = subscriber.wait_for(lambda got: len(events(got)) == 2, "its end")
        assert agent.stop() == 0

    raised, end = events(cleared)
    assert (raised["event"], end["event"]) == ("raised", "cleared")
    assert raised["channels"][0]["name"] == "level"
    assert end["alarm_id"] == raised["alarm_id"]


def test_a_device_is_asked_before_the_start(broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ModbusServer(device(words(1.0))) as server:
        assert list(online.try_online(read_config(config(tmp_path, broker, port=server.port))))[-1:] == [
            "pump: source opened"
        ]
        path = config(tmp_path, broker, port=server.port)
        path.write_text(path.read_text().replace('channel = "level"', 'channel = "levl"'))
        with pytest.raises(SourceError, match="expected a register for each of level, received none for level"):
            list(online.try_online(read_config(path)))
    monkeypatch.setattr(online, "TIMEOUT_S", 0.2)
    with pytest.raises(SourceError, match=r"expected a device that answers, received .*Connection refused"):
        list(online.try_online(read_config(config(tmp_path, broker, port=free_port()))))
