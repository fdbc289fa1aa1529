"""Times of calls that are made in turns, so that a ratio does not compare two moments of a busy machine."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["INVOKE", "ROUNDS", "WARM_UP", "Call", "Latency", "in_turns", "latencies", "timed"]

INVOKE = "invoke "
"""What the row of a model is called, before the name of its view."""
ROUNDS = 5
"""Turns that each call takes: ratios are medians over them."""
WARM_UP = 20

Call = Callable[[int], object]
"""A call that is timed; its argument counts upwards."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Time of a call.

    Attributes:
        name: What was called.
        p50_us: Median, in microseconds, as all of them; the clock's own tenth of one is in it.
        p99_us: The 99th of hundred.
        mean_us: Mean.
        calls: How many were timed.
        per_invoke: Its median over that of all bare invokes together; None without a model.
    """

    name: str
    p50_us: float
    p99_us: float
    mean_us: float
    calls: int
    per_invoke: float | None

    @property
    def per_second(self) -> float:
        """Calls a second, one after the other."""
        return 1e6 / self.mean_us


def in_turns(calls: Mapping[str, Call], *, calls_each: int, seconds: float) -> dict[str, list[NDArray[np.int64]]]:
    """Nanoseconds of each call, by name and turn.

    Args:
        calls: What to call, by its name.
        calls_each: At most so many calls of each are timed, all turns together.
        seconds: A turn is ended after its part of so many seconds, but not before its first call.
    """
    rounds = min(ROUNDS, calls_each)
    per_round = calls_each // rounds
    turns: dict[str, list[NDArray[np.int64]]] = {name: [] for name in calls}
    for call in calls.values():
        timed(call, WARM_UP, seconds / rounds)
    for _, (name, call) in itertools.product(range(rounds), calls.items()):
        turns[name].append(timed(call, per_round, seconds / rounds))
    return turns


def timed(call: Call, calls: int, seconds: float) -> NDArray[np.int64]:
    """Nanoseconds of each of at most so many calls, ended after so many seconds, but not before the first."""
    took, now = list[int](), time.perf_counter_ns
    end = now() + int(seconds * 1e9)
    for i in range(calls):
        began = now()
        call(i)
        ended = now()
        took.append(ended - began)
        if ended > end:
            break
    return np.array(took, np.int64)


def latencies(timed: Mapping[str, list[NDArray[np.int64]]]) -> Iterator[Latency]:
    """The figures of each call, in the order of the calls."""
    invokes = [[float(np.median(turn)) for turn in turns] for name, turns in timed.items() if name.startswith(INVOKE)]
    together = np.sum(invokes, axis=0) if invokes else None
    for name, turns in timed.items():
        took_us = np.concatenate(turns) / 1e3
        ratios = None if together is None else np.array([float(np.median(turn)) for turn in turns]) / together
        yield Latency(
            name=name,
            p50_us=float(np.median(took_us)),
            p99_us=float(np.percentile(took_us, 99)),
            mean_us=float(took_us.mean()),
            calls=len(took_us),
            per_invoke=None if ratios is None else float(np.median(ratios)),
        )
