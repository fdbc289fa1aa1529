"""Our own path through its public functions: the agent's and that of `edge-vae score`."""

from __future__ import annotations

import numpy as np

from edge_vae.bench import PIECE_ROWS
from edge_vae.bundle import Bundle
from edge_vae.detector import load as load_detector
from edge_vae.stream import Stream
from edge_vae.trial import Sample, decider, stream_decider
from speed_peers.loaded import Files, Floats, Loaded


def load(files: Files, *, argument: str, threads: int) -> Loaded:
    """The bundle with this name: a window to a decision, samples to a decision, and recorded data to scores.

    Recorded data are the samples that the windows, one stride after the other, are cut from.
    """
    path = files.folder / f"{argument}.evb"
    detector = load_detector(Bundle.read(path), path=str(path), threads=threads)
    manifest = detector.manifest
    no_mode = np.zeros((1, 0), np.float32)
    samples = [Sample(window[None], no_mode, manifest.scaler, ()) for window in files.windows]
    length, stride = manifest.window.length, manifest.window.stride
    recording = np.concatenate([files.windows[0], *files.windows[1:, -stride:]])
    stream = Stream(detector, baseline=0)

    def bulk(windows: Floats) -> Floats:
        rows = recording[: length + stride * (len(windows) - 1)]
        stream.start_session()
        pieces = [rows[at : at + PIECE_ROWS] for at in range(0, len(rows), PIECE_ROWS)]
        return np.concatenate([stream.push(piece, np.full(len(piece), np.nan)).score for piece in pieces])

    calls = {"path": decider(detector, samples), "stream": stream_decider(detector, samples)}
    return Loaded(calls, {"path": bulk})
