"""A real mosquitto for tests, and a plain mosquitto_sub that listens to it."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

__all__ = ["Mosquitto", "Received", "Subscriber", "free_port"]

DEADLINE_S = 20.0
"""Far beyond what anything here needs; a test that reaches it has failed."""
ADDRESS = "127.0.0.1"
PROBE = "test/probe"
CONFIG = """\
listener {port} {address}
allow_anonymous {anonymous}
persistence false
max_queued_messages 0
log_dest stderr
log_type all
{user}{extra}
"""


class Mosquitto:
    """A broker on a loopback port of its own, in the background, forgetting everything when it ends.

    Args:
        folder: For its configuration and log.
        extra: More lines of configuration, valid for its one listener.
        anonymous: Whether clients without a user name may connect.
    """

    def __init__(self, folder: Path, *, extra: str = "", anonymous: bool = True) -> None:
        self._program = program("mosquitto", package="mosquitto")
        self._folder, self._extra, self._anonymous = folder, extra, anonymous
        self.host, self.port = ADDRESS, free_port()
        self.log = folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Mosquitto:  # noqa: PYI034 (typing.Self is not in Python 3.10)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start on the same port as before; returns when the port accepts connections."""
        # As root mosquitto would change to a user who may not read the test's files.
        user = f"user {pwd.getpwuid(os.getuid()).pw_name}\n" if os.getuid() == 0 else ""
        config = self._folder / "mosquitto.conf"
        anonymous = str(self._anonymous).lower()
        config.write_text(
            CONFIG.format(port=self.port, address=ADDRESS, anonymous=anonymous, user=user, extra=self._extra)
        )
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([self._program, "-c", str(config)], stdout=log, stderr=log)
        process = self._process
        wait_until(lambda: self._accepts(process), "the broker accepts connections")

    def kill(self) -> None:
        """End it at once, as a power cut would; it sends nothing any more."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Let it hang: the kernel still takes connections for it, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        self._signal(signal.SIGCONT)

    def _accepts(self, process: subprocess.Popen[bytes]) -> bool:
        if process.poll() is not None:
            log = self.log.read_text(errors="replace")
            msg = f"mosquitto ended with status {process.returncode}:\n{log}"
            raise AssertionError(msg)
        try:
            socket.create_connection((self.host, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(DEADLINE_S)
            self._process = None


@dataclass(frozen=True)
class Received:
    """A message as mosquitto_sub got it; `retained` is true when the broker had kept it."""

    topic: str
    payload: bytes
    qos: int
    retained: bool


class Subscriber:
    """A running mosquitto_sub that has subscribed when the constructor returns, and what it got.

    Args:
        broker: Listened to.
        topics: Topic filters.
        qos: 0 is enough on one machine, and shows at once what the broker got, even if it is killed then.
        options: More options of mosquitto_sub and mosquitto_pub, as for a password.
    """

    def __init__(self, broker: Mosquitto, *topics: str, qos: int = 0, options: Sequence[str] = ()) -> None:
        where = ["-h", broker.host, "-p", str(broker.port)]
        publish = program("mosquitto_pub", package="mosquitto-clients")
        # The retained probe comes back as the answer to the subscription, so its arrival shows that it is in force.
        probe = [publish, *where, *options, "-t", PROBE, "-r", "-m", "x"]
        subprocess.run(probe, check=True, timeout=DEADLINE_S)
        subscribe = program("mosquitto_sub", package="mosquitto-clients")
        filters = [word for topic in (*topics, PROBE) for word in ("-t", topic)]
        command = [subscribe, *where, *options, "-q", str(qos), "-F", "%r %q %x %t", *filters]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self._messages: list[Received] = []
        self._changed = threading.Condition()
        self._ready = self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        with self._changed:
            assert self._changed.wait_for(lambda: self._ready or self._ended, DEADLINE_S), "no subscription in time"
        assert self._ready, "mosquitto_sub ended before it had subscribed"

    def __enter__(self) -> Subscriber:  # noqa: PYI034 (typing.Self is not in Python 3.10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def messages(self) -> list[Received]:
        """Everything received so far, in order."""
        with self._changed:
            return list(self._messages)

    def wait_for(self, predicate: Callable[[list[Received]], bool], what: str) -> list[Received]:
        """What was received, as soon as the predicate holds for it; fails at the deadline."""
        with self._changed:
            if not self._changed.wait_for(lambda: predicate(self._messages), DEADLINE_S):
                msg = f"not in {DEADLINE_S} s: {what}; received {self._messages[-5:]}"
                raise AssertionError(msg)
            return list(self._messages)

    def wait_for_count(self, count: int) -> list[Received]:
        """What was received, as soon as it is that many messages."""
        return self.wait_for(lambda messages: len(messages) >= count, f"{count} messages")

    def drain(self) -> list[Received]:
        """End the subscription, and everything that had reached it: mosquitto_sub, told to end, reads no more."""
        wait_until(lambda: not _unread_bytes(self._process.pid), "mosquitto_sub to read what the broker had sent")
        self._process.terminate()
        self._process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return self.messages

    def close(self) -> None:
        """End the subscription."""
        self.drain()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            retained, qos, payload, topic = line.decode().rstrip("\n").split(" ", 3)
            with self._changed:
                if topic == PROBE:
                    self._ready = True
                else:
                    self._messages.append(Received(topic, bytes.fromhex(payload), int(qos), retained == "1"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def _unread_bytes(pid: int) -> int:
    """Bytes that have arrived for a process over TCP, also from a peer that is gone, and that it has not read yet."""
    opened = set()
    with contextlib.suppress(FileNotFoundError):  # the process has ended
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed in this moment
                opened.add(link.readlink().name)
    # Columns: number, local, remote, state, sent:received queues, timer, retransmissions, user, timeout, inode.
    connections = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(c[4].partition(":")[2], 16) for c in connections if f"socket:[{c[9]}]" in opened)


def program(name: str, *, package: str) -> str:
    """Path of an installed program; a test without it fails and says what to install."""
    # Beside the interpreter lies what make has unpacked; sbin is not on every user's PATH.
    path = shutil.which(name) or shutil.which(name, path=f"{Path(sys.executable).parent}:/usr/sbin:/usr/local/sbin")
    if path is None:
        msg = f"expected the program {name}, received none. Install it with: sudo apt-get install {package}"
        raise AssertionError(msg)
    return path


def free_port() -> int:
    """A loopback port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return once the condition holds; fail at the deadline. For what is outside this process and notifies nobody."""
    deadline_s = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline_s, f"not in {DEADLINE_S} s: {what}"
        pause.wait(0.002)
