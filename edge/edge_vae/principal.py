"""A PCA of lag vectors, behind the same contract as a TFLite model.

It computes in float32: the noise of int8 activations would drown the residual that is looked at (3 to 8 % of the normal
error, where a VAE has 0.2 %). Its components may be stored in int8, each with a step of its own. As a product of two
small matrices it is as cheap as an interpreter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vae.runtime import Outputs

__all__ = ["PrincipalRuntime", "in_int8", "real_components"]

_LARGEST = 127
"""Of int8, on both sides of zero."""


def in_int8(components: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Components (components, cells), none of them all zeros, as int8 and the step (components,) of each."""
    steps = (np.abs(components).max(axis=1) / _LARGEST).astype(np.float32)
    return np.rint(components / steps[:, None]).astype(np.int8), steps


def real_components(stored: NDArray[Any], steps: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Components (components, cells) as float32, whether they are stored in float16 or in int8 with steps."""
    real = stored.astype(np.float32)
    return real if steps is None else real * steps[:, None]


class PrincipalRuntime:
    """Reconstructs lag vectors from their principal components.

    Args:
        arrays: `lag_mean` (lag * channels,) and `lag_components` (components, lag * channels), orthonormal; in int8
            with their `lag_steps` (components,).
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._mean = arrays["lag_mean"].astype(np.float32)
        self._components = real_components(arrays["lag_components"], arrays.get("lag_steps"))

    def __call__(self, windows: NDArray[np.float32], conditions: NDArray[np.float32]) -> Outputs:  # noqa: ARG002 (contract)
        """Reconstruction of the lag vectors of windows (windows, lag vectors * lag, channels)."""
        reconstruction = np.empty_like(windows)
        # One window at a time: a product of several adds in another order, and pieces would change a score.
        for i, window in enumerate(windows):
            centred = window.reshape(-1, len(self._mean)) - self._mean
            reconstruction[i] = ((centred @ self._components.T) @ self._components + self._mean).reshape(window.shape)
        nothing = np.empty((len(windows), 0), np.float32)
        return {"reconstruction": reconstruction, "posterior_mean": nothing, "posterior_log_variance": nothing}
