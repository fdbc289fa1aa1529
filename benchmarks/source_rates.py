"""How many samples a second sources take without a loss: `python benchmarks/source_rates.py [--seconds S] [--json]`.

IIO: another process writes scans of six channels, s16, with a time stamp, at 20 kHz into a FIFO that stands for the
character device; like the kernel it drops what does not fit. MQTT: another process publishes 20,000 rows of six
readings a second through a mosquitto on loopback that keeps as many messages as firmware_config/mosquitto says, in
messages of 100 rows and of one.
Rows are numbered, so each one that is missing is seen. The share of a core is that of the source's process alone.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from edge_vae.broker_config import MqttConfig
from edge_vae.source_config import IioConfig, MqttSourceConfig, SourceConfig
from edge_vae.sources import Source, open_source
from edge_vae.sources.mqtt import MqttSource
from speed_peers.arguments import positive

RATE_HZ = 20_000
CHANNELS = ("n", "a", "b", "c", "d", "e")
TURN_S = 0.001
"""The feeding process gives what is due this often."""
SILENCE_S = 1.0
"""The source has everything that it will get when nothing has come for so long after the end."""
PIPE_BYTES = 2**20
"""About as much as the kernel keeps in the buffer that the agent sets up: two seconds."""
SCAN = np.dtype([("channels", "<i2", 6), ("padding", "V4"), ("stamp", "<i8")])
TOPIC = "rates/rows"
QUEUED_MESSAGES = 100_000
"""Of QoS 1; by default mosquitto keeps 1,000 for a client, which are those of 50 ms."""
WRAP = 2**16
"""Rows are numbered up to this, then from 0 again."""


@dataclass(frozen=True)
class Figures:
    """What became of the rows of one case.

    Attributes:
        case: What was fed.
        sent: Rows that were due.
        lost: Those of them that did not come.
        jumps: Steps from one row to the next that are not to the next number.
        behind_s: From when the last row was sent to when it came.
        core: Part of a core that the process of the source took.
    """

    case: str
    sent: int
    lost: int
    jumps: int
    behind_s: float
    core: float


def main() -> int:
    """Exit status: 0 nothing was lost, 1 something was."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=positive, default=5.0, help="time of each case [default: 5]")
    options.add_argument("--rate", type=int, default=RATE_HZ, help=f"rows a second [default: {RATE_HZ}]")
    options.add_argument("--only", default="", metavar="TEXT", help="cases whose name holds it")
    options.add_argument("--json", action="store_true", help="print one JSON document")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="edge-vae-bench-") as name, broker(Path(name)) as port:
        found = [case for case in cases(Path(name), port) if given.only in case[0]]
        rows = [measured(*case, rate=given.rate, seconds=given.seconds) for case in found]
    if given.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        print(f"{'':<32}{'rows sent':>11}{'lost':>9}{'jumps':>9}{'behind, s':>11}{'of a core':>11}")
        for row in rows:
            print(f"{row.case:<32}{row.sent:>11}{row.lost:>9}{row.jumps:>9}{row.behind_s:>11.2f}{row.core:>11.0%}")
    return int(any(row.lost or row.jumps for row in rows))


def cases(
    folder: Path, port: int
) -> Iterator[tuple[str, SourceConfig, MqttConfig, Callable[..., None], tuple[object, ...]]]:
    """Name of each case, its source, and what feeds it."""
    mqtt = MqttConfig(port=port)
    yield "iio, six channels and stamp", iio_config(folder), mqtt, feed_scans, (folder / "dev/iio:device0",)
    for form in ("jsonl", "csv"):
        for each in (100, 1):
            for qos in (0, 1):
                name = f"mqtt, {form}, {each} a message, QoS {qos}"
                config = MqttSourceConfig(topic=TOPIC, format=form)  # type: ignore[arg-type] # a literal of the two
                yield name, config, mqtt, feed_messages, (port, form, each, qos)


def measured(
    case: str, config: SourceConfig, mqtt: MqttConfig, feed: Callable[..., None], where: tuple[object, ...],
    *, rate: int, seconds: float,
) -> Figures:  # fmt: skip
    """Feed a source for some seconds, and count."""
    source = open_source(config, mqtt=mqtt, rate_hz=float(rate))
    source.open(CHANNELS)
    ready = source.wait_subscribed if isinstance(source, MqttSource) else source.wait_connected  # type: ignore[attr-defined]
    if not ready(10.0):
        sys.exit(f"expected a source that is connected, received {getattr(source, 'failure', 'none')}")
    context = get_context("spawn")
    pipe, end = context.Pipe(duplex=False)
    feeder = context.Process(target=feed, args=(*where, rate, seconds, end), daemon=True)
    feeder.start()
    pipe.recv()
    cpu_s, began_s = time.process_time(), time.monotonic()
    numbers, last_s = drained(source, pipe.poll)
    core = (time.process_time() - cpu_s) / (time.monotonic() - began_s - SILENCE_S)
    ended_s, sent = pipe.recv()
    source.close()
    feeder.kill()
    jumps = int(np.count_nonzero(np.diff(numbers) % WRAP != 1))
    return Figures(case, sent, sent - len(numbers), jumps, round(max(last_s - ended_s, 0.0), 3), round(core, 3))


