"""The table of a Modbus source: the line, the device, and what stands in which register."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Meta, field

from edge_vae.broker_config import Host, Port
from edge_vae.toml_lines import Key, dotted
from edge_vae.toml_table import Mistake, Table
from edge_vae.toml_words import one_of

__all__ = [
    "BITS",
    "FORMATS",
    "MAX_BITS",
    "ModbusConfig",
    "ModbusRegister",
    "Order",
    "RegisterKind",
    "shared_line_mistakes",
]

RegisterKind = Literal["holding", "input", "coil", "discrete"]
Order = Literal["big", "little"]
Parity = Literal["none", "even", "odd"]
BITS = ("coil", "discrete")
"""Kinds whose values are single bits."""
FORMATS: Mapping[str, str] = {
    "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q",
    "float32": "f", "float64": "d",
}  # fmt: skip
"""How `struct` calls the types of registers."""
WORD_BITS = 16
"""Bits in a register."""
MAX_BITS = 2000
"""Bits that one request reads at most (Modbus Application Protocol 1.1b3, 6.1)."""
ADDRESSES = 2**16
DEFAULT_PORT = 502
DEFAULT_BAUDRATE = 19200
DEFAULT_PARITY: Parity = "even"
"""What every device on a serial line must be able to (Modbus over Serial Line 1.02, 2.5)."""
MAX_BAUDRATE = 921_600
"""The fastest of the usual serial adapters."""
MAX_SERIAL_DEVICE = 247
"""The largest address of a device on a serial line; beyond are reserved ones, and 0 is for all (2.2 there)."""

ChannelName = Annotated[str, Meta(min_length=1, extra={"expected": "the name of a channel"})]
DeviceId = Annotated[int, Meta(ge=0, le=255)]
RegisterType = Literal["int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "bool"]
Address = Annotated[
    int,
    Meta(
        ge=0,
        le=ADDRESSES - 1,
        extra={"expected": 'a whole number from 0 to 65535 (40001 in a manual is address 0 of kind "holding")'},
    ),
]
SerialPort = Annotated[str, Meta(min_length=1, extra={"expected": "a serial port, such as /dev/ttyUSB0"})]


class ModbusRegister(Table, frozen=True, kw_only=True):
    """One channel: where its value stands, and what it means: the number there * scale + offset.

    `address` counts from 0, as requests do. `invalid` is the number that says that there is no reading; of whole
    numbers the bits will do, so 0x8000 is an int16 too. What is not set is as the source says.
    """

    channel: ChannelName
    address: Address
    kind: RegisterKind = "holding"
    type: RegisterType | None = None
    scale: float = 1.0
    offset: float = 0.0
    invalid: Annotated[int | float, Meta(extra={"expected": "a number"})] | None = None
    device_id: DeviceId | None = None
    word_order: Order | None = None

    def mistakes(self) -> Iterator[Mistake]:
        """A bit is no more than a bit; a register has a type, and what is said of it must fit that type."""
        yield from _bit_mistakes(self) if self.kind in BITS else _register_mistakes(self)

    @property
    def width(self) -> int:
        """How many registers, or bits, the value takes."""
        return 1 if self.type is None else _words(self.type)


class ModbusConfig(Table, frozen=True, kw_only=True, tag_field="type", tag="modbus"):
    """Registers of a device that is polled: over TCP where `host` is given, as RTU where `serial_port` is.

    `device_id` is the unit, or address on the line; `max_gap` says how many registers that nobody asked for a request
    may read along, so that fewer requests do.
    """

    host: Host | None = None
    port: Port = DEFAULT_PORT
    serial_port: SerialPort | None = None
    baudrate: Annotated[int, Meta(ge=50, le=MAX_BAUDRATE)] = DEFAULT_BAUDRATE
    parity: Parity = DEFAULT_PARITY
    stopbits: Literal[1, 2] = 1
    device_id: DeviceId = 1
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 1.0
    rate_hz: Annotated[float, Meta(gt=0, le=1000)] | None = None
    byte_order: Order = "big"
    word_order: Order = "big"
    max_gap: Annotated[int, Meta(ge=0, le=MAX_BITS)] = 0
    registers: Annotated[
        tuple[ModbusRegister, ...],
        Meta(min_length=1, extra={"expected": "one or more tables, each headed [[pipeline.source.register]]"}),
    ] = field(name="register")

    def mistakes(self) -> Iterator[Mistake]:
        """There is one line, with the settings of its kind, and each channel stands once."""
        yield from _line_mistakes(self)
        seen: dict[str, int] = {}
        for index, register in enumerate(self.registers):
            if (first := seen.setdefault(register.channel, index)) != index:
                yield ("register", index, "channel"), f"expected a name of its own, received that of register[{first}]"
        if self.serial_port is None or self.host is not None:
            return
        devices = [(("register", i, "device_id"), register.device_id) for i, register in enumerate(self.registers)]
        for key, device in [(("device_id",), self.device_id), *devices]:
            if device is not None and not 1 <= device <= MAX_SERIAL_DEVICE:
                message = f"expected a whole number from 1 to {MAX_SERIAL_DEVICE} on a serial line, received {device}"
                yield key, message

    def names(self) -> tuple[str, ...]:
        """The channels that stand in its registers."""
        return tuple(register.channel for register in self.registers)

    @property
    def line(self) -> str:
        """The line, as the log calls it."""
        return self.serial_port or f"{self.host}:{self.port}"

    @property
    def line_settings(self) -> str:
        """What all sources on one serial line must agree on."""
        return f"baudrate = {self.baudrate}, parity = {self.parity}, stopbits = {self.stopbits}"


def shared_line_mistakes(sources: Sequence[tuple[Key, ModbusConfig]]) -> Iterator[Mistake]:
    """A serial line has one baud rate, whoever talks over it.

    Args:
        sources: All that there are in a file, with the keys of their tables.
    """
    first: dict[str, tuple[Key, ModbusConfig]] = {}
    for key, source in sources:
        if source.serial_port is None:
            continue
        first_key, other = first.setdefault(source.serial_port, (key, source))
        if source.line_settings != other.line_settings:
            message = f"expected {other.line_settings} as in {dotted(first_key)}, received {source.line_settings}"
            yield (*key, "serial_port"), message


def _words(kind: str) -> int:
    return 8 * struct.calcsize(f">{FORMATS[kind]}") // WORD_BITS if kind in FORMATS else 1


def _bit_mistakes(register: ModbusRegister) -> Iterator[Mistake]:
    given = {
        "type": register.type not in (None, "bool"), "scale": register.scale != 1.0, "offset": register.offset != 0.0,
        "invalid": register.invalid is not None, "word_order": register.word_order is not None,
    }  # fmt: skip
    for key in (key for key, is_given in given.items() if is_given):
        yield (key,), f'expected none beside kind = "{register.kind}", whose values are single bits'


def _register_mistakes(register: ModbusRegister) -> Iterator[Mistake]:
    kind = register.type
    if kind is None or kind == "bool":
        received = 'received "bool"' if kind else "received nothing: the key is missing"
        yield ("type",), f'expected {one_of(list(FORMATS))} beside kind = "{register.kind}", {received}'
        return
    if not register.scale:
        yield ("scale",), "expected another number than 0, received 0"
    if register.word_order is not None and _words(kind) == 1:
        yield ("word_order",), f'expected none beside type = "{kind}", which is one word'
    if register.address + _words(kind) > ADDRESSES:
        yield ("address",), f"expected the {kind} to end before address 65536, received {register.address}"
    if register.invalid is not None and not _can_be(kind, register.invalid):
        yield ("invalid",), f'expected a number of type = "{kind}", received {register.invalid}'


def _can_be(kind: str, number: float) -> bool:
    if FORMATS[kind] in "fd":
        try:
            struct.pack(f">{FORMATS[kind]}", number)
        except OverflowError:
            return False
        return True
    bits = WORD_BITS * _words(kind)
    return isinstance(number, int) and -(2 ** (bits - 1)) <= number < 2**bits


def _line_mistakes(source: ModbusConfig) -> Iterator[Mistake]:
    if source.host is None and source.serial_port is None:
        yield ("host",), "expected a host (Modbus TCP) or a serial_port (RTU), received neither"
    elif source.host is not None and source.serial_port is not None:
        yield ("serial_port",), "expected a host (Modbus TCP) or a serial_port (RTU), received both"
    elif source.serial_port is not None and source.port != DEFAULT_PORT:
        yield ("port",), "expected a host beside port, received serial_port"
    elif source.host is not None:
        given = {
            "baudrate": source.baudrate != DEFAULT_BAUDRATE, "parity": source.parity != DEFAULT_PARITY,
            "stopbits": source.stopbits != 1,
        }  # fmt: skip
        for key in (key for key, is_given in given.items() if is_given):
            yield (key,), f"expected a serial_port beside {key}, received host"
