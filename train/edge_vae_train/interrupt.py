"""Ctrl-C while TensorFlow works: answered at the next safe place, because in its own calls it makes other errors of it.

A KeyboardInterrupt that is raised within a call into TensorFlow comes out as a TypeError, as an error of the converter,
or as a traceback of something that was "ignored", and is lost.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["answer", "held"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Hold:
    """Signals that arrived, and the handlers that will answer them."""

    def __init__(self, handlers: dict[int, Callable[..., Any]]) -> None:
        self.handlers, self.arrived = handlers, list[int]()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.arrived.append(number)
        if len(self.arrived) > 1:
            self.handlers[number](number, frame)

    def answer(self) -> None:
        if self.arrived:
            number = self.arrived[0]
            self.arrived.clear()
            self.handlers[number](number, None)


@contextmanager
def held() -> Iterator[None]:
    """Within the block a signal waits: until `answer` is called, or the block ends, even by an error.

    Then the handler that was there before answers it, as a rule with a KeyboardInterrupt. A second signal is answered
    at once. A block within a block changes nothing, nor does one outside of the main thread, where Python handles no
    signals. Also a decorator: `@held()`.
    """
    if threading.current_thread() is not threading.main_thread() or _holds():
        yield
        return
    handlers = {int(number): handler for number in _SIGNALS if callable(handler := signal.getsignal(number))}
    hold = _Hold(handlers)
    for number in handlers:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        hold.answer()


def answer() -> None:
    """Answer a signal that has waited; called where nothing is half done."""
    if threading.current_thread() is threading.main_thread():
        for hold in _holds():
            hold.answer()


def _holds() -> list[_Hold]:
    """The hold in force, where there is one."""
    found = [handler for number in _SIGNALS if isinstance(handler := signal.getsignal(number), _Hold)]
    return found[:1]
