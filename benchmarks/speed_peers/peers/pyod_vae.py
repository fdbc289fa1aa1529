"""PyOD's VAE, which knows rows and no windows: dense layers of its default sizes on the flattened window."""

from __future__ import annotations

import numpy as np
import torch
from pyod.models.vae import VAE

from speed_peers.loaded import Files, Floats, Loaded, each

LATENT = 8


def load(files: Files, *, argument: str, threads: int) -> Loaded:  # noqa: ARG001 (contract)
    """Fitted for one epoch: its weights do not matter for speed."""
    torch.set_num_threads(threads)
    detector = VAE(epoch_num=1, latent_dim=LATENT, verbose=0)
    detector.fit(_rows(files.windows))

    def bulk(windows: Floats) -> Floats:
        return np.asarray(detector.decision_function(_rows(windows)))

    return Loaded({"pyod": each(lambda window: float(bulk(window[None])[0]), files.windows)}, {"pyod": bulk})


def _rows(windows: Floats) -> Floats:
    return windows.reshape(len(windows), -1)