def drained(source: Source, ended: Callable[[], bool]) -> tuple[np.ndarray, float]:
    """The numbers of all rows, and when the last of them came."""
    pieces, last_s = [np.empty(0)], time.monotonic()
    while not ended() or time.monotonic() - last_s < SILENCE_S:
        for block in source.read(0.1):
            pieces.append(block.values[:, 0])
            last_s = time.monotonic()
    return np.concatenate(pieces), last_s


def paced(rate: int, seconds: float) -> Iterator[tuple[int, int]]:
    """First and last number of the rows that are due, as they become due."""
    done, total, began_s = 0, int(rate * seconds), time.monotonic()
    while done < total:
        due = min(int((time.monotonic() - began_s) * rate), total)
        if due > done:
            yield done, due
            done = due
        time.sleep(TURN_S)


def iio_config(folder: Path) -> IioConfig:
    """A device of six channels, as a folder of files and a FIFO."""
    device = folder / "sys/bus/iio/devices/iio:device0"
    files = {"name": "adc", "in_voltage_scale": "0.0001", "current_timestamp_clock": "realtime"}
    files |= {"buffer/enable": "0", "buffer/length": "2", "buffer/watermark": "1"}
    for index in range(len(CHANNELS)):
        files |= scan_element(f"voltage{index}", "le:s16/16>>0", index)
    for name, value in (files | scan_element("timestamp", "le:s64/64>>0", len(CHANNELS))).items():
        (device / name).parent.mkdir(parents=True, exist_ok=True)
        (device / name).write_text(value)
    (device / "in_voltage0_scale").write_text("1")  # it holds the number
    (folder / "dev").mkdir()
    os.mkfifo(folder / "dev/iio:device0")
    os.open(folder / "dev/iio:device0", os.O_RDWR)  # held open: without a writer a FIFO is at its end
    channels = {channel: f"voltage{index}" for index, channel in enumerate(CHANNELS)}
    return IioConfig(device="adc", channels=channels, root=folder / "sys", dev=folder / "dev")


def scan_element(name: str, kind: str, index: int) -> dict[str, str]:
    """The files of one element and what they hold."""
    return {
        f"scan_elements/in_{name}_{what}": value
        for what, value in {"en": "0", "type": kind, "index": f"{index}"}.items()
    }


def feed_scans(node: Path, rate: int, seconds: float, end: Connection) -> None:
    """Write scans as they become due; what the FIFO does not take is gone."""
    fifo = os.open(node, os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(fifo, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    end.send("begins")
    done = 0
    for first, done in paced(rate, seconds):
        scans = np.zeros(done - first, SCAN)
        scans["channels"][:, 0] = np.arange(first, done) % WRAP
        scans["stamp"] = time.time_ns() - np.arange(done - first)[::-1] * 1_000_000_000 // rate
        try:
            os.write(fifo, scans.tobytes())
        except BlockingIOError:
            continue
    end.send((time.monotonic(), done))


def feed_messages(port: int, form: str, each: int, qos: int, rate: int, seconds: float, end: Connection) -> None:
    """Publish rows as they become due, by a client that costs next to nothing."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(packet(0x10, text("MQTT") + b"\x04\x02\x00\x00" + text("rates")))
        connection.recv(4)
        threading.Thread(target=ignore_answers, args=(connection,), daemon=True).start()
        end.send("begins")
        done = queued = 0
        for _, due in paced(rate, seconds):
            messages = []
            while done + each <= due:
                rows = "\n".join(row(form, number) for number in range(done, done + each))
                head = text(TOPIC) + ((queued % 65535 + 1).to_bytes(2, "big") if qos else b"")
                messages.append(packet(0x30 | qos << 1, head + rows.encode()))
                done, queued = done + each, queued + 1
            connection.sendall(b"".join(messages))
        end.send((time.monotonic(), done))
        signal.pause()


def row(form: str, number: int) -> str:
    """One row of six readings and a time."""
    readings = [number % WRAP, 1.234, 56.78, -0.125, 1013.25, 21.5]
    if form == "csv":
        return f"{time.time():.6f}," + ",".join(map(str, readings))
    return json.dumps({"time": time.time(), **dict(zip(CHANNELS, readings, strict=True))})


def packet(kind: int, body: bytes) -> bytes:
    """An MQTT packet (MQTT 3.1.1, 2.2)."""
    size, length = len(body), b""
    while True:
        size, digit = divmod(size, 128)
        length += bytes([digit | (0x80 if size else 0)])
        if not size:
            return bytes([kind]) + length + body


def text(value: str) -> bytes:
    """A string of MQTT, its length in front."""
    return len(value).to_bytes(2, "big") + value.encode()


def ignore_answers(connection: socket.socket) -> None:
    """Read what the broker acknowledges, so that it is not held up."""
    with contextlib.suppress(OSError):
        while connection.recv(2**16):
            pass


@contextmanager
def broker(folder: Path) -> Iterator[int]:
    """The port of a mosquitto that runs for as long as the block."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        sys.exit("expected the program mosquitto, received none. Install it with: sudo apt-get install mosquitto")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages {QUEUED_MESSAGES}\n")
    with (
        (folder / "mosquitto.log").open("wb") as log,
        subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log) as process,
    ):
        try:
            yield port
        finally:
            process.terminate()


if __name__ == "__main__":
    sys.exit(main())
