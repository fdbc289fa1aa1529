"""How the rig moves under what is done to it: conditions in, motion out, integrated in fixed steps."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from edge_vae.sample import FloatArray
from edge_vae_train.rig import (
    BAR_PER_M,
    GRAVITY,
    M3_S_PER_L_MIN,
    Rig,
    available_npsh_m,
    cavitation,
    motor_current_a,
    pump_head_m,
    required_npsh_m,
    shaft_power_w,
    suction_resistance,
    synchronous_rpm,
    system_resistance,
)

__all__ = ["Conditions", "Motion", "integrate"]

STEP_S = 0.05
"""Longest step of the integration; about half the time constant of the water column."""
SETTLING_STEPS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What is done to the rig, one value a row of the recording: (rows,) each.

    Attributes:
        valve: Opening, above 0 to 1.
        supply_hz: Frequency of the motor's supply.
        ambient_c: Temperature of the room.
        clog: What dirt adds to the filter, in resistances of the clean filter.
        leak_l_min: Flow lost behind the pump at nominal pressure.
        suction_loss_m: Head lost on the way to the pump at nominal flow.
        roughness: Broadband vibration, in parts of the healthy machine's.
        imbalance_g_mm: Imbalance on top of the balanced rotor's rest.
        strike_g: Height of the ring after each ball has struck a defect of the outer race, in g; 0 without one.
        stuck: 1 where the pressure transmitter repeats its last value.
        drift_k: Error of the temperature sensor, in kelvin.
    """

    valve: FloatArray
    supply_hz: FloatArray
    ambient_c: FloatArray
    clog: FloatArray
    leak_l_min: FloatArray
    suction_loss_m: FloatArray
    roughness: FloatArray
    imbalance_g_mm: FloatArray
    strike_g: FloatArray
    stuck: FloatArray
    drift_k: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """What the rig did, one value at the end of each row: (rows,) each, without sensor noise."""

    speed_rpm: FloatArray
    flow_l_min: FloatArray
    pump_flow_l_min: FloatArray
    current_a: FloatArray
    pressure_bar: FloatArray
    cavitation: FloatArray
    motor_c: FloatArray
    water_c: FloatArray


class _Setting(NamedTuple):
    """The part of `Conditions` that moves the rig, at one row."""

    valve: float
    supply_hz: float
    ambient_c: float
    clog: float
    leak_l_min: float
    suction_loss_m: float


class _State(NamedTuple):
    speed_rpm: float
    flow_l_min: float
    motor_c: float
    water_c: float


def integrate(rig: Rig, conditions: Conditions, *, rate_hz: float) -> Motion:
    """What the rig does under `conditions`, integrated in fixed steps of at most `STEP_S` seconds; starts settled."""
    steps = math.ceil(1.0 / (rate_hz * STEP_S))
    step_s = 1.0 / (rate_hz * steps)
    drivers = (getattr(conditions, name) for name in _Setting._fields)
    settings = [_Setting(*values) for values in zip(*(driver.tolist() for driver in drivers), strict=True)]
    state = _settled(rig, settings[0]._replace(valve=float(np.mean(conditions.valve))), settings[0])
    rows = []
    for setting in settings:
        for _ in range(steps):
            state = _step(rig, state, setting, step_s)
        rows.append(_operation(rig, state, setting))
    columns = np.asarray(rows, dtype=np.float64).T
    return Motion(**{column.name: values for column, values in zip(fields(Motion), columns, strict=True)})


def _settled(rig: Rig, usual: _Setting, first: _Setting) -> _State:
    """Warm at the usual setting, running at the first one."""
    state = _State(rig.reference_rpm, rig.nominal_flow_l_min, usual.ambient_c, usual.ambient_c)
    for _ in range(SETTLING_STEPS):
        state = _step(rig, state, usual, STEP_S)
    power, loss = _heat_w(rig, state, usual)
    water = usual.ambient_c + rig.water_k_w * power
    state = state._replace(water_c=water, motor_c=water + rig.motor_k_w * loss)
    for _ in range(SETTLING_STEPS):
        state = _step(rig, state, first, STEP_S)
    return state


