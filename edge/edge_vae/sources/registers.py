"""Which requests read the channels of a Modbus device, and what the answers say."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from edge_vae.modbus_config import BITS, FORMATS, MAX_BITS, ModbusConfig, ModbusRegister, Order, RegisterKind
from edge_vae.sample import FloatArray
from edge_vae.sources.lines import Malformed

__all__ = ["MAX_REGISTERS", "Request", "Value", "grouped", "number"]

MAX_REGISTERS = 125
"""Registers that one request reads at most (Modbus Application Protocol 1.1b3, 6.3)."""


@dataclass(frozen=True, slots=True)
class Value:
    """The number of one channel.

    Attributes:
        column: Where it stands in a row.
        register: Where it stands in the device.
        device_id: That device.
        byte_order: Of the bytes in a register.
        word_order: Of the registers of one number.
    """

    column: int
    register: ModbusRegister
    device_id: int
    byte_order: Order
    word_order: Order

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.register.address + self.register.width

    def read(self, answer: Sequence[int], malformed: Malformed) -> float:
        """The value in sensor units; NaN where the device has none, and where it is infinite, which is counted.

        Args:
            answer: The registers or bits of this value alone.
            malformed: Where it is counted.
        """
        register, kind = self.register, self.register.type
        if kind is None or kind == "bool":
            return float(answer[0])
        read = number(answer, kind, byte_order=self.byte_order, word_order=self.word_order)
        if register.invalid is not None and _same(read, register.invalid, kind):
            return math.nan
        value = read * register.scale + register.offset
        if math.isinf(value):
            malformed.add(f"channel={register.channel}", value)
            return math.nan
        return value


@dataclass(frozen=True, slots=True)
class Request:
    """Neighbouring registers, or bits, of one device that are read at once, and the values among them."""

    device_id: int
    kind: RegisterKind
    address: int
    count: int
    values: tuple[Value, ...]

    def __str__(self) -> str:
        last = f" to {self.end - 1}" if self.count > 1 else ""
        return f"{self.kind} {self.address}{last} of device {self.device_id}"

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + self.count

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that it reads."""
        return tuple(value.register.channel for value in self.values)

    def takes(self, value: Value, *, max_gap: int) -> bool:
        """Whether it may read this value too, which stands no earlier than its own."""
        most = MAX_BITS if self.kind in BITS else MAX_REGISTERS
        return (
            (self.device_id, self.kind) == (value.device_id, value.register.kind)
            and value.register.address - self.end <= max_gap
            and value.end - self.address <= most
        )

    def with_value(self, value: Value) -> Request:
        """The request that reads it too."""
        count = max(self.end, value.end) - self.address
        return Request(self.device_id, self.kind, self.address, count, (*self.values, value))

    def read(self, answer: Sequence[int], row: FloatArray, malformed: Malformed) -> None:
        """Put what the answer says into a row (channels,)."""
        for value in self.values:
            first = value.register.address - self.address
            row[value.column] = value.read(answer[first : first + value.register.width], malformed)


def grouped(config: ModbusConfig, channels: Sequence[str]) -> list[Request]:
    """The fewest requests that read these channels; a number is never cut in two."""
    by_name = {register.channel: register for register in config.registers}
    values = [
        Value(
            column,
            by_name[name],
            _or(by_name[name].device_id, config.device_id),
            config.byte_order,
            by_name[name].word_order or config.word_order,
        )
        for column, name in enumerate(channels)
    ]
    requests: list[Request] = []
    for value in sorted(values, key=_place):
        if requests and requests[-1].takes(value, max_gap=config.max_gap):
            requests[-1] = requests[-1].with_value(value)
        else:
            requests.append(Request(*_place(value), value.register.width, (value,)))
    return requests


def number(words: Sequence[int], kind: str, *, byte_order: Order, word_order: Order) -> int | float:
    """The number that registers hold.

    The protocol itself knows 16 bits, high byte first; how devices spread larger numbers is theirs to choose.

    >>> number([0x4048, 0xF5C3], "float32", byte_order="big", word_order="big")
    3.140000104904175

    Args:
        words: The registers, in the order of their addresses.
        kind: Its type.
        byte_order: `little`: the bytes of each register are swapped.
        word_order: `little`: the lowest word stands first.
    """
    ordered = words if word_order == "big" else words[::-1]
    packed = struct.pack(f"{'>' if byte_order == 'big' else '<'}{len(words)}H", *ordered)
    found: int | float = struct.unpack(f">{FORMATS[kind]}", packed)[0]
    return found


def _same(read: float, invalid: float, kind: str) -> bool:
    """Whether both are sent alike: 0.1 in 32 bits is another number than in 64, and 0x8000 is -32768 too."""
    packing = struct.Struct(f">{FORMATS[kind]}")
    if packing.format[-1] in "fd":
        return packing.pack(read) == packing.pack(invalid)
    return bool((read - invalid) % 2 ** (8 * packing.size) == 0)


def _place(value: Value) -> tuple[int, RegisterKind, int]:
    return value.device_id, value.register.kind, value.register.address


def _or(given: int | None, default: int) -> int:
    return default if given is None else given
