"""What a running agent carries: how late an alarm reaches a subscriber, and how many machines one core watches.

`python benchmarks/agent_load.py [--only latency pipelines] [--json]`; bundles of six channels at 1 kHz, windows of 64
samples, are made from the simulated pump rig first, which takes about a minute.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import paho.mqtt.client as paho
import pandas as pd
from paho.mqtt.enums import CallbackAPIVersion

from agent_memory import EDGE_VAE, broker, cpu_s, memory_mib
from speed_peers.bundles import CHANNELS, LENGTH

RATE_HZ = 1000
LATENCY_STRIDE = 10
"""A hundred windows a second."""
LATENCY_MS = 20.0
PIPELINES = 200
BEHIND_S = 0.5
"""A pipeline that ends so long after its recording did not fall behind: each began to play after its start."""
TOGGLE = 200
"""Samples from one fault to its end and to the next: five alarms and five ends of alarms a second."""
HEAD = """\
[node]
site = "bench"
name = "bench"
state_dir = "{folder}/state"
[mqtt]
port = {port}
"""
PIPELINE = """\
[[pipeline]]
asset = "{asset}"
bundle = "{bundle}"
[pipeline.alarm]
on_delay = [1, 1]
off_delay = [1, 1]
[pipeline.drift]
detect = false
[pipeline.source]
{source}
"""


@dataclass(frozen=True)
class Latency:
    """Milliseconds from the time of a window's last sample to the message at a subscriber, over many events."""

    events: int
    windows_per_second: float
    p50_ms: float
    p99_ms: float
    most_ms: float


@dataclass(frozen=True)
class Load:
    """Machines that one core was given.

    Attributes:
        pipelines: How many.
        stride: Samples from one window to the next.
        windows_per_second: Of all of them.
        core: Part of the core that the agent took while all recordings played.
        behind_s: Seconds after the end of the recordings until the last pipeline was through.
        rss_mib: Resident memory.
    """

    pipelines: int
    stride: int
    windows_per_second: float
    core: float
    behind_s: float
    rss_mib: float


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", nargs="+", choices=["latency", "pipelines"], default=["latency", "pipelines"])
    options.add_argument("--seconds", type=float, default=20.0, help="how long each part runs")
    options.add_argument(
        "--pipelines", type=int, nargs="+", default=[PIPELINES], help="how many machines one core gets"
    )
    options.add_argument("--stride", type=int, nargs="+", default=[LENGTH], help="samples from one window to the next")
    options.add_argument("--models", type=Path, help="where bundles are kept from run to run")
    options.add_argument("--json", action="store_true", help="print one JSON document")
    given = options.parse_args()
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="edge-vae-bench-") as name, broker(Path(name)) as port:
        folder, models = Path(name), given.models or Path(name) / "models"
        if "latency" in given.only:
            bundle = made(models, LATENCY_STRIDE)
            found["latency"] = asdict(latency(bundle, models, folder / "latency", port, given.seconds))
        if "pipelines" in given.only:
            pairs = itertools.product(given.stride, given.pipelines)
            rows = [load(models, folder / f"{s}-{n}", port, stride=s, count=n, seconds=given.seconds) for s, n in pairs]
            found["pipelines"] = [asdict(row) for row in rows]
    print(json.dumps(found) if given.json else table(found))


def made(models: Path, stride: int) -> Path:
    """The bundle with this stride, trained where it is missing; its weights do not matter."""
    bundle = models / f"stride-{stride}.evb"
    if bundle.exists():
        return bundle
    run = models / f"stride-{stride}"
    shape = ["--window", LENGTH, "--stride", stride, "--channels", ",".join(CHANNELS), "--epochs", 2]
    edge_vae("train", recordings(models), *shape, "-o", run)
    edge_vae("convert", run, "--no-gate", "-o", bundle)
    return bundle


def edge_vae(*words: object) -> None:
    subprocess.run([*EDGE_VAE, *map(str, words)], check=True, capture_output=True)


def recordings(models: Path) -> Path:
    """Three healthy recordings; the rig is simulated at its highest rate, and played as if it were 1 kHz."""
    file, rig = models / "healthy.npz", models / "rig"
    if not file.exists():
        edge_vae("simulate", "-o", rig, "--healthy", 3, "--faulty", 0, "--minutes", 10, "--rate", 50)
        tables = [pd.read_csv(run, usecols=list(CHANNELS)) for run in sorted((rig / "healthy").iterdir())]
        values = np.stack([run[list(CHANNELS)].to_numpy(np.float32) for run in tables])
        np.savez(file, X=values, channels=np.array(CHANNELS), rate_hz=float(RATE_HZ))
    return file


def healthy(models: Path) -> np.ndarray:
    """A healthy recording (samples, channels)."""
    with np.load(recordings(models)) as stored:
        values: np.ndarray = stored["X"][0].astype(np.float64)
    return values


