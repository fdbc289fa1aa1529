"""Virtual environments of the peers, made on demand and kept: one each, because some exclude each other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_vae.errors import EdgeVaeError

__all__ = ["FOLDER", "installed_mib", "python_of"]

FOLDER = Path(__file__).parents[2] / ".venv-peers"
"""Left out of the repository, as every folder that begins with .venv is."""
_DONE = "requirements.txt"
_NOT_THE_PEERS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-", "wheel", "__pycache__")
"""What a new environment holds, and what running adds."""
_REASON = 200


def python_of(name: str, requirements: Sequence[str], *, say: Callable[[str], object]) -> Path:
    """The Python of the environment that holds these requirements; made where it is missing or holds others.

    Raises:
        EdgeVaeError: pip cannot install them here.
    """
    folder, wanted = FOLDER / name, "\n".join(requirements) + "\n"
    done, python = folder / _DONE, folder / "bin" / "python"
    if done.exists() and done.read_text() == wanted:
        return python
    say(f"installing {' '.join(requirements)} into {folder.name}, once")
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)], name)
    _run([str(python), "-m", "pip", "--disable-pip-version-check", "install", "-q", *requirements], name)
    done.write_text(wanted)
    return python


def _run(command: list[str], name: str) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        lines = [line for line in ended.stderr.splitlines() if line.startswith("ERROR")] or ended.stderr.splitlines()
        received = (lines or ["nothing on standard error"])[0][:_REASON]
        what = f"{name} cannot be installed here"
        raise EdgeVaeError(what, expected="an environment", received=received)


def installed_mib(python: Path, *, further: Sequence[Path] = ()) -> float:
    """Size of all packages of an environment, numpy among them, and of further folders, in MiB."""
    [packages] = (python.parents[1] / "lib").glob("python*/site-packages")
    folders = [entry for entry in packages.iterdir() if not entry.name.startswith(_NOT_THE_PEERS)]
    return sum(_size(folder) for folder in (*folders, *further)) / 2**20


def _size(place: Path) -> int:
    if not place.is_dir():
        return place.lstat().st_size
    return sum(
        os.lstat(os.path.join(at, file)).st_size  # noqa: PTH118 (a hundred thousand files)
        for at, _, files in os.walk(place)
        if not at.endswith("__pycache__")
        for file in files
    )