def _step(rig: Rig, state: _State, setting: _Setting, step_s: float) -> _State:
    """The state one step later; the square of the flow and the slope of the torque are implicit, which is stable."""
    flow = _next_flow(rig, state, setting, step_s)
    speed = _next_speed(rig, state, setting, step_s)
    power, loss = _heat_w(rig, state, setting)
    to_water = (state.motor_c - state.water_c) / rig.motor_k_w
    to_room = (state.water_c - setting.ambient_c) / rig.water_k_w
    return _State(
        speed_rpm=speed,
        flow_l_min=flow,
        motor_c=state.motor_c + step_s * (loss - to_water) / rig.motor_j_k,
        water_c=state.water_c + step_s * (power - to_room) / rig.water_j_k,
    )


def _next_flow(rig: Rig, state: _State, setting: _Setting, step_s: float) -> float:
    """Flow after the filter, from (L / g A) dQ/dt = pump head - head the loop takes."""
    area_m2 = math.pi / 4.0 * (rig.bore_mm / 1000.0) ** 2
    gain = step_s * GRAVITY * area_m2 / rig.pipe_m / M3_S_PER_L_MIN
    leak = _leak_l_min(rig, state, setting)
    kept = 1.0 - rig.cavitation_head_loss * _cavitation(rig, state, setting)
    shared = kept * rig.pump_slope + suction_resistance(rig, setting.suction_loss_m)
    drive = kept * pump_head_m(rig, state.speed_rpm, 0.0) - rig.static_head_m
    drive -= shared * leak * (2.0 * state.flow_l_min + leak)
    resistance = shared + system_resistance(rig, setting.valve, setting.clog)
    return max((state.flow_l_min + gain * drive) / (1.0 + gain * resistance * state.flow_l_min), 0.0)


def _next_speed(rig: Rig, state: _State, setting: _Setting, step_s: float) -> float:
    """Speed from J dw/dt = motor torque - pump torque; near synchronism the motor's torque is proportional to slip."""
    field_rad_s = synchronous_rpm(rig, setting.supply_hz) * math.pi / 30.0
    slope = rig.rated_torque_nm / (rig.rated_slip * field_rad_s)
    speed_rad_s = state.speed_rpm * math.pi / 30.0
    load_nm = shaft_power_w(rig, state.speed_rpm, _pump_flow(rig, state, setting)) / speed_rad_s
    gain = step_s / rig.inertia_kg_m2
    return (speed_rad_s + gain * (slope * field_rad_s - load_nm)) / (1.0 + gain * slope) * 30.0 / math.pi


def _heat_w(rig: Rig, state: _State, setting: _Setting) -> tuple[float, float]:
    """Power that ends as heat in the water, and losses of the motor, in watts."""
    power = shaft_power_w(rig, state.speed_rpm, _pump_flow(rig, state, setting))
    current = motor_current_a(rig, power / (state.speed_rpm * math.pi / 30.0))
    return power, 3.0 * rig.winding_ohm * current * current + rig.iron_loss_w


def _leak_l_min(rig: Rig, state: _State, setting: _Setting) -> float:
    """Flow lost behind the pump: a hole lets through the square root of the pressure there."""
    if not setting.leak_l_min:
        return 0.0
    above = rig.static_head_m - rig.suction_lift_m
    head = above + system_resistance(rig, setting.valve, setting.clog) * state.flow_l_min**2
    nominal = above + system_resistance(rig, 1.0) * rig.nominal_flow_l_min**2
    return setting.leak_l_min * math.sqrt(max(head / nominal, 0.0))


def _pump_flow(rig: Rig, state: _State, setting: _Setting) -> float:
    return state.flow_l_min + _leak_l_min(rig, state, setting)


def _cavitation(rig: Rig, state: _State, setting: _Setting) -> float:
    flow = _pump_flow(rig, state, setting)
    available = available_npsh_m(rig, flow, state.water_c, setting.suction_loss_m)
    return cavitation(rig, available - required_npsh_m(rig, state.speed_rpm, flow))


def _operation(rig: Rig, state: _State, setting: _Setting) -> tuple[float, ...]:
    """The values of `Motion` at one moment, in its order."""
    flow = _pump_flow(rig, state, setting)
    bubbles = _cavitation(rig, state, setting)
    head = (1.0 - rig.cavitation_head_loss * bubbles) * pump_head_m(rig, state.speed_rpm, flow)
    suction = -rig.suction_lift_m - suction_resistance(rig, setting.suction_loss_m) * flow * flow
    torque = shaft_power_w(rig, state.speed_rpm, flow) / (state.speed_rpm * math.pi / 30.0)
    current = motor_current_a(rig, torque)
    pressure = BAR_PER_M * (suction + head)
    return state.speed_rpm, state.flow_l_min, flow, current, pressure, bubbles, state.motor_c, state.water_c
