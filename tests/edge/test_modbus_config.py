"""The table of a Modbus source: what may stand in it, and what is told when it is wrong."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from edge_vae.config import AgentConfig, effective, read_config, schema
from edge_vae.errors import EX_CONFIG, ConfigError
from edge_vae.modbus_config import ModbusConfig, ModbusRegister
from edge_vae.toml_text import parse

HEAD = """\
[node]
site = "plant-1"
[[pipeline]]
asset = "pump-3"
bundle = "pump.evb"
[pipeline.source]
type = "modbus"
"""
TCP = f"""{HEAD}\
host = "192.0.2.7"
port = 1502
device_id = 255
timeout_s = 0.5
rate_hz = 10
byte_order = "little"
word_order = "little"
max_gap = 8
[[pipeline.source.register]]
channel = "pressure"
address = 0
kind = "input"
type = "float32"
scale = 0.1
offset = -1
invalid = -9999
device_id = 0
word_order = "big"
[[pipeline.source.register]]
channel = "running"
address = 65535
kind = "coil"
"""
RTU = f"""{HEAD}\
serial_port = "/dev/ttyUSB0"
baudrate = 9600
parity = "none"
stopbits = 2
device_id = 247
[[pipeline.source.register]]
channel = "level"
address = 65535
type = "uint16"
invalid = 0xFFFF
"""
SECOND = """\
[[pipeline]]
asset = "pump-4"
bundle = "pump.evb"
[pipeline.source]
type = "modbus"
serial_port = "/dev/ttyUSB0"
baudrate = 9600
parity = "none"
stopbits = 2
[[pipeline.source.register]]
channel = "level"
address = 0
type = "uint16"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agent.toml"


def config_of(file: Path, text: str) -> AgentConfig:
    file.write_text(text)
    return read_config(file)


def test_everything_that_a_file_says_of_a_tcp_device_is_in_the_configuration(file: Path) -> None:
    pressure = ModbusRegister(
        channel="pressure", address=0, kind="input", type="float32", scale=0.1, offset=-1.0, invalid=-9999, device_id=0,
        word_order="big",
    )  # fmt: skip
    source = config_of(file, TCP).pipelines[0].source

    assert source == ModbusConfig(
        host="192.0.2.7", port=1502, device_id=255, timeout_s=0.5, rate_hz=10.0, byte_order="little",
        word_order="little", max_gap=8,
        registers=(pressure, ModbusRegister(channel="running", address=65535, kind="coil")),
    )  # fmt: skip
    assert source.names() == ("pressure", "running")


def test_everything_that_a_file_says_of_a_serial_line_is_in_the_configuration(file: Path) -> None:
    assert config_of(file, RTU).pipelines[0].source == ModbusConfig(
        serial_port="/dev/ttyUSB0", baudrate=9600, parity="none", stopbits=2, device_id=247,
        registers=(ModbusRegister(channel="level", address=65535, type="uint16", invalid=0xFFFF),),
    )  # fmt: skip


def test_what_a_file_does_not_say_is_as_the_specification_has_it() -> None:
    plain = ModbusConfig(host="a", registers=(ModbusRegister(channel="b", address=0, type="int16"),))

    assert (plain.port, plain.baudrate, plain.parity, plain.stopbits) == (502, 19200, "even", 1)
    assert (plain.device_id, plain.byte_order, plain.word_order, plain.max_gap) == (1, "big", "big", 0)
    assert (plain.registers[0].kind, plain.registers[0].scale, plain.registers[0].offset) == ("holding", 1.0, 0.0)


@pytest.mark.parametrize("text", [TCP, RTU])
def test_what_is_in_force_can_be_read_again_and_fits_the_schema(file: Path, text: str) -> None:
    config = config_of(file, text)

    assert config_of(file, effective(config)) == config
    jsonschema.Draft202012Validator(schema()).validate(parse(text))


