"""Samples that another program writes into this one: `sensor-reader | edge-vae run ...`."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence
from typing import Literal

from edge_vae.sample import Block
from edge_vae.sources.csv_rows import CsvRows
from edge_vae.sources.decode import Decoder, Rows
from edge_vae.sources.json_rows import JsonRows

__all__ = ["StdinSource"]

PIECE_BYTES = 2**16
"""What a Linux pipe holds; until it is read, the writer waits, so nothing has to be dropped."""


class StdinSource:
    """Rows of JSON lines or of CSV with a header, from standard input; exhausted when its last writer closes it.

    Args:
        format: `jsonl` or `csv`.
        time: Name of the time; by default it is recognised.
        fd: The file descriptor to read.
    """

    dropped = 0
    progress_ns: int | None = None

    def __init__(self, *, format: Literal["jsonl", "csv"] = "jsonl", time: str | None = None, fd: int = 0) -> None:  # noqa: A002 (the word of the configuration)
        self._format, self._time, self._fd = format, time, fd
        self._channels: tuple[str, ...] | None = None
        self._decoder: Decoder | None = None
        self._starts = True
        self._ended = False
        self.samples = 0

    @property
    def malformed(self) -> int:
        """How many readings and lines could not be read."""
        return self._decoder.malformed if self._decoder else 0

    @property
    def exhausted(self) -> bool:
        """Whether the input has ended and every row of it was read."""
        return self._ended

    def check(self, channels: Sequence[str]) -> None:
        """Raise nothing: which channels there are is seen when rows come."""

    def open(self, channels: Sequence[str]) -> None:
        """Begin to read, or go on: a header that was read before still holds, since the input cannot be rewound."""
        if self._decoder is None or self._channels != tuple(channels):
            self._channels = tuple(channels)
            decoder = {"csv": CsvRows, "jsonl": JsonRows}[self._format]
            self._decoder = decoder(channels, time=self._time, source="standard input")
        self._starts = True

    def read(self, timeout_s: float, *, at_least: int = 1) -> list[Block]:
        """The rows that have come, waiting for that many at most this long.

        Raises:
            SourceError: The CSV header lacks a channel, or there is none.
        """
        deadline, left_s = time.monotonic() + timeout_s, timeout_s
        blocks: list[Block] = []
        wanted = self.samples + at_least
        while not self._ended and select.select([self._fd], [], [], max(0.0, left_s))[0]:
            if len(rows := self._piece()):
                blocks.append(self._block(rows))
            left_s = deadline - time.monotonic()
            if self.samples >= wanted or left_s <= 0:
                break
        return blocks

    def close(self) -> None:
        """Leave the input as it is; it belongs to the process."""

    def _piece(self) -> Rows:
        if self._decoder is None:
            msg = "read before open"
            raise ValueError(msg)
        if data := os.read(self._fd, PIECE_BYTES):
            return self._decoder.feed(data)
        self._ended = True
        return self._decoder.flush()

    def _block(self, rows: Rows) -> Block:
        starts, self._starts = self._starts, False
        self.samples += len(rows)
        return Block(rows.values, rows.times, time.monotonic_ns(), starts_session=starts)
