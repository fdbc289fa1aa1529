"""Times of samples that a device stamps by a clock of its system."""

from __future__ import annotations

from edge_vae.sample import FloatArray
from edge_vae.sources.sample_clock import STEP_S, SampleClock
from edge_vae.sources.scan import Numbers

__all__ = ["StampClock"]

TRUSTED_S = 3600.0
"""Stamps that are further from now are none: some drivers leave them 0. A nearer bound would doubt what has waited
while the agent stood still."""


class StampClock:
    """Seconds since 1970 of stamps, or by the rate where there are no stamps to believe.

    Args:
        rate_hz: Samples a second.
    """

    def __init__(self, rate_hz: float) -> None:
        self._even = SampleClock(rate_hz)
        self._offset_ns = 0

    def times(
        self, samples: int, stamps: Numbers | None, *, clock_ns: int | None, wall_ns: int, monotonic_s: float
    ) -> FloatArray:
        """(samples,) seconds since 1970 of samples that have come, the last of them just now.

        Args:
            samples: How many came.
            stamps: (samples,) nanoseconds, if they have stamps.
            clock_ns: The present moment by the clock of the stamps; None where that is not known.
            wall_ns: The same by the system clock.
            monotonic_s: The same by the clock that never jumps.
        """
        if samples and stamps is not None and clock_ns is not None:
            # Both clocks run alike until the system clock is set; what the offset varies by before is our own slowness.
            if abs(wall_ns - clock_ns - self._offset_ns) > STEP_S * 1e9:
                self._offset_ns = wall_ns - clock_ns
            times: FloatArray = (stamps + self._offset_ns) / 1e9
            if abs(float(times[-1]) - wall_ns / 1e9) < TRUSTED_S:
                return times
        return self._even.times(samples, monotonic_s=monotonic_s, wall_s=wall_ns / 1e9)
