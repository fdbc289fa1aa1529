"""Messages of a subscription out of a broker's bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vae.errors import BrokerError
from edge_vae.sources.publications import Arrived, Publications


def length_of(size: int) -> bytes:
    """A variable byte integer."""
    digits = b""
    while size > 127:
        digits, size = digits + bytes([size % 128 | 0x80]), size // 128
    return digits + bytes([size])


def published(payload: bytes, *, qos: int = 0, retain: bool = False, properties: bytes | None = None) -> bytes:
    """A PUBLISH packet; with properties as MQTT 5 has it."""
    body = b"\x00\x03a/b" + (b"\x12\x34" if qos else b"")
    body += b"" if properties is None else length_of(len(properties)) + properties
    return bytes([0x30 | qos << 1 | retain]) + length_of(len(body + payload)) + body + payload


def fed(publications: Publications, *pieces: bytes) -> Arrived:
    whole = Arrived()
    for piece in pieces:
        arrived = publications.feed(piece)
        whole.payloads += arrived.payloads
        whole.retained += arrived.retained
        whole.answer += arrived.answer
    return whole


payloads = st.lists(st.one_of(st.binary(max_size=200), st.just(b"x" * 20_000)), max_size=8)


@given(payloads, st.sampled_from([5, 311]), st.integers(0, 1), st.binary(max_size=300), st.data())
def test_messages_do_not_depend_on_how_the_bytes_are_cut(
    sent: list[bytes], protocol: int, qos: int, properties: bytes, data: st.DataObject
) -> None:
    given_properties = properties if protocol == 5 else None
    stream = b"\xd0\x00".join(published(payload, qos=qos, properties=given_properties) for payload in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    arrived = fed(Publications(protocol), *pieces)  # type: ignore[arg-type] # one of the two
    assert arrived.payloads == sent
    assert bytes(arrived.answer) == b"\x40\x02\x12\x34" * (qos * len(sent))


def test_a_retained_message_is_counted_and_acknowledged() -> None:
    arrived = Publications(311).feed(published(b"old", qos=1, retain=True) + published(b"new"))

    assert (arrived.payloads, arrived.retained, bytes(arrived.answer)) == ([b"new"], 1, b"\x40\x02\x12\x34")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xe0\x00", "received its end: Normal disconnection"),
        (b"\xe0\x01\x8e", "received its end: Session taken over"),
        (b"\xe0\x01\xfa", "received its end: code 250"),
        (b"\x20\x02\x00\x00", "received an MQTT packet of type 2"),
        (b"\x30\xff\xff\xff\xff\x01", "a length of at most four bytes"),
        (b"\x30\x02\x00\x09", "one that ends before its payload"),
        (b"\x30\x03\x00\x01a", "one that ends before its payload"),
    ],
)
def test_what_ends_the_connection_is_told(data: bytes, message: str) -> None:
    with pytest.raises(BrokerError) as caught:
        Publications(5).feed(data)
    assert message in str(caught.value)


@given(st.binary(max_size=100), st.sampled_from([5, 311]))
def test_no_bytes_break_it(data: bytes, protocol: int) -> None:
    try:
        arrived = Publications(protocol).feed(data)  # type: ignore[arg-type] # one of the two
    except BrokerError:
        return
    assert sum(map(len, arrived.payloads)) <= len(data)
