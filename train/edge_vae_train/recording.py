"""Recordings of the pump rig: healthy ones, and ones in which a fault with a cause acts between two rows.

An operator moves the valve, grid and room drift a little, a fault may act on the rig, the rig answers, sensors add
their noise. Faults are switched on and off as on a test bench, so that detection and recovery can both be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge_vae.sample import FloatArray
from edge_vae_train.motion import Conditions, Motion, integrate
from edge_vae_train.rig import Rig
from edge_vae_train.vibration import excite, rms

__all__ = ["CHANNELS", "FAULTS", "RATES_HZ", "Acting", "Channel", "Fault", "Run", "run"]

RATES_HZ = (0.1, 50.0)
"""Rates a recording can have: above them a row would hold less than a turn of the shaft, and no root mean square."""
VALVE_POSITIONS = (0.55, 0.65, 0.75, 0.85, 1.0)
VALVE_DWELL_S = (40.0, 120.0)
VALVE_TRAVEL_S = 20.0
"""From closed to open."""
FAULT_START = (0.40, 0.50)
FAULT_STOP = (0.75, 0.85)
"""Parts of a run between which a fault begins and is put right."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One sensor: its column, what it measures, the standard deviation of its noise, and its decimals in a file."""

    name: str
    unit: str
    what: str
    noise: float
    decimals: int


