"""What two accelerometers on the pump bearing feel, and the root mean square a monitoring unit makes of it.

A recording at some hertz cannot hold vibration, so the rig does what a monitoring unit does: it samples acceleration at
kilohertz inside each row and keeps the root mean square. Everything here acts on that inner signal: imbalance is a
sinusoid at shaft speed, a bearing defect a train of strikes that each ring the housing, cavitation broadband noise.

Sources:
    Randall and Antoni, "Rolling element bearing diagnostics - a tutorial", Mechanical Systems and Signal Processing 25
    (2011) 485-520: characteristic frequencies, random slip, strikes that ring a resonance, envelope analysis.
    ISO 21940-11: permissible residual imbalance; the force of an imbalance is U w².
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vae.sample import FloatArray
from edge_vae_train.motion import Conditions, Motion
from edge_vae_train.rig import GRAVITY, Bearing, Rig

__all__ = ["INNER_RATE_HZ", "Excitation", "acceleration", "bpfo_hz", "excite", "imbalance_g", "rms"]

INNER_RATE_HZ = 4000.0
"""Sampling rate of the inner signal: above three times the resonance of the housing."""
BLOCK_SAMPLES = 1 << 19
RING_TIME_CONSTANTS = 7.0
"""A ring is dropped when it has fallen to a thousandth."""

# How strongly each source reaches the horizontal (x) and the vertical (y) axis: feet are stiffer downwards, and the
# bearing's loaded zone, where balls strike hardest, lies below the shaft.
TO_AXES = {
    "imbalance": (1.0, 0.8),
    "misalignment": (0.7, 1.0),
    "vane": (1.0, 0.9),
    "strike": (0.5, 1.0),
    "noise": (1.0, 1.1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Excitation:
    """Amplitudes, in g, and phases of everything that shakes the bearing; (rows,) where not said otherwise.

    Attributes:
        rate_hz: Rate of the rows.
        samples: Inner samples a row.
        shaft_hz: Revolutions a second.
        turns: Revolutions since the start, at the start of the row.
        imbalance: Amplitude at shaft speed.
        misalignment: Amplitude at twice the shaft speed.
        vane: Amplitude at the rate at which vanes pass the tongue.
        noise: Root mean square of the broadband part.
        strike_s: (strikes,), when each ball struck, in seconds from the start.
        strike: (strikes,), the height of each ring.
    """

    rate_hz: float
    samples: int
    shaft_hz: FloatArray
    turns: FloatArray
    imbalance: FloatArray
    misalignment: float
    vane: FloatArray
    noise: FloatArray
    strike_s: FloatArray
    strike: FloatArray


def bpfo_hz(bearing: Bearing, shaft_hz: float) -> float:
    """Ball pass frequency of the outer race, in hertz: n/2 f (1 - d/D cos phi)."""
    ratio = bearing.ball_mm / bearing.pitch_mm * math.cos(math.radians(bearing.contact_deg))
    return bearing.balls / 2.0 * shaft_hz * (1.0 - ratio)


def imbalance_g(rig: Rig, imbalance_g_mm: FloatArray, shaft_hz: FloatArray) -> FloatArray:
    """Amplitude of the casing's acceleration at shaft speed, in g: force U w² over the mass of the machine."""
    force_n = imbalance_g_mm * 1e-6 * (2.0 * np.pi * shaft_hz) ** 2
    amplitude: FloatArray = force_n / (rig.machine_kg * GRAVITY)
    return amplitude


def excite(
    rig: Rig, motion: Motion, conditions: Conditions, *, rate_hz: float, generator: np.random.Generator
) -> Excitation:
    """Everything that shakes the bearing while the rig moves; `generator` decides how the balls slip."""
    shaft_hz = motion.speed_rpm / 60.0
    turns = np.concatenate([[0.0], np.cumsum(shaft_hz) / rate_hz])
    strike_s, strike = _strikes(rig.bearing, turns, conditions.strike_g, rate_hz, generator)
    off_nominal = motion.pump_flow_l_min / rig.nominal_flow_l_min - 1.0
    roughness = rig.roughness_g * conditions.roughness
    return Excitation(
        rate_hz=rate_hz,
        samples=max(round(INNER_RATE_HZ / rate_hz), 1),
        shaft_hz=shaft_hz,
        turns=turns[:-1],
        imbalance=imbalance_g(rig, rig.residual_imbalance_g_mm + conditions.imbalance_g_mm, shaft_hz),
        misalignment=rig.misalignment_g,
        # Vanes pass with more noise the further the flow is from what they were shaped for.
        vane=rig.vane_pass_g * (1.0 + 8.0 * off_nominal**2),
        noise=np.hypot(roughness, rig.cavitation_g * motion.cavitation),
        strike_s=strike_s,
        strike=strike,
    )


