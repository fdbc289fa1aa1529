"""False alarms achieved against wished: `python benchmarks/false_alarms.py [--data FOLDER] [--seeds N] [--json]`.

Models are trained with default settings, converted, and score days of normal data through the agent's own path. A
false alarm is one that the agent raises: k of the last n windows above the threshold, until it is cleared. A wish is
judged where at least 10 alarms are expected, and not more than one in seven window lengths.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edge_vae.alarm import Alarm, AlarmRules, Change
from edge_vae.bundle import Bundle
from edge_vae.detector import Explainer, load
from edge_vae.stream import Scored, Stream
from edge_vae.threshold import SECONDS_PER_DAY, Threshold
from edge_vae_converters.conversion import convert
from edge_vae_train.judge import judge
from edge_vae_train.prepare import WindowSet
from edge_vae_train.run_folder import Run
from edge_vae_train.scoring import score_session
from edge_vae_train.settings import Settings, TrainingSettings
from edge_vae_train.training import train
from quality_protocols.normal_recordings import SIMULATED, Normal, real, simulated
from quality_protocols.registry import DATA_HELP, data_folder
from quality_protocols.work import single_threaded

WISHES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
EXPECTED = 10.0
"""A promise is judged where at least as many alarms are expected."""
MOST_A_WINDOW = 0.15
"""And at most as many in the time of one window: alarms that are wished closer than windows overlap are one."""
FLOOR, GOAL = (1 / 3, 3.0), (0.5, 2.0)


@dataclass(frozen=True)
class Counted:
    """Alarms of one machine at the threshold of one wish, and at the ends of what is known of that threshold."""

    wished_a_day: float
    threshold: Threshold
    days: float
    raised: int
    at_low: int
    at_high: int


@dataclass(frozen=True)
class Figures:
    """One line: alarms a machine, or of all machines of a group, raised and expected.

    `least` and `most` are the ratios at the highest and the lowest threshold that the bundle's uncertainty spans.
    """

    machine: str
    seed: int
    wished_a_day: float
    kind: str
    days: float
    expected: float
    raised: int
    ratio: float
    least: float
    most: float


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, default=data_folder(), help=f"{DATA_HELP}; without it all are simulated")
    names = [*SIMULATED, "real"]
    options.add_argument("--only", nargs="+", choices=names, metavar="NAME", default=names, help=", ".join(names))
    options.add_argument("--seeds", type=int, default=2, metavar="N", help="seeds of each simulated machine [2]")
    options.add_argument("--json", action="store_true", help="print one JSON document")
    given = options.parse_args()
    single_threaded()
    rows = []
    for row in measured(machines(given.only, given.seeds, given.data)):
        rows.append(row)
        if not given.json:
            print(line(row) if len(rows) > 1 else f"{HEADING}\n{line(row)}", flush=True)
    if given.json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "within": within(rows)}))
    else:
        print(", ".join(f"{name} {share}" for name, share in within(rows).items()))


HEADING = (
    f"{'machine':<11}{'seed':>4}{'wished':>8}  {'kind':<7}{'days':>7}{'expected':>9}{'raised':>7}{'ratio':>7}"
    "  low..high"
)


def line(row: Figures) -> str:
    """The row for people."""
    return (
        f"{row.machine:<11}{row.seed:>4}{row.wished_a_day:>8g}  {row.kind:<7}{row.days:>7.2f}{row.expected:>9.1f}"
        f"{row.raised:>7}{row.ratio:>7.2f}  {row.least:.2f}..{row.most:.2f}"
    )


def within(rows: Iterable[Figures]) -> dict[str, str]:
    """How many of the rows lie within the goal and the floor."""
    ratios = [row.ratio for row in rows]
    return {
        f"{name} {low:.2g}-{high:g}": f"{sum(low <= ratio <= high for ratio in ratios)} of {len(ratios)}"
        for name, (low, high) in (("goal", GOAL), ("floor", FLOOR))
    }


def machines(names: Iterable[str], seeds: int, data: Path) -> Iterator[Normal]:
    """The chosen machines, made one by one; those of a group follow each other."""
    for name in names:
        if name == "real":
            yield from real(data)
        else:
            yield from (simulated(name, seed) for seed in range(seeds))


def measured(normals: Iterable[Normal]) -> Iterator[Figures]:
    """The figures of every wish that can be judged, machine by machine; those of a group are added up."""
    for (group, seed), some in groupby(normals, key=lambda normal: (normal.group, normal.seed)):
        counts = [one for normal in some for one in counted(normal)]
        for wish in WISHES:
            chosen = [one for one in counts if one.wished_a_day == wish]
            if sum(one.days for one in chosen) * wish >= EXPECTED:
                yield added(group, seed, chosen)


def added(group: str, seed: int, counts: list[Counted]) -> Figures:
    """The alarms of all machines of a group at one wish."""
    wish, days = counts[0].wished_a_day, sum(one.days for one in counts)
    expected = wish * days
    raised, high, low = (sum(getattr(one, name) for one in counts) for name in ("raised", "at_high", "at_low"))
    kinds = "/".join(sorted({one.threshold.kind for one in counts}))
    ratios = [round(count / expected, 3) for count in (raised, min(high, raised), max(low, raised))]
    return Figures(group, seed, wish, kinds, round(days, 3), round(expected, 1), raised, *ratios)


def counted(normal: Normal) -> Iterator[Counted]:
    """What the machine's model raises at each wish, after training and conversion."""
    settings = Settings(window=normal.window, training=TrainingSettings(seed=normal.seed))
    with TemporaryDirectory(prefix="edge-vae-false-alarms-") as folder:
        run, _ = train(normal.training, settings, Path(folder) / "run", progress=lambda *_: None)
        file = Path(folder) / "machine.evb"
        convert(run, name=normal.group).bundle.write(file)
        detector = load(Bundle.read(file), path=str(file))
        stream = Stream(detector)
        scored = [score_session(stream, test) for test in normal.tests]
        stride_s = normal.window.stride / normal.training.rate_hz
        days = sum(len(one.score) for one in scored) * stride_s / SECONDS_PER_DAY
        window_days = normal.window.length / normal.training.rate_hz / SECONDS_PER_DAY
        for wish, threshold in thresholds(run, detector, most=MOST_A_WINDOW / window_days):
            rules = detector.manifest.alarm
            levels = (threshold.value, threshold.low, threshold.high)
            yield Counted(wish, threshold, days, *(raised(scored, level, rules) for level in levels))


def thresholds(run: Run, detector: Explainer, *, most: float) -> Iterator[tuple[float, Threshold]]:
    """The thresholds that `convert` would give these very models for each wish of at most so many alarms a day."""
    held_out = WindowSet.joined(run.held_out)
    seen = detector.see(held_out.windows.astype(np.float64), held_out.conditions)
    for wish in WISHES:
        if wish <= most:
            yield wish, judge(run, seen, wish).threshold


def raised(sessions: Iterable[Scored], threshold: float, rules: AlarmRules) -> int:
    """Alarms that the agent raises in all sessions."""
    total = 0
    for one in sessions:
        alarm = Alarm(rules, threshold=threshold)
        for score, after_break in zip(one.score.tolist(), one.after_break.tolist(), strict=True):
            if after_break:
                alarm.interrupt()
            total += alarm.push(score) is Change.RAISED
    return total


if __name__ == "__main__":
    main()
