"""Peers that run side by side and measure in turns; one that cannot is told with the reason and holds nobody up."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_vae.errors import EdgeVaeError
from speed_peers.environment import installed_mib, python_of
from speed_peers.figures import PATH, Times, agreement
from speed_peers.models import up_to_date
from speed_peers.process import ROOT, PeerProcess, environment_variables
from speed_peers.registry import EXPORT, Environment, Peer

__all__ = ["Measuring"]

CALLS = 20_000
"""At most so many calls of each kind are timed in a turn."""
ONNX_FILES = ("float32.onnx", "int8.onnx")


class Measuring:
    """All peers of a run, until it is closed.

    Args:
        folder: The models of `speed_peers.models`.
        cores: Those that may be used; the first one is everybody's.
        here: Whether to use the running environment in place of one for each peer.
        say: Told of what takes long.
    """

    def __init__(self, folder: Path, cores: Sequence[int], *, here: bool, say: Callable[[str], object]) -> None:
        self._folder, self._cores, self._here, self._say = folder, cores, here, say
        self._running: list[tuple[Peer, PeerProcess]] = []
        self._scores: list[float] = []
        self.times: dict[str, Times] = {}
        self.versions: dict[str, dict[str, str]] = {}
        """Of packages, by environment."""

    def close(self) -> None:
        """End all processes."""
        for _peer, process in self._running:
            process.end()

    def start(self, peer: Peer) -> None:
        """Have a peer import and load."""
        self.times |= {row: Times() for row in peer.rows}
        self._say(f"starting {next(iter(peer.rows))}")
        try:
            process, further = self._started(peer)
        except EdgeVaeError as error:
            self._failed(peer, error)
            return
        self._running.append((peer, process))
        told = process.started
        self.versions[peer.environment.name] = told["versions"]
        for row, name in peer.rows.items():
            scores = told["scores"].get(name)
            if row == PATH:
                self._scores = scores
            self.times[row].start |= {name: told[name] for name in ("import_s", "load_s")} | further
            self.times[row].agreement = agreement(scores, self._scores) if scores and peer.same else None

    def _started(self, peer: Peer) -> tuple[PeerProcess, dict[str, float]]:
        if len(self._cores) < peer.cores:
            raise EdgeVaeError("no second core", expected=f"{peer.cores} cores", received=str(len(self._cores)))
        onnx = [self._folder / name for name in ONNX_FILES]
        if peer.exports and not up_to_date(onnx, self._folder / "numbers.npz"):
            self._export()
        python = self._python(peer.environment)
        task = {
            "module": f"speed_peers.peers.{peer.module}", "argument": peer.argument, "folder": str(self._folder),
            "cores": self._cores[: peer.cores], "versions": peer.environment.shown,
        }  # fmt: skip
        ours = [ROOT / "edge" / "edge_vae"] if peer.module == "ours" else []
        further = {} if self._here else {"installed_mib": installed_mib(python, further=ours)}
        return PeerProcess(python, task, peer.settings), further

    def _python(self, environment: Environment) -> Path:
        if not self._here:
            return python_of(environment.name, environment.requirements, say=self._say)
        if importlib.util.find_spec(environment.module) is None:
            what, action = f"{environment.name} is not in this environment", "Leave out --here."
            raise EdgeVaeError(what, expected=f"the module {environment.module}", received="none", action=action)
        return Path(sys.executable)

    def _export(self) -> None:
        """Write the VAE of the window as ONNX."""
        python = self._python(EXPORT)
        command = [str(python), "-m", "speed_peers.peers.export_onnx", str(self._folder)]
        ended = subprocess.run(
            command, capture_output=True, text=True, env=environment_variables({}), cwd=ROOT, check=False
        )
        if ended.returncode:
            last = (ended.stderr.strip().splitlines() or ["nothing"])[-1]
            raise EdgeVaeError("the model cannot be exported to ONNX", expected="status 0", received=last)

    def turn(self, *, seconds: float) -> None:
        """One turn of every peer, one after the other."""
        for peer, process in list(self._running):
            try:
                found = process.turn(seconds=seconds, calls=CALLS)
            except EdgeVaeError as error:
                self._running.remove((peer, process))
                self._failed(peer, error)
                continue
            for row, name in peer.rows.items():
                times = self.times[row]
                if name in found["calls"] and not peer.bulk_only:
                    p50, p99, mean, _ = found["calls"][name]
                    times.one.append((p50, p99, mean))
                if name in found["bulk"]:
                    times.bulk.append(found["bulk"][name])
                times.start["peak_mib"] = found["peak_mib"]

    def _failed(self, peer: Peer, error: EdgeVaeError) -> None:
        self._say(f"not measured: {error}")
        self.times |= {row: Times(reason=str(error)) for row in peer.rows}
