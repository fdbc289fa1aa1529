"""An examination of the machine the agent runs on: what works, what does not, and what to do about it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sqlite3
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

from edge_vae.clock import time_quality
from edge_vae.config import DEFAULT_OUTBOX_BYTES, AgentConfig
from edge_vae.errors import EdgeVaeError
from edge_vae.probe import probe

if TYPE_CHECKING:
    from edge_vae.online import Trial

__all__ = ["Check", "examine", "examine_configured"]

OLDEST_PYTHON = (3, 10)
OLDEST_PAHO = (2, 1)
DISK_BYTES = 2 * DEFAULT_OUTBOX_BYTES
"""A full outbox, and as much again for its journal and a bundle that is being replaced."""
MEMORY_BYTES = 64 << 20
"""The agent is to need at most 60 MiB."""
WORLD = stat.S_IROTH | stat.S_IWOTH | stat.S_IXOTH
BOARD = Path("/proc/device-tree/model")
MEMORY = Path("/proc/meminfo")
NOT_FOR_USERS = {"dev", "all"}


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: What was examined.
        ok: True if all is well, False if the agent cannot do its work here, None if it can, with a restriction.
        found: What is there.
        advice: What to do; empty if there is nothing to do.
    """

    name: str
    ok: bool | None
    found: str
    advice: str = ""


def examine_configured(config: AgentConfig) -> list[Check]:
    """All findings about this machine and about what a configuration names: its broker, port, bundles and sources."""
    # Only here: an examination of the machine alone must work where parts of the agent do not.
    from edge_vae.online import agent_runs, trials

    state_dir = config.node.state_dir
    found = examine(state_dir=state_dir, bundle=config.pipelines[0].bundle)
    running = "runs, its port and sources are not tried" if agent_runs(state_dir) else "does not run"
    return [*found, Check("agent", ok=True, found=running), *map(_tried, trials(config))]


def examine(*, state_dir: Path, bundle: Path | None = None) -> list[Check]:
    """All findings about this machine, in the order in which to read them.

    Nothing is changed: what is written for a trial is removed again.

    Args:
        state_dir: Where the agent keeps its state; need not exist.
        bundle: Its golden windows are scored; by default a small model runs.
    """
    return [
        _python(),
        _runtime(bundle),
        _numpy(),
        _paho(),
        _sqlite(state_dir),
        _permissions(state_dir),
        _disk(state_dir),
        _clock(),
        _board(),
        _processors(),
        _memory(),
        *_extras(),
    ]


def _tried(trial: Trial) -> Check:
    try:
        return Check(trial.name, ok=True, found=trial.run())
    except EdgeVaeError as error:
        found = str(error).removesuffix(error.action).rstrip(". ")
        return Check(trial.name, ok=False, found=found, advice=error.action or "Correct the configuration.")


def _python() -> Check:
    found, oldest = platform.python_version(), ".".join(map(str, OLDEST_PYTHON))
    ok = sys.version_info[:2] >= OLDEST_PYTHON
    return Check("python", ok, found, "" if ok else f"Install Python {oldest} or later.")


def _runtime(bundle: Path | None) -> Check:
    tried = probe(bundle)
    advice = "Install a runtime that fits this board, with: pip install --force-reinstall edge-vae"
    if bundle is not None:
        advice = "Ask again without the bundle, to see whether it or the runtime is at fault."
    return Check("runtime", tried.works, tried.found, "" if tried.works else advice)


def _numpy() -> Check:
    found = _version("numpy")
    if found is None:
        return Check("numpy", ok=False, found="none", advice="Install it with: pip install numpy")
    # LiteRT takes both; where it is installed it is used.
    clash = _numbers(found) >= (2,) and _version("tflite-runtime") and not _version("ai-edge-litert")
    advice = "tflite-runtime was built for numpy 1: pip install 'numpy<2'" if clash else ""
    return Check("numpy", not clash, found, advice)


def _paho() -> Check:
    found = _version("paho-mqtt")
    ok = found is not None and _numbers(found) >= OLDEST_PAHO
    return Check("paho-mqtt", ok, found or "none", "" if ok else "Install it with: pip install 'paho-mqtt>=2.1,<3'")


