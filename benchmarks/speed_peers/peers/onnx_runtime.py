"""ONNX Runtime, with the model that `speed_peers.peers.export_onnx` wrote."""

from __future__ import annotations

import onnxruntime

from speed_peers.loaded import Files, Floats, Loaded, each, statistic


def load(files: Files, *, argument: str, threads: int) -> Loaded:
    """The model `int8` or `float32`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(
        str(files.folder / f"{argument}.onnx"), options, providers=["CPUExecutionProvider"]
    )
    variance = files.numbers["variance"]

    def bulk(windows: Floats) -> Floats:
        scaled = files.scaled(windows)
        return statistic(scaled, session.run(None, {"window": scaled})[0], variance)

    def one(window: Floats) -> float:
        return float(bulk(window[None])[0])

    return Loaded({argument: each(one, files.windows)}, {argument: bulk})
