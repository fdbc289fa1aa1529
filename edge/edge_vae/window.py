"""Samples to windows: what a segment is, and which rows a window holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_vae.sample import FloatArray

__all__ = ["GAP_PERIODS", "Windower", "overlap", "sample_period_s", "segment_starts", "sliding"]

GAP_PERIODS = 5.0
"""A step in time longer than this many sample periods is a gap. Loggers that truncate to whole seconds show steps of
two periods without having lost anything; five periods without a sample are lost data."""

_RING_WINDOWS = 64
"""Windows that fit between two moves of the ring's content to its front."""


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
    with np.errstate(invalid="ignore"):
        cut = (steps > GAP_PERIODS * period_s) | (steps < 0)
    cut[1:] |= ~usable[:-1]
    return np.asarray(cut & usable, dtype=np.bool_)


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
        self.reset()

    def reset(self) -> None:
        """Forget every sample: the next one starts a new segment."""
        self._filled = 0
        self._skip = 0

    def push(self, values: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
        """Ends and windows that these samples complete.

        Args:
            values: (samples, channels), any number of samples.

        Returns:
            (windows,) index within `values` of each window's last sample, and (windows, length, channels).
        """
        if 0 < len(values) <= len(self._ring) - self._filled:
            return self._append(values)
        ends, windows, at = [], [], 0
        while at < len(values):
            piece = values[at : at + len(self._ring) - self._filled]
            piece_ends, piece_windows = self._append(piece)
            ends.append(piece_ends + at)
            windows.append(piece_windows)
            at += len(piece)
        if not ends:
            return np.empty(0, np.int64), np.empty((0, self._length, values.shape[1]))
        return np.concatenate(ends), np.concatenate(windows)

    def _append(self, piece: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
        before = self._filled
        self._ring[before : before + len(piece)] = piece
        self._filled += len(piece)
        count = max(0, (self._filled - self._skip - self._length) // self._stride + 1)
        windows = np.empty((count, self._length, self._ring.shape[1]))
        for i in range(count):
            start = self._skip + i * self._stride
            windows[i] = self._ring[start : start + self._length]
        ends = self._skip + self._length - 1 + self._stride * np.arange(count, dtype=np.int64) - before
        self._forget(self._skip + self._stride * len(windows))
        return ends, windows

    def _forget(self, first_needed: int) -> None:
        """Move the samples that a later window needs to the front once the ring is half used."""
        kept = max(self._filled - first_needed, 0)
        self._skip = first_needed
        if self._filled * 2 < len(self._ring):
            return
        self._ring[:kept] = self._ring[self._filled - kept : self._filled].copy()
        self._skip = max(first_needed - self._filled, 0)
        self._filled = kept
