"""Programs that run beside the demo, and never longer than it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["child", "last_words"]

END_S = 5.0
"""A program that was asked to end may take so long; then it is killed."""


@contextmanager
def child(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running program whose output goes to a file; it has ended when the context is left, however it is left."""
    with log.open("wb") as out:
        # In a session of its own Ctrl-C reaches the demo alone, which then ends its programs in order.
        process = subprocess.Popen(  # noqa: S603 (our own broker and agent, no shell)
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        _end(process)


def last_words(log: Path) -> str:
    """The last line that a program wrote, for an error message."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(END_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
