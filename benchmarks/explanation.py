"""How often an explained channel is the faulty one: `python benchmarks/explanation.py --data FOLDER [--only NAME ...]`.

A model of each set is trained and converted with the configuration of `quality.py`. Into windows that are normal, that
neither training nor the choice of a method has seen, and that the agent's own stream has cut, faults of 2 to 4 sigmas
are put on one channel each, every kind but a stuck one. Three rates are told for each method: of the faults that raise
an alarm (the window passes the threshold, and did not before), which are those that an explanation is asked for; of
those that the score sees (it passes what one in twenty of these normal windows passes, and did not before), as there
are few alarms where little data made a high threshold; and of all, many of which leave no trace (the gain of a channel
at rest is none). `chosen` is the method that the conversion chose, without these windows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge_vae.errors import EdgeVaeError
from edge_vae.explain import METHODS, explain
from edge_vae.stream import Stream
from edge_vae_train.data import Recording, Session
from edge_vae_train.recording import CHANNELS, run
from edge_vae_train.rig import Rig
from quality_protocols.policy import Policy
from quality_protocols.registry import BENCHMARKS, DATA_HELP, data_folder, task_names
from quality_protocols.task import Task, session
from quality_protocols.work import single_threaded

if TYPE_CHECKING:
    from edge_vae.detector import Detector
    from edge_vae_train.prepare import WindowSet

SEED = 0
MAX_FAULTS = 600
MAX_IMPUTATIONS = 12_000
"""A fault costs one for each channel."""
SKAB_EVERY = 9
"""Four of the 34 experiments: each has a model of its own."""
RIG_RATE_HZ, RIG_ROWS = 10.0, 12_000


Array = NDArray[Any]
Rate = float | None
"""A part from 0 to 1; None where there is nothing that it could be a part of."""


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured on a set, its models pooled.

    Attributes:
        name: Of the set.
        chosen: The method of each model.
        faults: How many were tried.
        alarms: How many raise an alarm.
        seen: How many the score sees.
        of_alarms: For each method, and for the chosen one, the part of the alarms whose channel came first.
        of_seen: The same of the faults that are seen.
        of_all: The same of all faults.
        kinds: For each kind of fault how many are seen, and the part whose channel came first by what was chosen.
        off: Median distance in sigmas between the mean expected of the faulty channel and its mean before the fault,
            of the faults that are seen.
        moved: The same of the mean that was measured: how far these faults move it.
    """

    name: str
    chosen: tuple[str, ...]
    faults: int
    alarms: int
    seen: int
    of_alarms: dict[str, Rate]
    of_seen: dict[str, Rate]
    of_all: dict[str, Rate]
    kinds: dict[str, tuple[int, Rate]]
    off: Rate
    moved: Rate


def main() -> int:
    """Exit status: 0 done, 1 the data is missing or a model cannot be trained."""
    single_threaded()
    options = parser().parse_args()
    rows = []
    try:
        for name in options.only:
            print(f"{name} ...", file=sys.stderr, flush=True)
            rows.append(measure(name, SETS[name](options.data)))
    except EdgeVaeError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps([asdict(row) for row in rows]) if options.json else table(rows))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--data", type=Path, default=data_folder(), help=DATA_HELP)
    names = list(SETS)
    found.add_argument("--only", nargs="+", choices=names, metavar="NAME", default=names, help=", ".join(names))
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


def skab(data: Path) -> list[Task]:
    """Some of the experiments."""
    return _loaded(data, "skab")[::SKAB_EVERY]


def milling(data: Path) -> list[Task]:
    """The honest split, of whose tests only the cuts with a healthy tool are normal."""
    [task] = _loaded(data, "milling-honest")
    classes = pd.read_csv(data / "milling" / "labels.csv").set_index("cut_no")["tool_class"]
    healthy = tuple(test for test in task.tests if classes[int(test.name.removeprefix("cut "))] == 0)
    return [replace(task, tests=healthy)]


def _loaded(data: Path, name: str) -> list[Task]:
    return [BENCHMARKS[name].load(data, task, SEED) for task in task_names(data, name)]


def rig(data: Path) -> list[Task]:  # noqa: ARG001 (one signature)
    """The simulated pump rig: three healthy runs to learn from, a fourth for the faults; default window and stride."""
    policy = Policy(length=64, stride=8, score_stride=8, rate_hz=RIG_RATE_HZ, reason="the defaults")
    runs = [run(Rig(), rows=RIG_ROWS, rate_hz=RIG_RATE_HZ, seed=[SEED, 0, i], fault="") for i in range(4)]
    sessions = [session(f"run {i}", each.values, each.label > 0) for i, each in enumerate(runs)]
    training = Recording(tuple(sessions[:3]), tuple(channel.name for channel in CHANNELS), RIG_RATE_HZ)
    return [Task(name="rig", training=training, tests=(sessions[3],), policy=policy)]


SETS: dict[str, Callable[[Path], list[Task]]] = {
    "skab": skab,
    "milling": milling,
    "fan": partial(_loaded, name="fan"),
    "tep": partial(_loaded, name="tep"),
    "rig": rig,
}


