"""A pump rig as a small physical model: an induction motor turns a centrifugal pump that moves water around a loop.

    tank --suction pipe, strainer--> pump --discharge pipe, filter, valve--> back into the tank
                                       ^
                                     motor

The pump sits above the water, so too little suction head cavitates it. Flow and speed are states with inertia, the
temperatures of water and motor are slow states; everything else follows from them. Heads are metres of water, flows
litres a minute.

Sources:
    Gülich, "Centrifugal Pumps", Springer 2014, chapters 3, 4 and 6: affinity laws, disc friction, losses, NPSH.
    Umans, "Fitzgerald & Kingsley's Electric Machinery", 7th ed., chapter 6: torque and current of an induction motor.
    IEC 60534-2-1: flow through a control valve.
    Alduchov and Eskridge, J. Appl. Meteorology 35 (1996), eq. 21: vapour pressure of water.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = [
    "BAR_PER_M",
    "GRAVITY",
    "M3_S_PER_L_MIN",
    "Bearing",
    "Rig",
    "available_npsh_m",
    "cavitation",
    "motor_current_a",
    "pump_head_m",
    "required_npsh_m",
    "shaft_power_w",
    "suction_resistance",
    "synchronous_rpm",
    "system_resistance",
    "vapour_pressure_pa",
]

GRAVITY = 9.80665
WATER_KG_M3 = 998.0
ATMOSPHERE_PA = 101_325.0
BAR_PER_M = WATER_KG_M3 * GRAVITY / 1e5
M3_S_PER_L_MIN = 1.0 / 60_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearing:
    """A deep-groove ball bearing 6205; geometry as published with the data of Case Western Reserve University."""

    balls: int = 9
    ball_mm: float = 7.94
    pitch_mm: float = 39.04
    contact_deg: float = 0.0
    slip: float = 0.01
    """Standard deviation of the time between two strikes, as a part of it: balls slide a little."""
    resonance_hz: float = 1100.0
    """Natural frequency of the housing that a strike rings, and its damping ratio."""
    damping: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """Parameters of the rig, in the units their names end with; a resistance is in metres of head a (l/min)²."""

    supply_hz: float = 50.0
    pole_pairs: int = 1
    rated_torque_nm: float = 2.5
    rated_slip: float = 0.045
    magnetising_a: float = 0.9
    rated_load_a: float = 1.5
    inertia_kg_m2: float = 0.005
    reference_rpm: float = 2900.0
    shutoff_head_m: float = 22.0
    """Head without flow at the reference speed."""
    pump_slope: float = 4.2e-4
    """Loss of pump head with the square of the flow; the affinity laws ask for the same value at every speed."""
    hydraulic_efficiency: float = 0.65
    disc_friction_w: float = 80.0
    """Power lost to friction of the impeller's discs at the reference speed."""
    nominal_flow_l_min: float = 120.0
    static_head_m: float = 3.0
    pipe_resistance: float = 2.5e-4
    filter_resistance: float = 1.0e-4
    valve_resistance: float = 3.6e-4
    """Resistance of the wide open valve."""
    suction_resistance: float = 5.0e-5
    suction_lift_m: float = 3.0
    pipe_m: float = 20.0
    bore_mm: float = 40.0
    npsh_still_m: float = 2.2
    npsh_flow_m: float = 1.5
    """Suction head the pump needs without flow, and what the nominal flow adds to it, at the reference speed."""
    cavitation_margin_m: float = 1.5
    """Surplus of suction head at which the first bubbles collapse; at a deficit of the same size cavitation is full."""
    cavitation_head_loss: float = 0.06
    water_j_k: float = 84_000.0
    water_k_w: float = 0.010
    motor_j_k: float = 2400.0
    motor_k_w: float = 0.25
    winding_ohm: float = 7.0
    iron_loss_w: float = 40.0
    machine_kg: float = 25.0
    residual_imbalance_g_mm: float = 80.0
    """A 4 kg rotor balanced to grade G6.3 of ISO 21940-11 at the reference speed."""
    misalignment_g: float = 0.012
    vanes: int = 5
    vane_pass_g: float = 0.02
    roughness_g: float = 0.03
    """Broadband acceleration of the healthy machine, root mean square."""
    cavitation_g: float = 0.05
    cavitation_bar: float = 0.02
    """Broadband acceleration and pressure fluctuation of full cavitation, root mean square."""
    bearing: Bearing = field(default_factory=Bearing)


