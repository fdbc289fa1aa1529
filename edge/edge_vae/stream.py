"""Samples to scores, session by session: baseline, segments, windows, model. Agent and `edge-vae score` share it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vae.detector import Scorer
from edge_vae.sample import FloatArray
from edge_vae.scale import Baseline, Scaler
from edge_vae.window import Windower, Windows, segment_starts

__all__ = ["Scored", "Stream", "UnknownMode", "join"]

_MOST_UNKNOWN = 64
"""Different unknown modes that are told of in a session: a column that never repeats is no mode."""
_BLOCK = 1024
"""Windows that are scored together: enough that two cores seldom wait for each other (128: 1.7 times the rate of one,
1024: 1.9), few enough for separate models, which make numbers of their own of every window."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Windows that were completed, in order.

    Attributes:
        rows: (windows,) 0-based index within the session of each window's last sample, removed samples counted.
        starts: (windows,) time of each window's first sample, in seconds since 1970; NaN without time.
        ends: (windows,) time of its last sample.
        score: (windows,) at least 0.
        shares: (windows, channels), each row sums to 1.
        terms: (windows, terms) what each term of the score adds to it.
        values: (windows, channels) mean of the window, in sensor units.
        expected: (windows, channels) mean of what the model expected, in sensor units.
        after_break: (windows,) True for the first window of a segment.
    """

    rows: NDArray[np.int64]
    starts: FloatArray
    ends: FloatArray
    score: FloatArray
    shares: FloatArray
    terms: FloatArray
    values: FloatArray
    expected: FloatArray
    after_break: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class UnknownMode:
    """An operating mode that the model was not trained in: values of the mode columns, and when it was met.

    `time_s` is in seconds since 1970; NaN without time.
    """

    values: tuple[float, ...]
    time_s: float


class Stream:
    """Scores the samples of one machine, piece by piece; the pieces' sizes never change a score.

    Samples with a missing or infinite reading are removed, counted, and end a segment, as a gap in time does. A missing
    reading of a mode column is no change of the mode: the sample belongs to the mode before it.

    Args:
        detector: The loaded bundle.
        stride: Samples from one window to the next; by default what the bundle says.
        baseline: Samples that each session is learned from; by default what the bundle says.
    """

    def __init__(self, detector: Scorer, *, stride: int | None = None, baseline: int | None = None) -> None:
        manifest = detector.manifest
        self._detector, self._modes = detector, manifest.modes
        self._length, self._channels = manifest.window.length, len(manifest.channels)
        self._period_s = manifest.period_s
        self._conditions = manifest.modes.conditions if manifest.modes else np.zeros((1, 0), np.float32)
        scalers = [manifest.modes.scaler(i) for i in range(len(self._conditions))] if manifest.modes else None
        self._scalers = scalers or [manifest.scaler]
        samples = manifest.baseline if baseline is None else baseline
        self._baseline = Baseline(samples=samples, model=self._scalers[0])
        stride = stride or manifest.window.stride
        self._windower = Windower(length=self._length, stride=stride, channels=self._channels)
        self._block = stride * _BLOCK
        self._mean = np.full((1, self._length), 1.0 / self._length)
        self.removed, self._fresh = 0, True
        self.unusable = 0
        """Samples in a row, up to the latest, that could not be used."""
        self._latest: list[tuple[FloatArray, NDArray[np.float32], Scaler]] = []
        self._met: list[UnknownMode] = []
        self.start_session()
        nothing = np.empty((0, self._channels))
        self._none = self._scored(self._windower.push(nothing, nothing, np.empty(0)), self._scalers[0], first_row=0)

    @property
    def learning(self) -> int:
        """Samples that the session's baseline still needs; nothing is scored before."""
        return self._baseline.missing

    @property
    def awaited(self) -> int:
        """Samples, at least 1, without which no window can be completed."""
        return self._baseline.missing + self._windower.awaited

    def window(self, i: int) -> tuple[FloatArray, NDArray[np.float32], Scaler]:
        """Window `i` of the latest push (1, length, channels), scaled, with its conditions and its scaler."""
        for windows, conditions, scaler in self._latest:
            if i < len(windows):
                return windows[i : i + 1], conditions[i : i + 1], scaler
            i -= len(windows)
        raise IndexError(i)

    def take_unknown(self) -> list[UnknownMode]:
        """The unknown modes that were met since the last call, each once a session."""
        taken, self._met = self._met, []
        return taken

    @property
    def mode(self) -> int:
        """Number of the operating mode of the latest sample that told one; -1 when it is none that the model knows."""
        return self._mode

    def start_session(self) -> None:
        """Begin a session: its baseline is learned anew, and no window reaches back."""
        self._baseline.restart(self._scalers[0])
        self._mode = 0
        self._told: set[tuple[float, ...]] = set()
        self._row, self._previous_s, self.unusable = 0, float("nan"), 0
        self._restart_segment()

    def push(self, values: FloatArray, times: FloatArray) -> Scored:
        """The windows that these samples complete.

        A change of the operating mode ends the segment; the baseline of the new mode is learned anew. In a mode that
        the model does not know nothing is scored.

        Args:
            values: (samples, columns) in sensor units, columns as in the manifest's `source_columns`.
            times: (samples,) seconds since 1970; NaN where the source has no time.
        """
        self._latest = []
        if self._modes is None:
            return self._push(values, times)
        told = np.asarray(np.isfinite(values[:, self._channels :]).all(axis=1))
        modes = _carried(self._modes.find(values[:, self._channels :]), told, before=self._mode)
        values = np.where(told[:, None], values, np.nan)
        edges = np.flatnonzero(np.diff(modes)) + 1
        pieces = []
        for at, end in zip([0, *edges], [*edges, len(modes)], strict=True):
            if at < len(modes) and modes[at] != self._mode:
                self._change_mode(int(modes[at]))
            if at < len(modes) and self._mode < 0:
                self._meet(values[at:end, self._channels :], times[at:end])
            known = values[at:end, : self._channels] if self._mode >= 0 else np.full((end - at, self._channels), np.nan)
            pieces.append(self._push(known, times[at:end]))
        return join(pieces)

    def _change_mode(self, mode: int) -> None:
        self._mode = mode
        self._restart_segment()
        if mode >= 0:
            self._baseline.restart(self._scalers[mode])

    def _meet(self, values: FloatArray, times: FloatArray) -> None:
        """Remember the unknown modes of these samples (samples, columns); a sample that tells none is passed over."""
        changed = np.flatnonzero((values[1:] != values[:-1]).any(axis=1)) + 1
        for at in [0, *changed]:
            mode = tuple(values[at].tolist())
            if np.isfinite(values[at]).all() and mode not in self._told and len(self._told) < _MOST_UNKNOWN:
                self._told.add(mode)
                self._met.append(UnknownMode(mode, float(times[at])))

    def _push(self, values: FloatArray, times: FloatArray) -> Scored:
        if not len(values):
            return self._none
        finite = np.isfinite(values)
        whole = np.count_nonzero(finite) == finite.size  # far sooner than all()
        usable: NDArray[np.bool_] = finite[:, 0] if whole else np.asarray(finite.all(axis=1))
        cuts = segment_starts(times, usable, period_s=self._period_s, previous_s=self._previous_s)
        if self.unusable and usable[0]:
            cuts[0] = True
        runs = [(0, len(usable))] if whole and not np.count_nonzero(cuts) else _runs(usable, cuts)
        pieces = []
        for start, stop in runs:
            if cuts[start]:
                self._restart_segment()
            blocks = range(start, stop, self._block)
            pieces += [self._segment(values, times, at, min(at + self._block, stop)) for at in blocks]
        self._remember(times, usable)
        return join(pieces) if pieces else self._none

    def _segment(self, values: FloatArray, times: FloatArray, start: int, stop: int) -> Scored:
        """The windows that these usable samples complete."""
        start += self._baseline.push(values[start:stop])
        scaler, later = self._baseline.scaler or self._scalers[0], values[start:stop]
        windows = self._windower.push(later, scaler(later), times[start:stop])
        return self._scored(windows, scaler, first_row=self._row + start) if len(windows.ends) else self._none

    def _scored(self, windows: Windows, scaler: Scaler, *, first_row: int) -> Scored:
        scaled, count = windows.scaled, len(windows.ends)
        mode = max(self._mode, 0)
        conditions = self._conditions[mode : mode + 1]
        if count != 1:
            conditions = np.repeat(conditions, count, axis=0)
        scores, expected = self._detector(scaled, conditions)
        after_break = np.zeros(count, np.bool_)
        if count:
            self._latest.append((scaled, conditions, scaler))
            after_break[0], self._fresh = self._fresh, False
        return Scored(
            windows.ends + first_row, windows.start_times, windows.end_times, scores.score, scores.shares, scores.terms,
            (self._mean @ windows.values)[:, 0], scaler.inverse(expected), after_break,
        )  # fmt: skip

    def _restart_segment(self) -> None:
        self._windower.reset()
        self._fresh = True

    def _remember(self, times: FloatArray, usable: NDArray[np.bool_]) -> None:
        self._row += len(times)
        self.removed += len(usable) - int(np.count_nonzero(usable))
        if usable[-1]:
            self.unusable = 0
        else:
            self.unusable = int(usable[::-1].argmax()) if usable.any() else self.unusable + len(usable)
        self._previous_s = float(times[-1])


def _carried(modes: NDArray[np.intp], told: NDArray[np.bool_], *, before: int) -> NDArray[np.intp]:
    """The mode of each sample; where a sample told none, that of the last one that did, or else the one `before`."""
    latest = np.maximum.accumulate(np.where(told, np.arange(len(told)), -1))
    return np.where(latest >= 0, modes[latest], before)


def _runs(usable: NDArray[np.bool_], cuts: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and stop of the runs of usable samples without a cut but at their start."""
    edges = np.flatnonzero(cuts | ~usable).tolist()
    return [(at, end) for at, end in itertools.pairwise([0, *edges, len(usable)]) if at < end and usable[at]]


def join(pieces: list[Scored]) -> Scored:
    """At least one piece, as one."""
    if len(pieces) == 1:
        return pieces[0]
    return Scored(*(np.concatenate([getattr(p, field) for p in pieces]) for field in Scored.__slots__))
