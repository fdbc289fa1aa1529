"""The health port with whoever may come to it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection

import pytest

from broker import ADDRESS, DEADLINE_S, free_port, wait_until
from edge_vae import health_port as module
from edge_vae.health_port import MAX_REQUEST_BYTES, MAX_VISITORS, HealthPort

PAGE = "x 1\n" * 50_000
"""More than a socket takes at once."""


@pytest.fixture(autouse=True)
def _without_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN_S", 0.02)


@pytest.fixture
def port() -> Iterator[int]:
    """Where an opened health port listens."""
    number = free_port()
    served = HealthPort((ADDRESS, number), lambda: PAGE, content_type="text/plain")
    served.start()
    wait_until(lambda: answers(number), "the port is open")
    yield number
    assert get(number) == (200, PAGE.encode())  # whatever a test did to it
    served.stop()
    assert not served._thread.is_alive()


def connect(port: int) -> socket.socket:
    return socket.create_connection((ADDRESS, port), DEADLINE_S)


def answers(port: int) -> bool:
    try:
        connect(port).close()
    except OSError:
        return False
    return True


def get(port: int, path: str = "/metrics", method: str = "GET") -> tuple[int, bytes]:
    client = HTTPConnection(ADDRESS, port, timeout=DEADLINE_S)
    try:
        client.request(method, path)
        response = client.getresponse()
        return response.status, response.read()
    finally:
        client.close()


def rest(visitor: socket.socket) -> bytes:
    """All that it is told until it is parted from."""
    pieces = []
    try:
        while piece := visitor.recv(65536):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/metrics", 200, PAGE.encode()),
        ("GET", "/metrics?name[]=x", 200, PAGE.encode()),
        ("HEAD", "/metrics", 200, b""),
        ("GET", "/", 404, b"expected /metrics\n"),
        ("GET", "/metrics/../etc/passwd", 404, b"expected /metrics\n"),
        ("POST", "/metrics", 405, b"expected GET\n"),
    ],
)
def test_requests_are_answered(port: int, method: str, path: str, status: int, body: bytes) -> None:
    assert get(port, path, method) == (status, body)


@pytest.mark.parametrize(
    "garbage",
    [b"\0" * 100 + b"\r\n\r\n", b"GET\r\n\r\n", b"\n\n", b"\x16\x03\x01\x02\x00\x01\n\n",
     b"GET /metrics SMTP/1.0\r\n\r\n", b"a" * (MAX_REQUEST_BYTES + 1)],
    ids=["zeroes", "one word", "nothing", "TLS", "another protocol", "endless"],
)  # fmt: skip
def test_what_is_no_request_is_refused(port: int, garbage: bytes) -> None:
    with connect(port) as visitor:
        visitor.sendall(garbage)
        assert rest(visitor).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_request_may_come_in_pieces(port: int) -> None:
    with connect(port) as visitor:
        visitor.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /metrics HTTP/1.0\r\n\r\n":
            visitor.sendall(bytes([byte]))
        assert rest(visitor).endswith(PAGE.encode())


def test_silent_ones_keep_nobody_out_and_are_parted_from(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VISIT_S", 0.2)
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(port)) for _ in range(3 * MAX_VISITORS)]
        silent[-1].sendall(b"GET /met")
        assert get(port)[0] == 200
        assert [rest(visitor) for visitor in silent] == [b""] * len(silent)


def test_one_that_does_not_read_is_parted_from(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VISIT_S", 0.2)
    with connect(port) as visitor:
        visitor.sendall(b"GET /metrics HTTP/1.1\r\n\r\n" * 100)
        assert get(port)[0] == 200


def test_one_that_leaves_at_once_is_no_harm(port: int) -> None:
    for _ in range(50):
        with connect(port) as visitor:
            visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # part with a reset
            visitor.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")


def test_page_is_made_once_however_many_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_S", 3600.0)
    number, made = free_port(), []
    served = HealthPort((ADDRESS, number), lambda: made.append(1) or "x 1\n", content_type="text/plain")
    served.start()
    wait_until(lambda: answers(number), "the port is open")
    assert {get(number) for _ in range(20)} == {(200, b"x 1\n")}
    assert len(made) == 1
    served.stop()


def test_port_that_another_has_is_opened_when_it_is_free(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.1)
    with socket.create_server((ADDRESS, 0)) as other:
        number = other.getsockname()[1]
        served = HealthPort((ADDRESS, number), lambda: "x 1\n", content_type="text/plain")
        served.start()
        wait_until(lambda: "health port not opened, trying again" in caplog.text, "the failure")
        before = served.progress_ns
        wait_until(lambda: served.progress_ns > before, "progress while it waits")
    wait_until(lambda: answers(number), "the port is open")
    assert get(number) == (200, b"x 1\n")
    served.stop()
    assert caplog.text.count("health port not opened") == 1
