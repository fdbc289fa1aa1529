"""Modbus against pymodbus's own servers: what is asked, what is made of the answers, and of those that never come."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymodbus.constants import ExcCodes
from pymodbus.framer import FramerRTU

from broker import ADDRESS, DEADLINE_S, free_port, wait_until
from edge_vae.broker_config import MqttConfig
from edge_vae.errors import MissingExtraError, SourceError
from edge_vae.modbus_config import ModbusConfig, ModbusRegister
from edge_vae.sample import Block
from edge_vae.sources import fed, open_source
from edge_vae.sources.fed import TURN_S, FedSource
from modbus_server import Action, ModbusServer, SerialCable, device

SHORT_S = 0.15
"""A timeout that tests wait for."""
PAIR = (
    ModbusRegister(channel="a", address=0, type="int16"),
    ModbusRegister(channel="b", address=10, type="int16"),
)
WORDS = [11, *range(100, 109), 22]
Opened = Callable[..., FedSource]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fed, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(fed, "LAST_RETRY_S", 0.02)


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Opens sources, and closes them at the end."""
    with ExitStack() as stack:

        def open_one(*registers: ModbusRegister, **more: Any) -> FedSource:
            more = {"rate_hz": 100.0, "timeout_s": DEADLINE_S} | more
            config = ModbusConfig(registers=registers, **more)
            source = open_source(config, mqtt=MqttConfig(), rate_hz=1.0)
            assert isinstance(source, FedSource)
            stack.callback(source.close)
            source.open(config.names())
            return source

        yield open_one


def at(server: ModbusServer) -> dict[str, Any]:
    return {"host": ADDRESS, "port": server.port}


def blocks_of(source: FedSource, count: int = 1) -> list[Block]:
    blocks: list[Block] = []
    wait_until(
        lambda: (blocks.extend(source.read(0.1)) or sum(len(block.times) for block in blocks)) >= count, "samples come"
    )
    return blocks


def sample(source: FedSource) -> list[float]:
    """The latest sample."""
    values: list[float] = blocks_of(source)[-1].values[-1].tolist()
    return values


def wait_for_sample(source: FedSource, expected: list[float]) -> None:
    wait_until(lambda: np.array_equal(sample(source), expected, equal_nan=True), f"a sample {expected}")


def no_thread(name: str) -> bool:
    return not any(thread.name == name for thread in threading.enumerate())


# What goes over the line


@pytest.mark.parametrize(
    ("registers", "expected", "request_pdu"),
    [
        (  # 6.3, Read Holding Registers: 108 to 110 hold 555, 0 and 100
            [ModbusRegister(channel=f"{i}", address=107 + i, type="uint16") for i in range(3)],
            [555, 0, 100],
            "03 006b 0003",
        ),
        (  # 6.4, Read Input Registers: register 9 holds 10
            [ModbusRegister(channel="a", address=8, kind="input", type="uint16")],
            [10],
            "04 0008 0001",
        ),
        (  # 6.1, Read Coils: 20 to 38 are CD 6B 05
            [ModbusRegister(channel=f"{i}", address=19 + i, kind="coil") for i in range(19)],
            [int(bit) for byte in (0xCD, 0x6B, 0x05) for bit in f"{byte:08b}"[::-1]][:19],
            "01 0013 0013",
        ),
        (  # 6.2, Read Discrete Inputs: 197 to 218 are AC DB 35
            [ModbusRegister(channel=f"{i}", address=196 + i, kind="discrete") for i in range(22)],
            [int(bit) for byte in (0xAC, 0xDB, 0x35) for bit in f"{byte:08b}"[::-1]][:22],
            "02 00c4 0016",
        ),
    ],
    ids=["holding", "input", "coil", "discrete"],
)
def test_the_examples_of_the_specification(
    opened: Opened, registers: list[ModbusRegister], expected: list[float], request_pdu: str
) -> None:
    """Modbus Application Protocol 1.1b3, 6: the requests, and what is read from the answers."""
    answer = {
        "holding": "03 06 02 2b 00 00 00 64", "input": "04 02 00 0a", "coil": "01 03 cd 6b 05",
        "discrete": "02 03 ac db 35",
    }[registers[0].kind]  # fmt: skip

    def spoken(frame: bytes) -> bytes:
        pdu = bytes.fromhex(answer)
        return frame[:4] + (len(pdu) + 1).to_bytes(2, "big") + frame[6:7] + pdu

    with ModbusServer(device([0]), sent=spoken) as server:
        source = opened(*registers, **at(server), device_id=17)

        assert sample(source) == expected
        assert server.requests[0][6:] == bytes.fromhex("11" + request_pdu)


