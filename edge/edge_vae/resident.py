"""Resident memory of the agent's process, kept small."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["keep_heap_small", "let_go_of_start_up"]

_M_TRIM_THRESHOLD, _M_ARENA_MAX = -1, -8
"""Of mallopt(3)."""
_TRIM_BYTES = 1 << 16
_MADV_DONTNEED = 4
"""Of madvise(2)."""
_PROGRAM_TEXT = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) r-xp .* /", re.MULTILINE)
"""A mapping of proc_pid_maps(5) that is private, comes from a file, and cannot be written."""


def keep_heap_small() -> None:
    """One heap for all threads, whose free end goes back to the system: 0.7 MiB less for an agent with one pipeline.

    glibc gives each thread a heap of its own, and keeps 128 KiB at the end of each, for threads that allocate at the
    same time all day; an agent's wait. Another C library is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)


def let_go_of_start_up() -> None:
    """Unmap the pages of program text that were touched so far; what is still used comes back, a page fault for each.

    Imports, the relocation of libraries and the conversion of a model touch 20 MiB that an agent never looks at again:
    OpenSSL's tables, numpy's and LiteRT's registration of every operator. Nothing is lost: text is never written, and
    the kernel finds it in the file. Where there is no /proc, or no madvise, nothing is done.
    """
    madvise = getattr(ctypes.CDLL(None), "madvise", None)
    if madvise is not None:
        for start, end in _program_text():
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)


def _program_text() -> Iterator[tuple[int, int]]:
    maps = Path("/proc/self/maps")
    if maps.exists():
        yield from ((int(start, 16), int(end, 16)) for start, end in _PROGRAM_TEXT.findall(maps.read_text()))
