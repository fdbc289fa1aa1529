"""How long the agent's scoring path takes on this machine."""

from __future__ import annotations

import statistics
import time

from edge_vae.detector import Explainer
from edge_vae.pipeline import Pipeline
from edge_vae.sample import Block
from edge_vae_converters.demo.verdict import Watched

__all__ = ["scoring_time"]

TIMED_WINDOWS = 500


def scoring_time(detector: Explainer, file: Watched) -> float:
    """Median microseconds from the samples that complete one window to the state of its alarm, one window at a time.

    Args:
        detector: The loaded bundle.
        file: At least one of its windows is scored.
    """
    pipeline = Pipeline(detector, rules=detector.manifest.alarm)
    stride = detector.manifest.window.stride
    took_ns: list[int] = []
    for at in range(0, len(file.values), stride):
        block = Block(file.values[at : at + stride], file.times[at : at + stride], arrived_ns=0)
        windows, began_ns = pipeline.windows, time.perf_counter_ns()
        pipeline.push(block)
        if pipeline.windows > windows:
            took_ns.append(time.perf_counter_ns() - began_ns)
        if len(took_ns) == TIMED_WINDOWS:
            break
    return statistics.median(took_ns) / 1e3
