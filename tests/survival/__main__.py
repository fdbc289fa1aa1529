"""`make survive`: every scenario many times at random points of failure, and one table of what became of the alarms."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from survival.ledger import Counts
from survival.run import Run
from survival.scenarios import SCENARIOS

RUNS = 60
COLUMNS = ("runs", "kills", "raised", "received", "lost", "duplicated", "unexplained", "reordered", "given_up")


def main() -> int:
    options = argparse.ArgumentParser(prog="make survive", description=__doc__)
    options.add_argument("--runs", type=int, default=RUNS, help="runs of each scenario")
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="of the moments")
    options.add_argument("--jobs", type=int, default=3, help="runs at a time: most of them wait most of the time")
    options.add_argument("--only", nargs="+", choices=sorted(SCENARIOS), default=list(SCENARIOS))
    given = options.parse_args()
    print(f"seed {given.seed}", flush=True)
    begun_s, totals, failed = time.monotonic(), dict.fromkeys(given.only, Counts()), []
    with ProcessPoolExecutor(given.jobs) as pool:
        running = {
            pool.submit(one, name, f"{given.seed}-{name}-{number}"): (name, number)
            for number in range(given.runs)
            for name in given.only
        }
        for done, future in enumerate(as_completed(running), 1):
            name, number = running[future]
            try:
                counts = future.result()
            except Exception as error:  # noqa: BLE001 (whatever it was, the others go on)
                failed.append(f"{name}, run {number}: {error}")
                continue
            totals[name] += counts
            if counts.lost or counts.unexplained or counts.reordered:
                failed.append(f"{name}, run {number}: {counts}")
            if done % 20 == 0:
                print(f"{done} of {len(running)} runs, {time.monotonic() - begun_s:.0f} s", file=sys.stderr, flush=True)
    print(table(totals))
    print(f"{time.monotonic() - begun_s:.0f} s")
    for line in failed:
        print(line)
    return 1 if failed else 0


def one(name: str, seed: str) -> Counts:
    """The numbers of one run."""
    with tempfile.TemporaryDirectory(prefix="edge-vae-survive-") as folder:
        run = Run(Path(folder), random.Random(seed))
        try:
            SCENARIOS[name](run)
            return run.settle()
        finally:
            run.close()


def table(totals: dict[str, Counts]) -> str:
    rows = [*totals.items(), ("all", sum(totals.values(), Counts()))]
    lines = ["| scenario | " + " | ".join(column.replace("_", " ") for column in COLUMNS) + " |"]
    lines.append("|---" * (1 + len(COLUMNS)) + "|")
    lines += [f"| {name} | " + " | ".join(str(getattr(counts, c)) for c in COLUMNS) + " |" for name, counts in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
