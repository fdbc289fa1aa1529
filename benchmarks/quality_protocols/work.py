"""Tasks on two worker processes: what is cached is not done again, and an interruption ends them all."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from edge_vae.errors import EdgeVaeError
from quality_protocols.cache import Cache, Key, Record
from quality_protocols.registry import BENCHMARKS
from quality_protocols.task import Benchmark, Outcome, Points, Result, Task

if TYPE_CHECKING:
    from quality_protocols.methods import Windows

__all__ = ["WORKERS", "Failure", "Unit", "perform", "run", "single_threaded"]

WORKERS = 2

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Unit:
    """All methods of one task with one seed, which share its windows."""

    benchmark: str
    task: str
    seed: int
    methods: tuple[str, ...]

    def key(self, method: str) -> Key:
        """Where the result of a method is kept."""
        return Key(self.benchmark, self.task, self.seed, method)


@dataclass(frozen=True, slots=True)
class Failure:
    """A method that gave no result on a task; it is tried again the next time."""

    unit: Unit
    method: str
    reason: str

    def line(self) -> str:
        """One line for people."""
        unit = self.unit
        return f"{unit.benchmark} {unit.task} seed {unit.seed}, {self.method}: {self.reason}"


def single_threaded() -> None:
    """Have the processes that are started from here compute on one core each, and TensorFlow keep quiet."""
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def run(units: Sequence[Unit], data: Path, kept: Cache, *, say: Say) -> list[Failure]:
    """Perform what the cache lacks, and tell of each unit once it is done.

    Raises:
        KeyboardInterrupt: After the workers were ended; what is in the cache stays whole.
    """
    missing = [unit for unit in units if any(kept.read(unit.key(method)) is None for method in unit.methods)]
    say(f"{len(units) - len(missing)} of {len(units)} tasks are in {kept.folder}, {len(missing)} to do")
    if not missing:
        return []
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(min(WORKERS, len(missing)), mp_context=context, initializer=_ready)
    failures: list[Failure] = []
    try:
        futures = {executor.submit(perform, unit, data, kept): unit for unit in missing}
        for line, failed in _told(futures):
            failures += failed
            say(line)
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)
    return failures


def _ready() -> None:
    """Leave Ctrl-C to the main process, its standard output to the one document, and standard error to progress."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)


def _told(futures: dict[Future[list[Failure]], Unit]) -> Iterator[tuple[str, list[Failure]]]:
    began = time.monotonic()
    for done, future in enumerate(as_completed(futures), 1):
        failed, unit = future.result(), futures[future]
        left = (time.monotonic() - began) / done * (len(futures) - done)
        line = f"[{done}/{len(futures)}] {unit.benchmark} {unit.task} seed {unit.seed}, about {left / 60:.0f} min left"
        yield "\n".join([line, *(f"  failed: {failure.line()}" for failure in failed)]), failed


def perform(unit: Unit, data: Path, kept: Cache) -> list[Failure]:
    """Do the methods of a unit that the cache lacks, and keep each as soon as it is done."""
    from quality_protocols.methods import windows  # brings TensorFlow, which the main process never needs

    benchmark = BENCHMARKS[unit.benchmark]
    task = benchmark.load(data, unit.task, unit.seed)
    seen = cache(lambda: windows(task))
    return [
        failure
        for method in unit.methods
        if kept.read(unit.key(method)) is None and (failure := _one(unit, method, benchmark, task, seen, kept))
    ]


def _one(
    unit: Unit, method: str, benchmark: Benchmark, task: Task, seen: Callable[[], Windows], kept: Cache
) -> Failure | None:
    from quality_protocols.methods import outcomes

    began = time.monotonic()
    try:
        found = outcomes(method, task, seed=unit.seed, seen=seen)
        rows = {name: _result(benchmark, task, outcome) for name, outcome in found.items()}
    except EdgeVaeError as error:
        return Failure(unit, method, str(error))
    except Exception as error:  # noqa: BLE001 (a method that breaks on one task must not end the other hour's work)
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Failure(unit, method, f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})")
    kept.write(unit.key(method), Record(rows, round(time.monotonic() - began, 2)))
    return None


def _result(benchmark: Benchmark, task: Task, outcome: Outcome) -> Result:
    figures = benchmark.measure(task, outcome)
    if not benchmark.pooled:
        return Result(figures, outcome.threshold, fell_back=outcome.fell_back)
    points = Points.of(task, outcome)
    return Result(figures, outcome.threshold, points.labels, points.scores, outcome.fell_back)
