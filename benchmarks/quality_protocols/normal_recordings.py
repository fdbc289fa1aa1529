"""Normal recordings that are long enough to count false alarms on: simulated machines, and the real sets that allow it.

Training and test sessions of a machine differ in everything that is random, as one day differs from the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from edge_vae.sample import FloatArray
from edge_vae_train.data import Recording, Session
from edge_vae_train.recording import run
from edge_vae_train.rig import Rig
from edge_vae_train.settings import WindowSettings
from quality_protocols.policy import POLICIES
from quality_protocols.task import Benchmark, session
from quality_protocols.telemetry import MSL, SMAP

__all__ = ["SIMULATED", "Normal", "Simulated", "real", "simulated"]

_SKAB_TRAINING_ROWS = 5000
_TELEMETRY_CHANNELS = 3
"""Channels of each spacecraft, the first that move: together they are long enough for ten alarms at three a day."""
_TELEMETRY_VALUES = 20
"""Different values in every tenth of a channel, at least: one that stands still cannot raise a false alarm."""
_TELEMETRY_TRAINING = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Normal:
    """Normal data of one machine: what a model is trained on, and sessions in which every alarm is false.

    `group` names the machines whose alarms are counted together.
    """

    group: str
    seed: int
    window: WindowSettings
    training: Recording
    tests: tuple[Session, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """A kind of machine: what one session of it gives, (rows, channels), and how many sessions of how many rows."""

    draw: Callable[[np.random.Generator, int], FloatArray]
    rate_hz: float
    training: tuple[int, int]
    tests: tuple[int, int]


def simulated(name: str, seed: int) -> Normal:
    """The machine of that name in `SIMULATED`; same seed, same values."""
    machine = SIMULATED[name]
    generator = np.random.default_rng([seed, list(SIMULATED).index(name)])
    training, tests = (
        tuple(session(f"{part}-{i}", machine.draw(generator, rows)) for i in range(sessions))
        for part, (sessions, rows) in (("training", machine.training), ("test", machine.tests))
    )
    channels = tuple(f"channel_{i}" for i in range(training[0].values.shape[1]))
    recording = Recording(training, channels, machine.rate_hz)
    return Normal(group=name, seed=seed, window=WindowSettings(), training=recording, tests=tests)


def real(data: Path) -> Iterator[Normal]:
    """The sets in a data folder with normal data beside what a model needs: none where they are missing."""
    file = data / "skab" / "anomaly-free" / "anomaly-free.csv"
    if file.is_file():
        with file.open(encoding="utf-8") as lines:
            _, *channels = next(lines).rstrip().split(";")
            values = np.loadtxt(lines, delimiter=";", usecols=range(1, len(channels) + 1))
        yield _halves("skab", "skab", values, tuple(channels), _SKAB_TRAINING_ROWS)
    for craft in (SMAP, MSL):
        yield from islice(_telemetry(craft, data), _TELEMETRY_CHANNELS)


def _telemetry(craft: Benchmark, data: Path) -> Iterator[Normal]:
    """Every channel of a spacecraft that moves all the time, from its training part, which holds no anomaly."""
    for name in craft.tasks(data):
        recording = craft.load(data, name, 0).training
        values = recording.sessions[0].values
        rows = round(_TELEMETRY_TRAINING * len(values))
        if all(len(np.unique(part)) >= _TELEMETRY_VALUES for part in np.array_split(values, 10)):
            yield _halves("telemetry", craft.name, values, recording.channels, rows)


def _halves(group: str, policy: str, values: FloatArray, channels: tuple[str, ...], rows: int) -> Normal:
    """The first rows train, the others test; window, stride and rate are those of the set's protocol."""
    known = POLICIES[policy]
    return Normal(
        group=group,
        seed=0,
        window=WindowSettings(length=known.length, stride=known.stride),
        training=Recording((session("training", values[:rows]),), channels, known.rate_hz),
        tests=(session("test", values[rows:]),),
    )


def _wandering(
    generator: np.random.Generator, rows: int, *, memory: float, sd: float = 1.0, channels: int = 1
) -> FloatArray:
    """(rows, channels) of an AR(1) process around zero that forgets within `memory` rows."""
    keep = np.exp(-1.0 / memory)
    kicks = generator.standard_normal((rows, channels))
    kicks[1:] *= np.sqrt(1.0 - keep**2)
    return np.asarray(sd * lfilter([1.0], [1.0, -keep], kicks, axis=0))


def _process(generator: np.random.Generator, rows: int) -> FloatArray:
    """A sample a minute: six sensors follow a temperature with its day and its weather, and a load of some hours."""
    day = np.sin(2 * np.pi * (np.arange(rows) / 1440 + generator.uniform()))
    temperature = 3 * day + _wandering(generator, rows, memory=2880, sd=2)[:, 0]
    load = _wandering(generator, rows, memory=120)[:, 0]
    mixing = np.array([[1, 0.2], [0.3, 1], [0, 1], [0.6, -0.4], [0.1, 0.8], [0.05, 0]])
    noise = _wandering(generator, rows, memory=5, sd=0.5, channels=6) + 0.2 * generator.standard_normal((rows, 6))
    return np.asarray(np.column_stack([temperature, load]) @ mixing.T + noise)


def _press(generator: np.random.Generator, rows: int) -> FloatArray:
    """Ten samples a second: cycles of about six seconds whose length and height wander, with heavy-tailed noise."""
    period = 60 * (1 + 0.1 * np.clip(_wandering(generator, rows, memory=3000)[:, 0], -2, 2))
    phase = 2 * np.pi * (np.cumsum(1 / period) + generator.uniform())
    height = 1 + 0.05 * _wandering(generator, rows, memory=1500)[:, 0]
    cycle = np.column_stack([np.sin(phase), np.cos(phase) + 0.3 * np.sin(2 * phase), np.maximum(np.sin(phase), 0)])
    drift = _wandering(generator, rows, memory=3000, sd=0.1, channels=3)
    return np.asarray(height[:, None] * cycle + drift + 0.1 * generator.standard_t(4, (rows, 3)))


def _mornings(generator: np.random.Generator, rows: int) -> FloatArray:
    """A sample a second: five sensors follow a load, and every session has offsets of its own."""
    load = _wandering(generator, rows, memory=60)
    noise = _wandering(generator, rows, memory=10, sd=0.5, channels=5) + 0.3 * generator.standard_normal((rows, 5))
    return np.asarray(0.5 * generator.standard_normal(5) + load * [1.0, 0.8, 0.5, -0.5, 0.2] + noise)


def _rig(generator: np.random.Generator, rows: int) -> FloatArray:
    """A sample a second of the pump rig: an operator moves the valve, grid and room wander."""
    return run(Rig(), rows=rows, rate_hz=1.0, seed=int(generator.integers(2**31))).values


SIMULATED = {
    "process": Simulated(draw=_process, rate_hz=1 / 60, training=(3, 5000), tests=(10, 17_280)),
    "press": Simulated(draw=_press, rate_hz=10.0, training=(12, 3000), tests=(24, 18_000)),
    "mornings": Simulated(draw=_mornings, rate_hz=1.0, training=(20, 900), tests=(48, 3600)),
    "rig": Simulated(draw=_rig, rate_hz=1.0, training=(6, 2700), tests=(12, 7200)),
}
