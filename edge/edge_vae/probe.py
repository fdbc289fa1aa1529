"""Whether the TFLite runtime of this machine really runs a model, found out in a process of its own.

A runtime that imports may still die when it builds an interpreter, as tflite-runtime does beside numpy 2, and a runtime
that is given a damaged model may take its process with it, never answer, or ask for gigabytes: a hash in the bundle
protects from none of it where the model was damaged before it was hashed (docs/decisions/0021).
"""

from __future__ import annotations

import functools
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from edge_vae.bundle import Bundle
from edge_vae.detector import load
from edge_vae.errors import BundleError, EdgeVaeError, InferenceError
from edge_vae.runtime import TFLiteRuntime, runtime_name

__all__ = ["Probe", "expect_sound", "probe", "tried"]

MODEL = Path(__file__).with_name("probe.tflite")
"""A matrix product: three numbers to two, so small that any runtime for any board has its one operator."""
OUTPUT = "Identity"
QUESTION = np.array([[1.0, 0.0, 2.0]], np.float32)
ANSWER = np.array([[7.0, 16.0]], np.float32)

TIMEOUT_S = 30
"""A Raspberry Pi Zero imports numpy and a runtime in about ten seconds; systemd waits for an agent for 60."""
SPARE_BYTES = 256 << 20
"""Memory that a trial may take beyond what imports took. A sound model needs a few MiB, and a damaged one was seen to
take 2.8 GiB, for which the whole machine might pay."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What became of the trial.

    Attributes:
        works: Whether a model ran and gave the right numbers.
        found: The runtime and its version, or what went wrong, in one line.
        refusal: Of an error that was foreseen: what was wrong, expected, received, and what to do.
    """

    works: bool
    found: str
    refusal: tuple[str, str, str, str] | None = None


def probe(bundle: Path | None = None) -> Probe:
    """What happens when a process like this one runs a small model, or the golden windows of a bundle."""
    command = [sys.executable, "-m", "edge_vae.probe", *([str(bundle)] if bundle else [])]
    try:
        ended = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)  # noqa: S603 (ourselves)
    except subprocess.TimeoutExpired:
        return Probe(works=False, found=f"no answer within {TIMEOUT_S} s")
    if ended.returncode < 0:
        return Probe(works=False, found=f"died of {signal.Signals(-ended.returncode).name}{_last_line(ended.stderr)}")
    try:
        return msgspec.json.decode(ended.stdout, type=Probe)
    except msgspec.DecodeError:
        return Probe(works=False, found=f"ended with status {ended.returncode}{_last_line(ended.stderr)}")


def expect_sound(bundle: Bundle, path: Path) -> None:
    """Raise unless a process of its own gets the golden scores of the bundle in this file.

    Raises:
        InferenceError: There is no runtime to run its models.
        BundleError: The process refused it, died, or gave no answer in time.
    """
    if not bundle.models:
        return  # nothing but numpy will run
    runtime_name()
    trial = tried(path, bundle.sha256)
    if trial.works:
        return
    what, expected, received, action = trial.refusal or (
        f"{path}: a model that cannot be run",
        "its golden scores from a process of its own",
        f"from that process: {trial.found}",
        "Convert the run again; edge-vae doctor tells whether the runtime itself works.",
    )
    raise BundleError(what, expected=expected, received=received, action=action)


@functools.cache
def tried(path: Path, sha256: str) -> Probe:  # noqa: ARG001 (another bundle in the same file is tried anew)
    """What became of the trial of a bundle: two hundred machines of one kind need one."""
    return probe(path)


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
        what = error.what if bundle is None or str(bundle) in error.what else f"{bundle}: {error.what}"
        action = error.action or "Convert the run again."
        return Probe(works=False, found=str(error), refusal=(what, error.expected, error.received, action))
    return Probe(works=True, found=f"{runtime_name()} {_version(runtime_name())}, {trial}")


def _run_own_model() -> None:
    nothing = np.empty((len(QUESTION), 0), np.float32)
    answer = TFLiteRuntime(MODEL.read_bytes(), outputs={"y": OUTPUT})(QUESTION, nothing)["y"]
    if not np.allclose(answer, ANSWER):
        what = f"{runtime_name()} computes wrongly"
        raise InferenceError(what, expected=str(ANSWER[0].tolist()), received=str(answer[0].tolist()))


def _version(module: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(module.replace("_", "-"))
    except PackageNotFoundError:
        return "of unknown version"


def _limit() -> None:
    """Bound what this process may take, for a parent that is gone before it can end it too."""
    signal.alarm(TIMEOUT_S)
    data_bytes = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = data_bytes + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))


if __name__ == "__main__":
    _limit()
    sys.stdout.buffer.write(msgspec.json.encode(_try(Path(sys.argv[1]) if len(sys.argv) > 1 else None)))
