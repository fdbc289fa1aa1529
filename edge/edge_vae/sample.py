"""Samples as they come from a source: a block of rows, with the time of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Block", "FloatArray"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive samples of all channels of one machine.

    Attributes:
        values: (samples, channels), in sensor units, channels in the order of the bundle; NaN for a missing reading.
        times: (samples,), seconds since 1970-01-01 UTC; NaN where the source has no time.
        arrived_ns: Monotonic clock when the last sample of the block arrived, in nanoseconds.
        starts_session: True when the machine or the recording starts anew with the first sample.
        uncertain: (samples, channels), True where the source itself doubts a reading; None where it doubts none.
    """

    values: FloatArray
    times: FloatArray
    arrived_ns: int
    starts_session: bool = False
    uncertain: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.times.shape != self.values.shape[:1]:
            shapes = f"{self.values.shape} and {self.times.shape}"
            msg = f"expected values (samples, channels) and times (samples,), received {shapes}"
            raise ValueError(msg)
