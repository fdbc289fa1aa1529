"""Samples to windows: what a segment is, and which rows a window holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_vae.sample import FloatArray

__all__ = ["GAP_PERIODS", "Windower", "Windows", "overlap", "sample_period_s", "segment_starts", "sliding"]

GAP_PERIODS = 5.0
"""A step in time longer than this many sample periods is a gap. Loggers that truncate to whole seconds show steps of
two periods without having lost anything; five periods without a sample are lost data."""

_RING_WINDOWS = 64
"""Windows that fit between two moves of the ring's content to its front."""

Windows = tuple[NDArray[np.int64], FloatArray, FloatArray]
"""For each window: the index of its last sample among those that were pushed (windows,), its samples (windows, length,
channels), and the time of its first sample (windows,)."""


def overlap(length: int, stride: int) -> float:
    """How many consecutive windows hold the same sample, on average and at least 1."""
    return max(1.0, length / stride)


def sample_period_s(times: FloatArray) -> float:
    """Mean time between samples in seconds, gaps left out; NaN with fewer than two usable times.

    The mean and not the median: a logger at 0.95 Hz with stamps of whole seconds has a median step of 1.0 s.
    """
    steps = np.diff(times)
    steps = steps[np.isfinite(steps) & (steps > 0)]
    if not steps.size:
        return float("nan")
    return float(steps[steps <= GAP_PERIODS * np.median(steps)].mean())


def segment_starts(
    times: FloatArray, usable: NDArray[np.bool_], *, period_s: float, previous_s: float = float("nan")
) -> NDArray[np.bool_]:
    """True for each row that starts a segment: it follows a removed row, a gap in time, or a step back in time.

    Args:
        times: (samples,) seconds; NaN where there is no time, which never makes a gap.
        usable: (samples,) False for rows that are removed. Removed rows are never marked.
        period_s: Time between samples in seconds.
        previous_s: Time of the sample before the first one; NaN when there was none.
    """
    steps = np.empty(len(times))
    steps[:1] = times[:1] - previous_s
    np.subtract(times[1:], times[:-1], out=steps[1:])  # np.diff takes four times as long for one sample
    cut: NDArray[np.bool_] = steps > GAP_PERIODS * period_s
    cut |= steps < 0
    if np.count_nonzero(usable) < len(usable):
        cut[1:] |= ~usable[:-1]
        cut &= usable
    return cut


def sliding(values: FloatArray, *, length: int, stride: int) -> FloatArray:
    """Windows (windows, length, channels) of one segment (samples, channels), as a view; none when it is too short."""
    samples, channels = values.shape
    if samples < length:
        return np.empty((0, length, channels), dtype=values.dtype)
    windows: FloatArray = np.lib.stride_tricks.sliding_window_view(values, length, axis=0)[::stride].transpose(0, 2, 1)
    return windows


class Windower:
    """Makes the windows of one segment from pieces of any size; the pieces' sizes never change the windows.

    The first window ends at the segment's `length`-th sample, each further one `stride` samples later. The ring buffer
    holds the samples that a later window still needs.

    Args:
        length: Samples in a window.
        stride: Samples from one window to the next.
        channels: Channels of every sample.
    """

    def __init__(self, *, length: int, stride: int, channels: int) -> None:
        if length < 1 or stride < 1 or channels < 1:
            msg = f"expected length, stride and channels of at least 1, received {length}, {stride}, {channels}"
            raise ValueError(msg)
        self._length, self._stride = length, stride
        self._ring = np.empty((2 * length + stride * _RING_WINDOWS, channels))
        self._times = np.empty(len(self._ring))
        self.reset()

    def reset(self) -> None:
        """Forget every sample: the next one starts a new segment."""
        self._filled = 0
        self._skip = 0

    @property
    def awaited(self) -> int:
        """Samples of this segment, at least 1, that complete the next window."""
        return self._skip + self._length - self._filled

    def push(self, values: FloatArray, times: FloatArray) -> Windows:
        """The windows that these samples complete.

        Args:
            values: (samples, channels), any number of samples.
            times: (samples,) their times.
        """
        if len(values) <= len(self._ring) - self._filled:
            return self._append(values, times)
        pieces, at = [], 0
        while at < len(values):
            piece = slice(at, at + len(self._ring) - self._filled)
            ends, windows, starts = self._append(values[piece], times[piece])
            pieces.append((ends + at, windows, starts))
            at = piece.stop
        ends, windows, starts = (np.concatenate(each) for each in zip(*pieces, strict=True))
        return ends, windows, starts

    def _append(self, values: FloatArray, times: FloatArray) -> Windows:
        before, length, stride = self._filled, self._length, self._stride
        self._filled = filled = before + len(values)
        self._ring[before:filled], self._times[before:filled] = values, times
        first = self._skip
        count = max(0, (filled - first - length) // stride + 1)
        beyond = first + stride * count
        windows = np.empty((count, length, self._ring.shape[1]))
        for i, at in enumerate(range(first, beyond, stride)):
            windows[i] = self._ring[at : at + length]
        starts = self._times[first:beyond:stride].copy()
        end = first + length - 1 - before
        ends = np.arange(end, end + stride * count, stride)
        self._forget(beyond)
        return ends, windows, starts

    def _forget(self, first_needed: int) -> None:
        """Move the samples that a later window needs to the front once the ring is half used."""
        kept = max(self._filled - first_needed, 0)
        self._skip = first_needed
        if self._filled * 2 < len(self._ring):
            return
        for ring in (self._ring, self._times):
            ring[:kept] = ring[self._filled - kept : self._filled].copy()
        self._skip = max(first_needed - self._filled, 0)
        self._filled = kept
