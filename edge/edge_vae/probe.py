"""Whether the TFLite runtime of this machine really runs a model, found out in a process of its own.

A runtime that imports may still die when it builds an interpreter, as tflite-runtime does beside numpy 2, and a runtime
that is given a damaged model may take its process with it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import numpy as np

from edge_vae.bundle import Bundle
from edge_vae.detector import load
from edge_vae.errors import EdgeVaeError, InferenceError
from edge_vae.runtime import TFLiteRuntime, runtime_name

__all__ = ["Probe", "probe"]

MODEL = Path(__file__).with_name("probe.tflite")
"""A matrix product: three numbers to two, so small that any runtime for any board has its one operator."""
OUTPUT = "Identity"
QUESTION = np.array([[1.0, 0.0, 2.0]], np.float32)
ANSWER = np.array([[7.0, 16.0]], np.float32)

TIMEOUT_S = 60.0
"""A Raspberry Pi Zero imports numpy and a runtime in about ten seconds."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What became of the trial.

    Attributes:
        works: Whether a model ran and gave the right numbers.
        found: The runtime and its version, or what went wrong, in one line.
    """

    works: bool
    found: str


def probe(bundle: Path | None = None) -> Probe:
    """What happens when a process like this one runs a small model, or the golden windows of a bundle."""
    command = [sys.executable, "-m", "edge_vae.probe", *([str(bundle)] if bundle else [])]
    try:
        ended = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)  # noqa: S603 (ourselves)
    except subprocess.TimeoutExpired:
        return Probe(works=False, found=f"no answer within {TIMEOUT_S:.0f} s")
    if ended.returncode < 0:
        return Probe(works=False, found=f"died of {signal.Signals(-ended.returncode).name}{_last_line(ended.stderr)}")
    try:
        return msgspec.json.decode(ended.stdout, type=Probe)
    except msgspec.DecodeError:
        return Probe(works=False, found=f"ended with status {ended.returncode}{_last_line(ended.stderr)}")


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").split("\n")
    return next((f": {line.strip()}" for line in reversed(lines) if line.strip()), "")


def _try(bundle: Path | None) -> Probe:
    try:
        if bundle is None:
            _run_own_model()
            trial = "ran a model"
        else:
            load(Bundle.read(bundle), path=str(bundle))
            trial = f"gave the golden scores of {bundle}"
    except EdgeVaeError as error:
        return Probe(works=False, found=str(error))
    return Probe(works=True, found=f"{runtime_name()} {_version(runtime_name())}, {trial}")


def _run_own_model() -> None:
    nothing = np.empty((len(QUESTION), 0), np.float32)
    answer = TFLiteRuntime(MODEL.read_bytes(), outputs={"y": OUTPUT})(QUESTION, nothing)["y"]
    if not np.allclose(answer, ANSWER):
        what = f"{runtime_name()} computes wrongly"
        raise InferenceError(what, expected=str(ANSWER[0].tolist()), received=str(answer[0].tolist()))


def _version(module: str) -> str:
    try:
        return version(module.replace("_", "-"))
    except PackageNotFoundError:
        return "of unknown version"


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_try(Path(sys.argv[1]) if len(sys.argv) > 1 else None)))
