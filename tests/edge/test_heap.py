"""The heap of the C library: threads share one."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, threading
from edge_vae.heap import keep_small

if sys.argv[1] == "small":
    keep_small()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.fopen.restype, libc.malloc_info.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]
together = threading.Barrier(4)

def allocate():
    together.wait()
    libc.malloc(50_000)
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
file = libc.fopen(b"/dev/stdout", b"w")
libc.malloc_info(0, file)
libc.fclose(file)
"""


def heaps(how: str) -> int:
    """Heaps of a process whose four threads have allocated."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, check=True, timeout=60)
    return ended.stdout.count(b"<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt(3) and malloc_info(3) are glibc's")
def test_threads_share_one_heap() -> None:
    assert heaps("usual") > 1
    assert heaps("small") == 1
