"""What a process that scores costs before its first window: import and load time, and its memory at each step.

Measured in a process of its own, `python -m edge_vae.footprint BUNDLE THREADS`, so that nothing else counts. At its
top this module imports the standard library alone: whatever stands here belongs to what is called Python's own memory.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_vae.errors import EdgeVaeError, InferenceError

__all__ = ["Footprint", "footprint", "memory_mib"]

STATUS = Path("/proc/self/status")
TIMEOUT_S = 120.0
"""A Raspberry Pi Zero imports numpy and a runtime in about ten seconds."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one process took.

    Resident memory counts the pages of shared libraries in full, whether other processes share them or not.

    Attributes:
        import_s: Importing numpy, the runtime and the scoring path.
        load_s: Reading the bundle, building its interpreters, scoring its golden windows.
        python_mib: Resident memory of Python alone, before the imports.
        imported_mib: After the imports, before the bundle.
        loaded_mib: After the bundle was loaded and its models ran, so that their working memory is in it.
        peak_mib: The most at any time until then.
    """

    import_s: float
    load_s: float
    python_mib: float
    imported_mib: float
    loaded_mib: float
    peak_mib: float


def footprint(bundle: Path) -> Footprint:
    """What a process takes that does nothing but load a bundle.

    Raises:
        InferenceError: That process died, hung, or could not load the bundle.
    """
    command = [sys.executable, "-m", "edge_vae.footprint", str(bundle)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)  # noqa: S603 (ourselves)
    except subprocess.TimeoutExpired as error:
        raise _failed(bundle, f"no answer within {TIMEOUT_S:.0f} s") from error
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["nothing on standard error"])[-1]
        raise _failed(bundle, f"status {ended.returncode}: {last}")
    return Footprint(**json.loads(ended.stdout))


def memory_mib() -> tuple[float, float]:
    """Resident memory of this process, and its peak, in MiB."""
    found = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", STATUS.read_text(), flags=re.MULTILINE))
    return int(found["VmRSS"]) / 1024, int(found["VmHWM"]) / 1024


def _failed(bundle: Path, received: str) -> InferenceError:
    return InferenceError(
        f"{bundle}: a process of its own could not load it",
        expected="import and load times",
        received=received,
        action="Look at this machine with: edge-vae doctor",
    )


def _measured(bundle: Path) -> Footprint:
    python_mib, _ = memory_mib()
    began_s = time.perf_counter()
    from edge_vae.bundle import Bundle
    from edge_vae.detector import load
    from edge_vae.runtime import runtime_name

    runtime_name()  # imports the interpreter's module, which would count as loading otherwise
    imported_s, (imported_mib, _) = time.perf_counter(), memory_mib()
    loaded = load(Bundle.read(bundle), path=str(bundle))
    loaded_s, (loaded_mib, peak_mib) = time.perf_counter(), memory_mib()
    del loaded  # held until here: its memory is what was asked for
    return Footprint(imported_s - began_s, loaded_s - imported_s, python_mib, imported_mib, loaded_mib, peak_mib)


if __name__ == "__main__":
    try:
        sys.stdout.write(json.dumps(asdict(_measured(Path(sys.argv[1])))))
    except EdgeVaeError as error:
        sys.exit(str(error))
