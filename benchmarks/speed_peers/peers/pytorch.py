"""PyTorch in inference mode, without compilation."""

from __future__ import annotations

import torch

from speed_peers.loaded import Files, Floats, Loaded, each, statistic
from speed_peers.peers.torch_vae import WindowVae


def load(files: Files, *, argument: str, threads: int) -> Loaded:  # noqa: ARG001 (contract)
    """The model with Keras's weights."""
    torch.set_num_threads(threads)
    model, variance = WindowVae(files.numbers).eval(), files.numbers["variance"]

    def bulk(windows: Floats) -> Floats:
        scaled = files.scaled(windows)
        with torch.inference_mode():
            reconstruction = model(torch.from_numpy(scaled))[0].numpy()
        return statistic(scaled, reconstruction, variance)

    def one(window: Floats) -> float:
        return float(bulk(window[None])[0])

    return Loaded({"torch": each(one, files.windows)}, {"torch": bulk})
