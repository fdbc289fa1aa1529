"""A trained Keras model behind the device's runtime contract."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vae.runtime import Outputs

__all__ = ["KerasRuntime"]

_CHUNK = 512


class KerasRuntime:
    """A trained float model."""

    name = "keras"

    def __init__(self, graph: Any) -> None:
        self.graph = graph

    def __call__(self, windows: NDArray[np.float32], conditions: NDArray[np.float32]) -> Outputs:
        """Outputs for what a view sees of windows (windows, steps, channels), clipped."""
        given = [windows, conditions][: len(self.graph.inputs)]
        pieces = [self._piece([array[at : at + _CHUNK] for array in given]) for at in range(0, len(windows), _CHUNK)]
        if not pieces:
            return {name: np.empty((0, *output.shape[1:]), np.float32) for name, output in self.graph.output.items()}
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def _piece(self, given: list[NDArray[np.float32]]) -> Outputs:
        # Not predict(): for every number of windows that it has not seen it traces a function, and says so.
        outputs = self.graph(given if len(given) > 1 else given[0], training=False)
        return {name: np.asarray(output) for name, output in outputs.items()}
