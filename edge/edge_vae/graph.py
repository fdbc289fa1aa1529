"""The graph that is a whole detector: a scaled window in, its score and all that is told of it out."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
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
        threads: Interpreters that share many windows between them, `BATCH` an invocation, each in a thread of its own;
            0: none, which is what an agent with its few windows has, and saves their memory. One model is too small
            for several threads of one interpreter: with two it scored at half to three quarters of the rate of one.

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
        self._one = self.runtime.only(SUMMARY)
        self._many = [runtime.only(SUMMARY) for runtime in _batched(model, graph, threads)]
        self._pool = _pool(threads) if len(self._many) > 1 else None

    def score(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> tuple[Scores, FloatArray]:
        """Scores of scaled, unclipped windows (windows, length, channels), and the mean of what was expected."""
        batches = len(scaled) // BATCH if self._many else 0
        summary = self._in_batches(scaled, conditions, batches) if batches else self._one(scaled, conditions)
        return Scores(summary, self._terms, self._channels), summary[:, -self._channels :]

    def _in_batches(self, scaled: FloatArray, conditions: NDArray[np.float32], batches: int) -> FloatArray:
        """The summaries of so many batches, which the interpreters share, and of the windows that are left over."""
        threads = len(self._many)
        edges = [BATCH * (batches * i // threads) for i in range(threads + 1)]
        pieces = [slice(*edge) for edge in itertools.pairwise(edges)]
        given = self._many, [scaled[piece] for piece in pieces], [conditions[piece] for piece in pieces]
        found = self._pool.map(_called, *given) if self._pool else map(_called, *given)
        return np.concatenate([*found, self._one(scaled[edges[-1] :], conditions[edges[-1] :])])

    def outputs(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> Outputs:
        """All outputs for scaled windows, by the names of the graph's description."""
        return self.runtime(scaled.astype(np.float32), conditions)


def _batched(model: bytes, graph: Graph, threads: int) -> list[TFLiteRuntime]:
    """So many interpreters that take `BATCH` windows at once, or one where the graph holds them to one."""
    try:
        return [TFLiteRuntime(model, outputs=graph.outputs, batch=BATCH) for _ in range(threads)]
    except InferenceError:
        return [TFLiteRuntime(model, outputs=graph.outputs) for _ in range(threads)]


def _called(summarise: OneOutput, scaled: FloatArray, conditions: NDArray[np.float32]) -> FloatArray:
    return summarise(scaled, conditions)


def _pool(threads: int) -> Executor:
    from concurrent.futures import ThreadPoolExecutor  # an agent, which needs none, is spared its imports

    return ThreadPoolExecutor(threads, thread_name_prefix="scoring")
