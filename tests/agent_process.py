"""The real `edge-vae run` in a process of its own: its configuration, its log, and what it tells a service manager."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Any

from broker import DEADLINE_S, Received, Subscriber
from edge_vae.toml_text import literal

__all__ = [
    "EVERY_WINDOW",
    "AgentProcess",
    "events",
    "long_recording",
    "pipeline",
    "replay",
    "statuses",
    "until_goodbye",
    "write_config",
]

SITE, NODE = "plant-1", "gateway-1"
EVERY_WINDOW = {"on_delay": [1, 1], "off_delay": [1, 1], "deadband": 0.0}
"""Alarm rules that turn every crossing of the threshold into an event."""
EDGE_VAE = [sys.executable, "-c", "from edge_vae.cli import main; main()"]
STORED = re.compile(r"event_id=(\w+) seq=\d+")
LOGGED = re.compile(r"alarm (\w+) asset=(\S+) event_id=(\w+)")


def write_config(folder: Path, port: int, *pipelines: str, name: str = "agent.toml") -> Path:
    """An `agent.toml` for a broker on this port; its state is kept in the same folder."""
    node = _table("node", {"site": SITE, "name": NODE, "state_dir": str(folder / "state")})
    path = folder / name
    path.write_text("\n".join([node, _table("mqtt", {"port": port}), *pipelines]))
    return path


def pipeline(asset: str, bundle: Path, source: dict[str, Any], *, alarm: dict[str, Any] | None = None) -> str:
    """One pipeline's tables."""
    tables = [_table("[pipeline]", {"asset": asset, "bundle": str(bundle)}), _table("pipeline.source", source)]
    return "\n".join([*tables, *([_table("pipeline.alarm", alarm)] if alarm else [])])


def replay(path: Path, **more: Any) -> dict[str, Any]:
    """The table of a source that replays a file or folder flat out."""
    return {"type": "replay", "path": str(path), "speed": 0, **more}


def long_recording(rig: Path, folder: Path, *, times: int = 8) -> Path:
    """A folder in which every faulty recording of the rig stands several times: seconds of replay with many alarms."""
    made = folder / "long"
    made.mkdir()
    for number in range(times):
        for file in sorted((rig / "faulty").glob("*.csv")):
            (made / f"{number}-{file.name}").symlink_to(file)
    return made


def _table(name: str, values: dict[str, Any]) -> str:
    return "".join([f"[{name}]\n", *(f"{key} = {literal(value)}\n" for key, value in values.items())])


def events(messages: Iterable[Received]) -> list[dict[str, Any]]:
    """The events among the messages of a subscriber."""
    return [json.loads(message.payload) for message in messages if message.topic.endswith("/event")]


def statuses(messages: Iterable[Received]) -> list[dict[str, Any]]:
    """What the agent, or its last will, said about itself."""
    return [json.loads(message.payload) for message in messages if message.topic.endswith("/status")]


def until_goodbye(subscriber: Subscriber) -> list[Received]:
    """Everything that a subscriber got, once the farewell of an agent that ended well has come: it is the last word."""

    def said(messages: list[Received]) -> bool:
        last = statuses(messages)[-1:]
        return bool(last) and last[0]["state"] == "offline" and last[0]["time"] is not None

    subscriber.wait_for(said, "the agent's farewell")
    return subscriber.drain()


class AgentProcess:
    """A running agent, killed at the end of the block if it has not ended before.

    Args:
        config: Its `agent.toml`.
        words: Further words of the command line.
        stdin: What its standard input is; nothing by default.
        watchdog_s: After so long without a sign its service manager would end it; None: nobody watches.
        environment: More variables of its environment.
    """

    def __init__(
        self,
        config: Path,
        *words: str,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        watchdog_s: float | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        address = f"edge-vae-test-{secrets.token_hex(8)}"
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.bind("\0" + address)
        variables = os.environ | {"NOTIFY_SOCKET": "@" + address} | environment
        if watchdog_s is not None:
            variables["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
        command = [*EDGE_VAE, "run", "--config", str(config), *words]
        self.process = subprocess.Popen(command, stdin=stdin, stderr=subprocess.PIPE, env=variables)
        self._lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> AgentProcess:  # noqa: PYI034 (typing.Self is not in Python 3.10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._manager.close()
        assert self.process.stderr is not None
        self.process.stderr.close()

    @property
    def lines(self) -> list[str]:
        """What it has logged so far."""
        with self._changed:
            return list(self._lines)

    @property
    def log(self) -> str:
        """The same as one text."""
        return "\n".join(self.lines)

    def logged(self, kind: str) -> list[str]:
        """Ids of the events that it has logged so far, of kind `raised` or `cleared`."""
        found = (LOGGED.search(line) for line in self.lines)
        return [match[3] for match in found if match and match[1] == kind]

    def stored(self) -> list[str]:
        """Ids of the events of every kind that it has logged so far, each of which it has stored."""
        found = (STORED.search(line) for line in self.lines)
        return [match[1] for match in found if match]

    def wait_for_log(self, text: str, *, count: int = 1) -> None:
        """Return once so many lines hold this text; fail when it ends without, or at the deadline."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._ended or self._counted(text) >= count, DEADLINE_S)
            assert done, f"not in {DEADLINE_S} s: {text!r} in\n" + "\n".join(self._lines)
            assert self._counted(text) >= count, f"ended without {text!r}:\n" + "\n".join(self._lines)

    def wait_told(self, *words: str) -> list[str]:
        """All that the service manager was told since the last call, once these were among it, in this order."""
        deadline_s, told = time.monotonic() + DEADLINE_S, []
        for word in words:
            told.append(self._next_told(word, deadline_s))
            while told[-1].partition("\n")[0] != word:
                told.append(self._next_told(word, deadline_s))
        return told

    def silent(self, seconds: float) -> bool:
        """Whether the service manager, all that was told until now set aside, is told nothing for so long."""
        with suppress(BlockingIOError):
            self._manager.settimeout(0.0)
            while True:
                self._manager.recv(4096)
        self._manager.settimeout(seconds)
        with suppress(TimeoutError):
            self._manager.recv(4096)
            return False
        return True

    def reload(self) -> None:
        """Have it read its configuration anew."""
        self.process.send_signal(signal.SIGHUP)

    def freeze(self) -> None:
        """Let it stand still."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, as a power cut would; all that it had logged has been read when this returns."""
        self.process.kill()
        self._join()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; its exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Its exit status, as soon as it ends by itself."""
        self._join()
        return self.process.returncode

    def _join(self) -> None:
        try:
            self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired as error:
            msg = f"still running after {DEADLINE_S} s:\n{self.log}"
            raise AssertionError(msg) from error
        self._reader.join(DEADLINE_S)

    def _counted(self, text: str) -> int:
        return sum(text in line for line in self._lines)

    def _next_told(self, word: str, deadline_s: float) -> str:
        self._manager.settimeout(max(deadline_s - time.monotonic(), 0.001))
        try:
            return self._manager.recv(4096).decode()
        except TimeoutError as error:
            msg = f"not in {DEADLINE_S} s: {word}; it logged\n{self.log}"
            raise AssertionError(msg) from error

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self._lines.append(line.decode(errors="replace").rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