CHANNELS = (
    Channel("current_a", "A", "current of one phase of the motor", 0.008, 3),
    Channel("speed_rpm", "rpm", "shaft speed", 1.0, 1),
    Channel("vibration_x_g", "g", "horizontal acceleration, root mean square inside the row", 0.0005, 5),
    Channel("vibration_y_g", "g", "vertical acceleration, root mean square inside the row", 0.0005, 5),
    Channel("pressure_bar", "bar", "gauge pressure behind the pump", 0.006, 4),
    Channel("flow_l_min", "l/min", "flow into the discharge pipe", 0.5, 2),
    Channel("temperature_c", "degC", "temperature of the motor's frame", 0.05, 3),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        cause: What happened to the rig, in a sentence.
        acts_on: The field of `Conditions` it changes.
        severity: How far it changes it once it is fully there.
        unit: What the severity counts.
        onset: Part of the fault's duration over which it grows from nothing, linearly.
    """

    cause: str
    acts_on: str
    severity: float
    unit: str
    onset: float = 0.0


FAULTS = {
    "bearing": Fault(
        cause="a spall on the outer race of the pump bearing: every ball that rolls over it strikes the housing",
        acts_on="strike_g",
        severity=0.065,
        unit="g, height of each ring",
    ),
    "imbalance": Fault(
        cause="a piece broke off an impeller vane: its weight is missing on one side of the shaft",
        acts_on="imbalance_g_mm",
        severity=30.0,
        unit="g mm on top of the balanced rotor's rest",
    ),
    "cavitation": Fault(
        cause="the suction strainer is partly blocked: at high flow the pump inlet falls towards the vapour pressure",
        acts_on="suction_loss_m",
        severity=2.6,
        unit="m of suction head lost at nominal flow",
    ),
    "clogged-filter": Fault(
        cause="dirt fills the discharge filter: its resistance grows",
        acts_on="clog",
        severity=16.0,
        unit="resistances of the clean filter, added",
        onset=0.3,
    ),
    "leak": Fault(
        cause="a flange behind the pump leaks: the pump moves more water, the pipe gets less",
        acts_on="leak_l_min",
        severity=35.0,
        unit="l/min lost at nominal pressure",
    ),
    "sensor-stuck": Fault(
        cause="the pressure transmitter froze: it repeats its last value",
        acts_on="stuck",
        severity=1.0,
        unit="1 = frozen",
    ),
    "sensor-drift": Fault(
        cause="the temperature sensor loses its calibration: an error grows on top of the true value",
        acts_on="drift_k",
        severity=2.5,
        unit="K at the end of the fault",
        onset=1.0,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Acting:
    """A fault at work in a run, on rows `start_row` up to and without `stop_row` (0-based)."""

    fault: str
    cause: str
    severity: float
    unit: str
    start_row: int
    stop_row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One recording.

    Attributes:
        values: (rows, channels), in the order of `CHANNELS`.
        label: (rows,), 1 where the fault acts.
        acting: The fault, None in a healthy run.
        conditions: What was done to the rig.
        motion: What the rig did, without sensor noise.
    """

    values: FloatArray
    label: FloatArray
    acting: Acting | None
    conditions: Conditions
    motion: Motion


def run(
    rig: Rig, *, rows: int, rate_hz: float, seed: int | Sequence[int], fault: str = "", severity: float | None = None
) -> Run:
    """One recording of the rig.

    Args:
        rig: Its parameters.
        rows: Number of samples, at least 100.
        rate_hz: Samples a second, within `RATES_HZ`.
        seed: Seed of this run; same seed, same values.
        fault: Name from `FAULTS`; empty for a healthy run.
        severity: How bad it becomes, in the fault's unit; its own default when None.

    Raises:
        ValueError: A rate outside `RATES_HZ`, an unknown fault, or too few rows.
    """
    _check(rows, rate_hz, fault)
    generator = np.random.default_rng(seed)
    conditions = _usual(rig, rows, rate_hz, generator)
    acting = _acting(fault, severity, rows, generator) if fault else None
    if acting:
        conditions = _worsened(conditions, acting)
    motion = integrate(rig, conditions, rate_hz=rate_hz)
    excitation = excite(rig, motion, conditions, rate_hz=rate_hz, generator=generator)
    values = _sensed(rig, motion, rms(rig, excitation, generator), conditions, generator)
    label = np.zeros(rows)
    if acting:
        label[acting.start_row : acting.stop_row] = 1.0
    return Run(values=values, label=label, acting=acting, conditions=conditions, motion=motion)


def _check(rows: int, rate_hz: float, fault: str) -> None:
    if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
        msg = f"expected a rate from {RATES_HZ[0]} to {RATES_HZ[1]} Hz, received {rate_hz}"
        raise ValueError(msg)
    if rows < 100:
        msg = f"expected at least 100 rows a run, received {rows}; make the runs longer or the rate higher"
        raise ValueError(msg)
    if fault and fault not in FAULTS:
        msg = f"expected one of {', '.join(FAULTS)}, received {fault!r}"
        raise ValueError(msg)


def _usual(rig: Rig, rows: int, rate_hz: float, generator: np.random.Generator) -> Conditions:
    """What a healthy day does to the rig: valve moves, and slow wandering of grid, room and surface."""
    still = np.zeros(rows)
    return Conditions(
        valve=_valve(rows, rate_hz, generator),
        supply_hz=rig.supply_hz * (1.0 + _wander(rows, rate_hz, 0.0004, 30.0, generator)),
        ambient_c=21.0 + _wander(rows, rate_hz, 0.3, 1800.0, generator),
        roughness=1.0 + _wander(rows, rate_hz, 0.03, 60.0, generator),
        clog=still,
        leak_l_min=still,
        suction_loss_m=still,
        imbalance_g_mm=still,
        strike_g=still,
        stuck=still,
        drift_k=still,
    )


def _valve(rows: int, rate_hz: float, generator: np.random.Generator) -> FloatArray:
    """Opening of the valve: an operator picks a position, leaves it there for a while, and picks another."""
    target = np.empty(rows)
    row, position = 0, generator.choice(VALVE_POSITIONS)
    while row < rows:
        dwell = max(round(generator.uniform(*VALVE_DWELL_S) * rate_hz), 1)
        target[row : row + dwell] = position
        row += dwell
        position = generator.choice([other for other in VALVE_POSITIONS if other != position])
    travel = 1.0 / (VALVE_TRAVEL_S * rate_hz)
    opening, positions = target[0], []
    for wanted in target.tolist():
        opening += min(max(wanted - opening, -travel), travel)
        positions.append(opening)
    return np.asarray(positions)


def _wander(rows: int, rate_hz: float, sd: float, memory_s: float, generator: np.random.Generator) -> FloatArray:
    """An Ornstein-Uhlenbeck process around zero: standard deviation `sd`, forgotten within `memory_s`."""
    keep = np.exp(-1.0 / (memory_s * rate_hz))
    kicks = (sd * np.sqrt(1.0 - keep**2) * generator.standard_normal(rows)).tolist()
    value, values = sd * generator.standard_normal(), []
    for kick in kicks:
        value = keep * value + kick
        values.append(value)
    return np.asarray(values)


def _acting(name: str, severity: float | None, rows: int, generator: np.random.Generator) -> Acting:
    fault = FAULTS[name]
    start, stop = (round(rows * generator.uniform(*part)) for part in (FAULT_START, FAULT_STOP))
    return Acting(
        fault=name,
        cause=fault.cause,
        severity=fault.severity if severity is None else severity,
        unit=fault.unit,
        start_row=start,
        stop_row=stop,
    )


def _worsened(conditions: Conditions, acting: Acting) -> Conditions:
    """The conditions with the fault in them: nothing before it starts, grown to its severity over its onset."""
    fault, length = FAULTS[acting.fault], acting.stop_row - acting.start_row
    grown = np.ones(length) if not fault.onset else np.minimum(np.arange(1, length + 1) / (fault.onset * length), 1.0)
    values = getattr(conditions, fault.acts_on).copy()
    values[acting.start_row : acting.stop_row] += acting.severity * grown
    return replace(conditions, **{fault.acts_on: values})


def _sensed(
    rig: Rig, motion: Motion, vibration_g: FloatArray, conditions: Conditions, generator: np.random.Generator
) -> FloatArray:
    """What the sensors report: (rows, channels)."""
    bubbles = rig.cavitation_bar * motion.cavitation * generator.standard_normal(len(motion.cavitation))
    true = np.column_stack(
        [
            motion.current_a,
            motion.speed_rpm,
            vibration_g,
            motion.pressure_bar + bubbles,
            motion.flow_l_min,
            motion.motor_c + conditions.drift_k,
        ]
    )
    values: FloatArray = true + np.array([channel.noise for channel in CHANNELS]) * generator.standard_normal(
        true.shape
    )
    frozen = np.flatnonzero(conditions.stuck)
    if len(frozen):
        pressure = [channel.name for channel in CHANNELS].index("pressure_bar")
        values[frozen, pressure] = values[frozen[0] - 1, pressure]
    return values