def acceleration(
    rig: Rig, excitation: Excitation, generator: np.random.Generator, *, start: int = 0, stop: int | None = None
) -> NDArray[np.float32]:
    """(2, samples) acceleration of rows `start` to `stop` on the x and the y axis, in g, at `samples x rate_hz`."""
    rows = slice(start, len(excitation.turns) if stop is None else stop)
    inside_s = np.arange(excitation.samples) / (excitation.samples * excitation.rate_hz)
    turns = (excitation.turns[rows] % 1.0)[:, None] + excitation.shaft_hz[rows][:, None] * inside_s
    angle = (2.0 * np.pi * turns).astype(np.float32)
    ring = _ring(rig.bearing, excitation, rows).reshape(angle.shape)
    axes = []
    for axis in range(2):
        gain = {source: to_axes[axis] for source, to_axes in TO_AXES.items()}
        quarter = np.float32(axis * np.pi / 2.0)
        signal = _column(gain["noise"] * excitation.noise[rows]) * generator.standard_normal(angle.shape, np.float32)
        signal += _column(gain["imbalance"] * excitation.imbalance[rows]) * np.cos(angle - quarter)
        signal += np.float32(gain["misalignment"] * excitation.misalignment) * np.cos(2.0 * angle + quarter)
        signal += _column(gain["vane"] * excitation.vane[rows]) * np.cos(rig.vanes * angle)
        signal += np.float32(gain["strike"]) * ring
        axes.append(signal.ravel())
    return np.stack(axes)


def rms(rig: Rig, excitation: Excitation, generator: np.random.Generator) -> FloatArray:
    """(rows, 2) root mean square of the acceleration inside each row, on the x and the y axis, in g."""
    rows = len(excitation.turns)
    block = max(BLOCK_SAMPLES // excitation.samples, 1)
    out = np.empty((rows, 2))
    for start in range(0, rows, block):
        stop = min(start + block, rows)
        signal = acceleration(rig, excitation, generator, start=start, stop=stop).reshape(2, stop - start, -1)
        out[start:stop] = np.sqrt(np.mean(np.square(signal), axis=2, dtype=np.float64)).T
    return out


def _column(values: FloatArray) -> NDArray[np.float32]:
    return values.astype(np.float32)[:, None]


def _strikes(
    bearing: Bearing, turns: FloatArray, strike_g: FloatArray, rate_hz: float, generator: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """When balls roll over the defect, in seconds, and how hard, in g; the slips add up as they do in a real cage.

    Args:
        bearing: Its geometry.
        turns: (rows + 1,), revolutions of the shaft at the edges of the rows.
        strike_g: (rows,), 0 where there is no defect.
        rate_hz: Rate of the rows.
        generator: Decides how the balls slip.
    """
    damaged = np.flatnonzero(strike_g)
    if not len(damaged):
        return np.empty(0), np.empty(0)
    passes = bpfo_hz(bearing, 1.0) * turns
    first, last = passes[damaged[0]], passes[damaged[-1] + 1]
    count = int(last - first)
    at = first + np.cumsum(1.0 + bearing.slip * generator.standard_normal(count))
    at = at[at < last]
    times = np.interp(at, passes, np.arange(len(passes)) / rate_hz)
    return times, strike_g[np.minimum((times * rate_hz).astype(np.intp), len(strike_g) - 1)]


def _ring(bearing: Bearing, excitation: Excitation, rows: slice) -> NDArray[np.float32]:
    """The housing's damped oscillation after each strike, sampled over `rows`: (samples,)."""
    inner_hz = excitation.samples * excitation.rate_hz
    omega = 2.0 * np.pi * bearing.resonance_hz
    decay = bearing.damping * omega
    length = math.ceil(RING_TIME_CONSTANTS / decay * inner_hz)
    start, count = rows.start * excitation.samples, (rows.stop - rows.start) * excitation.samples
    inside = np.searchsorted(excitation.strike_s * inner_hz, [start - length, start + count])
    struck = excitation.strike_s[slice(*inside)] * inner_hz
    if not len(struck):
        return np.zeros(count, dtype=np.float32)
    index = np.ceil(struck)[:, None] + np.arange(length)
    since_s = (index - struck[:, None]) / inner_hz
    damped = omega * math.sqrt(1.0 - bearing.damping**2)
    height = excitation.strike[slice(*inside)][:, None]
    response = height * np.exp(-decay * since_s) * np.sin(damped * since_s)
    place = index.astype(np.intp) - start
    keep = (place >= 0) & (place < count)
    return np.bincount(place[keep], weights=response[keep], minlength=count).astype(np.float32)
