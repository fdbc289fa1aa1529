"""Samples to windows: what a segment is, and which rows a window holds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from edge_vae.sample import FloatArray

__all__ = ["GAP_PERIODS", "Windower", "Windows", "overlap", "sample_period_s", "segment_starts", "sliding"]

GAP_PERIODS = 5.0
"""A step in time longer than this many sample periods is a gap. Loggers that truncate to whole seconds show steps of
two periods without having lost anything; five periods without a sample are lost data."""

_BUFFER_WINDOWS = 32
"""Windows for which a buffer has room at least."""


class Windows(NamedTuple):
    """Windows of one segment; their samples are views that others share.

    Attributes:
        ends: (windows,) index of each window's last sample among those that were pushed.
        values: (windows, length, channels) as they came.
        scaled: (windows, length, channels) the same scaled.
        start_times: (windows,) time of each window's first sample.
        end_times: (windows,) time of its last sample.
    """

    ends: NDArray[np.int64]
    values: FloatArray
    scaled: FloatArray
    start_times: FloatArray
    end_times: FloatArray


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
    if samples < length + stride:
        return values[None, :length]
    shape = ((samples - length) // stride + 1, length, channels)
    row, column = values.strides
    return as_strided(values, shape, (stride * row, row, column), writeable=False)


class Windower:
    """Makes the windows of one segment from pieces of any size; the pieces' sizes never change the windows.

    The first window ends at the segment's `length`-th sample, each further one `stride` samples later. Samples are
    appended to a buffer, and windows are views of it: nothing in it is written twice. When it is full, another one
    begins with the samples that a later window needs.

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
        self._values, self._scaled, self._times = np.empty((0, channels)), np.empty((0, channels)), np.empty(0)
        self._first = self._filled = 0

    def reset(self) -> None:
        """Forget every sample: the next one starts a new segment."""
        self._first = self._filled

    @property
    def awaited(self) -> int:
        """Samples of this segment, at least 1, that complete the next window."""
        return self._first + self._length - self._filled

    def push(self, values: FloatArray, scaled: FloatArray, times: FloatArray) -> Windows:
        """The windows that these samples complete.

        Args:
            values: (samples, channels), any number of samples.
            scaled: (samples, channels), the same samples scaled.
            times: (samples,) their times.
        """
        if self._filled + len(times) > len(self._times):
            self._begin_buffer(len(times))
        before, first, length, stride = self._filled, self._first, self._length, self._stride
        self._filled = filled = before + len(times)
        self._values[before:filled], self._scaled[before:filled], self._times[before:filled] = values, scaled, times
        last = first + length - 1
        ends = np.arange(last - before, filled - before, stride)
        self._first = beyond = first + stride * len(ends)
        return Windows(
            ends,
            sliding(self._values[first:filled], length=length, stride=stride),
            sliding(self._scaled[first:filled], length=length, stride=stride),
            self._times[first:beyond:stride],
            self._times[last:filled:stride],
        )

    def _begin_buffer(self, samples: int) -> None:
        """A buffer with room for so many samples, that begins with those of the present one that are still needed."""
        first, filled = self._first, self._filled
        self._first, self._filled = max(first - filled, 0), max(filled - first, 0)
        size = max(self._filled + samples, self._length + self._stride * _BUFFER_WINDOWS)
        self._values, self._scaled, self._times = (
            _begun(buffer[first:filled], size) for buffer in (self._values, self._scaled, self._times)
        )


def _begun(needed: FloatArray, size: int) -> FloatArray:
    buffer = np.empty((size, *needed.shape[1:]))
    buffer[: len(needed)] = needed
    return buffer
