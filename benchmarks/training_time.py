"""How long `edge-vae train` takes, and its memory: `python benchmarks/training_time.py [--windows N] [--json]`.

The simulated rig runs until it has given so many training windows, and default settings train on them, with the models
of the default score. The stages are timed within that very process; `start` is what comes before, between and after
them: the interpreter, TensorFlow, the printing.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

LIMIT_S, LIMIT_WINDOWS = 120.0, 100_000
"""What is promised for two cores."""
SESSIONS = 12
RATE_HZ = 10.0
LENGTH, STRIDE = 64, 8
TRAINED_ON = 0.755
"""Part of all windows that is left when every fifth block and its neighbourhood is held out."""
STAGES = (
    ("edge_vae_train.data", "read", "reading"),
    ("edge_vae_train.training", "_prepared", "windows"),
    ("edge_vae_train.training", "fit_view", "view {0}"),
    ("edge_vae_train.lesson:Lesson", "learned", "model {1.name}"),
    ("edge_vae_train.training", "closed_forms", "PCA, covariance"),
    ("edge_vae_train.run_folder:Run", "write", "writing"),
    ("edge_vae_train.plots", "loss", "picture"),
)
"""Module, or module and class; function; and what its time is called, from its arguments."""


@dataclass(frozen=True)
class Figures:
    """What was measured: seconds by stage and in all, peak memory, and the machine with its load before and after."""

    windows: int
    held_out: int
    channels: int
    seconds: dict[str, float]
    total_s: float
    cpu_s: float
    peak_mib: float
    cores: int
    machine: str
    load: tuple[float, float]


def main() -> None:
    if sys.argv[1:2] == ["--stages"]:
        staged(Path(sys.argv[2]), sys.argv[3:])
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--windows", type=int, default=LIMIT_WINDOWS, help="training windows [default: 100000]")
    options.add_argument("--channels", type=int, default=7, help="the rig's 7, fewer, or repeated later in time [7]")
    options.add_argument("--json", action="store_true", help="print one JSON document")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="edge-vae-bench-") as name:
        data = generated(Path(name) / "rig", windows=chosen.windows, channels=chosen.channels)
        figures = measured(data, Path(name) / "run")
    if chosen.json:
        print(json.dumps(asdict(figures)))
        return
    for stage, seconds in {**figures.seconds, "in all": figures.total_s, "CPU time": figures.cpu_s}.items():
        print(f"{stage:<18}{seconds:>8.1f} s")
    print(f"{'peak memory':<18}{figures.peak_mib:>8.0f} MiB")
    print(
        f"{figures.windows} windows, {figures.held_out} held out, of {LENGTH} samples and {figures.channels} channels"
    )
    print(f"{figures.cores} cores, {figures.machine}; load {figures.load[0]:.1f} before, {figures.load[1]:.1f} after")
    print(f"at most {LIMIT_S:.0f} s for {LIMIT_WINDOWS} windows on two cores that do nothing else")


def generated(folder: Path, *, windows: int, channels: int) -> Path:
    """The folder of healthy recordings with at least so many training windows."""
    from edge_vae_train.simulate import simulate

    rows = int(windows / TRAINED_ON / SESSIONS * STRIDE) + 2 * LENGTH
    simulate(folder, healthy=SESSIONS, faults=(), minutes=rows / RATE_HZ / 60.0, rate_hz=RATE_HZ)
    for file in sorted((folder / "healthy").iterdir()):
        widened(pd.read_csv(file), channels).to_csv(file, index=False)
    return folder / "healthy"


def widened(table: pd.DataFrame, channels: int) -> pd.DataFrame:
    """The table with so many channels: those beyond the rig's are its own at other times."""
    time_column, *names = map(str, table.columns)
    wide: pd.DataFrame = table[[time_column]].copy()
    for i in range(channels):
        turn, name = i // len(names), names[i % len(names)]
        wide[f"{name}_{turn}" if turn else name] = np.roll(table[name].to_numpy(), 997 * turn)
    return wide


def measured(data: Path, run: Path) -> Figures:
    """The figures of one training in a process of its own."""
    before, times = os.getloadavg()[0], run.with_name("times.json")
    command = [sys.executable, __file__, "--stages", str(times), "train", str(data), "-o", str(run), "--json"]
    began_s = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    total_s = time.monotonic() - began_s
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    training, seconds = json.loads(done.stdout)["training"], json.loads(times.read_text())
    record = json.loads((run / "run.json").read_text())
    return Figures(
        windows=training["windows"],
        held_out=training["held_out_windows"],
        channels=len(record["channels"]),
        seconds={"start": round(total_s - sum(seconds.values()), 1), **seconds},
        total_s=round(total_s, 1),
        cpu_s=round(used.ru_utime + used.ru_stime, 1),
        peak_mib=round(used.ru_maxrss / 1024, 0),
        cores=len(os.sched_getaffinity(0)),
        machine=f"{processor()}, Python {platform.python_version()}",
        load=(round(before, 1), round(os.getloadavg()[0], 1)),
    )


def processor() -> str:
    """The name of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def staged(times: Path, arguments: list[str]) -> None:
    """Run `edge-vae` with these arguments and write down the seconds of each stage."""
    from edge_vae.cli import run
    from edge_vae_train.cli import quiet_tensorflow

    seconds: dict[str, float] = {}
    quiet_tensorflow()
    for where, function, name in STAGES:
        module, _, owner = where.partition(":")
        holder = importlib.import_module(module)
        holder = getattr(holder, owner) if owner else holder
        setattr(holder, function, timed(getattr(holder, function), name, seconds))
    status = run(arguments)
    times.write_text(json.dumps({name: round(took, 1) for name, took in seconds.items()}))
    sys.exit(status)


def timed(function: Callable[..., Any], name: str, seconds: dict[str, float]) -> Callable[..., Any]:
    """The same function, whose time is added to `seconds` under its name."""

    @functools.wraps(function)
    def wrapper(*given: Any, **named: Any) -> Any:
        began_s, called = time.monotonic(), name.format(*given)
        try:
            return function(*given, **named)
        finally:
            seconds[called] = seconds.get(called, 0.0) + time.monotonic() - began_s

    return wrapper


if __name__ == "__main__":
    main()
