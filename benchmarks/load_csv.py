"""How fast recorded data is read: `python benchmarks/load_csv.py [--mb 100] [--json]`.

A CSV file of that size is generated, and read as `edge-vae train` reads it: delimiter, times, numbers, labels, gaps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edge_vae_train.data import Columns, read

CHANNELS = 8
RATE_HZ = 10.0
RUNS = 3
"""Readings of the same file that the median is taken over; the first may still read from the disk."""
BLOCK_ROWS = 20_000
START = np.datetime64("2024-01-29T00:00:00.000", "ms")


@dataclass(frozen=True)
class Figures:
    """What was measured: the file, and the median time of reading it."""

    megabytes: float
    rows: int
    channels: int
    seconds: float
    megabytes_per_second: float


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mb", type=float, default=100.0, help="size of the file in MB [default: 100]")
    options.add_argument("--json", action="store_true", help="print one JSON document")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(generated(Path(folder) / "recording.csv", megabytes=chosen.mb))
    if chosen.json:
        print(json.dumps(asdict(figures)))
        return
    print(f"{'MB':>8}{'rows':>12}{'channels':>10}{'s':>8}{'MB/s':>8}")
    print(
        f"{figures.megabytes:>8.1f}{figures.rows:>12}{figures.channels:>10}"
        f"{figures.seconds:>8.2f}{figures.megabytes_per_second:>8.1f}"
    )


def generated(file: Path, *, megabytes: float) -> Path:
    """The file, filled with rows of a time, eight readings and a label, until it has its size."""
    generator = np.random.default_rng(0)
    period_ms = int(1000 / RATE_HZ)
    first = 0
    with file.open("w", encoding="ascii") as lines:
        lines.write("time," + ",".join(f"sensor_{i}" for i in range(CHANNELS)) + ",anomaly\n")
        while lines.tell() < megabytes * 1e6:
            steps = np.arange(first, first + BLOCK_ROWS)
            times = np.datetime_as_string(START + steps * np.timedelta64(period_ms, "ms"))
            readings = np.char.mod("%.4f", generator.normal(20.0, 3.0, (BLOCK_ROWS, CHANNELS)))
            cells = np.column_stack([times, readings, np.where(steps % 1000 < 20, "1", "0")])
            lines.write("\n".join(map(",".join, cells.tolist())) + "\n")
            first += BLOCK_ROWS
    return file


def measure(file: Path) -> Figures:
    """The figures of reading the file."""
    took = []
    for _ in range(RUNS):
        began = time.perf_counter()
        recording = read([file], Columns(label="anomaly"))
        took.append(time.perf_counter() - began)
    seconds, megabytes = statistics.median(took), file.stat().st_size / 1e6
    rate = round(megabytes / seconds, 1)
    return Figures(round(megabytes, 1), recording.samples, len(recording.channels), round(seconds, 2), rate)


if __name__ == "__main__":
    main()