@contextmanager
def agent(
    config: Path, *words: str, stdin: int = subprocess.DEVNULL, core: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    pinned = ["taskset", "-c", str(core)] if core is not None else []
    command = [*pinned, *EDGE_VAE, "run", "--config", str(config), *words]
    with subprocess.Popen(command, stdin=stdin, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def latency(bundle: Path, models: Path, folder: Path, port: int, seconds: float) -> Latency:
    """A machine at 1 kHz whose faults come and go, each sample stamped as it is written into the agent's input."""
    folder.mkdir()
    config = folder / "agent.toml"
    config.write_text(
        HEAD.format(folder=folder, port=port)
        + PIPELINE.format(asset="pump", bundle=bundle, source='type = "stdin"\nformat = "csv"')
    )
    took_ms: list[float] = []

    def on_message(_client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        now_s, event = time.time(), json.loads(message.payload)
        if event["event"] in ("raised", "cleared"):
            took_ms.append((now_s - datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()) * 1e3)

    subscriber = paho.Client(CallbackAPIVersion.VERSION2)
    subscriber.on_message = on_message
    subscriber.connect("127.0.0.1", port)
    subscriber.subscribe("edge-vae/bench/bench/pump/event", qos=1)
    subscriber.loop_start()
    with agent(config, stdin=subprocess.PIPE) as process:
        threading.Thread(target=lambda: list(process.stderr or []), daemon=True).start()
        time.sleep(3)
        write(process, healthy(models), seconds)
        time.sleep(1)
    subscriber.loop_stop()
    if not took_ms:
        sys.exit("expected events, received none")
    return Latency(
        len(took_ms), RATE_HZ / LATENCY_STRIDE, *(round(float(np.percentile(took_ms, q)), 2) for q in (50, 99, 100))
    )


def write(process: subprocess.Popen[bytes], rows: np.ndarray, seconds: float) -> None:
    assert process.stdin is not None
    process.stdin.write(("time," + ",".join(CHANNELS) + "\n").encode())
    wrong = 10 * rows.std(axis=0)
    begun_s = time.monotonic()
    for number in range(int(seconds * RATE_HZ)):
        time.sleep(max(0.0, begun_s + number / RATE_HZ - time.monotonic()))
        row = rows[number % len(rows)] + (wrong if number // TOGGLE % 2 else 0.0)
        process.stdin.write((f"{time.time():.6f}," + ",".join(f"{value:.6g}" for value in row) + "\n").encode())
        process.stdin.flush()


def load(models: Path, folder: Path, port: int, *, stride: int, count: int, seconds: float) -> Load:
    """As many machines as that, each playing a recording at 1 kHz, on one core; the broker has the other."""
    folder.mkdir()
    bundle, rows = made(models, stride), healthy(models)
    samples = int(seconds * RATE_HZ)
    tiled = np.tile(rows, (samples // len(rows) + 1, 1))[:samples]
    np.savez(folder / "rows.npz", X=tiled.astype(np.float32), channels=np.array(CHANNELS), rate_hz=float(RATE_HZ))
    source = f'type = "replay"\npath = "{folder}/rows.npz"'
    tables = [PIPELINE.format(asset=f"pump-{number}", bundle=bundle, source=source) for number in range(count)]
    (folder / "agent.toml").write_text(HEAD.format(folder=folder, port=port) + "".join(tables))
    first_s, last_s, ended, windows, rss_mib = 0.0, 0.0, 0, 0, 0.0
    cores = sorted(os.sched_getaffinity(0))
    with agent(folder / "agent.toml", "--once", core=cores[-1]) as process:
        for line in process.stderr or []:
            if b"agent ready" in line:
                first_s = time.monotonic()
                before_s = cpu_s(process.pid)
            if match := re.search(rb"source exhausted .* windows=(\d+)", line):
                ended, windows, last_s = ended + 1, windows + int(match[1]), time.monotonic()
                if ended == 1:
                    rss_mib, used_s = memory_mib(process.pid)[0], cpu_s(process.pid) - before_s
        process.wait()
    if ended < count or not first_s:
        sys.exit(f"expected {count} pipelines to end, received {ended}")
    return Load(
        count,
        stride,
        round(windows / seconds, 1),
        round(used_s / seconds, 3),
        round(last_s - first_s - seconds, 2),
        round(rss_mib, 1),
    )


def table(found: dict[str, object]) -> str:
    lines = []
    if isinstance(one := found.get("latency"), dict):
        what, times = "{events} alarms raised and cleared at {windows_per_second:g} windows a second", "p50 {p50_ms} ms"
        lines.append(f"{what}, from the last sample to a subscriber:".format(**one))
        lines.append(f"  {times}, p99 {{p99_ms}} ms (at most {LATENCY_MS:g}), longest {{most_ms}} ms".format(**one))
    if isinstance(rows := found.get("pipelines"), list):
        lines.append(f"{'pipelines':>9}{'stride':>8}{'windows/s':>11}{'core':>7}{'behind, s':>11}{'RSS, MiB':>10}")
        row_of = "{pipelines:>9}{stride:>8}{windows_per_second:>11.0f}{core:>7.2f}{behind_s:>11.2f}{rss_mib:>10.1f}"
        lines += [row_of.format(**row) for row in rows]
        lines.append(f"carried where behind is at most {BEHIND_S:g} s")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
