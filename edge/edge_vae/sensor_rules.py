"""What is a fault of a sensor: the rules that a configuration and normal data make together, and why these."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edge_vae.bundle import Channel
from edge_vae.channel_fault import ChannelRules
from edge_vae.evidence import Delays
from edge_vae.sensor_config import SensorChannelConfig, SensorConfig
from edge_vae.sensor_watch import SensorRules
from edge_vae.time_fault import TimeRules

__all__ = ["sensor_rules"]

LEAST_SAMPLES = 4
"""Fewer broken samples in a row are a disturbance, however slow the machine is sampled."""
SILENT_S, SILENT_PERIODS = 30.0, 10.0
"""Gateways that send in bundles do so every few seconds, and a lost connection is made again within half a minute; ten
samples in a row are lost by no jitter."""
STUCK_S = 30.0
"""Machines pause for seconds, in which what is digital rests."""
RATE_S, RATE_STEPS = 30.0, 32
"""Stamps of whole seconds are 3 % wrong over so long."""
REPEATS_S, REPEATS = 2.0, 5
"""Stamps of whole seconds repeat for a second."""


def sensor_rules(
    config: SensorConfig, channels: Sequence[Channel], *, columns: Sequence[str], rate_hz: float, length: int
) -> SensorRules:
    """The rules for the samples of one asset.

    Args:
        config: What somebody wished.
        channels: What normal data says of them.
        columns: Of the samples: the channels, and perhaps further ones, of which only missing readings can be told.
        rate_hz: Samples a second.
        length: Samples in a window.
    """
    spread, silent_s = 2 * length, max(SILENT_S, SILENT_PERIODS / rate_hz)
    named = {table.channel: table for table in config.channels}
    known = {channel.name: channel for channel in channels}
    still = _samples(STUCK_S, rate_hz, least=config.stuck_windows * length)
    return SensorRules(
        channels=tuple(
            _channel_rules(name, known.get(name), named.get(name), rate_hz=rate_hz, still=still, rests=length)
            for name in columns
        ),
        time=TimeRules(
            rate_hz=rate_hz,
            gap_s=config.gap_s or silent_s,
            tolerance=1.0 + config.rate_tolerance,
            rate_steps=_samples(RATE_S, rate_hz, least=RATE_STEPS),
            repeats=_samples(REPEATS_S, rate_hz, least=REPEATS),
        ),
        delays=Delays(
            on=_samples(config.on_s, rate_hz, least=LEAST_SAMPLES),
            spread=spread,
            off=_samples(config.off_s, rate_hz, least=spread),
        ),
        silent_s=config.silent_s or silent_s,
        watched=frozenset(config.watch),
    )


def _samples(seconds: float, rate_hz: float, *, least: int) -> int:
    return max(math.ceil(seconds * rate_hz), least)


def _channel_rules(
    name: str, known: Channel | None, said: SensorChannelConfig | None, *, rate_hz: float, still: int, rests: int
) -> ChannelRules:
    """Rules of one column; a channel that rested for longer than a window in normal data may go on doing so."""
    low, high, least, most, moves = -math.inf, math.inf, -math.inf, math.inf, False
    if known and known.least is not None and known.most is not None:
        # One sigma beyond every normal reading: where the sensor says something, it would not stay for so long.
        least, most = known.least - known.scale, known.most + known.scale
        moves = known.rest is not None and known.rest <= rests
    if said is None:
        return ChannelRules(name, low, high, least, most, still if moves else None)
    low = low if said.low is None else said.low
    high = high if said.high is None else said.high
    if said.stuck_s is not None:
        return ChannelRules(name, low, high, least, most, _samples(said.stuck_s, rate_hz, least=2))
    return ChannelRules(name, low, high, least, most, still if moves and not said.rests else None)
