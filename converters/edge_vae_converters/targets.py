"""What a run can be converted to: one small contract, and a file of its own for each target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from edge_vae_converters.c_array import c_array
from edge_vae_converters.conversion import SIMPLER, Conversion, write
from edge_vae_converters.onnx import onnx_files
from edge_vae_converters.tflite import PRECISIONS
from edge_vae_train.run_folder import Run

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """How a run is converted for a target, and what of the conversion is written.

    Attributes:
        precisions: Those that the target can run, the usual one first.
        simpler: What a view's model is tried in after a precision that is refused.
        separate: Whether the views' models are wanted by themselves, without a graph around them.
        write: (conversion, path, run) -> the paths that were written, what the user asked for first.
    """

    precisions: tuple[str, ...]
    simpler: Mapping[str, str]
    separate: bool
    write: Callable[[Conversion, Path, Run], list[Path]]


def _folder(files: Callable[[Conversion, Run], Mapping[str, bytes]]) -> Callable[[Conversion, Path, Run], list[Path]]:
    """Writes files, by name, into a folder of their own."""

    def written(conversion: Conversion, folder: Path, run: Run) -> list[Path]:
        contents = files(conversion, run)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        return [folder, *(folder / name for name in contents)]

    return written


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "tflite": Target(PRECISIONS, SIMPLER, separate=False, write=write),
        # Its interpreter computes no dynamic ranges and widens no float16.
        "c-array": Target(
            ("int8", "float32"),
            {"int8": "float32"},
            separate=True,
            write=_folder(lambda conversion, _: c_array(conversion.bundle)),
        ),
        # It has its own way to int8; what is exported are the trained models.
        "onnx": Target(
            ("float32",),
            {},
            separate=True,
            write=_folder(lambda conversion, run: onnx_files(run, conversion.bundle)),
        ),
    }
)
"""Name of a target -> how a run is converted for it."""
