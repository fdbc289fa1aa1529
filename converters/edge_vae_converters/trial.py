"""Whether this machine's TFLite runtime takes a model, found out in a process of its own: a bad one may end it."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from edge_vae.errors import InferenceError, ModelError
from edge_vae.runtime import TFLiteRuntime

__all__ = ["expect_runs"]

TIMEOUT_S = 120.0


def expect_runs(name: str, model: bytes) -> None:
    """Raise ModelError unless the runtime takes a model and runs it once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(model)
        command = [sys.executable, "-m", "edge_vae_converters.trial", str(path)]
        try:
            ended = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)  # noqa: S603 (ourselves)
        except subprocess.TimeoutExpired:
            said = f"no answer within {TIMEOUT_S:.0f} s"
        else:
            if not ended.returncode:
                return
            said = ended.stdout.decode(errors="replace").strip()
            if ended.returncode < 0:
                said = f"the end of the process by {signal.Signals(-ended.returncode).name}"
    what = f"{name}: the TFLite runtime does not run the model"
    raise ModelError(
        what,
        expected="a model of TFLite's own operators",
        received=said or "an error without a message",
        action="Convert it again without SELECT_TF_OPS, and without custom operators.",
    )


def _try(path: Path) -> str:
    """What the runtime says against a model; empty where it runs."""
    try:
        runtime = TFLiteRuntime(path.read_bytes(), outputs={})
        runtime(np.zeros((1, *runtime.input_shape), np.float32), np.zeros((1, 0), np.float32))
    except (InferenceError, RuntimeError, ValueError) as error:
        return str(error)
    return ""


if __name__ == "__main__":
    refusal = _try(Path(sys.argv[1]))
    sys.stdout.write(refusal)
    sys.exit(bool(refusal))
