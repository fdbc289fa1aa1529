"""Where the time of one window goes: `python benchmarks/profile_path.py [BUNDLE] [--seconds S] [--json]`.

Every step from a window in sensor units to a decision is timed by itself, in turns within one process on one core, on
the golden windows of a bundle of separate models (`edge-vae convert --io int8`): scaling, what each view makes of the
window, each runtime with its bare invoke, each term of the score, and fusing. A rest is what the steps of a part do not
explain. Without a bundle that of the default score of six simulated channels is made first, in --models.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edge_vae.bundle import PCA_VIEW, Bundle
from edge_vae.detector import load
from edge_vae.errors import BundleError, EdgeVaeError
from edge_vae.invoke import bare_invoke
from edge_vae.latency import Call, in_turns
from edge_vae.principal import PrincipalRuntime
from edge_vae.runtime import TFLiteRuntime
from edge_vae.sample import FloatArray
from edge_vae.score import fuse, statistic_of
from edge_vae.trial import Sample, decider, golden_samples, stream_decider
from edge_vae.view import LIMIT_SIGMA, View
from speed_peers.arguments import positive
from speed_peers.bundles import made

WHOLE, SCALE, VIEWS, FUSED = "window to decision", "scale", "views, all together", "terms and fusing, all together"
CALLS = 20_000


@dataclass(frozen=True)
class Step:
    """A step: its median in microseconds, and the median over the turns of its part of the whole path."""

    name: str
    p50_us: float
    part: float


def main() -> int:
    """Exit status: 0 done, 1 there is nothing to profile."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("bundle", nargs="?", type=Path, help="made from the simulated rig by default")
    options.add_argument("--models", type=Path, metavar="FOLDER", help="keep what is made there, for the next time")
    options.add_argument("--seconds", type=positive, default=1.0, help="time of each step [default: 1]")
    options.add_argument("--json", action="store_true", help="print one JSON document")
    given = options.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="edge-vae-bench-") as name:
            bundle = _steps_apart(given.bundle or _default(given.models or Path(name)))
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        steps = profiled(bundle, seconds=given.seconds)
    except (EdgeVaeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps([asdict(step) for step in steps]))
        return 0
    print(f"{'':<34}{'p50, us':>10}{'of the path':>13}")
    for step in steps:
        print(f"{step.name:<34}{step.p50_us:>10.1f}{step.part:>13.1%}")
    return 0


def _default(folder: Path) -> Path:
    bundles = made(folder)
    return bundles.parts(bundles.default)


def _steps_apart(file: Path) -> Bundle:
    bundle = Bundle.read(file)
    if bundle.manifest.graph:
        what = f"{file}: one graph, whose steps cannot be timed"
        raise BundleError(
            what,
            expected="a bundle of separate models",
            received="the graph",
            action="Convert with --io int8; edge-vae bench times the graph as a whole.",
        )
    return bundle


def profiled(bundle: Bundle, *, seconds: float) -> list[Step]:
    """The steps of the path in their order, the whole one first."""
    detector, samples = load(bundle, path=bundle.manifest.name), golden_samples(bundle)
    calls: dict[str, Call] = {
        WHOLE: decider(detector, samples),
        "the same in the stream": stream_decider(detector, samples),
    }
    calls |= dict(steps_of(bundle, samples[0]))
    timed: dict[str, FloatArray] = {
        name: np.array([np.median(turn) for turn in turns])
        for name, turns in in_turns(calls, calls_each=CALLS, seconds=seconds).items()
    }
    return [_step(name, turns, timed[WHOLE]) for name, turns in with_rests(timed).items()]


def _step(name: str, turns: FloatArray, whole: FloatArray) -> Step:
    return Step(name, round(float(np.median(turns)) / 1e3, 2), round(float(np.median(turns / whole)), 4))


def with_rests(timed: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """The turns (turns,) of each step, and behind the steps of a part what they leave over of it.

    A rest is work between the steps, and that a step by itself finds its code and numbers in the caches.
    """
    views = [name for name in timed if name.endswith((": target", ": runtime"))]
    terms = [name for name in timed if name.startswith("  term ")]
    found: dict[str, FloatArray] = {}
    for name, turns in timed.items():
        if name == FUSED:
            found["  rest of the views"] = timed[VIEWS] - np.sum([timed[step] for step in views], axis=0)
        found[name] = turns
    found["  rest of fusing"] = timed[FUSED] - np.sum([timed[step] for step in terms], axis=0)
    found["rest of the path"] = timed[WHOLE] - timed[SCALE] - timed[VIEWS] - timed[FUSED]
    return found


def steps_of(bundle: Bundle, sample: Sample) -> Iterator[tuple[str, Call]]:
    """Name and call of each step, given what the steps before make of this window."""
    manifest, conditions = bundle.manifest, sample.conditions
    scaled = sample.scaler(sample.values)
    yield SCALE, repeated(sample.scaler, sample.values)
    detector = load(bundle, path=manifest.name)
    seen = detector.see(scaled, conditions)
    yield VIEWS, repeated(detector.see, scaled, conditions)
    for view in manifest.views:
        yield from view_steps(bundle, view, sample)
    yield FUSED, repeated(fuse, manifest.score, scaled, seen)
    for term in manifest.score:
        statistic = statistic_of(term, scaled, seen)
        yield f"  term {term.name}: statistic", repeated(statistic_of, term, scaled, seen)
        yield f"  term {term.name}: tail", repeated(term.tail, statistic)


def view_steps(bundle: Bundle, view: View, sample: Sample) -> Iterator[tuple[str, Call]]:
    """What one view does: its target, its runtime, and of that the bare invoke."""
    manifest, conditions = bundle.manifest, sample.conditions
    scaled = sample.scaler(sample.values)
    target = view.target(scaled, conditions)
    yield f"  {view.name}: target", repeated(view.target, scaled, conditions)
    limit = LIMIT_SIGMA if view.lag else manifest.clip
    clipped = np.clip(target, -limit, limit).astype(np.float32)
    if view.name == PCA_VIEW:
        yield f"  {view.name}: runtime", repeated(PrincipalRuntime(bundle.reference), clipped, conditions)
    if view.model is not None:
        runtime = TFLiteRuntime(bundle.models[view.name], outputs=view.model.outputs)
        yield f"  {view.name}: runtime", repeated(runtime, clipped, conditions)
        yield f"  {view.name}: bare invoke", bare_invoke(bundle.models[view.name], threads=1)


def repeated(function: Callable[..., object], *given: object) -> Call:
    """The same call again and again."""
    return lambda _: function(*given)


if __name__ == "__main__":
    sys.exit(main())
