"""How fast a bundle scores on this very device, and what it takes: `edge-vae bench`."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from edge_vae.bundle import Bundle
from edge_vae.detector import Explainer, load
from edge_vae.footprint import Footprint, footprint
from edge_vae.invoke import bare_invoke
from edge_vae.latency import INVOKE, Latency, in_turns, latencies
from edge_vae.runtime import runtime_name
from edge_vae.stream import Stream
from edge_vae.trial import Sample, decider, golden_samples, recording, stream_decider

__all__ = ["Benchmark", "Bulk", "Machine", "document", "measure", "text"]

PATH, STREAM = "window to decision", "samples to decision"
PIECE_ROWS = 8192
"""Rows that are pushed at once in bulk, as `edge-vae score` does."""
LOADED = "bundle, interpreters, golden windows scored once"
RESIDENT = "resident in a process that only loads and scores, shared libraries in full, without broker and outbox"
"""What times and memory of the start include."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """Recorded data through the stream: rows and windows of a push, and windows a second."""

    rows: int
    windows: int
    per_second: float


@dataclass(frozen=True, slots=True)
class Machine:
    """What was measured on.

    Attributes:
        processor: Its name, or the board's.
        architecture: Such as aarch64.
        processors: Those that this process may use.
        governor: Of the first one's clock; empty where the kernel tells none.
        python: Version.
        runtime: Name and version of the TFLite interpreter.
        threads: Interpreters that share windows in bulk; threads of each where the models are separate.
        load: Mean number of running processes in the last minute, before and after.
    """

    processor: str
    architecture: str
    processors: int
    governor: str
    python: str
    runtime: str
    threads: int
    load: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """All figures of a bundle on a device; `windows` says in words what was scored."""

    bundle: str
    windows: str
    machine: Machine
    latencies: tuple[Latency, ...]
    bulk: Bulk
    footprint: Footprint


def measure(file: Path, *, windows: int = 2000, seconds: float = 2.0, threads: int = 1) -> Benchmark:
    """The figures of a bundle.

    Args:
        file: The bundle.
        windows: At most so many calls of each kind are timed.
        seconds: Each kind is ended after so long, and bulk scoring is timed for so long.
        threads: Interpreters that share windows in bulk; threads of each where the models are separate.

    Raises:
        BundleError: The file is not a whole bundle, or scores here as it did nowhere.
        InferenceError: There is no interpreter, or it refuses a model.
    """
    before = os.getloadavg()[0]
    bundle = Bundle.read(file)
    detector = load(bundle, path=str(file), threads=threads)  # says best what is wrong with a bundle
    started = footprint(file)
    samples, stride = golden_samples(bundle), bundle.manifest.window.stride
    calls = {
        PATH: decider(detector, samples),
        f"{STREAM}, {stride} at a time": stream_decider(detector, samples),
        **{f"{INVOKE}{view}": bare_invoke(model, threads=threads) for view, model in bundle.models.items()},
    }
    timed = in_turns(calls, calls_each=windows, seconds=seconds)
    bulk = _bulk(detector, samples, windows=windows, seconds=seconds)
    machine = _machine(threads, load=(round(before, 2), round(os.getloadavg()[0], 2)))
    return Benchmark(str(file), _described(bundle), machine, tuple(latencies(timed)), bulk, started)


def document(benchmark: Benchmark) -> dict[str, Any]:
    """The same in plain numbers."""
    return asdict(benchmark)


def _bulk(detector: Explainer, samples: list[Sample], *, windows: int, seconds: float) -> Bulk:
    shape = detector.manifest.window
    rows = max(shape.length, min(PIECE_ROWS, shape.length + shape.stride * (windows - 1)))
    values, times = recording(detector.manifest, samples, rows=rows), np.full(rows, np.nan)
    stream = Stream(detector, baseline=0)
    pushed = len(stream.push(values, times).score)
    scored, began_s = 0, time.perf_counter()
    while not scored or time.perf_counter() - began_s < seconds:
        scored += len(stream.push(values, times).score)
    return Bulk(rows, pushed, scored / (time.perf_counter() - began_s))


def _described(bundle: Bundle) -> str:
    shape, count = bundle.manifest.window, len(bundle.golden["windows"])
    return (
        f"{shape.length} samples x {len(bundle.manifest.channels)} channels, every {shape.stride}: "
        f"the bundle's {count} golden windows, normal and faulty, in sensor units, again and again"
    )


def _machine(threads: int, *, load: tuple[float, float]) -> Machine:
    return Machine(
        processor=_processor(),
        architecture=platform.machine(),
        processors=len(os.sched_getaffinity(0)),
        governor=_read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        python=platform.python_version(),
        runtime=f"{runtime_name()} {_version(runtime_name())}",
        threads=threads,
        load=load,
    )


def _processor() -> str:
    """The board's name, or the processor's where there is no device tree."""
    named = [line.partition(":")[2].strip() for line in _read("/proc/cpuinfo").splitlines() if "model name" in line]
    return _read("/proc/device-tree/model") or (named[0] if named else "unknown processor")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").rstrip("\0\n")
    except OSError:
        return ""


def _version(module: str) -> str:
    try:
        return version(module.replace("_", "-"))
    except PackageNotFoundError:
        return "of unknown version"


def text(benchmark: Benchmark) -> str:
    """The same for people."""
    machine, started, bulk = benchmark.machine, benchmark.footprint, benchmark.bulk
    governor = f", governor {machine.governor}" if machine.governor else ""
    rows = [
        (
            latency.name, f"{latency.p50_us:.1f}", f"{latency.p99_us:.1f}",
            "-" if latency.per_invoke is None else f"{latency.per_invoke:.2f}", f"{latency.per_second:.0f}",
        )
        for latency in benchmark.latencies
    ]  # fmt: skip
    rows.append((f"bulk, {bulk.windows} windows a push", "", "", "", f"{bulk.per_second:.0f}"))
    header = ("", "p50, us", "p99, us", "x invokes", "a second")
    about_machine = (
        f"machine  {machine.processor}, {machine.architecture}, {machine.processors} processors{governor}, "
        f"Python {machine.python}, {machine.runtime}, threads {machine.threads}, "
        f"load {machine.load[0]:.2f} before, {machine.load[1]:.2f} after"
    )
    about_memory = (
        f"memory   {started.python_mib:.1f} MiB Python alone, {started.imported_mib:.1f} after the imports, "
        f"{started.loaded_mib:.1f} loaded, {started.peak_mib:.1f} at most: {RESIDENT}"
    )
    return "\n".join(
        [
            f"bundle   {benchmark.bundle}",
            f"windows  {benchmark.windows}",
            about_machine,
            *(f"{name:<36}" + "".join(f"{cell:>11}" for cell in cells) for name, *cells in [header, *rows]),
            f"start    {started.import_s:.2f} s to import, {started.load_s:.2f} s to load: {LOADED}",
            about_memory,
        ]
    )