def test_a_sample_costs_a_request_for_each_group_of_registers(opened: Opened) -> None:
    with ModbusServer(device(WORDS)) as server:
        sample(opened(*PAIR, **at(server), rate_hz=0.001))
        assert len(server.requests) == 2
        sample(opened(*PAIR, **at(server), rate_hz=0.001, max_gap=9))
        assert len(server.requests) == 3


def test_several_devices_are_asked_by_their_ids(opened: Opened) -> None:
    with ModbusServer(device([1], device_id=1), device([2], device_id=2)) as server:
        registers = [ModbusRegister(channel=f"{i}", address=0, type="int16", device_id=i) for i in (2, 1)]

        assert sample(opened(*registers, **at(server))) == [2, 1]


def test_polls_are_as_even_as_the_bundle_asks_for_unless_the_source_says_otherwise() -> None:
    with ModbusServer(device([1])) as server:
        for rate_hz, expected_s in ((None, 0.02), (100.0, 0.01)):
            config = ModbusConfig(host=ADDRESS, port=server.port, rate_hz=rate_hz, registers=PAIR[:1])
            source = open_source(config, mqtt=MqttConfig(), rate_hz=50.0)
            source.open(["a"])
            try:
                times = np.concatenate([block.times for block in blocks_of(source, 10)])
            finally:
                source.close()
            # Slots do not drift: only the jitter of the first and the last one remains.
            assert (times[-1] - times[0]) / expected_s >= len(times) - 1.5


# Refusals


def busy_while(refusing: threading.Event, code: ExcCodes) -> Action:
    async def answer(
        function: int, start: int, address: int, count: int, registers: list[int], written: list[int] | None
    ) -> ExcCodes | None:
        return code if refusing.is_set() and address == 10 else None

    return answer


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (ExcCodes.ILLEGAL_FUNCTION, "exception 1 (illegal function"),
        (ExcCodes.ILLEGAL_ADDRESS, "exception 2 (illegal data address"),
        (ExcCodes.DEVICE_BUSY, "exception 6 (server device busy)"),
        (ExcCodes.GATEWAY_NO_RESPONSE, "exception 11 (gateway target device failed to respond)"),
    ],
)
def test_what_the_device_refuses_is_nan_and_told_once_and_the_rest_goes_on(
    opened: Opened, caplog: pytest.LogCaptureFixture, code: ExcCodes, reason: str
) -> None:
    caplog.set_level(logging.INFO)
    refusing = threading.Event()
    refusing.set()
    with ModbusServer(device(WORDS, action=busy_while(refusing, code))) as server:
        source = opened(*PAIR, **at(server))
        blocks = blocks_of(source, 3)
        np.testing.assert_array_equal(np.concatenate([b.values for b in blocks])[:3], [[11, math.nan]] * 3)
        assert source.malformed >= 3
        refusing.clear()
        wait_for_sample(source, [11, 22])
        counted = source.malformed
        wait_for_sample(source, [11, 22])

    assert source.malformed == counted
    [refused] = [record.message for record in caplog.records if "refused" in record.message]
    assert f"source=modbus {ADDRESS}:{server.port} channels=b reason=holding 10 of device 1" in refused
    assert reason in refused
    assert caplog.text.count("answered again") == 1


def test_registers_that_the_device_has_not_are_refused(opened: Opened) -> None:
    with ModbusServer(device([7])) as server:
        source = opened(*PAIR, **at(server))

        np.testing.assert_array_equal(sample(source), [7, math.nan])


# Answers that never come, or are none


