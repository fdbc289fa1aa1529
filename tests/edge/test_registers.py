"""What registers mean, and which requests read them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.client.mixin import ModbusClientMixin

from edge_vae.modbus_config import BITS, MAX_BITS, ModbusConfig, ModbusRegister
from edge_vae.sources.lines import Malformed
from edge_vae.sources.registers import MAX_REGISTERS, Request, grouped, number

ORDERS = ["big", "little"]
DATATYPES = ModbusClientMixin.DATATYPE


def source(*registers: ModbusRegister, **more: Any) -> ModbusConfig:
    return ModbusConfig(host="192.0.2.1", registers=registers, **more)


def requests_of(*registers: ModbusRegister, **more: Any) -> list[Request]:
    config = source(*registers, **more)
    return grouped(config, config.names())


def spans(requests: list[Request]) -> list[tuple[int, int]]:
    return [(request.address, request.count) for request in requests]


def read(answer: list[int], **register: Any) -> tuple[float, int]:
    """The value of the first register, and how many were malformed."""
    [request] = requests_of(ModbusRegister(channel="a", address=0, **register))
    row, malformed = np.full(1, -1.0), Malformed("test")
    request.read(answer, row, malformed)
    return float(row[0]), malformed.count


# 123456 is 0x47F12000 as an IEEE 754 number of 32 bits; the four ways in which makers of devices lay it out.
@pytest.mark.parametrize(
    ("words", "byte_order", "word_order"),
    [
        ([0x47F1, 0x2000], "big", "big"),
        ([0x2000, 0x47F1], "big", "little"),
        ([0xF147, 0x0020], "little", "big"),
        ([0x0020, 0xF147], "little", "little"),
    ],
    ids=["ABCD", "CDAB", "BADC", "DCBA"],
)
def test_a_float_is_read_in_each_order_of_bytes_and_words(words: list[int], byte_order: Any, word_order: Any) -> None:
    assert number(words, "float32", byte_order=byte_order, word_order=word_order) == 123456.0


@pytest.mark.parametrize(
    ("kind", "words", "expected"),
    [
        ("int16", [0xFFFE], -2),
        ("uint16", [0xFFFE], 65534),
        ("int32", [0xFFFF, 0xFFFE], -2),
        ("uint32", [0x0001, 0x0000], 65536),
        ("int64", [0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE], -2),
        ("uint64", [0x8000, 0, 0, 1], 2**63 + 1),
        ("float64", [0x4009, 0x21FB, 0x5444, 0x2D18], math.pi),
    ],
)
def test_each_type_is_read(kind: str, words: list[int], expected: float) -> None:
    assert number(words, kind, byte_order="big", word_order="big") == expected


@pytest.mark.parametrize("kind", ["int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"])
@given(words=st.lists(st.integers(0, 0xFFFF), min_size=4, max_size=4), word_order=st.sampled_from(ORDERS))
def test_words_mean_what_pymodbus_takes_them_for(kind: str, words: list[int], word_order: Any) -> None:
    datatype = DATATYPES[kind.upper()]
    words = words[: datatype.value[1]]
    expected = ModbusClientMixin.convert_from_registers(words, datatype, word_order=word_order)
    swapped = [int.from_bytes(word.to_bytes(2, "big"), "little") for word in words]

    np.testing.assert_equal(number(words, kind, byte_order="big", word_order=word_order), expected)
    np.testing.assert_equal(number(swapped, kind, byte_order="little", word_order=word_order), expected)


@pytest.mark.parametrize(
    ("answer", "register", "expected"),
    [
        ([250], {"type": "int16", "scale": 0.1, "offset": -5.0}, 20.0),
        ([0x8000], {"type": "int16", "invalid": 0x8000}, math.nan),
        ([0x8000], {"type": "int16", "invalid": -32768}, math.nan),
        ([0xFFFF], {"type": "uint16", "invalid": 65535, "scale": 0.1}, math.nan),
        ([0xFFFE], {"type": "uint16", "invalid": 65535}, 65534.0),
        ([0xFFFF] * 4, {"type": "uint64", "invalid": 0xFFFFFFFFFFFFFFFF}, math.nan),
        ([0x3DCC, 0xCCCD], {"type": "float32", "invalid": 0.1}, math.nan),
        ([0xC61C, 0x3C00], {"type": "float32", "invalid": -9999}, math.nan),
        ([0x7FC0, 0x0000], {"type": "float32"}, math.nan),
        ([True], {"kind": "coil"}, 1.0),
        ([False], {"kind": "discrete", "type": "bool"}, 0.0),
    ],
)
def test_a_value_is_scaled_and_no_reading_is_nan_and_no_fault(
    answer: list[int], register: dict[str, Any], expected: float
) -> None:
    np.testing.assert_array_equal(read(answer, **register), (expected, 0))


@pytest.mark.parametrize("words", [[0x7F80, 0], [0xFF80, 0]])
def test_an_infinite_value_is_no_reading_and_counted(words: list[int]) -> None:
    np.testing.assert_array_equal(read(words, type="float32"), (math.nan, 1))


def test_neighbours_are_read_at_once_and_others_by_a_request_of_their_own() -> None:
    requests = requests_of(
        ModbusRegister(channel="d", address=4, type="float32"),
        ModbusRegister(channel="a", address=0, type="int16"),
        ModbusRegister(channel="b", address=1, type="uint32"),
        ModbusRegister(channel="e", address=0, type="int16", kind="input"),
        ModbusRegister(channel="f", address=2, type="int16", device_id=7),
        ModbusRegister(channel="g", address=3, kind="coil"),
    )

    assert [str(request) for request in requests] == [
        "coil 3 of device 1",
        "holding 0 to 2 of device 1",
        "holding 4 to 5 of device 1",
        "input 0 of device 1",
        "holding 2 of device 7",
    ]
    assert requests[1].channels == ("a", "b")


@pytest.mark.parametrize(
    ("addresses", "max_gap", "expected"),
    [
        ([0, 3], 1, [(0, 1), (3, 1)]),
        ([0, 3], 2, [(0, 4)]),
        ([0, 0, 0], 0, [(0, 1)]),
        ([0, 124], 200, [(0, 125)]),
        ([0, 125], 200, [(0, 1), (125, 1)]),
        (range(126), 0, [(0, 125), (125, 1)]),
    ],
)
def test_a_request_spans_gaps_up_to_the_limit_and_no_more_than_the_protocol_allows(
    addresses: list[int], max_gap: int, expected: list[tuple[int, int]]
) -> None:
    registers = [ModbusRegister(channel=f"{i}", address=at, type="int16") for i, at in enumerate(addresses)]

    assert spans(requests_of(*registers, max_gap=max_gap)) == expected


def test_bits_are_read_by_the_thousand() -> None:
    coils = [ModbusRegister(channel=f"{at}", address=at, kind="coil") for at in range(MAX_BITS + 1)]

    assert spans(requests_of(*coils)) == [(0, 2000), (2000, 1)]


def test_only_the_channels_that_are_wanted_are_read() -> None:
    config = source(*(ModbusRegister(channel=f"{at}", address=at, type="int16") for at in range(10)))

    assert spans(grouped(config, ["7", "2"])) == [(2, 1), (7, 1)]


registers = st.builds(
    ModbusRegister,
    channel=st.uuids().map(str),
    address=st.integers(0, 400),
    kind=st.sampled_from(["holding", "input"]),
    type=st.sampled_from(["int16", "int32", "float64"]),
    device_id=st.sampled_from([None, 1, 2]),
) | st.builds(ModbusRegister, channel=st.uuids().map(str), address=st.integers(0, 5000), kind=st.sampled_from(BITS))


@given(st.lists(registers, min_size=1, max_size=40), st.integers(0, 50))
def test_requests_read_what_stands_in_the_device_whatever_is_grouped(
    registers: list[ModbusRegister], max_gap: int
) -> None:
    config = source(*registers, max_gap=max_gap)
    memory = {
        (device, kind): (np.arange(6000) * (7 + device) + len(kind)) % 65536 for device in (1, 2) for kind in KINDS
    }
    row, malformed = np.full(len(registers), np.nan), Malformed("test")
    for request in grouped(config, config.names()):
        assert request.count <= (MAX_BITS if request.kind in BITS else MAX_REGISTERS)
        block = memory[request.device_id, request.kind][request.address : request.address + request.count]
        request.read(block.tolist(), row, malformed)

    expected = [plain(memory[register.device_id or 1, register.kind], register) for register in registers]
    np.testing.assert_array_equal(row, expected)


KINDS = ("holding", "input", *BITS)


def plain(memory: np.ndarray, register: ModbusRegister) -> float:
    """The value of one register, read by itself."""
    words = memory[register.address : register.address + register.width]
    if register.type is None:
        return float(words[0])
    value = np.frombuffer(
        words.astype(">u2").tobytes(), {"int16": ">i2", "int32": ">i4", "float64": ">f8"}[register.type]
    )
    return float(value[0])
