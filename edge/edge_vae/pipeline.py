"""One asset from samples to alarm changes: stream, threshold, alarm. Pure: no thread, no clock, no message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edge_vae.alarm import Alarm, AlarmRules, Change
from edge_vae.detector import Scorer
from edge_vae.event import AssetState, Channel
from edge_vae.sample import Block
from edge_vae.stream import Scored, Stream

__all__ = ["Pipeline", "Turn"]

PIECE_BYTES = 1 << 16
"""So much memory may the windows take that are scored together: more at once are no faster (measured)."""


@dataclass(frozen=True, slots=True)
class Turn:
    """An alarm that was raised or cleared, and the window that did it.

    Attributes:
        change: `RAISED` or `CLEARED`.
        score: Score of the window.
        peak_score: Highest score of the alarm so far.
        channels: All channels, the one with the largest share first.
        start_s: Time of the window's first sample, seconds since 1970; NaN without time.
        end_s: Time of its last sample.
        arrived_ns: Monotonic clock when the samples that completed it arrived.
    """

    change: Change
    score: float
    peak_score: float
    channels: tuple[Channel, ...]
    start_s: float
    end_s: float
    arrived_ns: int


class Pipeline:
    """Turns the samples of one asset into alarm changes.

    Args:
        detector: The loaded bundle.
        rules: When an alarm is raised and cleared.
        baseline: Samples that each session is learned from; by default what the bundle says.
    """

    def __init__(self, detector: Scorer, *, rules: AlarmRules, baseline: int | None = None) -> None:
        self.channel_names = detector.manifest.channel_names
        self.threshold = detector.manifest.threshold.value
        self._stream = Stream(detector, baseline=baseline)
        self._alarm = Alarm(rules, threshold=self.threshold)
        window, channels = detector.manifest.window, len(self.channel_names)
        self._piece = window.stride * max(1, PIECE_BYTES // (window.length * channels * np.float64().nbytes))
        self.windows = 0
        self.score: float | None = None

    @property
    def state(self) -> AssetState:
        """`learning` while the baseline is taken, `alarm` while one is raised, else `normal`."""
        if self._alarm.active:
            return "alarm"
        return "learning" if self._stream.learning else "normal"

    @property
    def removed(self) -> int:
        """Samples that were left out because a reading was missing."""
        return self._stream.removed

    def push(self, block: Block) -> list[Turn]:
        """The alarm changes that these samples bring."""
        if block.starts_session:
            self._stream.start_session()
        turns: list[Turn] = []
        for at in range(0, len(block.times), self._piece):
            piece = slice(at, at + self._piece)
            scored = self._stream.push(block.values[piece], block.times[piece])
            turns += self._turns(scored, block.arrived_ns)
        return turns

    def _turns(self, scored: Scored, arrived_ns: int) -> Iterator[Turn]:
        self.windows += len(scored.rows)
        for i in range(len(scored.rows)):
            if scored.after_break[i]:
                self._alarm.interrupt()
            self.score = float(scored.score[i])
            change = self._alarm.push(self.score)
            if change is not Change.NONE:
                yield self._turn(scored, i, change, arrived_ns)

    def _turn(self, scored: Scored, i: int, change: Change, arrived_ns: int) -> Turn:
        order = scored.shares[i].argsort()[::-1]
        channels = tuple(
            Channel(
                name=self.channel_names[c],
                share=float(scored.shares[i, c]),
                value=float(scored.values[i, c]),
                expected=float(scored.expected[i, c]),
            )
            for c in order
        )
        return Turn(
            change, float(scored.score[i]), self._alarm.peak_score, channels,
            float(scored.starts[i]), float(scored.ends[i]), arrived_ns,
        )  # fmt: skip
