"""A score to a decision: above the threshold or not, and what the threshold promises."""

from __future__ import annotations

import msgspec

__all__ = ["SECONDS_PER_DAY", "Threshold"]

SECONDS_PER_DAY = 86_400.0


class Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A score above `value` is anomalous.

    Attributes:
        value: The score at which the agent raises `false_alarms_per_day` alarms a day on normal data.
        kind: How it was found: `pareto` (peaks over threshold), `rank` (in the bulk) or `blocks` (too few separate
            peaks: exponential tails of the held-out blocks, drawn towards a usual one).
        false_alarms_per_day: The wish.
        start: The score where the tail begins.
        shape: Shape of the generalised Pareto tail; 0 for an exponential one.
        scale: Its scale, in units of the score.
        peaks_per_day: Separate exceedances of `start` a day on held-out normal data, counted as alarms are.
        peaks: How many of them the tail was fitted on.
        observed_days: Days of held-out normal data.
        blocks: Held-out blocks.
        low: The lowest threshold that leaving out one held-out block gives (`blocks`: that one block alone gives, with
            a mean excess that is lower by its standard error).
        high: The highest.
    """

    value: float
    kind: str
    false_alarms_per_day: float
    start: float
    shape: float
    scale: float
    peaks_per_day: float
    peaks: int
    observed_days: float
    blocks: int
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.value > 0:
            msg = f"expected a threshold above zero, received {self.value}"
            raise ValueError(msg)
