"""Synthetic faults on scaled windows: for calibrating int8, for testing explanations, and for checks of sanity.

Severities are in sigmas of the scaled samples. A mild synthetic fault is evidence, not a judge: choosing models by how
well they see such faults chose well on some real data sets and badly on others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from edge_vae.sample import FloatArray

__all__ = ["FAULTS", "Fault", "inject", "stress"]

Fault = Callable[[FloatArray, float, np.random.Generator], FloatArray]
"""(the affected channels of one window (length, channels), severity in sigmas, generator) to the faulty channels."""


def _signs(part: FloatArray, generator: np.random.Generator) -> FloatArray:
    return np.asarray(generator.choice([-1.0, 1.0], part.shape[1]))


def _onset(part: FloatArray, generator: np.random.Generator) -> int:
    """A row in the window from which the fault acts."""
    return int(generator.integers(0, max(1, len(part) // 2)))


def offset(part: FloatArray, severity: float, generator: np.random.Generator) -> FloatArray:
    """The level moves by `severity`."""
    return np.asarray(part + severity * _signs(part, generator))


def gain(part: FloatArray, severity: float, generator: np.random.Generator) -> FloatArray:  # noqa: ARG001 (one signature)
    """The deviation from the mean level is amplified by 1 + severity / 2."""
    level = part.mean(axis=0)
    return np.asarray(level + (part - level) * (1.0 + severity / 2.0))


def drift(part: FloatArray, severity: float, generator: np.random.Generator) -> FloatArray:
    """The level moves evenly from 0 at the window's start to `severity` at its end."""
    return np.asarray(part + np.linspace(0.0, severity, len(part))[:, None] * _signs(part, generator))


def spike(part: FloatArray, severity: float, generator: np.random.Generator) -> FloatArray:
    """One sample is off by twice `severity`."""
    changed: FloatArray = part.copy()
    changed[generator.integers(len(part))] += 2.0 * severity * _signs(part, generator)
    return changed


def noise(part: FloatArray, severity: float, generator: np.random.Generator) -> FloatArray:
    """White noise of standard deviation `severity` / 2 comes on top."""
    return np.asarray(part + generator.normal(0.0, severity / 2.0, part.shape))


def stuck(part: FloatArray, severity: float, generator: np.random.Generator) -> FloatArray:  # noqa: ARG001 (one signature)
    """The reading stays at the value of one sample, whatever the severity."""
    return np.array(np.broadcast_to(part[_onset(part, generator)], part.shape))


def dropout(part: FloatArray, severity: float, generator: np.random.Generator) -> FloatArray:
    """From one sample on the reading rests at the low end, `severity` below the mean."""
    changed: FloatArray = part.copy()
    changed[_onset(part, generator) :] = part.mean(axis=0) - severity
    return changed


def lag(part: FloatArray, severity: float, generator: np.random.Generator) -> FloatArray:  # noqa: ARG001 (one signature)
    """The reading comes late, by a sixteenth of the window for each sigma of severity, at most by half of it."""
    return np.roll(part, min(len(part) // 2, max(1, int(len(part) * severity / 16.0))), axis=0)


def correlation_break(part: FloatArray, severity: float, generator: np.random.Generator) -> FloatArray:
    """The reading moves against what it usually does, then drifts by half of `severity`."""
    level = part.mean(axis=0)
    return drift(2.0 * level - part, severity / 2.0, generator)


def oscillation(part: FloatArray, severity: float, generator: np.random.Generator) -> FloatArray:
    """A sine of amplitude `severity` and a random frequency up to a quarter of the sampling rate comes on top."""
    frequency = generator.uniform(min(1.0 / len(part), 0.25), 0.25)
    phase = generator.uniform(0.0, 2.0 * np.pi, part.shape[1])
    return np.asarray(part + severity * np.sin(2.0 * np.pi * frequency * np.arange(len(part))[:, None] + phase))


def mode_change(part: FloatArray, severity: float, generator: np.random.Generator) -> FloatArray:
    """From one sample on the level is another one and the deviations are halved."""
    changed: FloatArray = part.copy()
    onset = _onset(part, generator)
    level = part.mean(axis=0)
    changed[onset:] = level + (part[onset:] - level) / 2.0 + severity * _signs(part, generator)
    return changed


FAULTS: Mapping[str, Fault] = {
    "offset": offset,
    "gain": gain,
    "drift": drift,
    "spike": spike,
    "noise": noise,
    "stuck": stuck,
    "dropout": dropout,
    "lag": lag,
    "correlation-break": correlation_break,
    "oscillation": oscillation,
    "mode-change": mode_change,
}
"""Every fault by name."""


def inject(
    window: FloatArray, *, fault: str, channels: NDArray[np.bool_], severity: float, generator: np.random.Generator
) -> FloatArray:
    """A copy of the window (length, channels) with the fault on the chosen channels (channels,)."""
    changed = np.array(window, np.float64)
    changed[:, channels] = FAULTS[fault](changed[:, channels], severity, generator)
    return changed


def stress(
    windows: NDArray[np.float32], *, severity: float, clip: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    """A faulty window, clipped, for each normal one (windows, length, channels).

    Every fault, on one, some or all channels, with severities evenly from 0 to `severity`: what a real fault can do to
    the inputs of the model, so that a quantizer sees the activations that it must be able to represent.
    """
    names, channels = sorted(FAULTS), windows.shape[2]
    made = np.empty_like(windows)
    for i, window in enumerate(windows):
        chosen = generator.random(channels) < generator.choice([1.0 / channels, 0.4, 1.0])
        chosen[generator.integers(channels)] = True
        made[i] = inject(
            window.astype(np.float64),
            fault=names[generator.integers(len(names))],
            channels=chosen,
            severity=float(generator.uniform(0.0, severity)),
            generator=generator,
        )
    return np.clip(made, -clip, clip)
