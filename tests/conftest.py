"""One tiny model for the whole test run: simulated pump rig -> train -> convert -> bundle, each by its own command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("EDGE_VAE_DATA", ROOT.parent / "shared" / "data"))

# A shell that starts the tests in the background has them ignore Ctrl-C, and every process that they start as well.
signal.signal(signal.SIGINT, signal.default_int_handler)

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def edge_vae() -> Command:
    """Runs `edge-vae ARGUMENTS` in a process of its own; a status other than `status` fails the test."""

    def run(*arguments: object, status: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", "from edge_vae.cli import main; main()", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=cwd,
            timeout=240,
            check=False,
        )
        assert done.returncode == status, f"status {done.returncode}, expected {status}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory, edge_vae: Command) -> Path:
    """A folder with `healthy/*.csv` and `faulty/*.csv` of the simulated pump rig."""
    folder = tmp_path_factory.mktemp("rig") / "rig"
    edge_vae("simulate", "-o", folder, "--healthy", 3, "--minutes", 4, "--rate", 10, "--seed", 3)
    return folder


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, edge_vae: Command, rig: Path) -> Path:
    """A run folder, trained for a few seconds."""
    folder = tmp_path_factory.mktemp("run") / "run"
    edge_vae("train", rig / "healthy", "--window", 32, "--stride", 4, "--epochs", 12, "-o", folder)
    return folder


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory, edge_vae: Command, run_folder: Path) -> Path:
    """The int8 bundle of that run."""
    path = tmp_path_factory.mktemp("bundle") / "rig.evb"
    edge_vae("convert", run_folder, "-o", path)
    return path


@pytest.fixture(scope="session")
def parts_path(tmp_path_factory: pytest.TempPathFactory, edge_vae: Command, run_folder: Path) -> Path:
    """The same with an int8 model for each view in place of one graph."""
    path = tmp_path_factory.mktemp("parts") / "rig.evb"
    edge_vae("convert", run_folder, "-o", path, "--io", "int8")
    return path


@pytest.fixture(scope="session")
def skab() -> Path:
    """The SKAB data set; without the shared data the test is skipped, because nothing is downloaded in tests."""
    folder = SHARED / "skab"
    if not folder.is_dir():
        pytest.skip(f"no SKAB data at {folder}: set EDGE_VAE_DATA to the folder that holds skab/")
    return folder
