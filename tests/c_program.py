"""A real C compiler for tests: the files that `c_array` makes, compiled and run."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from broker import program

__all__ = ["SELF_TEST", "compiled", "run"]

SELF_TEST = (
    "edge_vae.c", "edge_vae_model.c", "edge_vae_flatbuffers.c", "edge_vae_golden.c", "edge_vae_self_test.c", "main.c",
)  # fmt: skip
STRICT = (
    "-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-Wpedantic", "-Wconversion", "-Wdouble-promotion", "-Wshadow",
)  # fmt: skip
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
"""Whatever reads or writes beside an array, or computes what C does not define, ends the program."""
DEADLINE_S = 120.0


def compiled(files: Mapping[str, bytes], folder: Path, sources: tuple[str, ...] = SELF_TEST) -> Path:
    """The program that these sources make, without a warning; a test whose sources have one fails and shows it."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    command = [program("gcc", package="gcc libc6-dev"), *STRICT, *SANITIZERS, *sources, "-lm", "-o", "program"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    return folder / "program"


def run(path: Path, *, given: str = "", status: int = 0) -> list[str]:
    """Lines that a program prints for what it is given; a status other than `status` fails the test."""
    done = subprocess.run([path], input=given, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == status, f"status {done.returncode}, expected {status}\n{done.stdout}\n{done.stderr}"
    return done.stdout.splitlines()
