"""What this process takes of the machine, as Linux counts it."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Process", "read_process"]

PROC = Path("/proc/self")
_RESIDENT = 1
"""Second number in `statm`, in pages: proc(5)."""


@dataclass(frozen=True, slots=True)
class Process:
    """Figures of one moment; None where the kernel does not tell.

    Attributes:
        cpu_s: Processor time since the start, of all threads.
        rss_bytes: Resident memory.
        open_files: Descriptors in use.
        disk_written_bytes: What was sent to storage since the start; a card wears with it.
    """

    cpu_s: float
    rss_bytes: int | None
    open_files: int | None
    disk_written_bytes: int | None


def read_process(proc: Path = PROC) -> Process:
    """The figures of this process at this moment."""
    return Process(time.process_time(), _rss_bytes(proc), _open_files(proc), _disk_written_bytes(proc))


def _rss_bytes(proc: Path) -> int | None:
    try:
        return int((proc / "statm").read_text().split()[_RESIDENT]) * resource.getpagesize()
    except OSError:
        return None


def _open_files(proc: Path) -> int | None:
    try:
        return sum(1 for _ in (proc / "fd").iterdir()) - 1  # without the one that it is listed by
    except OSError:
        return None


def _disk_written_bytes(proc: Path) -> int | None:
    try:
        lines = (proc / "io").read_text().splitlines()
    except OSError:  # a kernel that does not account for it, or a service manager that hides it
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("write_bytes:")), None)
