"""How far the sessions of normal data lie apart, and what would answer it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_vae.sample import FloatArray

__all__ = ["NOTABLE_SHIFT", "Shift", "measure"]

NOTABLE_SHIFT = 1.0
"""A shift of one within-session spread moves a session's normal rows as far as a fault that is worth an alarm."""

MAX_SHIFT = 1000.0
"""What a channel is said to shift by that is constant within each session, such as the number of a recipe."""

_BLOCKS_OF_ONE_SESSION = 5


@dataclass(frozen=True, slots=True)
class Shift:
    """Spread of the session medians over the spread within sessions, by channel, and the number of sessions."""

    ratios: dict[str, float]
    sessions: int

    @property
    def notable(self) -> dict[str, float]:
        """The channels that shift by more than the spread within sessions, largest first."""
        found = {name: ratio for name, ratio in self.ratios.items() if ratio > NOTABLE_SHIFT}
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def advice(self, *, baseline: int) -> str:
        """What was found and what to do about it, in one paragraph."""
        kind = (
            f"{self.sessions} sessions" if self.sessions > 1 else f"{_BLOCKS_OF_ONE_SESSION} parts of the one session"
        )
        if not self.notable:
            return f"normal data of {kind} agree: no channel's level moves by more than its spread within one"
        found = ", ".join(f"{name} {ratio:.1f}x" for name, ratio in self.notable.items())
        line = f"normal data of {kind} differ in level, by these multiples of the spread within one: {found}"
        if baseline:
            return f"{line} (that is after the baseline of {baseline} samples, so it is drift within sessions)"
        return (
            f"{line}. If every session starts healthy, --baseline N (each is re-centred on its first N samples) "
            "answers it; where a session may start faulty that would hide the fault: there name the columns that tell "
            "recipe, load or material with --modes"
        )


def measure(sessions: Sequence[FloatArray], channels: Sequence[str]) -> Shift:
    """The shift between sessions of normal rows, each (samples, channels).

    For each channel: the standard deviation of the session medians over the root mean square of the within-session
    standard deviations. A single session is cut into five consecutive parts.
    """
    parts = list(sessions) if len(sessions) > 1 else np.array_split(sessions[0], _BLOCKS_OF_ONE_SESSION)
    parts = [part for part in parts if len(part)]
    within = np.sqrt(np.mean([part.var(axis=0) for part in parts], axis=0))
    between = np.std([np.median(part, axis=0) for part in parts], axis=0)
    ratios = between / np.maximum(within, between / MAX_SHIFT + np.finfo(np.float64).tiny)
    return Shift({name: float(ratio) for name, ratio in zip(channels, ratios, strict=True)}, len(sessions))
