"""Samples to scores, session by session: baseline, segments, windows, model. Agent and `edge-vae score` share it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vae.detector import Scorer
from edge_vae.sample import FloatArray
from edge_vae.scale import Baseline
from edge_vae.window import Windower, segment_starts

__all__ = ["Scored", "Stream", "join"]


@dataclass(frozen=True, slots=True)
class Scored:
    """Windows that were completed, in order.

    Attributes:
        rows: (windows,) 0-based index within the session of each window's last sample, removed samples counted.
        starts: (windows,) time of each window's first sample, in seconds since 1970; NaN without time.
        ends: (windows,) time of its last sample.
        score: (windows,) at least 0.
        shares: (windows, channels), each row sums to 1.
        values: (windows, channels) mean of the window, in sensor units.
        expected: (windows, channels) mean of its reconstruction, in sensor units.
        after_break: (windows,) True for the first window of a segment.
    """

    rows: NDArray[np.int64]
    starts: FloatArray
    ends: FloatArray
    score: FloatArray
    shares: FloatArray
    values: FloatArray
    expected: FloatArray
    after_break: NDArray[np.bool_]


class Stream:
    """Scores the samples of one machine, piece by piece; the pieces' sizes never change a score.

    Samples with a missing or infinite reading are removed, counted, and end a segment, as a gap in time does.

    Args:
        detector: The loaded bundle.
        stride: Samples from one window to the next; by default what the bundle says.
        baseline: Samples that each session is learned from; by default what the bundle says.
    """

    def __init__(self, detector: Scorer, *, stride: int | None = None, baseline: int | None = None) -> None:
        manifest = detector.manifest
        self._detector, self._length = detector, manifest.window.length
        self._period_s = manifest.period_s
        self._baseline = Baseline(samples=manifest.baseline if baseline is None else baseline, model=manifest.scaler)
        # Two further columns carry each sample's row and time through the ring.
        self._windower = Windower(
            length=self._length, stride=stride or manifest.window.stride, channels=len(manifest.channels) + 2
        )
        self.removed, self._fresh = 0, True
        self.start_session()

    @property
    def learning(self) -> int:
        """Samples that the session's baseline still needs; nothing is scored before."""
        return self._baseline.missing

    def start_session(self) -> None:
        """Begin a session: its baseline is learned anew, and no window reaches back."""
        self._baseline.restart()
        self._row, self._previous_s, self._usable = 0, float("nan"), False
        self._restart_segment()

    def push(self, values: FloatArray, times: FloatArray) -> Scored:
        """The windows that these samples complete.

        Args:
            values: (samples, channels) in sensor units, channels in the bundle's order.
            times: (samples,) seconds since 1970; NaN where the source has no time.
        """
        usable = np.asarray(np.isfinite(values).all(axis=1))
        self.removed += int(len(usable) - usable.sum())
        cuts = segment_starts(times, usable, period_s=self._period_s, previous_s=self._previous_s)
        if len(cuts):
            cuts[0] |= usable[0] and not self._usable
        columns = np.column_stack([values, np.arange(self._row, self._row + len(values)), times])
        pieces = [self._segment(piece, keep) for piece, keep in _cut(columns, usable, cuts)]
        self._remember(values, times, usable)
        return join(pieces) if pieces else self._scored(np.empty((0, self._length, columns.shape[1])))

    def _segment(self, piece: FloatArray, new_segment: bool) -> Scored:  # noqa: FBT001 (private, from a tuple)
        if new_segment:
            self._restart_segment()
        taken = self._baseline.push(piece[:, :-2])
        _, windows = self._windower.push(piece[taken:])
        return self._scored(windows)

    def _scored(self, windows: FloatArray) -> Scored:
        scaler = self._baseline.scaler
        values, rows, times = windows[:, :, :-2], windows[:, :, -2], windows[:, :, -1]
        scaled = values if scaler is None else scaler(values)
        scores, reconstruction = self._detector(scaled)
        expected = reconstruction if scaler is None else scaler.inverse(reconstruction)
        after_break = np.zeros(len(windows), np.bool_)
        if len(windows):
            after_break[0], self._fresh = self._fresh, False
        return Scored(
            rows[:, -1].astype(np.int64), times[:, 0], times[:, -1], scores.score, scores.shares,
            values.mean(axis=1), expected.mean(axis=1), after_break,
        )  # fmt: skip

    def _restart_segment(self) -> None:
        self._windower.reset()
        self._fresh = True

    def _remember(self, values: FloatArray, times: FloatArray, usable: NDArray[np.bool_]) -> None:
        if len(values):
            self._row += len(values)
            self._usable = bool(usable[-1])
            self._previous_s = float(times[-1])


def _cut(columns: FloatArray, usable: NDArray[np.bool_], cuts: NDArray[np.bool_]) -> list[tuple[FloatArray, bool]]:
    """Runs of usable samples, each with whether it starts a segment."""
    kept, starts = columns[usable], cuts[usable]
    edges = np.flatnonzero(starts)
    if not len(edges) or edges[0]:
        edges = np.concatenate([[0], edges])
    return [(run, bool(starts[at])) for at, run in zip(edges, np.split(kept, edges[1:]), strict=True) if len(run)]


def join(pieces: list[Scored]) -> Scored:
    """At least one piece, as one."""
    if len(pieces) == 1:
        return pieces[0]
    return Scored(*(np.concatenate([getattr(p, field) for p in pieces]) for field in Scored.__slots__))
