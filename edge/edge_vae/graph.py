"""The graph that is a whole detector: a scaled window in, its score and all that is told of it out."""

from __future__ import annotations

import hashlib
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

__all__ = ["SUMMARY", "Graph", "ScoringGraph"]

_SHARED_WINDOWS = 32
"""Fewer windows are scored sooner by one thread than handed out."""

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
        threads: Interpreters that share many windows between them, each in a thread of its own. One model is too small
            for several threads of one interpreter: with two it scored at half to three quarters of the rate of one.

    Raises:
        InferenceError: No interpreter is installed, or it refuses the model, or the model lacks a tensor, or its
            summary is not one of so many terms and channels.
    """

    def __init__(self, model: bytes, graph: Graph, *, terms: int, channels: int, threads: int = 1) -> None:
        self._terms, self._channels = terms, channels
        runtimes = [TFLiteRuntime(model, outputs=graph.outputs) for _ in range(threads)]
        self._pool = _pool(threads) if threads > 1 else None
        self.runtime = runtimes[0]
        expected, received = 1 + terms + (terms + 2) * channels, self.runtime.output_shape(SUMMARY)
        if received != (expected,):
            raise InferenceError(
                "the graph's summary is not that of the bundle's score",
                expected=f"{expected} numbers for {terms} terms and {channels} channels",
                received=f"{received}",
            )
        self._summarise = [runtime.only(SUMMARY) for runtime in runtimes]

    def score(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> tuple[Scores, FloatArray]:
        """Scores of scaled, unclipped windows (windows, length, channels), and the mean of what was expected."""
        if self._pool is None or len(scaled) < _SHARED_WINDOWS:
            summary = self._summarise[0](scaled, conditions)
        else:
            shares = [np.array_split(array, len(self._summarise)) for array in (scaled, conditions)]
            summary = np.concatenate(list(self._pool.map(_called, self._summarise, *shares)))
        return Scores(summary, self._terms, self._channels), summary[:, -self._channels :]

    def outputs(self, scaled: FloatArray, conditions: NDArray[np.float32]) -> Outputs:
        """All outputs for scaled windows, by the names of the graph's description."""
        return self.runtime(scaled.astype(np.float32), conditions)


def _called(summarise: OneOutput, scaled: FloatArray, conditions: NDArray[np.float32]) -> FloatArray:
    return summarise(scaled, conditions)


def _pool(threads: int) -> Executor:
    from concurrent.futures import ThreadPoolExecutor  # an agent, which needs none, is spared its imports

    return ThreadPoolExecutor(threads, thread_name_prefix="scoring")
