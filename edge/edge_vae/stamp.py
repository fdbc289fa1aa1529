"""What tells one event from every other: ids and the times of its making."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_vae import clock
from edge_vae.clock import TimeQuality, format_time

__all__ = ["Stamp", "Stamper", "UlidSource"]


class UlidSource:
    """Makes ULIDs: 48 bits of time and 80 random bits in Crockford's base 32, so that text order is time order.

    Ids asked for within one millisecond rise by one, as the ULID specification says of monotonicity, and so do those
    asked for after the clock was set back: each id is above all before. Threads may share one source.

    Args:
        random_bytes: Gives that many random bytes.
    """

    _ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

    def __init__(self, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._random_bytes = random_bytes
        self._at_ms, self._value = -1, 0
        self._lock = threading.Lock()

    def new(self, at_ms: int) -> str:
        """The next id, 26 characters.

        Args:
            at_ms: Milliseconds since 1970-01-01 UTC.

        Raises:
            ValueError: The time needs more than 48 bits, or is before 1970.
        """
        if not 0 <= at_ms < 1 << 48:
            msg = f"expected milliseconds since 1970 in 48 bits, received {at_ms}"
            raise ValueError(msg)
        with self._lock:
            if at_ms <= self._at_ms:
                self._value += 1
            else:
                self._at_ms, self._value = at_ms, at_ms << 80 | int.from_bytes(self._random_bytes(10), "big")
            return "".join(self._ALPHABET[self._value >> shift & 31] for shift in range(125, -5, -5))


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one event from every other: its id, and when it was made by every clock there is."""

    event_id: str
    time: str
    time_quality: TimeQuality
    boot_id: str
    monotonic_ns: int


class Stamper:
    """Gives each new event its stamp; threads may share one.

    Args:
        boot_id: The boot that the monotonic clock counts in.
        wall: Seconds since 1970-01-01 UTC.
        monotonic_ns: The clock that never jumps.
        time_quality: Whether the wall clock can be trusted at this moment.
        random_bytes: Source of the ids' random part.
    """

    def __init__(
        self,
        boot_id: str,
        *,
        wall: Callable[[], float] = time.time,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        time_quality: Callable[[], TimeQuality] = clock.time_quality,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._boot_id, self._wall, self._monotonic_ns, self._time_quality = boot_id, wall, monotonic_ns, time_quality
        self._ulids = UlidSource(random_bytes)

    def new_id(self) -> str:
        """The id of an event of this moment."""
        return self._ulids.new(max(0, int(self._wall() * 1000)))

    def __call__(self) -> Stamp:
        """A stamp of this moment."""
        now_s = self._wall()
        return Stamp(
            event_id=self._ulids.new(max(0, int(now_s * 1000))),
            time=format_time(now_s),
            time_quality=self._time_quality(),
            boot_id=self._boot_id,
            monotonic_ns=self._monotonic_ns(),
        )
