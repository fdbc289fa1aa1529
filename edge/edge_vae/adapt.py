"""The threshold of a bundle, moved within bounds to the tail that this machine really shows. Pure: no clock, no file.

Streaming peaks over threshold (Siffer et al., Anomaly Detection in Streams with Extreme Value Theory, KDD 2017, section
4.3, eq. 1), with three changes. The shape of the tail stays that of the bundle, so its scale is plain to estimate;
evidence is forgotten exponentially; and the bundle itself counts as some peaks that are never forgotten, so that the
threshold is the bundle's where there is no evidence.
"""

from __future__ import annotations

import math
from collections import deque

import msgspec

from edge_vae.threshold import SECONDS_PER_DAY, Threshold

__all__ = ["Adaptation", "TailState"]

MEMORY_DAYS = 7.0
"""Evidence of so many days of scored windows has lost the factor e: every shift and every weekday has its say."""
BUNDLE_PEAKS = 30.0
"""The bundle counts as so many peaks: the number below which no tail is fitted when a threshold is made either."""
LEAST_RATIO = 20.0
"""Peaks for each wished false alarm, at least. What raises an alarm is never counted; with fewer peaks beside it, what
is left out would pull the threshold down, and the lower threshold would leave out still more."""


class TailState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a device has seen of the tail of its normal scores; older evidence has been counted down.

    Attributes:
        days: Days of windows.
        peaks: Separate exceedances of the tail's start.
        whole: Those of them that did not reach the threshold, so that their height is known.
        excess: Sum of all heights above the start, each at most up to the threshold.
    """

    days: float = 0.0
    peaks: float = 0.0
    whole: float = 0.0
    excess: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.days, self.peaks, self.whole, self.excess)
        if not all(math.isfinite(number) and number >= 0 for number in numbers) or self.whole > self.peaks:
            msg = f"expected finite evidence of at least 0, received {numbers}"
            raise ValueError(msg)


class Adaptation:
    """Fed one score a window of normal operation, it holds the threshold that keeps the bundle's wish here.

    As where a threshold is made, what counts is each window's level: the k-th highest of the last n scores, up to which
    a threshold would have raised an alarm there. A peak is the highest level of a run of exceedances; exceedances
    closer than `overlap` windows share samples and are one peak. A peak beyond the threshold counts as one that reached
    it, never with its height. A run that is interrupted does not count at all, so nothing that led to an alarm does.

    Args:
        threshold: The bundle's.
        limit: The threshold stays within value * (1 - limit) and value * (1 + limit); above 0, below 1.
        stride_s: Seconds from one window to the next.
        overlap: Windows that overlap.
        on_delay: (k, n) of the bundle's alarm, which its threshold was made for.
        state: What was seen before.

    Raises:
        ValueError: The threshold is not far enough in a tail to be followed there.
    """

    def __init__(
        self,
        threshold: Threshold,
        *,
        limit: float,
        stride_s: float,
        overlap: int,
        on_delay: tuple[int, int],
        state: TailState | None = None,
    ) -> None:
        if not 0 < limit < 1:
            msg = f"expected a limit above 0 and below 1, received {limit}"
            raise ValueError(msg)
        self._bundle, self._overlap = threshold, overlap
        self._stride_days = stride_s / SECONDS_PER_DAY
        self._kept = math.exp(-self._stride_days / MEMORY_DAYS)
        self._low, self._high = max(threshold.value * (1 - limit), threshold.start), threshold.value * (1 + limit)
        self._ratio = _ratio(threshold)
        if not (self._ratio >= LEAST_RATIO and threshold.shape < 1):
            msg = (
                f"expected a threshold that at least {LEAST_RATIO:g} separate peaks of its tail stay below for each one"
                f" that exceeds it, received one of kind {threshold.kind!r} with {self._ratio:.3g}"
            )
            raise ValueError(msg)
        self.state = state or TailState()
        """What was seen so far."""
        self._needed, length = on_delay
        self._last: deque[float] = deque(maxlen=length)
        self._peak, self._since = -math.inf, 0
        self.threshold = self._wished()
        """The threshold at present."""

    def push(self, score: float) -> float:
        """The threshold after one more window of normal operation."""
        kept, seen = self._kept, self.state
        self.state = TailState(
            seen.days * kept + self._stride_days, seen.peaks * kept, seen.whole * kept, seen.excess * kept
        )
        self._last.append(score)
        level = sorted(self._last)[-self._needed] if len(self._last) >= self._needed else -math.inf
        if level > self._bundle.start:
            self._peak, self._since = max(self._peak, level), 0
        elif self._peak > -math.inf:
            self._since += 1
            if self._since >= self._overlap:
                self._count(self._peak)
                self._peak, self._since = -math.inf, 0
        self.threshold = self._wished()
        return self.threshold

    def interrupt(self) -> None:
        """Forget a run of exceedances that has not ended: an alarm, a gap, or a change of the machine came between."""
        self._last.clear()
        self._peak, self._since = -math.inf, 0

    def forget(self) -> None:
        """Begin again with the bundle's threshold."""
        self.interrupt()
        self.state = TailState()
        self.threshold = self._wished()

    def _count(self, peak: float) -> None:
        seen, height = self.state, min(peak, self.threshold) - self._bundle.start
        whole = seen.whole + (peak <= self.threshold)
        self.state = TailState(seen.days, seen.peaks + 1.0, whole, seen.excess + max(height, 0.0))

    def _wished(self) -> float:
        """The score that peaks exceed as often as wished, within the bounds (eq. 1 of the paper)."""
        bundle, seen = self._bundle, self.state
        mean = bundle.scale / (1.0 - bundle.shape)
        # Heights are known up to the threshold alone: the likelihood of censored exponential heights has its maximum at
        # their sum over the number of those that are known whole.
        scale = bundle.scale * (BUNDLE_PEAKS + seen.excess / mean) / (BUNDLE_PEAKS + seen.whole)
        bundle_days = BUNDLE_PEAKS / (self._ratio * bundle.false_alarms_per_day)
        rate = (BUNDLE_PEAKS + seen.peaks) / (bundle_days + seen.days)
        ratio = max(rate / bundle.false_alarms_per_day, 1.0)
        reach = math.log(ratio) if bundle.shape == 0 else (ratio**bundle.shape - 1.0) / bundle.shape
        return min(max(bundle.start + scale * reach, self._low), self._high)


def _ratio(threshold: Threshold) -> float:
    """Peaks above the tail's start for each one above the threshold, as the bundle sees them: eq. 1, solved for it."""
    depth = (threshold.value - threshold.start) / threshold.scale
    if threshold.shape == 0:
        return math.exp(min(depth, 50.0))
    base = 1.0 + threshold.shape * depth
    return min(base ** (1.0 / threshold.shape), math.exp(50.0)) if base > 0 else math.nan