@pytest.mark.parametrize(
    ("text", "said", "instead", "line", "key", "message"),
    [
        (TCP, 'host = "192.0.2.7"', "", 6, "host", "a serial_port (RTU), received neither"),
        (TCP, 'host = "192.0.2.7"', 'host = ""', 8, "host", "a host name or address"),
        (TCP, "port = 1502", 'serial_port = "/dev/ttyS0"', 9, "serial_port", "or a serial_port (RTU), received both"),
        (TCP, "port = 1502", "port = 65536", 9, "port", "from 1 to 65535"),
        (TCP, "port = 1502", "baudrate = 9600", 9, "baudrate", "expected a serial_port beside baudrate"),
        (TCP, "port = 1502", 'parity = "none"', 9, "parity", "expected a serial_port beside parity"),
        (TCP, "port = 1502", "stopbits = 2", 9, "stopbits", "expected a serial_port beside stopbits"),
        (TCP, "port = 1502", "prot = 1502", 9, "prot", "did you mean 'port'?"),
        (TCP, "device_id = 255", "device_id = 256", 10, "device_id", "from 0 to 255"),
        (TCP, "timeout_s = 0.5", "timeout_s = 0", 11, "timeout_s", "above 0 and of at most 60"),
        (TCP, "rate_hz = 10", "rate_hz = 0", 12, "rate_hz", "above 0 and of at most 1000"),
        (TCP, '"little"\nword', '"middle"\nword', 13, "byte_order", 'one of "big", "little"'),
        (TCP, "max_gap = 8", "max_gap = -1", 15, "max_gap", "from 0 to 2000"),
        (TCP, 'channel = "pressure"', 'channel = ""', 17, "register[0].channel", "the name of a channel"),
        (TCP, 'channel = "running"', 'channel = "pressure"', 27, "register[1].channel", "that of register[0]"),
        (TCP, "address = 0", "address = 65536", 18, "register[0].address", "40001 in a manual is address 0"),
        (TCP, "address = 0", "address = 65535", 18, "register[0].address", "expected the float32 to end before"),
        (TCP, "address = 0\n", "", 16, "register[0].address", "received nothing"),
        (TCP, 'kind = "input"', 'kind = "inputs"', 19, "register[0].kind", "did you mean 'input'?"),
        (TCP, 'type = "float32"', 'type = "float"', 20, "register[0].type", "did you mean 'float64'?"),
        (TCP, 'type = "float32"', 'type = "bool"', 20, "register[0].type", 'beside kind = "input", received "bool"'),
        (TCP, 'type = "float32"\n', "", 16, "register[0].type", 'beside kind = "input", received nothing'),
        (TCP, 'type = "float32"', 'type = "int16"', 25, "register[0].word_order", "which is one word"),
        (TCP, "scale = 0.1", "scale = 0", 21, "register[0].scale", "expected another number than 0"),
        (TCP, "scale = 0.1", "scale = inf", 21, "register[0].scale", "expected a number, received inf"),
        (TCP, "invalid = -9999", "invalid = 1e300", 23, "register[0].invalid", 'a number of type = "float32"'),
        (TCP, "invalid = -9999", "invalid = nan", 23, "register[0].invalid", "expected a number, received nan"),
        (TCP, 'kind = "coil"', 'kind = "coil"\nscale = 2', 30, "register[1].scale", "whose values are single bits"),
        (TCP, 'kind = "coil"', 'kind = "coil"\ninvalid = 2', 30, "register[1].invalid", "are single bits"),
        (TCP, 'kind = "coil"', 'kind = "coil"\ntype = "int16"', 30, "register[1].type", "are single bits"),
        (RTU, "baudrate = 9600", "port = 1502", 9, "port", "expected a host beside port, received serial_port"),
        (RTU, "baudrate = 9600", "baudrate = 0", 9, "baudrate", "from 50 to 921600"),
        (RTU, 'parity = "none"', 'parity = "N"', 10, "parity", 'one of "even", "none", "odd"'),
        (RTU, "stopbits = 2", "stopbits = 3", 11, "stopbits", "one of 1, 2"),
        (RTU, "device_id = 247", "device_id = 248", 12, "device_id", "from 1 to 247 on a serial line"),
        (RTU, 'type = "uint16"', 'type = "uint16"\ndevice_id = 0', 17, "register[0].device_id", "from 1 to 247"),
        (RTU, "invalid = 0xFFFF", "invalid = 0x10000", 17, "register[0].invalid", "received 65536"),
        (RTU, "invalid = 0xFFFF", "invalid = 1.5", 17, "register[0].invalid", 'a number of type = "uint16"'),
    ],
)  # fmt: skip
def test_an_impossible_value_is_told_at_its_line(
    file: Path, text: str, said: str, instead: str, line: int, key: str, message: str
) -> None:
    assert said in text
    with pytest.raises(ConfigError) as caught:
        config_of(file, text.replace(said, instead, 1))
    [problem] = caught.value.problems

    assert (problem.line, problem.key) == (line, f"pipeline[0].source.{key}")
    assert message in problem.message
    assert caught.value.exit_status == EX_CONFIG


def test_a_source_without_registers_is_told_how_to_name_them(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"one or more tables, each headed \[\[pipeline.source.register\]\]"):
        config_of(file, f'{HEAD}host = "a"\n')


def test_machines_on_one_serial_line_share_its_settings(file: Path) -> None:
    assert len(config_of(file, RTU + SECOND).pipelines) == 2
    with pytest.raises(ConfigError) as caught:
        config_of(file, RTU + SECOND.replace("9600", "19200"))
    [problem] = caught.value.problems

    assert (problem.line, problem.key) == (23, "pipeline[1].source.serial_port")
    assert problem.message == (
        "expected baudrate = 9600, parity = none, stopbits = 2 as in pipeline[0].source, "
        "received baudrate = 19200, parity = none, stopbits = 2"
    )