def cut(frame: bytes) -> bytes:
    return frame[: len(frame) // 2]


def of_another_device(frame: bytes) -> bytes:
    return frame[:6] + bytes([frame[6] + 1]) + frame[7:]


def of_another_request(frame: bytes) -> bytes:
    return (int.from_bytes(frame[:2], "big") + 1).to_bytes(2, "big") + frame[2:]


def by_another_function(frame: bytes) -> bytes:
    return frame[:7] + b"\x04" + frame[8:]


def of_two_registers(frame: bytes) -> bytes:
    return frame[:4] + b"\x00\x07" + frame[6:8] + b"\x04" + frame[9:11] * 2


def of_no_protocol(frame: bytes) -> bytes:
    return frame[:2] + b"\x00\x01" + frame[4:]


def noise(frame: bytes) -> bytes:
    return bytes(300)


def nothing(frame: bytes) -> bytes:
    return b""


def flipped(frame: bytes) -> bytes:
    return frame[:-3] + bytes([frame[-3] ^ 1]) + frame[-2:]


def of_another_device_on_the_line(frame: bytes) -> bytes:
    changed = bytes([frame[0] + 1]) + frame[1:-2]
    return changed + FramerRTU.compute_CRC(changed).to_bytes(2, "big")


SILENCE = f"holding 0 of device 1: expected an answer within {SHORT_S} s, received nothing"
NONE = f"holding 0 of device 1: expected an answer within {SHORT_S} s, received"
DAMAGES = {
    "tcp": [
        (nothing, SILENCE),
        (cut, f"{NONE} 5 bytes that are none: 00 01 00 00 00"),
        (of_another_device, f"{NONE} 11 bytes that are none: 00 01 00 00 00 05 02 03 02 00 0b"),
        (of_another_request, f"{NONE} 11 bytes that are none: 00 02 00 00 00 05 01 03 02 00 0b"),
        (of_no_protocol, f"{NONE} 11 bytes that are none: 00 01 00 01"),
        (noise, f"{NONE} 3"),
        (by_another_function, "expected 1 values by function 3, received 1 by function 4"),
        (of_two_registers, "expected 1 values by function 3, received 2 by function 3"),
    ],
    "rtu": [
        (nothing, SILENCE),
        (cut, f"{NONE} 3 bytes that are none: 01 03 02"),
        (flipped, f"{NONE} 7 bytes that are none: 01 03 02 00 0a"),
        (of_another_device_on_the_line, f"{NONE} 7 bytes that are none: 02 03 02 00 0b"),
        (noise, f"{NONE} "),
    ],
}


@pytest.mark.parametrize(
    ("line", "damage", "reason"),
    [pytest.param(line, *each, id=f"{line}-{each[0].__name__}") for line, all_of in DAMAGES.items() for each in all_of],
)
def test_a_device_that_gives_no_whole_answer_is_connected_again_and_no_value_is_made_up(
    opened: Opened, line: str, damage: Callable[[bytes], bytes], reason: str
) -> None:
    with ExitStack() as stack:
        if line == "rtu":
            cable = stack.enter_context(SerialCable())
            where: dict[str, Any] = {"serial_port": cable.near, "parity": "none"}
            server = stack.enter_context(ModbusServer(device(WORDS), serial_port=cable.far, sent=damage))
        else:
            server = stack.enter_context(ModbusServer(device(WORDS), sent=damage))
            where = at(server)
        source = opened(PAIR[0], **where, timeout_s=SHORT_S)
        wait_until(lambda: reason in source.failure, reason)
        assert not source.wait_connected(0)
        assert source.read(0) == []
        server.sent = bytes

        assert sample(source) == [11]
        assert source.failure == ""


def test_a_device_that_comes_back_is_connected_again_and_no_session_starts(opened: Opened) -> None:
    with ModbusServer(device([7])) as server:
        source = opened(PAIR[0], **at(server))
        assert blocks_of(source)[0].starts_session
        server.stop()
        wait_until(lambda: not source.wait_connected(0), "the source notices")
        wait_until(lambda: "Connection refused" in source.failure, "it is tried again")
        source.read(0)
        server.devices = [device([8])]
        server.start()

        [first, *_] = blocks_of(source)
        assert first.values[0].tolist() == [8]
        assert not first.starts_session


def test_a_serial_adapter_that_is_plugged_in_again_is_used(opened: Opened, tmp_path: Path) -> None:
    plug = tmp_path / "ttyUSB0"
    with SerialCable() as cable, ModbusServer(device([7]), serial_port=cable.far):
        plug.symlink_to(cable.near)
        source = opened(PAIR[0], serial_port=str(plug), parity="none")
        assert sample(source) == [7]
        plug.unlink()
    wait_until(lambda: "No such file" in source.failure, "the source notices")
    with SerialCable() as cable, ModbusServer(device([8]), serial_port=cable.far):
        plug.symlink_to(cable.near)

        wait_for_sample(source, [8])


def test_a_silent_device_counts_as_none_and_does_not_hold_up_the_end(opened: Opened) -> None:
    with ModbusServer(device([7]), sent=nothing) as server:
        source = opened(PAIR[0], **at(server), timeout_s=60)
        wait_until(lambda: bool(server.requests), "it is asked")
        assert not source.wait_connected(2 * TURN_S)
        source.close()

        assert no_thread(f"modbus {ADDRESS}:{server.port}")


def test_why_nobody_can_be_connected_is_told(opened: Opened) -> None:
    refused, missing = opened(PAIR[0], host=ADDRESS, port=free_port()), opened(PAIR[0], serial_port="/dev/no-such-port")

    wait_until(lambda: "Connection refused" in refused.failure, "the refusal is told")
    wait_until(lambda: "could not open port /dev/no-such-port" in missing.failure, "the missing port is told")


# Slow devices


def slow(delay_s: Callable[[int], float]) -> Action:
    """An action that takes so long for a request of this address, one after the other."""
    turn = asyncio.Lock()

    async def answer(
        function: int, start: int, address: int, count: int, registers: list[int], written: list[int] | None
    ) -> ExcCodes | None:
        async with turn:
            await asyncio.sleep(delay_s(address))
        return None

    return answer


def test_a_device_that_is_slower_than_the_rate_skips_polls_and_is_told_of(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    with ModbusServer(device([7], action=slow(lambda address: 0.005))) as server:
        source = opened(PAIR[0], **at(server), rate_hz=500.0)
        times = np.concatenate([block.times for block in blocks_of(source, 20)])

    assert np.all(np.diff(times) > 0.005), "no poll catches up"
    assert source.dropped >= 2 * 19
    [warning] = [record.message for record in caplog.records if "longer than the rate allows" in record.message]
    assert f"source=modbus {ADDRESS}:{server.port} rate_hz=500 poll_s=0.0" in warning


def test_one_poll_that_is_held_up_leaves_a_gap_and_no_warning(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    delays = iter([0.0] * 12 + [0.2])
    with ModbusServer(device([7], action=slow(lambda address: next(delays, 0.0)))) as server:
        source = opened(PAIR[0], **at(server), rate_hz=50.0)
        times = np.concatenate([block.times for block in blocks_of(source, 15)])

    assert np.diff(times).max() > 0.15
    assert source.dropped >= 9
    assert "longer than the rate allows" not in caplog.text


def test_an_answer_that_comes_too_late_on_a_serial_line_is_not_taken_for_that_to_another_request(
    opened: Opened,
) -> None:
    """Both requests read one register of one device: nothing in the frame tells whose answer it is."""
    late = iter([0.0, 0.0, 0.0, 1.5 * SHORT_S])
    delays = slow(lambda address: next(late, 0.0) if address == 10 else 0.0)
    with SerialCable() as cable, ModbusServer(device(WORDS, action=delays), serial_port=cable.far):
        source = opened(*PAIR, serial_port=cable.near, parity="none", timeout_s=SHORT_S)
        assert source.wait_connected(DEADLINE_S)
        wait_until(lambda: not source.wait_connected(0), "the late answer is not waited for")
        values = np.concatenate([block.values for block in blocks_of(source, 8)])

    np.testing.assert_array_equal(values, np.tile([11, 22], (len(values), 1)))


# A line that several share


def test_machines_on_one_serial_line_take_turns(opened: Opened) -> None:
    devices = [device([10 * i], device_id=i) for i in (1, 2, 3)]
    with SerialCable() as cable, ModbusServer(*devices, serial_port=cable.far):
        line: dict[str, Any] = {"serial_port": cable.near, "parity": "none", "baudrate": 115200}
        sources = [opened(PAIR[0], **line, device_id=i) for i in (1, 2, 3)]
        values = [np.concatenate([b.values for b in blocks_of(source, 10)]) for source in sources]
        for i, each in enumerate(values, 1):
            np.testing.assert_array_equal(each, np.full((len(each), 1), 10.0 * i))

        other = opened(PAIR[0], **line | {"baudrate": 9600})
        wait_until(lambda: "expected baudrate = 115200" in other.failure, "other settings are refused")
        for source in sources:
            source.close()
        wait_for_sample(other, [10])


# What is configured


def test_channels_without_register_are_refused_before_anything_is_connected() -> None:
    config = ModbusConfig(host=ADDRESS, registers=PAIR)
    with pytest.raises(SourceError, match=r"modbus 127\.0\.0\.1:502: .* for each of a, flow, received none for flow"):
        open_source(config, mqtt=MqttConfig(), rate_hz=1.0).open(["a", "flow"])


@pytest.mark.parametrize(("module", "named"), [("pymodbus.exceptions", "pymodbus"), ("serial", "pyserial")])
def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, module: str, named: str) -> None:
    for ours in ("modbus", "modbus_line", "modbus_port"):
        monkeypatch.delitem(sys.modules, f"edge_vae.sources.{ours}", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"package '{named}'.*edge-vae\[modbus\]"):
        open_source(ModbusConfig(host=ADDRESS, registers=PAIR), mqtt=MqttConfig(), rate_hz=1.0)
