"""The process of one peer: `python -m speed_peers.worker TASK`, asked for one turn of measuring after the other.

TASK is a JSON document: `module` and `argument` of the peer, `folder` of the models, `cores` to run on, `versions` of
which packages to tell. Questions come as lines of JSON on standard input, answers go as lines of JSON to standard
output. Whatever a library prints goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edge_vae.footprint import memory_mib

WARM_UP_CALLS = 20
REST_S = 0.005
"""Before each pass: on a busy machine a process that just slept is left alone for some milliseconds."""
PASS = 1024
"""Windows of a pass in bulk, about as many as `edge-vae score` has at once; their scores are compared with those of
other peers."""


def main() -> None:
    """Start as the first line asks for, and answer until there are no more questions."""
    answers, task = os.fdopen(os.dup(1), "w"), json.loads(sys.argv[1])
    os.dup2(2, 1)
    os.sched_setaffinity(0, set(task["cores"]))

    def answer(document: object) -> None:
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    python_mib, _ = memory_mib()
    began_s = time.perf_counter()
    module = importlib.import_module(task["module"])
    import_s = time.perf_counter() - began_s

    from speed_peers.loaded import Files  # numpy, which belongs to the peer, is imported by now

    files = Files(Path(task["folder"]))
    began_s = time.perf_counter()
    loaded = module.load(files, argument=task["argument"], threads=len(task["cores"]))
    load_s, (loaded_mib, _) = time.perf_counter() - began_s, memory_mib()
    scores = {name: bulk(files.windows[:PASS]).tolist() for name, bulk in loaded.bulk.items()}
    answer(
        {
            "import_s": import_s, "load_s": load_s, "python_mib": python_mib, "loaded_mib": loaded_mib,
            "scores": scores, "versions": {name: version(name) for name in task["versions"]},
        }
    )  # fmt: skip
    for question in sys.stdin:
        answer(turn(loaded, files, **json.loads(question)))


def turn(loaded: Any, files: Any, *, seconds: float, calls: int) -> dict[str, Any]:
    """One turn: of each call median, 99th percentile, mean in microseconds; of bulk windows a second; peak memory."""
    import numpy as np

    from edge_vae.latency import timed

    figures = {}
    for name, call in loaded.calls.items():
        timed(call, WARM_UP_CALLS, seconds / 4)
        took_us = timed(call, calls, seconds) / 1e3
        figures[name] = [*np.percentile(took_us, [50, 99]).tolist(), float(took_us.mean()), len(took_us)]
    rates = {name: rate(bulk, files.windows, seconds) for name, bulk in loaded.bulk.items()}
    return {"calls": figures, "bulk": rates, "peak_mib": memory_mib()[1]}


def rate(bulk: Callable[[Any], Any], windows: Any, seconds: float) -> float:
    """Windows a second of the fastest pass: whatever else runs on the core makes one slower, never faster."""
    took_s, ends_s, at = list[float](), time.perf_counter() + seconds, 0
    while not took_s or time.perf_counter() < ends_s:
        time.sleep(REST_S)
        began_s = time.perf_counter()
        bulk(windows[at : at + PASS])
        took_s.append(time.perf_counter() - began_s)
        at = (at + PASS) % len(windows)
    return PASS / min(took_s)


if __name__ == "__main__":
    main()
