"""One tiny model for the whole test run: simulated pump rig -> train -> convert -> bundle, each by its own command."""

from __future__ import annotations

import fcntl
import os
import shutil
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

# There is a worker for each core: libraries whose threads want all cores as well would mostly wait for one another.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
    os.environ.setdefault(name, "1")

# A minute and more each on one of two busy cores.
LONGEST = (
    "benchmarks/test_speed.py", "flow/test_demo.py", "converters/test_conversion.py", "flow/test_real_data.py",
    "benchmarks/test_quality.py", "converters/test_one_graph.py", "train/test_training.py", "test_microcontroller.py",
    "flow/test_commands.py", "converters/test_cli.py",
)  # fmt: skip

Command = Callable[..., "subprocess.CompletedProcess[str]"]
Once = Callable[[str, Callable[[Path], object]], Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, so that workers have short ones left at the end and stop together."""
    rank = {ROOT / "tests" / name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


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
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """`made_once(name, make)` is a path that `make` has filled, once for all workers: the others wait for it."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "once"

    def path(name: str, make: Callable[[Path], object]) -> Path:
        made = folder / name
        made.parent.mkdir(parents=True, exist_ok=True)
        with made.with_name(f"{made.name}.lock").open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.seek(0)
            if not lock.read():
                make(made)
                lock.write("made")
        return made

    return path


@pytest.fixture(scope="session")
def rig(made_once: Once, edge_vae: Command) -> Path:
    """A folder with `healthy/*.csv` and `faulty/*.csv` of the simulated pump rig."""
    words = ("--healthy", 3, "--minutes", 4, "--rate", 10, "--seed", 3)
    return made_once("rig", lambda folder: edge_vae("simulate", "-o", folder, *words))


@pytest.fixture(scope="session")
def run_folder(made_once: Once, edge_vae: Command, rig: Path) -> Path:
    """A run folder, trained for a few seconds; converted as well, because that leaves its models in it."""

    def make(folder: Path) -> None:
        edge_vae("train", rig / "healthy", "--window", 32, "--stride", 4, "--epochs", 12, "-o", folder)
        edge_vae("convert", folder, "-o", folder.with_name("rig.evb"))

    return made_once("trained/run", make)


@pytest.fixture(scope="session")
def bundle_path(run_folder: Path) -> Path:
    """The int8 bundle of that run."""
    return run_folder.with_name("rig.evb")


@pytest.fixture(scope="session")
def parts_path(made_once: Once, edge_vae: Command, run_folder: Path) -> Path:
    """The same with an int8 model for each view in place of one graph; from a copy, as others read that run."""

    def make(path: Path) -> None:
        edge_vae("convert", shutil.copytree(run_folder, path.with_name("run")), "-o", path, "--io", "int8")

    return made_once("parts/rig.evb", make)


@pytest.fixture(scope="session")
def skab() -> Path:
    """The SKAB data set; without the shared data the test is skipped, because nothing is downloaded in tests."""
    folder = SHARED / "skab"
    if not folder.is_dir():
        pytest.skip(f"no SKAB data at {folder}: set EDGE_VAE_DATA to the folder that holds skab/")
    return folder