def measure(name: str, tasks: Sequence[Task]) -> Row:
    """The figures of a set."""
    tried = [_tried(task) for task in tasks]
    alarms, seen, kinds = (np.concatenate([getattr(one, f) for one in tried]) for f in ("alarms", "seen", "kinds"))
    first = {method: np.concatenate([one.first[method] for one in tried]) for method in tried[0].first}
    off, moved = (np.concatenate([getattr(one, field) for one in tried])[seen] for field in ("off", "moved"))
    return Row(
        name=name,
        chosen=tuple(one.chosen for one in tried),
        faults=len(seen),
        alarms=int(alarms.sum()),
        seen=int(seen.sum()),
        of_alarms={method: _part(hit[alarms]) for method, hit in first.items()},
        of_seen={method: _part(hit[seen]) for method, hit in first.items()},
        of_all={method: _part(hit) for method, hit in first.items()},
        kinds={
            str(kind): (int((of_kind := seen & (kinds == kind)).sum()), _part(first["chosen"][of_kind]))
            for kind in np.unique(kinds)
        },
        off=round(float(np.median(off)), 2) if len(off) else None,
        moved=round(float(np.median(moved)), 2) if len(moved) else None,
    )


def _part(hits: Array) -> Rate:
    return round(float(hits.mean()), 3) if len(hits) else None


@dataclass(frozen=True, slots=True)
class _Tried:
    """The faults of one model (faults,): whether each method put the channel first, and the fields of `Row`."""

    chosen: str
    first: dict[str, Array]
    alarms: Array
    seen: Array
    kinds: Array
    off: Array
    moved: Array


def _tried(task: Task) -> _Tried:
    from edge_vae_converters.conversion import convert  # brings TensorFlow, after its threads were set
    from edge_vae_train.explaining import count_hits, single_channel_faults
    from edge_vae_train.scoring import subject
    from edge_vae_train.training import train

    with TemporaryDirectory(prefix="edge-vae-explanation-") as folder:
        trained, _ = train(task.training, task.policy.settings(seed=SEED), Path(folder) / "run", progress=_silent)
        bundle = Path(folder) / "set.evb"
        convert(trained, name=task.name).bundle.write(bundle)
        detector = subject(bundle).detector
    count = min(MAX_FAULTS, MAX_IMPUTATIONS // len(task.training.channels))
    faults = single_channel_faults(_normal(task, detector), count=count, seed=SEED)
    explanation = detector.manifest.explanation
    hits = count_hits(detector, explanation, faults)
    faulty = faults.faulty.windows.astype(np.float64)
    expected = explain(detector, faulty, faults.faulty.conditions, explanation).expected
    of_fault = np.arange(count), faults.channels
    before, after = (windows.mean(axis=1)[of_fault] for windows in (faults.normal.windows, faulty))
    first = {method: hit.first for method, hit in hits.items()}
    return _Tried(
        explanation.method,
        first | {"chosen": first[explanation.method]},
        hits[explanation.method].passes(detector.manifest.threshold.value),
        hits[explanation.method].are_seen,
        faults.faults,
        np.abs(expected[of_fault] - before),
        np.abs(after - before),
    )


def _normal(task: Task, detector: Detector) -> WindowSet:
    """The windows of the test sessions up to their first labelled row, as the agent's stream makes them."""
    from edge_vae_train.prepare import WindowSet

    stream, found = Stream(detector, stride=task.policy.score_stride), []
    for test in task.tests:
        stream.start_session()
        rows = stream.push(*_before_labels(test)).rows
        wanted = np.flatnonzero(rows >= task.first_row + task.policy.length - 1).tolist()
        found += [WindowSet(scaled.astype(np.float32), mode) for scaled, mode, _ in map(stream.window, wanted)]
    return WindowSet.joined(found)


def _before_labels(test: Session) -> tuple[Array, Array]:
    labels = np.empty(0) if test.labels is None else np.flatnonzero(test.labels)
    end = int(labels[0]) if len(labels) else len(test.values)
    return test.columns[:end], test.times[:end]


def _silent(view: str, epoch: int, epochs: int, loss: float, held_out_loss: float) -> None:
    """Progress is told by set."""


def table(rows: Sequence[Row]) -> str:
    """The figures for people."""
    methods = ("chosen", *METHODS)
    lines = [
        "Part of the faults whose channel came first, in %: of those that raise an alarm / the score sees / of all",
        f"{'set':<9}{'faults':>7}{'alarms':>7}{'seen':>6}" + "".join(f"{method:>22}" for method in methods),
    ]
    for row in rows:
        of = (row.of_alarms, row.of_seen, row.of_all)
        cells = [" / ".join(_percent(rates[method]) for rates in of) for method in methods]
        counts = f"{row.name:<9}{row.faults:>7}{row.alarms:>7}{row.seen:>6}"
        lines.append(counts + "".join(f"{cell:>22}" for cell in cells))
    lines += [
        "",
        f"{'set':<10}chosen; median error of the mean expected of the faulty channel (which the fault moved by)",
    ]
    lines += [f"{row.name:<10}{', '.join(row.chosen)}; {row.off} ({row.moved}) sigma" for row in rows]
    lines += ["", f"{'chosen, of seen (how many)':<28}" + "".join(f"{row.name:>14}" for row in rows)]
    for kind in sorted({kind for row in rows for kind in row.kinds}):
        cells = [f"{_percent(rate)} ({seen})" for seen, rate in (row.kinds.get(kind, (0, None)) for row in rows)]
        lines.append(f"{kind:<28}" + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)


def _percent(rate: Rate) -> str:
    return "-" if rate is None else f"{100 * rate:.1f}"


if __name__ == "__main__":
    sys.exit(main())
