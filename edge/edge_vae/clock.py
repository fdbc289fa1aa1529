"""Times as text (RFC 3339, UTC), the boot they belong to, and whether the system clock can be trusted."""

from __future__ import annotations

import ctypes
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

__all__ = ["TimeQuality", "boot_id", "format_time", "kernel_synchronised", "parse_time", "time_quality"]

TimeQuality = Literal["synchronised", "unsynchronised", "corrected"]
"""Whether something disciplines the system clock; `corrected`: it began to later, and the time was set right then."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
SYNCHRONISED = Path("/run/systemd/timesync/synchronized")
"""systemd-timesyncd touches this file once it has set the clock in this boot."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_TIME = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})[Tt ](?P<minute>(?:[01]\d|2[0-3]):\d{2}):(?P<second>[0-5]\d|60)"
    r"(?:\.(?P<fraction>\d+))?(?P<offset>[Zz]|[+-]\d{2}:\d{2})?",
    re.ASCII,
)


def format_time(seconds: float) -> str:
    """RFC 3339 text in UTC with microseconds of a time in seconds since 1970-01-01 UTC.

    >>> format_time(1583020800.25)
    '2020-03-01T00:00:00.250000Z'

    Raises:
        ValueError: The time is not finite or outside the years 1 to 9999.
    """
    try:
        at = _EPOCH + timedelta(seconds=seconds)
    except (OverflowError, ValueError) as error:
        msg = f"expected seconds since 1970 in the years 1 to 9999, received {seconds}"
        raise ValueError(msg) from error
    return at.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_time(text: str) -> float:
    """Seconds since 1970-01-01 UTC of an RFC 3339 time, to the microsecond.

    A blank may stand for the `T`, a time without offset is taken as UTC, and a leap second is the second after it.

    >>> parse_time("2020-03-01T02:00:00.25+02:00")
    1583020800.25

    Raises:
        ValueError: The text is not such a time.
    """
    try:
        return _seconds(text.strip())
    except ValueError as error:
        msg = f"expected a time like 2020-03-01T00:00:00Z, received {text!r}"
        raise ValueError(msg) from error


def _seconds(text: str) -> float:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(text)
    offset = match["offset"] or "Z"
    minute = datetime.fromisoformat(f"{match['date']}T{match['minute']}" + ("+00:00" if offset in "Zz" else offset))
    fraction = int((match["fraction"] or "0")[:6].ljust(6, "0"))
    return (minute - _EPOCH + timedelta(seconds=int(match["second"]), microseconds=fraction)) / _MICROSECOND / 1e6


def boot_id(path: Path = BOOT_ID) -> str:
    """The kernel's random id of this boot; monotonic times compare only within one.

    Raises:
        OSError: The file cannot be read (not a Linux system).
    """
    return path.read_text(encoding="ascii").strip()


def time_quality(marker: Path = SYNCHRONISED) -> TimeQuality:
    """Whether the system clock is synchronised, by systemd-timesyncd or by whoever disciplines the kernel's clock.

    A clock that the kernel refuses to tell about (a system-call filter) counts as unsynchronised.
    """
    return "synchronised" if marker.exists() or kernel_synchronised() else "unsynchronised"


class Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2), as far as the answer to a plain question reaches."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("microseconds", ctypes.c_long),
        ("rest", ctypes.c_long * 32),
    )


_STA_UNSYNC = 0x0040


def kernel_synchronised() -> bool:
    """Whether the kernel says that something keeps its clock right (no STA_UNSYNC); False if it says nothing."""
    timex = read_timex()
    return timex is not None and not timex.status & _STA_UNSYNC


def read_timex() -> Timex | None:
    """What adjtimex(2) answers when nothing is to be set; None where it is refused or absent."""
    timex = Timex()
    try:
        answer = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (AttributeError, OSError):
        return None
    return timex if answer >= 0 else None
