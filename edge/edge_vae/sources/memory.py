"""A source that gives out blocks it was handed: for tests, and for whoever has the samples in memory already."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace

from edge_vae.sample import Block

__all__ = ["MemorySource"]


class MemorySource:
    """Blocks from memory, one a `read`.

    Args:
        blocks: What to give out, channels in the order in which they will be asked for.
        endless: Begin again after the last block, as a new session, and never be exhausted; without blocks, be silent.
    """

    malformed = 0
    dropped = 0
    progress_ns: int | None = None

    def __init__(self, blocks: Iterable[Block], *, endless: bool = False) -> None:
        self._blocks, self._endless = tuple(blocks), endless
        self._left: deque[Block] = deque(self._blocks)
        self._starts = True
        self._closed = threading.Event()
        self.samples = 0

    @property
    def exhausted(self) -> bool:
        """Whether every block has been given out."""
        return not self._left and not self._endless

    def check(self, channels: Sequence[str]) -> None:
        """Raise ValueError if a block has another number of channels."""
        for block in self._blocks:
            if block.values.shape[1] != len(channels):
                msg = f"expected blocks of {len(channels)} channels, received one of {block.values.shape[1]}"
                raise ValueError(msg)

    def open(self, channels: Sequence[str]) -> None:
        """Begin with the first block.

        Raises:
            ValueError: A block has another number of channels.
        """
        self.check(channels)
        self._left, self._starts = deque(self._blocks), True
        self._closed.clear()

    def read(self, timeout_s: float, *, at_least: int = 1) -> list[Block]:  # noqa: ARG002 (blocks are as they were given)
        """The next block, as if it arrived now."""
        if not self._left and self._endless:
            self._left, self._starts = deque(self._blocks), True
        if not self._left:
            if self._endless:
                self._closed.wait(timeout_s)
            return []
        block = self._left.popleft()
        starts, self._starts = self._starts or block.starts_session, False
        self.samples += len(block.times)
        return [replace(block, arrived_ns=time.monotonic_ns(), starts_session=starts)]

    def close(self) -> None:
        """Wake a reader that waits; `open` begins anew."""
        self._closed.set()
