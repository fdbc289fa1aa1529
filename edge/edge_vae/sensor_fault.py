"""Faults of sensors and of what reads them, as they are told apart from faults of the machine."""

from __future__ import annotations

import math
from typing import Literal, get_args

import msgspec

__all__ = ["FAULT_KINDS", "FaultKind", "SensorFault", "fault_key"]

FaultKind = Literal["missing", "stuck", "rail", "silent", "gap", "wrong_rate", "out_of_order", "repeated_time"]
"""Of a channel: readings are missing or infinite, do not change any more, or rest at an end of what the sensor can say.
Of the source: no samples come; none have times in between; there are too many or too few of them; their times go back,
or stand still."""
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)


class SensorFault(msgspec.Struct, frozen=True):
    """A fault that begins or ends.

    Attributes:
        kind: What is wrong.
        channel: Of which channel; None for the source, and for several channels that stand still together.
        begins: False when it ends.
        sample: Index in the block of the sample that shows it; 0 where the passing of time does.
        value: The reading; of `silent` and `gap` seconds without a sample, of `wrong_rate` samples a second, of
            `out_of_order` by how many seconds time went back. NaN where there is none.
        limit: What the value was compared with; NaN where there is nothing.
        together: The channels that stand still together.
    """

    kind: FaultKind
    channel: str | None
    begins: bool
    sample: int
    value: float = math.nan
    limit: float = math.nan
    together: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What tells it from every other fault of the asset."""
        return fault_key(self.kind, self.channel)


def fault_key(kind: FaultKind, channel: str | None) -> str:
    """What tells a fault from every other one of the asset."""
    return kind if channel is None else f"{kind} {channel}"
