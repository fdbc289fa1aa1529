"""The VAE of the window as ONNX, float32 from PyTorch and int8 by ONNX Runtime's static quantization.

`python -m speed_peers.peers.export_onnx FOLDER`, in an environment that has both.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from onnxruntime import quantization

from speed_peers.loaded import Files
from speed_peers.peers.torch_vae import WindowVae

CALIBRATED_ON = 256


class Calibration(quantization.CalibrationDataReader):  # type: ignore[misc]  # it is not where types are checked
    """Windows one by one, as the quantizer asks for them."""

    def __init__(self, files: Files) -> None:
        self._windows: Iterator[Any] = iter(files.scaled(files.windows[:CALIBRATED_ON]))

    def get_next(self) -> dict[str, Any] | None:
        """The next window, or None behind the last."""
        window = next(self._windows, None)
        return None if window is None else {"window": window[None]}


def export(files: Files) -> None:
    """Write `float32.onnx` and `int8.onnx`, for any number of windows at once."""
    model, float32 = WindowVae(files.numbers).eval(), files.folder / "float32.onnx"
    names = ["reconstruction", "posterior_mean", "posterior_log_variance"]
    torch.onnx.export(
        model, (torch.from_numpy(files.scaled(files.windows[:2])),), str(float32), input_names=["window"],
        output_names=names, dynamic_shapes=({0: torch.export.Dim("windows")},), dynamo=True, external_data=False,
    )  # fmt: skip
    prepared = files.folder / "prepared.onnx"
    quantization.quant_pre_process(str(float32), str(prepared))
    quantization.quantize_static(
        str(prepared), str(files.folder / "int8.onnx"), Calibration(files), per_channel=True,
        quant_format=quantization.QuantFormat.QDQ, activation_type=quantization.QuantType.QInt8,
        weight_type=quantization.QuantType.QInt8,
    )  # fmt: skip
    prepared.unlink()


if __name__ == "__main__":
    export(Files(Path(sys.argv[1])))
