"""The part of `agent.toml` that says what is a fault of a sensor, or of what reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, field

from edge_vae import toml_text
from edge_vae.event import Severity
from edge_vae.sensor_fault import FAULT_KINDS, FaultKind
from edge_vae.toml_table import Mistake, Table

__all__ = ["SensorChannelConfig", "SensorConfig"]

MAX_S = 7 * 86400.0


class SensorChannelConfig(Table, frozen=True, kw_only=True):
    """What is known of one channel's sensor.

    Attributes:
        low, high: Ends of what it can tell, in the channel's unit: a reading at or beyond one is none.
        stuck_s: So long may the reading rest; by default what the bundle's data shows.
        rests: True for a set point, a counter or a switch: it may rest for as long as it likes.
    """

    channel: Annotated[str, Meta(min_length=1, extra={"expected": "the name of a channel"})]
    low: float | None = None
    high: float | None = None
    stuck_s: Annotated[float, Meta(gt=0, le=MAX_S)] | None = None
    rests: bool = False

    def mistakes(self) -> Iterator[Mistake]:
        """There are readings between both ends, and what may rest has no longest rest."""
        if self.low is not None and self.high is not None and self.low >= self.high:
            yield ("high",), f"expected more than low = {self.low:g}, received {self.high:g}"
        if self.rests and self.stuck_s is not None:
            yield ("stuck_s",), "expected rests = false beside it, received true"


class SensorConfig(Table, frozen=True, kw_only=True):
    """What is a fault of a sensor, or of what reads it; nothing is with `watch = []`.

    Attributes:
        watch: What is looked for.
        severity: Of each fault; below the alarms' `min_severity` it stands in the state of the asset alone.
        on_s: Readings must be missing, at an end of the range or out of order for so long.
        off_s: And whole for so long before that is over, and for two windows at least.
        stuck_windows: A channel is stuck when it does not change for so many windows, and for 30 s at least.
        silent_s: A source is silent when nothing came for so long; by default ten periods, and 30 s at least.
        gap_s: So long a step between the times of two samples is a gap; by default the same.
        rate_tolerance: The rate may be off by this part of the bundle's.
        channels: What is known of single channels.
    """

    watch: tuple[FaultKind, ...] = FAULT_KINDS
    severity: Severity = "warning"
    on_s: Annotated[float, Meta(gt=0, le=MAX_S)] = 2.0
    off_s: Annotated[float, Meta(gt=0, le=MAX_S)] = 10.0
    stuck_windows: Annotated[int, Meta(ge=1, le=1000)] = 4
    silent_s: Annotated[float, Meta(gt=0, le=MAX_S)] | None = None
    gap_s: Annotated[float, Meta(gt=0, le=MAX_S)] | None = None
    rate_tolerance: Annotated[float, Meta(gt=0, lt=10)] = 0.25
    channels: tuple[SensorChannelConfig, ...] = field(default=(), name="channel")

    def mistakes(self) -> Iterator[Mistake]:
        """Nothing is said twice, or of what is not looked for."""
        if len(set(self.watch)) < len(self.watch):
            yield ("watch",), f"expected each of them once, received {toml_text.literal(self.watch)}"
        for key, kind in (("silent_s", "silent"), ("gap_s", "gap")):
            if getattr(self, key) is not None and kind not in self.watch:
                yield (key,), f'expected "{kind}" in watch beside it, received {toml_text.literal(self.watch)}'
        seen: set[str] = set()
        for number, table in enumerate(self.channels):
            if table.channel in seen:
                message = (
                    f"expected one table for each channel, received another for {toml_text.literal(table.channel)}"
                )
                yield ("channel", number, "channel"), message
            seen.add(table.channel)
