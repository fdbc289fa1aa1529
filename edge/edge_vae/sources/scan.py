"""Scans of a Linux IIO buffer: how the elements of one lie in memory, and their bytes as numbers.

Types and alignment: Linux, Documentation/iio/iio_devbuf.rst, and iio_compute_scan_bytes in
drivers/iio/industrialio-buffer.c.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vae.sample import FloatArray

__all__ = ["Numbers", "ScanLayout", "ScanType"]

TYPE = re.compile(r"(be|le):([su])(\d{1,2})/(8|16|32|64)(?:X(\d{1,3}))?(?:>>(\d{1,2}))?", re.ASCII)
EXPECTED = "a type like le:s12/16>>4"

Numbers = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class ScanType:
    """How one element of a scan is stored.

    Attributes:
        big_endian: Whether the first byte is the highest one.
        signed: Whether the number is in two's complement.
        bits: How many bits are the number.
        storage_bits: How many bits it takes in the buffer.
        repeat: How many such numbers the element holds.
        shift: How far above the lowest bit the number begins.
    """

    big_endian: bool
    signed: bool
    bits: int
    storage_bits: int
    repeat: int = 1
    shift: int = 0

    @classmethod
    def parse(cls, text: str) -> ScanType:
        """The type that a file `*_type` holds.

        >>> ScanType.parse("le:s12/16>>4").size_bytes
        2

        Raises:
            ValueError: It is no such type, or one whose place in a scan the kernel does not define.
        """
        match = TYPE.fullmatch(text)
        if match is None:
            msg = f"expected {EXPECTED}, received {text!r}"
            raise ValueError(msg)
        order, sign, *numbers = match.groups()
        bits, storage_bits, repeat, shift = (int(number) if number else 0 for number in numbers)
        found = cls(order == "be", sign == "s", bits, storage_bits, max(repeat, 1), shift)
        if not 1 <= bits <= storage_bits - shift:
            msg = f"expected {EXPECTED}, whose bits fit into what they are stored in, received {text!r}"
            raise ValueError(msg)
        if found.size_bytes & (found.size_bytes - 1):
            # ALIGN of the kernel is only defined for powers of two.
            msg = f"expected an element of 1, 2, 4, 8 ... bytes, received one of {found.size_bytes}: {text!r}"
            raise ValueError(msg)
        return found

    @property
    def size_bytes(self) -> int:
        """What the element takes in a scan, which is what it is aligned to as well."""
        return self.storage_bits // 8 * self.repeat

    @property
    def format(self) -> tuple[str, tuple[int]]:
        """The element as numpy calls it, with its shape."""
        return f"{'>' if self.big_endian else '<'}{'i' if self.signed else 'u'}{self.storage_bits // 8}", (self.repeat,)

    def numbers(self, stored: Numbers) -> Numbers:
        """The numbers that are stored, without the bits around them; the sign comes down with the shift."""
        above = self.storage_bits - self.shift - self.bits
        native: Numbers = stored.astype(stored.dtype.newbyteorder("="))
        return native << above >> (above + self.shift) if above or self.shift else native


class ScanLayout:
    """Where the elements of a scan lie: each aligned to its own size, and the whole to the largest of them.

    Args:
        types: The types of the enabled elements, in the order of their index.
    """

    def __init__(self, types: Sequence[ScanType]) -> None:
        self._types = tuple(types)
        offsets, end = [], 0
        for kind in types:
            offsets.append(_aligned(end, kind.size_bytes))
            end = offsets[-1] + kind.size_bytes
        self.size_bytes = _aligned(end, max(kind.size_bytes for kind in types))
        self._dtype = np.dtype(
            {
                "names": [str(place) for place in range(len(types))],
                "formats": [kind.format for kind in types],
                "offsets": offsets,
                "itemsize": self.size_bytes,
            }
        )

    def numbers(self, data: bytes, place: int) -> Numbers:
        """The numbers (scans, repeat) of one element.

        Args:
            data: Whole scans.
            place: Which element, counted from 0 in the order of the types.
        """
        return self._types[place].numbers(np.frombuffer(data, self._dtype)[str(place)])

    def readings(self, data: bytes, picks: Sequence[tuple[int, int]]) -> FloatArray:
        """Raw readings (scans, picks).

        Args:
            data: Whole scans.
            picks: The place of an element, and which of its repeated numbers is meant.
        """
        readings = np.empty((len(data) // self.size_bytes, len(picks)))
        for column, (place, repeat) in enumerate(picks):
            readings[:, column] = self.numbers(data, place)[:, repeat]
        return readings


def _aligned(offset: int, size: int) -> int:
    return -(-offset // size) * size
