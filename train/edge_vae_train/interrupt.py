"""Ctrl-C in training: taken between two epochs, because TensorFlow makes other errors of it within a step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["whole_epochs"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def whole_epochs(count: int) -> Iterator[int]:
    """1 to `count`; a signal that arrives before the next number is asked for is answered then, by its own handler.

    A second signal is answered at once. Outside of the main thread, where Python handles no signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield from range(1, count + 1)
        return
    handlers = {int(number): handler for number in _SIGNALS if callable(handler := signal.getsignal(number))}
    arrived: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        arrived.append(number)
        if len(arrived) > 1:
            handlers[number](number, frame)

    for number in handlers:
        signal.signal(number, note)
    try:
        for epoch in range(1, count + 1):
            yield epoch
            if arrived:
                break
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if arrived:
        handlers[arrived[0]](arrived[0], None)
