"""Memory of a running agent with one pipeline and its health port, its time to readiness, and its idle processor time.

`python benchmarks/agent_memory.py [BUNDLE DATA] [--json]`; without arguments a bundle is made from the simulated pump
rig first, which takes about a minute. The processor time is that of a minute in which no samples come.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.request import urlopen

LIMIT_MIB = 60.0
LIMIT_READY_S = 1.0
LIMIT_IDLE_PERCENT = 1.0
IDLE_S = 60.0
RUNS = 5
"""Starts that the median time to readiness is taken over."""
DEADLINE_S = 60.0
EDGE_VAE = [sys.executable, "-c", "from edge_vae.cli import main; main()"]
IDLE = 'type = "mqtt"\ntopic = "bench/samples"'
SOURCES = {
    "mqtt, idle": (IDLE, "source connected"),
    "replay": ('type = "replay"\nspeed = 0\npath = "{data}"', "exhausted"),
}
"""Each source, and the word in the log after which everything that it needs is loaded."""
CONFIG = """\
[node]
site = "bench"
name = "bench"
state_dir = "{folder}/state"
[mqtt]
port = {port}
[health]
prometheus = "127.0.0.1:{health}"
[[pipeline]]
asset = "pump"
bundle = "{bundle}"
[pipeline.source]
{source}
"""


@dataclass(frozen=True)
class Figures:
    """What was measured: medians over the runs; `rss_mib` when the work is done, `peak_mib` at any time before.

    `idle_percent` is of one processor, in the last run of a source that gives nothing; None for others.
    """

    source: str
    ready_s: float
    rss_mib: float
    peak_mib: float
    idle_percent: float | None


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("bundle", nargs="?", type=Path, help="made from the simulated rig by default")
    options.add_argument("data", nargs="?", type=Path, help="what is replayed")
    options.add_argument("--json", action="store_true", help="print one JSON document")
    given = options.parse_args()
    if (given.bundle is None) != (given.data is None):
        options.error("expected a bundle and the data to replay, or neither")
    with tempfile.TemporaryDirectory(prefix="edge-vae-bench-") as name:
        folder = Path(name)
        bundle, data = (given.bundle, given.data) if given.bundle else made(folder)
        with broker(folder) as port:
            rows = [measured(source, bundle.resolve(), data.resolve(), folder, port) for source in SOURCES]
    if given.json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    print(f"{'source':<12}{'ready, s':>10}{'RSS, MiB':>10}{'peak, MiB':>11}{'idle CPU, %':>13}")
    for row in rows:
        idle = "-" if row.idle_percent is None else f"{row.idle_percent:.2f}"
        print(f"{row.source:<12}{row.ready_s:>10.2f}{row.rss_mib:>10.1f}{row.peak_mib:>11.1f}{idle:>13}")
    print(f"{'at most':<12}{LIMIT_READY_S:>10.2f}{LIMIT_MIB:>10.1f}{LIMIT_MIB:>11.1f}{LIMIT_IDLE_PERCENT:>13.2f}")


def made(folder: Path) -> tuple[Path, Path]:
    """A bundle of the simulated rig, and the recordings of its faults."""
    rig, run, bundle = folder / "rig", folder / "run", folder / "rig.evb"
    for words in (
        ["simulate", "-o", rig, "--healthy", 3, "--minutes", 4, "--rate", 10],
        ["train", rig / "healthy", "--window", 32, "--stride", 4, "--epochs", 12, "-o", run],
        ["convert", run, "-o", bundle],
    ):
        subprocess.run([*EDGE_VAE, *map(str, words)], check=True, capture_output=True)
    return bundle, rig / "faulty"


@contextmanager
def broker(folder: Path) -> Iterator[int]:
    """The port of a mosquitto that runs for as long as the block."""
    port = free_port()
    with (
        (folder / "mosquitto.log").open("wb") as log,
        subprocess.Popen([mosquitto(), "-p", str(port)], stdout=log, stderr=log) as process,
    ):
        try:
            yield port
        finally:
            process.terminate()


def mosquitto() -> str:
    """The program of the broker."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        sys.exit("expected the program mosquitto, received none. Install it with: sudo apt-get install mosquitto")
    return program


def free_port() -> int:
    """A port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def measured(source: str, bundle: Path, data: Path, folder: Path, port: int) -> Figures:
    """Medians over some runs of an agent with this source."""
    table, done = SOURCES[source]
    config, health = folder / "agent.toml", free_port()
    words = {"folder": folder, "port": port, "health": health, "bundle": bundle, "source": table.format(data=data)}
    config.write_text(CONFIG.format(**words))
    idle_s = [0.0] * (RUNS - 1) + [IDLE_S if table == IDLE else 0.0]
    runs = [one_run(config, folder, done, health, seconds) for seconds in idle_s]
    ready_s, rss_mib, peak_mib = (statistics.median(column) for column in list(zip(*runs, strict=True))[:3])
    idle = runs[-1][3]
    return Figures(source, round(ready_s, 3), round(rss_mib, 1), round(peak_mib, 1), idle)


def one_run(
    config: Path, folder: Path, done: str, health: int, idle_s: float
) -> tuple[float, float, float, float | None]:
    """Seconds from the start of the process to READY, then resident memory and its peak in MiB once all is loaded.

    Then the processor time of so many further seconds, in percent of them; None for no seconds.
    """
    address = folder / "notify"
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(DEADLINE_S)
        started_s = time.monotonic()
        command = [*EDGE_VAE, "run", "--config", str(config)]
        environment = os.environ | {"NOTIFY_SOCKET": str(address)}
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as agent:
            try:
                if manager.recv(4096) != b"READY=1":
                    sys.exit("expected READY=1 from the agent as its first word, received another")
                ready_s = time.monotonic() - started_s
                assert agent.stderr is not None
                wanted = {done, "broker connected", "health port open"}
                while wanted and (line := agent.stderr.readline()):
                    wanted -= {word for word in wanted if word in line}
                urlopen(f"http://127.0.0.1:{health}/metrics").read()  # what it takes to answer belongs to the agent
                memory = memory_mib(agent.pid)
                return ready_s, *memory, idle_percent(agent.pid, idle_s) if idle_s else None
            finally:
                agent.kill()


def idle_percent(pid: int, seconds: float) -> float:
    """Processor time that a process takes in so many seconds, in percent of them."""
    before = cpu_s(pid)
    time.sleep(seconds)
    return round(100 * (cpu_s(pid) - before) / seconds, 2)


def cpu_s(pid: int) -> float:
    """Processor time of a process and its threads until now: user and system time, proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> tuple[float, float]:
    """Resident memory of a process, and its peak."""
    status = Path(f"/proc/{pid}/status").read_text()
    kib = {name: int(size) for name, size in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", status, flags=re.MULTILINE)}
    return kib["VmRSS"] / 1024, kib["VmHWM"] / 1024


if __name__ == "__main__":
    main()
