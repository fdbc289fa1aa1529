"""Scans of an IIO buffer, against a decoder that goes bit by bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vae.sources.scan import ScanLayout, ScanType


def plain_number(cell: bytes, kind: ScanType) -> int:
    """What a cell holds, by the words of the documentation: shift, then mask, then the sign."""
    number = int.from_bytes(cell, "big" if kind.big_endian else "little") >> kind.shift
    number &= (1 << kind.bits) - 1
    return number - (1 << kind.bits) if kind.signed and number >> (kind.bits - 1) else number


def plain_scan(data: bytes, kinds: list[ScanType]) -> tuple[list[list[int]], int]:
    """The numbers of the first scan, and its length: as a C compiler lays out a struct of arrays of this alignment."""
    at, largest, numbers = 0, 1, []
    for kind in kinds:
        cell = kind.storage_bits // 8
        while at % kind.size_bytes:
            at += 1
        numbers.append([plain_number(data[at + i * cell :][:cell], kind) for i in range(kind.repeat)])
        at += kind.size_bytes
        largest = max(largest, kind.size_bytes)
    while at % largest:
        at += 1
    return numbers, at


@st.composite
def scan_types(draw: st.DrawFn) -> ScanType:
    storage = draw(st.sampled_from([8, 16, 32, 64]))
    shift = draw(st.integers(0, storage - 1))
    bits = draw(st.integers(1, storage - shift))
    repeat = draw(st.sampled_from([1, 1, 2, 4]))
    return ScanType(draw(st.booleans()), draw(st.booleans()), bits, storage, repeat, shift)


@given(st.lists(scan_types(), min_size=1, max_size=6), st.integers(0, 3), st.data())
def test_every_layout_is_decoded_as_slowly_by_hand(kinds: list[ScanType], scans: int, data: st.DataObject) -> None:
    layout = ScanLayout(kinds)
    stored = data.draw(st.binary(min_size=scans * layout.size_bytes, max_size=scans * layout.size_bytes))

    expected, rest = [], stored
    for _ in range(scans):
        numbers, size = plain_scan(rest, kinds)
        expected.append(numbers)
        rest = rest[size:]
    assert rest == b""
    for place, kind in enumerate(kinds):
        found = layout.numbers(stored, place)
        assert found.shape == (scans, kind.repeat)
        assert found.tolist() == [numbers[place] for numbers in expected]


def test_the_example_of_the_kernels_documentation() -> None:
    kinds = [ScanType.parse(f"be:u{bits}/{bits}>>0") for bits in (16, 32, 32, 64)]

    assert ScanLayout(kinds).size_bytes == 24
    assert ScanLayout([kinds[0], kinds[3]]).size_bytes == 16


@pytest.mark.parametrize(
    ("text", "stored", "number"),
    [
        ("le:s12/16>>4", b"\xf0\xff", -1),
        ("le:s12/16>>4", b"\x1f\x80", -2047),
        ("be:u12/16>>0", b"\xff\xff", 4095),
        ("be:s24/32>>8", b"\x80\x00\x00\xaa", -(2**23)),
        ("le:u24/32>>0", b"\xff\xff\xff\xaa", 2**24 - 1),
        ("le:s8/8>>0", b"\xfe", -2),
        ("le:u64/64>>0", b"\xff" * 8, 2**64 - 1),
        ("be:s16/16", b"\xff\xfe", -2),
    ],
)
def test_numbers_of_common_converters(text: str, stored: bytes, number: int) -> None:
    assert ScanLayout([ScanType.parse(text)]).numbers(stored, 0).tolist() == [[number]]


def test_repeated_numbers_are_picked_one_by_one() -> None:
    layout = ScanLayout([ScanType.parse("le:s16/16>>0"), ScanType.parse("le:s16/16X4>>0")])
    stored = np.array([7, 0, 0, 0, 1, 2, 3, 4], "<i2").tobytes()

    assert layout.size_bytes == 16
    assert layout.readings(stored, [(1, 2), (0, 0)]).tolist() == [[3.0, 7.0]]


@pytest.mark.parametrize(
    "text",
    ["", "s16/16", "le:x16/16", "le:s16/12", "le:s0/16", "le:s12/8", "le:s12/16>>5", "le:s16/16X", "le:s16/16 ",
     "LE:s16/16", "le:s16/16>>-1", "le:s16/16X3>>0", "le:s16/128>>0", "le:s٤/8"],
)  # fmt: skip
def test_a_type_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        ScanType.parse(text)
