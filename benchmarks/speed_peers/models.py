"""The VAE of the window in every form that a peer takes: weights, TFLite in float32 and int8, and Keras."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_vae.bundle import Bundle
from edge_vae.errors import EdgeVaeError
from speed_peers.bundles import Bundles

__all__ = ["BATCH", "WINDOWS", "Macs", "exported", "up_to_date"]

WINDOWS = 1024
"""Those of a pass of `speed_peers.worker`."""
BATCH = 32
"""Windows of one invocation of the model for bulk."""
_FILES = ("windows.npy", "numbers.npz", "macs.json", "int8.tflite", "float32.tflite", "int8-batch.tflite", "vae.keras")


class Macs(msgspec.Struct, frozen=True):
    """Multiply-accumulates of one invocation, by view of the default bundle."""

    window: int
    features: int


def exported(bundles: Bundles) -> Macs:
    """Multiply-accumulates of the models, after what the peers read was written beside the bundles.

    Raises:
        EdgeVaeError: TensorFlow cannot write a form of the model.
    """
    folder = bundles.folder
    if not up_to_date([folder / name for name in _FILES], bundles.default):
        # In a process of its own, because TensorFlow's converter prints from C++.
        command = [sys.executable, "-m", "speed_peers.models", str(folder.resolve())]
        here = Path(__file__).parents[1]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=here)
        if ended.returncode:
            last = (ended.stderr.strip().splitlines() or ["nothing"])[-1]
            raise EdgeVaeError("the models of the peers cannot be made", expected="status 0", received=last)
    return msgspec.json.decode((folder / "macs.json").read_bytes(), type=Macs)


def up_to_date(files: Sequence[Path], source: Path) -> bool:
    """Whether all files are there and none is older than what it was made of."""
    return all(file.exists() and file.stat().st_mtime >= source.stat().st_mtime for file in files)


def _export(bundles: Bundles) -> None:
    from edge_vae_train.cli import quiet_tensorflow

    quiet_tensorflow()
    from edge_vae_train.run_folder import Run

    folder, bundle = bundles.folder, Bundle.read(bundles.parts(bundles.window))
    run = Run.read(folder / bundles.window.stem)
    graph, windows = run.graph("window"), bundles.raw_windows(WINDOWS)
    np.save(folder / "windows.npy", windows)
    np.savez(folder / "numbers.npz", **_numbers(bundle, graph))
    (folder / "int8.tflite").write_bytes(bundle.models["window"])
    shutil.copy(run.folder / "window.float32.tflite", folder / "float32.tflite")
    shutil.copy(run.folder / "window.keras", folder / "vae.keras")
    clip = bundle.manifest.clip
    scaled = np.clip(bundle.manifest.scaler(windows), -clip, clip).astype(np.float32)
    (folder / "int8-batch.tflite").write_bytes(_in_batches(graph, scaled))
    models = Bundle.read(bundles.parts(bundles.default)).models
    counted = {view: sum(_macs(model)) for view, model in models.items()}
    (folder / "macs.json").write_text(json.dumps(counted))


def _numbers(bundle: Bundle, graph: Any) -> dict[str, Any]:
    manifest = bundle.manifest
    [view] = manifest.views
    layers = [layer for part in ("encoder", "decoder") for layer in graph.get_layer(part).layers]
    weights = {f"{layer.name}/{i}": array for layer in layers for i, array in enumerate(layer.get_weights())}
    scaler = manifest.scaler
    return {
        "centre": scaler.centre, "scale": scaler.scale, "variance": np.array(view.variance),
        "clip": np.array(manifest.clip), **weights,
    }  # fmt: skip


def _in_batches(graph: Any, scaled: Any) -> bytes:
    """The int8 model for `BATCH` windows at once: what a bare invoke reaches in bulk."""
    import keras
    import tensorflow as tf

    given = keras.layers.Input(scaled.shape[1:], batch_size=BATCH, name="window")
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(given, graph(given)))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([piece] for piece in np.split(scaled[: 8 * BATCH], 8))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    model: bytes = converter.convert()
    return model


def _macs(model: bytes) -> list[int]:
    """Multiply-accumulates of each convolution and matrix product: its weights' cells, once for each place."""
    from tensorflow.lite.python import schema_py_generated as schema

    root = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    [graph] = root.subgraphs
    conv, dense = schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.FULLY_CONNECTED
    found = []
    for operator in graph.operators:
        code = root.operatorCodes[operator.opcodeIndex]
        kind = max(code.builtinCode, code.deprecatedBuiltinCode)
        if kind not in (conv, dense):
            continue
        places = graph.tensors[operator.outputs[0]].shape[:-1]
        found.append(math.prod(map(int, places)) * math.prod(map(int, graph.tensors[operator.inputs[1]].shape)))
    return found


if __name__ == "__main__":
    _export(Bundles(Path(sys.argv[1])))
