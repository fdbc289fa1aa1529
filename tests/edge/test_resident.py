"""Resident memory: threads share one heap, and what start-up alone has read of libraries goes."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

ALLOCATES = """
import ctypes, sys, threading
from edge_vae.resident import keep_heap_small

if sys.argv[1] == "small":
    keep_heap_small()
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

LETS_GO = """
import numpy as np
from edge_vae.resident import let_go_of_start_up

def text_kib():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssFile"))

before = np.linalg.inv(np.diag([1.0, 2.0, 4.0])).tolist()
kib = text_kib()
let_go_of_start_up()
print(kib, text_kib(), np.linalg.inv(np.diag([1.0, 2.0, 4.0])).tolist() == before)
"""


def heaps(how: str) -> int:
    """Heaps of a process whose four threads have allocated."""
    ended = subprocess.run([sys.executable, "-c", ALLOCATES, how], capture_output=True, check=True, timeout=60)
    return ended.stdout.count(b"<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt(3) and malloc_info(3) are glibc's")
def test_threads_share_one_heap() -> None:
    assert heaps("usual") > 1
    assert heaps("small") == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_text_that_start_up_has_read_goes_and_comes_back() -> None:
    ended = subprocess.run([sys.executable, "-c", LETS_GO], capture_output=True, check=True, timeout=60, text=True)
    before, after, equal = ended.stdout.split()
    assert int(after) < 0.7 * int(before)
    assert equal == "True"
