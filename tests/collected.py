"""What came of a source: its blocks, and the readings in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from broker import wait_until
from edge_vae.sample import Block
from edge_vae.sources import Source

__all__ = ["collect", "readings", "values_of"]


def collect(source: Source, count: int) -> list[Block]:
    """The blocks that hold the next samples, that many or a few more; fails at the deadline."""
    blocks: list[Block] = []
    wait_until(
        lambda: (blocks.extend(source.read(0.2)) or sum(len(block.times) for block in blocks)) >= count,
        f"{count} samples of a source",
    )
    return blocks


def values_of(blocks: Sequence[Block]) -> np.ndarray:
    """(samples, channels)."""
    return np.concatenate([block.values for block in blocks])


def readings(source: Source, count: int) -> list[list[float]]:
    """The readings of the next samples, a list a sample."""
    found: list[list[float]] = values_of(collect(source, count)).tolist()
    return found
