"""The most multiply-accumulates a second that one core of this machine does, measured by a small C program."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edge_vae.errors import EdgeVaeError

__all__ = ["Ceiling", "best", "ceilings"]

SOURCE = Path(__file__).with_name("ceiling.c")
X86 = ("x86_64", "AMD64")


@dataclass(frozen=True)
class Ceiling:
    """Which instructions, `int8` or `float32`, and multiply-accumulates a second."""

    instructions: str
    type: str
    macs_per_s: float


def ceilings(core: int) -> list[Ceiling]:
    """The rate of each instruction that this core has for multiplying and adding.

    Raises:
        EdgeVaeError: The processor is none of x86-64, or there is no gcc, or it cannot compile the program.
    """
    if platform.machine() not in X86:
        what = "the ceiling of a core was not measured"
        raise EdgeVaeError(what, expected="an x86-64 processor", received=platform.machine())
    if (compiler := shutil.which("gcc")) is None:
        what, action = "the ceiling of a core was not measured", "Install it with: sudo apt-get install gcc"
        raise EdgeVaeError(what, expected="the program gcc", received="none", action=action)
    with tempfile.TemporaryDirectory(prefix="edge-vae-bench-") as folder:
        program = Path(folder) / "ceiling"
        built = subprocess.run(
            [compiler, "-O2", "-march=native", "-o", str(program), str(SOURCE)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if built.returncode:
            received = (built.stderr.strip().splitlines() or ["nothing"])[-1]
            raise EdgeVaeError("gcc cannot compile ceiling.c", expected="a program", received=received)
        ran = subprocess.run(
            [str(program)], stdout=subprocess.PIPE, check=True, preexec_fn=lambda: os.sched_setaffinity(0, {core})
        )
    return [Ceiling(**row) for row in json.loads(ran.stdout)]


def best(rows: list[Ceiling], kind: str) -> Ceiling | None:
    """The fastest of a type; None where none was measured."""
    return max((row for row in rows if row.type == kind), key=lambda row: row.macs_per_s, default=None)
