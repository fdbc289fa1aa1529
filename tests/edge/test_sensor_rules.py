"""What counts as a fault of a sensor where nobody says anything, and what a configuration changes of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from edge_vae.bundle import Channel
from edge_vae.channel_fault import ChannelRules
from edge_vae.config import effective, missing_files, read_config
from edge_vae.errors import ConfigError
from edge_vae.evidence import Delays
from edge_vae.sensor_config import SensorChannelConfig, SensorConfig
from edge_vae.sensor_rules import sensor_rules
from edge_vae.sensor_watch import SensorRules
from plain_bundle import write_plain_bundle

LENGTH = 64
LIVELY = Channel("lively", 10.0, 0.5, least=8.0, most=12.0, rest=3)
STEADY = Channel("steady", 10.0, 0.5, least=8.0, most=12.0, rest=LENGTH + 1)
SWITCH = Channel("switch", 0.5, 0.5, least=0.0, most=1.0, rest=None)
OLD = Channel("old", 0.0, 1.0)


def rules(*channels: Channel, rate_hz: float = 10.0, length: int = LENGTH, **config: Any) -> SensorRules:
    names = [channel.name for channel in channels]
    return sensor_rules(SensorConfig(**config), channels, columns=[*names, "mode"], rate_hz=rate_hz, length=length)


def test_only_a_channel_that_never_rested_for_a_window_can_be_stuck() -> None:
    found = {channel.name: channel.still for channel in rules(LIVELY, STEADY, SWITCH, OLD).channels}
    assert found == {"lively": 300, "steady": None, "switch": None, "old": None, "mode": None}


@pytest.mark.parametrize(
    ("rate_hz", "still", "silent_s", "delays", "rate_steps", "repeats"),
    [
        (1000.0, 30_000, 30.0, Delays(2000, 128, 10_000), 30_000, 2000),
        (1.0, 256, 30.0, Delays(4, 128, 128), 32, 5),
        (1 / 180, 256, 1800.0, Delays(4, 128, 128), 32, 5),
    ],
)
def test_times_are_samples_at_the_rate_and_never_too_few(
    rate_hz: float, still: int, silent_s: float, delays: Delays, rate_steps: int, repeats: int
) -> None:
    found = rules(LIVELY, rate_hz=rate_hz)
    assert (found.channels[0].still, found.silent_s, found.time.gap_s) == (still, pytest.approx(silent_s), silent_s)
    assert (found.delays, found.time.rate_steps, found.time.repeats) == (delays, rate_steps, repeats)


def test_what_is_said_of_a_channel_counts_more_than_what_its_data_shows() -> None:
    tables = (
        SensorChannelConfig(channel="lively", rests=True),
        SensorChannelConfig(channel="steady", stuck_s=60.0),
        SensorChannelConfig(channel="old", low=-1.0),
    )
    lively, steady, old, _ = rules(LIVELY, STEADY, OLD, channels=tables).channels
    assert (lively.still, steady.still) == (None, 600)
    assert (steady.least, steady.most) == (7.5, 12.5)
    assert old == ChannelRules("old", low=-1.0, high=math.inf)


CHANNEL = '[[pipeline.sensor.channel]]\nchannel = "level"\n'
CONFIG = '[node]\nsite = "s"\n[[pipeline]]\nasset = "a"\nbundle = "plain.evb"\n[pipeline.source]\ntype = "stdin"\n'


@pytest.mark.parametrize(
    ("said", "line", "key", "expected"),
    [
        ('[pipeline.sensor]\nwatch = ["stuk"]', 9, "sensor.watch[0]", 'received "stuk"; did you mean'),
        ('[pipeline.sensor]\nwatch = ["gap", "gap"]', 9, "sensor.watch", "each of them once"),
        ('[pipeline.sensor]\nwatch = ["gap"]\nsilent_s = 9', 10, "sensor.silent_s", '"silent" in watch'),
        ("[pipeline.sensor]\nwatch = []\ngap_s = 9", 10, "sensor.gap_s", '"gap" in watch'),
        ("[pipeline.sensor]\non_s = 0", 9, "sensor.on_s", "above 0"),
        ("[pipeline.sensor]\nrate_tolerance = -0.1", 9, "sensor.rate_tolerance", "above 0"),
        ("[[pipeline.sensor.channel]]\nlow = 1", 8, "sensor.channel[0].channel", "the key is missing"),
        (f"{CHANNEL}low = 2\nhigh = 2", 11, "sensor.channel[0].high", "more than low = 2"),
        (f"{CHANNEL}rests = true\nstuck_s = 1", 11, "sensor.channel[0].stuck_s", "expected rests = false"),
        (CHANNEL + CHANNEL, 11, "sensor.channel[1].channel", "one table for each channel"),
    ],
)
def test_a_wrong_value_is_told_with_its_line(tmp_path: Path, said: str, line: int, key: str, expected: str) -> None:
    (tmp_path / "agent.toml").write_text(CONFIG + said)
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / "agent.toml")
    (problem,) = caught.value.problems
    assert (problem.line, problem.key) == (line, f"pipeline[0].{key}")
    assert expected in problem.message


def test_what_is_in_force_can_be_read_again(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(f'{CONFIG}[pipeline.sensor]\nwatch = ["rail", "stuck"]\n{CHANNEL}low = 4\nhigh = 20.5\n')
    config = read_config(file)
    file.write_text(effective(config))
    assert read_config(file) == config
    assert config.pipelines[0].sensor.channels == (SensorChannelConfig(channel="level", low=4.0, high=20.5),)


def test_a_channel_that_the_bundle_lacks_is_told_with_its_line(tmp_path: Path) -> None:
    write_plain_bundle(tmp_path / "plain.evb")
    file = tmp_path / "agent.toml"
    file.write_text(f'{CONFIG}[[pipeline.sensor.channel]]\nchannel = "levle"\n')
    (problem,) = missing_files(read_config(file), file)
    assert (problem.line, problem.key) == (9, "pipeline[0].sensor.channel[0].channel")
    assert "expected a channel of" in problem.message
