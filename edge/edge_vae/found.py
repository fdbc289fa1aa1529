"""What a pipeline finds in samples, as values that a message can be made of."""

from __future__ import annotations

from dataclasses import dataclass

from edge_vae.annunciator import Notice
from edge_vae.event import Channel

__all__ = ["Drift", "Found", "Strange"]


@dataclass(frozen=True, slots=True)
class Drift:
    """The bulk of the scores has risen: normal operation is not what it was. Means over the windows that have drifted.

    Attributes:
        windows: How many.
        score: Their mean score.
        threshold: The threshold at present.
        channels: All channels, the one with the largest mean share first, with the means of value and expected value.
        start_s: Time of the first sample of the first of these windows, seconds since 1970; NaN without time.
        end_s: Time of the last sample of the last of them.
        arrived_ns: Monotonic clock when the samples that completed the last one arrived.
    """

    windows: int
    score: float
    threshold: float
    channels: tuple[Channel, ...]
    start_s: float
    end_s: float
    arrived_ns: int


@dataclass(frozen=True, slots=True)
class Strange:
    """An operating mode that the model does not know; nothing is scored in it.

    Attributes:
        channels: The columns that tell the mode, and their values.
        time_s: When it was met, seconds since 1970; NaN without time.
        arrived_ns: Monotonic clock when its samples arrived.
    """

    channels: tuple[Channel, ...]
    time_s: float
    arrived_ns: int


Found = Notice | Drift | Strange
"""What samples can bring."""
