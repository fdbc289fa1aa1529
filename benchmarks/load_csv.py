"""How fast a large CSV becomes sessions of numbers: `python benchmarks/load_csv.py [--megabytes N] [--json]`."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from edge_vae_train.data import read

CHANNELS = 8
ROWS_AT_ONCE = 50_000


def write(path: Path, megabytes: float) -> int:
    """Rows written to a CSV of at least that size: a time and eight readings in each."""
    generator = np.random.default_rng(0)
    names = ",".join(f"channel{i}" for i in range(CHANNELS))
    rows = 0
    with path.open("w") as file:
        file.write(f"time,{names}\n")
        while file.tell() < megabytes * 1e6:
            times = np.datetime_as_string(np.datetime64("2026-01-01T00:00:00") + np.arange(rows, rows + ROWS_AT_ONCE))
            values = generator.normal(size=(ROWS_AT_ONCE, CHANNELS))
            file.writelines(
                f"{at},{','.join(f'{v:.6f}' for v in row)}\n" for at, row in zip(times, values.tolist(), strict=True)
            )
            rows += ROWS_AT_ONCE
    return rows


def main() -> None:
    """Write, load, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=100.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.csv"
        rows = write(path, options.megabytes)
        megabytes = path.stat().st_size / 1e6
        began = time.perf_counter()
        recording = read([path])
        seconds = time.perf_counter() - began
    figures = {"megabytes": round(megabytes, 1), "rows": recording.samples, "seconds": round(seconds, 2)}
    if recording.samples != rows:
        msg = f"expected {rows} rows, received {recording.samples}"
        raise RuntimeError(msg)
    if options.json:
        print(json.dumps(figures))
    else:
        print(f"{megabytes:.0f} MB of CSV, {rows} rows: {seconds:.2f} s, {megabytes / seconds:.0f} MB/s")


if __name__ == "__main__":
    main()