def synchronous_rpm(rig: Rig, supply_hz: float) -> float:
    """Speed of the motor's field, in revolutions a minute."""
    return 60.0 * supply_hz / rig.pole_pairs


def motor_current_a(rig: Rig, torque_nm: float) -> float:
    """Current of one phase: the magnetising part and the part that carries the torque stand at right angles."""
    return math.hypot(rig.magnetising_a, rig.rated_load_a * torque_nm / rig.rated_torque_nm)


def pump_head_m(rig: Rig, speed_rpm: float, flow_l_min: float) -> float:
    """Head of the pump, in metres: H = a n² - b Q², so that Q ~ n and H ~ n² (affinity laws)."""
    speed = speed_rpm / rig.reference_rpm
    return rig.shutoff_head_m * speed * speed - rig.pump_slope * flow_l_min * flow_l_min


def shaft_power_w(rig: Rig, speed_rpm: float, flow_l_min: float) -> float:
    """Power the pump takes from the shaft, in watts: rho g Q H / efficiency + disc friction; P ~ n³ (affinity laws)."""
    head = max(pump_head_m(rig, speed_rpm, flow_l_min), 0.0)
    hydraulic = WATER_KG_M3 * GRAVITY * flow_l_min * M3_S_PER_L_MIN * head
    return hydraulic / rig.hydraulic_efficiency + rig.disc_friction_w * (speed_rpm / rig.reference_rpm) ** 3


def system_resistance(rig: Rig, valve: float, clog: float = 0.0) -> float:
    """Resistance between pump and tank, in metres of head a (l/min)².

    Args:
        rig: The rig.
        valve: Opening, above 0 to 1; a linear valve: Q = valve x Kv x sqrt(dp) (IEC 60534-2-1).
        clog: What dirt adds to the filter, in resistances of the clean filter.
    """
    return rig.pipe_resistance + rig.filter_resistance * (1.0 + clog) + rig.valve_resistance / (valve * valve)


def vapour_pressure_pa(water_c: float) -> float:
    """Vapour pressure of water at `water_c` degrees Celsius, in pascals."""
    return 610.94 * math.exp(17.625 * water_c / (243.04 + water_c))


def available_npsh_m(rig: Rig, flow_l_min: float, water_c: float, suction_loss_m: float = 0.0) -> float:
    """Net positive suction head at the pump inlet, in metres.

    Args:
        rig: The rig.
        flow_l_min: Flow through the pump.
        water_c: Temperature of the water.
        suction_loss_m: Head that a blocked strainer costs at the nominal flow; it grows with the square of the flow.
    """
    pressure = (ATMOSPHERE_PA - vapour_pressure_pa(water_c)) / (WATER_KG_M3 * GRAVITY)
    return pressure - rig.suction_lift_m - suction_resistance(rig, suction_loss_m) * flow_l_min * flow_l_min


def required_npsh_m(rig: Rig, speed_rpm: float, flow_l_min: float) -> float:
    """Suction head below which the pump loses head to cavitation, in metres; scales as the affinity laws do."""
    speed = speed_rpm / rig.reference_rpm
    return rig.npsh_still_m * speed * speed + rig.npsh_flow_m * (flow_l_min / rig.nominal_flow_l_min) ** 2


def cavitation(rig: Rig, surplus_m: float) -> float:
    """How far cavitation has developed, 0 to 1, from available minus required suction head in metres."""
    return min(max(0.5 - 0.5 * surplus_m / rig.cavitation_margin_m, 0.0), 1.0)


def suction_resistance(rig: Rig, suction_loss_m: float) -> float:
    """Resistance between tank and pump, in metres of head a (l/min)²; the loss is given at nominal flow."""
    return rig.suction_resistance + suction_loss_m / rig.nominal_flow_l_min**2
