"""The running process of a peer, which measures when it is asked to and waits in between."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

from edge_vae.errors import EdgeVaeError

__all__ = ["ROOT", "PeerProcess", "environment_variables"]

ROOT = Path(__file__).parents[2]
DEADLINE_S = 300.0
"""An answer that takes longer never comes: the slowest import took 17 s, the slowest turn 5 s."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


def environment_variables(settings: Mapping[str, str], *, threads: int = 1) -> dict[str, str]:
    """What a peer's process is started with: our sources, so many threads in every library, and no greetings."""
    limits = dict.fromkeys(_THREADS, str(threads)) | {"TF_NUM_INTEROP_THREADS": "1"}
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("edge", "benchmarks"))
    return {**os.environ, **limits, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": paths, **settings}


class PeerProcess:
    """A process of `speed_peers.worker`.

    Args:
        python: Of the peer's environment.
        task: What the worker is told to load.
        settings: Environment variables that the peer needs.

    Raises:
        EdgeVaeError: It died while it imported or loaded the peer.
    """

    def __init__(self, python: Path, task: dict[str, Any], settings: Mapping[str, str]) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._name = f"{task['module']} {task['argument']}".strip()
        self._process = subprocess.Popen(
            [str(python), "-m", "speed_peers.worker", json.dumps(task)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, cwd=ROOT,
            env=environment_variables(settings, threads=len(task["cores"])),
        )  # fmt: skip
        self.started = self._answer()

    def turn(self, *, seconds: float, calls: int) -> dict[str, Any]:
        """What one turn measured."""
        stdin = cast("IO[str]", self._process.stdin)
        try:
            stdin.write(json.dumps({"seconds": seconds, "calls": calls}) + "\n")
            stdin.flush()
        except BrokenPipeError:
            pass  # it died: there will be no answer, and the reason stands in its log
        return self._answer()

    def end(self) -> None:
        """Let it go."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def _answer(self) -> dict[str, Any]:
        late = threading.Timer(DEADLINE_S, self._process.kill)
        late.start()
        line = cast("IO[str]", self._process.stdout).readline()
        late.cancel()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        status = self._process.wait()
        self._log.seek(0)
        told = self._log.read().decode(errors="replace").strip().splitlines() or ["nothing on standard error"]
        self.end()
        what, received = f"{self._name} died", f"status {status}: {told[-1]}"
        raise EdgeVaeError(what, expected="an answer", received=received)
