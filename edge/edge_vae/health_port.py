"""The port that Prometheus scrapes: as much of HTTP as that takes, in one thread, whoever connects to it."""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

__all__ = ["HealthPort", "listener"]

log = logging.getLogger(__name__)

PATH = b"/metrics"
MAX_VISITORS = 8
"""Connections at a time; one more makes the oldest go, so that slow ones keep nobody out."""
MAX_WAITING = 64
"""Connections that the kernel takes before they are turned to."""
VISIT_S = 5.0
"""So long a connection may take from its first byte to its last."""
MAX_REQUEST_BYTES = 8192
PAGE_S = 1.0
"""A page is made once a second at most, however often it is asked for."""
TURN_S = 1.0
"""The thread turns at least this often, so that a watchdog can tell waiting from hanging."""
RETRY_S = 10.0
"""The address may belong to a network that is not there yet, or the port to a program that ends."""


def listener(address: tuple[str, int]) -> socket.socket:
    """A socket that listens at this address; OSError if it cannot be had."""
    family, _, _, _, where = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the connections of a last life do not hold it
        made.bind(where)
        made.listen(MAX_WAITING)
        made.settimeout(0.0)
    except OSError:
        made.close()
        raise
    return made


@dataclass(slots=True)
class _Visitor:
    """A connection: when it must be over, what it has said, and what is left to say to it."""

    until_s: float
    request: bytes = b""
    answer: memoryview = field(default_factory=lambda: memoryview(b""))


class HealthPort:
    """Answers `GET /metrics` with a page, and everything else with an error.

    An address that cannot be had is tried again: nothing else depends on this port.

    Args:
        address: Host and port to listen at.
        page: Makes the page.
        content_type: Of the page.
    """

    def __init__(self, address: tuple[str, int], page: Callable[[], str], *, content_type: str) -> None:
        self._address, self._make_page, self._content_type = address, page, content_type
        self._page, self._page_s = b"", float("-inf")
        self._visitors: dict[socket.socket, _Visitor] = {}
        self._stop = threading.Event()
        self.progress_ns = time.monotonic_ns()
        """Monotonic time of the thread's latest turn; it is never more than a little over a second old."""
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End it; whoever is connected is cut off."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(2 * TURN_S)

    def _run(self) -> None:
        told = False
        while not self._stop.is_set():
            try:
                opened = listener(self._address)
            except OSError as error:  # noqa: PERF203 (each try waits for the network)
                if not told:
                    log.error("health port not opened, trying again host=%s port=%d error=%s", *self._address, error)  # noqa: TRY400 (no fault here)
                told = True
                self._pause(RETRY_S)
            else:
                log.info("health port open host=%s port=%d", *self._address)
                with opened, selectors.DefaultSelector() as selector:
                    self._serve(opened, selector)

    def _pause(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s and not self._stop.wait(TURN_S):
            self.progress_ns = time.monotonic_ns()

    def _serve(self, opened: socket.socket, selector: selectors.BaseSelector) -> None:
        selector.register(opened, selectors.EVENT_READ)
        while not self._stop.is_set():
            for key, _ in selector.select(TURN_S):
                if key.fileobj is opened:
                    self._accept(opened, selector)
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._visitors:
                    self._attend(key.fileobj, selector)
            now_s = self._turned()
            for visitor in [one for one, visit in self._visitors.items() if now_s >= visit.until_s]:
                self._part(visitor, selector)
        for visitor in list(self._visitors):
            self._part(visitor, selector)

    def _turned(self) -> float:
        self.progress_ns = time.monotonic_ns()
        return self.progress_ns / 1e9

    def _accept(self, opened: socket.socket, selector: selectors.BaseSelector) -> None:
        try:
            visitor, _ = opened.accept()
        except OSError:  # gone again, or no descriptor is left: then it must not be asked for without end
            self._stop.wait(TURN_S / 10)
            return
        visitor.settimeout(0.0)
        if len(self._visitors) >= MAX_VISITORS:
            self._part(next(iter(self._visitors)), selector)
        self._visitors[visitor] = _Visitor(time.monotonic() + VISIT_S)
        selector.register(visitor, selectors.EVENT_READ)

    def _attend(self, visitor: socket.socket, selector: selectors.BaseSelector) -> None:
        visit = self._visitors[visitor]
        try:
            over = self._speak(visitor, visit) if visit.answer else self._listen(visitor, visit)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            over = True
        if over:
            self._part(visitor, selector)
        elif visit.answer:
            selector.modify(visitor, selectors.EVENT_WRITE)

    def _listen(self, visitor: socket.socket, visit: _Visitor) -> bool:
        """Take in a part of the request, and have the answer ready after its last; whether the visitor has left."""
        piece = visitor.recv(MAX_REQUEST_BYTES)
        visit.request += piece
        if b"\r\n\r\n" in visit.request or b"\n\n" in visit.request or len(visit.request) > MAX_REQUEST_BYTES:
            visit.answer = memoryview(self._answer(visit.request))
        return not piece

    def _speak(self, visitor: socket.socket, visit: _Visitor) -> bool:
        """Say a part of the answer; whether that was its last."""
        visit.answer = visit.answer[visitor.send(visit.answer) :]
        if not visit.answer:
            with suppress(OSError):
                visitor.shutdown(socket.SHUT_WR)
        return not visit.answer

    def _part(self, visitor: socket.socket, selector: selectors.BaseSelector) -> None:
        del self._visitors[visitor]
        selector.unregister(visitor)
        visitor.close()

    def _answer(self, request: bytes) -> bytes:
        """A whole response of HTTP/1.1 (RFC 9112), after which the connection is closed."""
        words = request.split(b"\n", 1)[0].split()
        if len(request) > MAX_REQUEST_BYTES or len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response("400 Bad Request", b"expected a request of HTTP/1.1\n")
        method, target = words[0], words[1].partition(b"?")[0]
        if target != PATH:
            return _response("404 Not Found", b"expected " + PATH + b"\n")
        if method not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", b"expected GET\n", "Allow: GET, HEAD\r\n")
        return _response("200 OK", self._fresh_page(), body=method == b"GET", content_type=self._content_type)

    def _fresh_page(self) -> bytes:
        now_s = time.monotonic()
        if now_s - self._page_s >= PAGE_S:
            self._page, self._page_s = self._make_page().encode(), now_s
        return self._page


def _response(
    status: str, page: bytes, more: str = "", *, body: bool = True, content_type: str = "text/plain; charset=utf-8"
) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(page)}\r\n"
        f"{more}Connection: close\r\n\r\n"
    )
    return head.encode() + (page if body else b"")
