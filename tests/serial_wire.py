"""A serial adapter that can be pulled out and put back, on pairs of pseudo-terminals."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

from edge_vae.source_config import SerialConfig

__all__ = ["Wire"]


class Wire:
    """A serial adapter under a name that stays, with a device at the other end.

    Args:
        folder: Where the name is.
    """

    def __init__(self, folder: Path) -> None:
        self.port = folder / "ttyUSB0"
        self._writing = self.terminal = -1
        self.plug()

    def __enter__(self) -> Wire:  # noqa: PYI034 (typing.Self is not in Python 3.10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.terminal >= 0:
            self.pull()

    def plug(self) -> None:
        """Put it in."""
        self._writing, self.terminal = os.openpty()
        self.port.symlink_to(os.ttyname(self.terminal))

    def pull(self) -> None:
        """Pull it out: the open port is in error from now on, and there is none of this name."""
        self.port.unlink()
        os.close(self._writing)
        os.close(self.terminal)
        self._writing = self.terminal = -1

    def write(self, data: bytes) -> None:
        """Let the device write."""
        os.write(self._writing, data)

    def config(self, **more: Any) -> SerialConfig:
        """A source that reads it."""
        return SerialConfig(port=self.port, baudrate=9600, **more)
