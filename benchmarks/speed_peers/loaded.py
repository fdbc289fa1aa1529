"""What a peer is given, and what it gives the process that times it. Needs numpy alone, as every environment has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Files", "Floats", "Loaded", "One", "each", "statistic"]

Floats = NDArray[Any]
One = Callable[[Floats], float]
"""A window (length, channels) in sensor units to its score."""


@dataclass(frozen=True)
class Files:
    """What `speed_peers.models` left in a folder."""

    folder: Path

    @cached_property
    def windows(self) -> Floats:
        """Windows (windows, length, channels) in sensor units, float64."""
        return np.asarray(np.load(self.folder / "windows.npy"))

    @cached_property
    def numbers(self) -> dict[str, Floats]:
        """`centre`, `scale` (channels,), `variance` (1 or length, channels), `clip`; weights `LAYER/0`, `LAYER/1`."""
        with np.load(self.folder / "numbers.npz") as archive:
            return dict(archive)

    def scaled(self, windows: Floats) -> NDArray[np.float32]:
        """Windows (..., length, channels) as a model sees them."""
        numbers = self.numbers
        clip = numbers["clip"]
        return np.clip((windows - numbers["centre"]) / numbers["scale"], -clip, clip).astype(np.float32)


@dataclass(frozen=True)
class Loaded:
    """A peer that is ready.

    Attributes:
        calls: By its name, what scores one window; it is handed a number that counts upwards.
        bulk: By its name, windows (windows, length, channels) to scores (windows,).
    """

    calls: dict[str, Callable[[int], object]] = field(default_factory=dict)
    bulk: dict[str, Callable[[Floats], Floats]] = field(default_factory=dict)


def each(one: One, windows: Floats) -> Callable[[int], object]:
    """A call that scores the windows in turn."""
    count = len(windows)
    return lambda i: one(windows[i % count])


def statistic(scaled: Floats, reconstruction: Floats, variance: Floats) -> Floats:
    """Mean squared error over the variance, as a user writes it, of windows (..., length, channels)."""
    return np.asarray((np.square(scaled - reconstruction) / variance).mean(axis=(-2, -1)))