def _sqlite(state_dir: Path) -> Check:
    found = f"SQLite {sqlite3.sqlite_version}"
    existing = _existing(state_dir)
    try:
        with tempfile.TemporaryDirectory(prefix="edge-vae-doctor-", dir=existing) as folder:
            mode = _write_in_wal_mode(Path(folder) / "trial.db")
    except (OSError, sqlite3.Error) as error:
        advice = "Set state_dir under [node] to a folder on a local disk that the agent may write."
        return Check("outbox", ok=False, found=f"{found}, writing in {existing} failed: {error}", advice=advice)
    if mode != "wal":
        advice = "Set state_dir under [node] to a folder on a local disk; network file systems have no write-ahead log."
        return Check("outbox", ok=False, found=f"{found}, no write-ahead log in {existing}", advice=advice)
    return Check("outbox", ok=True, found=f"{found}, wrote with a write-ahead log in {existing}")


def _write_in_wal_mode(path: Path) -> str:
    with closing(sqlite3.connect(path)) as db:
        mode: str = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE trial (number INTEGER)")
        with db:
            db.execute("INSERT INTO trial VALUES (1)")
    return mode


def _permissions(state_dir: Path) -> Check:
    existing = _existing(state_dir)
    writable = existing.is_dir() and os.access(existing, os.R_OK | os.W_OK | os.X_OK)
    mode = stat.S_IMODE(existing.stat().st_mode)
    if not writable:
        advice = f"Ask as the agent's user, let it write {state_dir}, or set state_dir under [node]."
        return Check("state_dir", ok=False, found=f"{existing} cannot be written, mode {mode:o}", advice=advice)
    if existing != state_dir:
        return Check("state_dir", ok=True, found=f"{state_dir} does not exist yet and can be made")
    if mode & WORLD:
        advice = f"Every user of this machine can read the messages in it: chmod o= {state_dir}"
        return Check("state_dir", ok=None, found=f"{state_dir} can be written, mode {mode:o}", advice=advice)
    return Check("state_dir", ok=True, found=f"{state_dir} can be written, mode {mode:o}")


def _disk(state_dir: Path) -> Check:
    existing = _existing(state_dir)
    free = shutil.disk_usage(existing).free
    advice = f"Free at least {_mib(DISK_BYTES)}, or set max_bytes under [outbox] to less."
    return Check("disk", free >= DISK_BYTES, f"{_mib(free)} free in {existing}", "" if free >= DISK_BYTES else advice)


def _clock() -> Check:
    if time_quality() == "synchronised":
        return Check("clock", ok=True, found="synchronised")
    advice = "Events say that their times are not to be trusted. Switch on NTP with: timedatectl set-ntp true"
    return Check("clock", ok=None, found="unsynchronised", advice=advice)


def _board() -> Check:
    try:
        model = BOARD.read_text(errors="replace").rstrip("\0\n")
    except OSError:
        model = "no device tree"
    return Check("board", ok=True, found=f"{model}, {platform.machine()}, Linux {platform.release()}")


def _processors() -> Check:
    usable = len(os.sched_getaffinity(0))
    return Check("processors", ok=True, found=f"{usable} of {os.cpu_count() or usable} usable")


def _memory() -> Check:
    lines = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines())
    total, free = (int(lines[name].split()[0]) << 10 for name in ("MemTotal", "MemAvailable"))
    ok = free >= MEMORY_BYTES
    advice = f"End other programs: the agent needs up to {_mib(MEMORY_BYTES)}."
    return Check("memory", ok, f"{_mib(free)} available of {_mib(total)}", "" if ok else advice)


def _extras() -> Iterator[Check]:
    """One finding for each optional part; a gateway needs none of them."""
    for extra, packages in sorted(_packages_of_extras().items()):
        missing = [package for package in packages if _version(package) is None]
        found = f"not installed: {', '.join(missing)}" if missing else "installed"
        advice = f"Only if you want it: pip install 'edge-vae[{extra}]'" if missing else ""
        yield Check(f"extra {extra}", None if missing else True, found, advice)


def _packages_of_extras() -> dict[str, list[str]]:
    """Names of the packages of every extra, as this installation declares them."""
    packages: dict[str, list[str]] = {}
    for requirement in requires("edge-vae") or []:
        name, extra = re.match(r"[\w.-]+", requirement), re.search(r"""extra == ['"]([\w-]+)['"]""", requirement)
        if name and extra and extra[1] not in NOT_FOR_USERS and name[0] != "edge-vae":
            packages.setdefault(extra[1], []).append(name[0])
    return packages


def _existing(path: Path) -> Path:
    """The path itself if there is something, else the nearest folder above it that exists."""
    absolute = path.absolute()
    return next(place for place in (absolute, *absolute.parents) if _visible(place))


def _visible(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:  # as below /var/lib/private, where systemd keeps the state of a dynamic user
        return False


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version, for comparing: (2, 1) of 2.1.0rc1 and more."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def _mib(size_bytes: int) -> str:
    return f"{size_bytes >> 20} MiB"
