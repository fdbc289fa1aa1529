"""The graph that is a whole detector: a scaled window in, its score and all that is told of it out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.errors import InferenceError
from edge_vae.runtime import OneOutput, Outputs, TFLiteRuntime
from edge_vae.sample import FloatArray
from edge_vae.score import Scores

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["BATCH", "SUMMARY", "Graph", "ScoringGraph"]

BATCH = 8
"""Windows of one invocation where there are many: 8 take 7 to 14 % less time than one by one; with 32 their numbers
leave the caches, and it takes longer again (docs/decisions/0024)."""

SUMMARY = "summary"
"""The output (1, n) that holds, one after the other: the table of `Scores`, and the scaled mean that is expected of
each channel."""


class Graph(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a manifest says of the graph: its hash, its outputs (name to tensor name), its operators and their counts.

    The outputs are `SUMMARY`, and what the model of each view gives, by `view.output`.
    """

    sha256: str
    outputs: dict[str, str]
    operators: dict[str, int]

    @classmethod
    def of(cls, model: bytes, *, outputs: Mapping[str, str], operators: Mapping[str, int]) -> Graph:
        """The description of a flatbuffer."""
        return cls(hashlib.sha256(model).hexdigest(), dict(outputs), dict(operators))


class ScoringGraph:
    """A running graph.

    Args:
        model: The flatbuffer.
        graph: What the manifest says of it.
        terms: Terms of the score.
        channels: Channels of a window.
        threads: Interpreters that share many windows between them, `BATCH` an invocation, each in a thread; 0: none,
            which is what an agent with its few windows has, and saves their memory. One model is too small for several
            threads of one interpreter: with two it scored at half to three quarters of the rate of one.

    Raises:
        InferenceError: No interpreter is installed, or it refuses the model, or the model lacks a tensor, or its
            summary is not one of so many terms and channels.
    """

    def __init__(self, model: bytes, graph: Graph, *, terms: int, channels: int, threads: int = 0) -> None:
        self._terms, self._channels = terms, channels
        self.runtime = TFLiteRuntime(model, outputs=graph.outputs)
        expected, received = 1 + terms + (terms + 2) * channels, self.runtime.output_shape(SUMMARY)
        if received != (expected,):
            raise InferenceError(
                "the graph's summary is not that of the bundle's score",
                expected=f"{expected} numbers for {terms} terms and {channels} channels",
                received=f"{received}",
            )
        self._numbers = expected
        self._one = self.runtime.only(SUMMARY)
        many = _batched(model, graph, threads)
        self._many, self._batch = [runtime.only(SUMMARY) for runtime in many], many[0].batch if many else 1
        self._pool = _pool(threads - 1) if threads > 1 else None

    def score(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> tuple[Scores, FloatArray]:
        """Scores of scaled, unclipped windows (windows, length, channels), and the mean of what was expected."""
        summarise = self._one if len(scaled) == 1 else self._shared
        summary = summarise(scaled, conditions)
        return Scores(summary, self._terms, self._channels), summary[:, -self._channels :]

    def _shared(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> FloatArray:
        """The summaries of any number of windows; each thread, this one too, takes batch after batch."""
        made = np.empty((len(scaled), self._numbers))

        def fill(summarise: OneOutput, starts: Iterable[int], batch: int) -> None:
            for at in starts:
                piece = slice(at, at + batch)
                made[piece] = summarise(scaled[piece], conditions[piece])

        over = len(scaled) % self._batch if self._many else len(scaled)
        starts = iter(range(over, len(scaled), self._batch))
        others = [self._pool.submit(fill, one, starts, self._batch) for one in self._many[1:]] if self._pool else []
        fill(self._one, range(over), 1)
        for one in self._many[:1]:
            fill(one, starts, self._batch)
        for other in others:
            other.result()
        return made

    def outputs(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> Outputs:
        """All outputs for scaled windows, by the names of the graph's description."""
        return self.runtime(scaled.astype(np.float32), conditions)


def _batched(model: bytes, graph: Graph, threads: int) -> list[TFLiteRuntime]:
    """So many interpreters that take `BATCH` windows at once, or one where the graph holds them to one."""
    try:
        return [TFLiteRuntime(model, outputs=graph.outputs, batch=BATCH) for _ in range(threads)]
    except InferenceError:
        return [TFLiteRuntime(model, outputs=graph.outputs) for _ in range(threads)]


def _pool(threads: int) -> Executor:
    from concurrent.futures import ThreadPoolExecutor  # an agent, which needs none, is spared its imports

    return ThreadPoolExecutor(threads, thread_name_prefix="scoring")
