"""Hours of an agent with eight machines, played fast: does its memory stay, and how much does it write?

`python benchmarks/soak.py [--minutes 120] [--json]`; bundle and recordings of a simulated pump rig are made first.
The broker is killed every ten minutes and comes back after one, so that the store of messages fills and empties.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from agent_load import HEAD
from agent_memory import EDGE_VAE, cpu_s, free_port, made, memory_mib, mosquitto

PIPELINES = 8
SPEED = 20.0
EVERY_S = 5.0
BROKER_EVERY_S, BROKER_AWAY_S = 600.0, 60.0
DAY_S = 86_400.0
RATE_HZ = 10.0
PIPELINE = """\
[[pipeline]]
asset = "pump-{number}"
bundle = "{bundle}"
[pipeline.source]
type = "replay"
path = "{path}"
speed = {speed}
"""


@dataclass(frozen=True)
class Sample:
    """What /proc says of the agent at a moment."""

    at_s: float
    rss_mib: float
    descriptors: int
    threads: int
    written_bytes: int
    events: int
    cpu_s: float


@dataclass(frozen=True)
class Figures:
    """What became of the hours.

    Attributes:
        hours: As long as it ran.
        recorded_days: As much did the eight machines live in that time, together.
        rss_mib: Resident memory at the end.
        rss_slope: Of the second half, in MiB an hour: a straight line through all samples.
        descriptors: Fewest and most, without those of the first minute.
        threads: The same.
        events: Alarms, ends of alarms and other events that were stored.
        written_mib: By the agent, as the kernel counts it.
        event_bytes: Written for each event, and
        idle_day_mib: in a day without any: a plane through what was written by time and by events.
        core: Part of one core.
    """

    hours: float
    recorded_days: float
    rss_mib: float
    rss_slope: float
    descriptors: tuple[int, int]
    threads: tuple[int, int]
    events: int
    written_mib: float
    event_bytes: int
    idle_day_mib: float
    core: float


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=120.0, help="how long")
    options.add_argument("--json", action="store_true", help="print one JSON document")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="edge-vae-soak-") as name:
        folder = Path(name)
        bundle, faulty = made(folder)
        port = free_port()
        config = folder / "agent.toml"
        played = recordings(folder, faulty, hours=given.minutes / 60 * SPEED)
        tables = [
            PIPELINE.format(number=number, bundle=bundle, path=played, speed=SPEED) for number in range(PIPELINES)
        ]
        config.write_text(HEAD.format(folder=folder, port=port) + "".join(tables))
        samples = soaked(config, folder, port, given.minutes * 60)
    found = figures(samples)
    print(json.dumps(asdict(found)) if given.json else table(found))


def recordings(folder: Path, faulty: Path, *, hours: float) -> Path:
    """A folder in which every recording of the rig stands as often as it takes to last for so long."""
    made_in = folder / "recordings"
    made_in.mkdir()
    files = sorted([*faulty.glob("*.csv"), *(faulty.parent / "healthy").glob("*.csv")])
    minutes = 0.0
    for number in itertools.count():
        file = files[number % len(files)]
        (made_in / f"{number:06d}-{file.name}").symlink_to(file)
        with file.open("rb") as rows:
            minutes += sum(1 for _ in rows) / RATE_HZ / 60
        if minutes > hours * 60 * 1.1:
            return made_in
    raise AssertionError


def soaked(config: Path, folder: Path, port: int, seconds: float) -> list[Sample]:
    """Samples of a running agent, while its broker comes and goes."""
    events = itertools.count()
    stored = [0]
    with subprocess.Popen([*EDGE_VAE, "run", "--config", str(config)], stderr=subprocess.PIPE) as agent:

        def read() -> None:
            for line in agent.stderr or []:
                if b"event_id=" in line:
                    stored[0] = next(events) + 1

        threading.Thread(target=read, daemon=True).start()
        begun_s, samples, broker = time.monotonic(), [], None
        try:
            while (now_s := time.monotonic() - begun_s) < seconds:
                away = now_s % BROKER_EVERY_S > BROKER_EVERY_S - BROKER_AWAY_S
                if away and broker is not None:
                    broker.kill()
                    broker.wait()
                    broker = None
                elif not away and broker is None:
                    broker = started_broker(folder, port)
                samples.append(sample(agent.pid, now_s, stored[0]))
                if agent.poll() is not None:
                    sys.exit(f"expected an agent that runs on, received status {agent.returncode} after {now_s:.0f} s")
                time.sleep(EVERY_S)
        finally:
            agent.kill()
            if broker is not None:
                broker.kill()
                broker.wait()
    return samples


def started_broker(folder: Path, port: int) -> subprocess.Popen[bytes]:
    with (folder / "mosquitto.log").open("ab") as log:
        return subprocess.Popen([mosquitto(), "-p", str(port)], stdout=log, stderr=log)


def sample(pid: int, at_s: float, events: int) -> Sample:
    """What /proc says of a process."""
    process = Path(f"/proc/{pid}")
    written = re.search(r"^write_bytes: (\d+)$", (process / "io").read_text(), flags=re.MULTILINE)
    assert written is not None
    return Sample(
        at_s, memory_mib(pid)[0], len(list((process / "fd").iterdir())), len(list((process / "task").iterdir())),
        int(written[1]), events, cpu_s(pid),
    )  # fmt: skip


def figures(samples: list[Sample]) -> Figures:
    times = np.array([s.at_s for s in samples])
    rss = np.array([s.rss_mib for s in samples])
    late = times > times[-1] / 2
    slope = float(np.polyfit(times[late] / 3600, rss[late], 1)[0])
    settled = [s for s in samples if s.at_s > 60]
    events = np.array([s.events for s in samples])
    written = np.array([s.written_bytes for s in samples], dtype=float)
    (idle_s, event), *_ = np.linalg.lstsq(np.stack([times, events], axis=1), written - written[0], rcond=None)
    hours = float(times[-1]) / 3600
    return Figures(
        hours=round(hours, 2), recorded_days=round(hours * SPEED * PIPELINES / 24, 1), rss_mib=round(float(rss[-1]), 1),
        rss_slope=round(slope, 2), descriptors=spread([s.descriptors for s in settled]),
        threads=spread([s.threads for s in settled]), events=int(events[-1]),
        written_mib=round(float(written[-1]) / 2**20, 1), event_bytes=round(float(event)),
        idle_day_mib=round(float(idle_s) * DAY_S / 2**20, 1),
        core=round((samples[-1].cpu_s - samples[0].cpu_s) / float(times[-1]), 3),
    )  # fmt: skip


def spread(counts: list[int]) -> tuple[int, int]:
    """Fewest and most."""
    return min(counts), max(counts)


def table(found: Figures) -> str:
    lived, (descriptors, threads) = f"{found.recorded_days:g} days of a machine", (found.descriptors, found.threads)
    lines = [
        f"{PIPELINES} pipelines for {found.hours:g} h, {SPEED:g} times as fast as life: {lived}",
        f"memory       {found.rss_mib:g} MiB resident, {found.rss_slope:+g} MiB an hour in the second half",
        f"descriptors  {descriptors[0]} to {descriptors[1]}; threads {threads[0]} to {threads[1]}",
        f"written      {found.written_mib:g} MiB for {found.events} events: {found.event_bytes} bytes for each",
        f"             and {found.idle_day_mib:g} MiB a day without any",
        f"one core     {100 * found.core:.1f} %",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
