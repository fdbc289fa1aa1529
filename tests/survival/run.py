"""One run of a scenario: an agent with two machines that alarm all the time, a broker, and a proxy between them."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import IO, Literal

from agent_process import EVERY_WINDOW, AgentProcess, pipeline, replay, write_config
from broker import Mosquitto, Subscriber
from plain_bundle import level_of, write_plain_bundle
from serial_wire import Wire
from survival.ledger import Counts, counted
from survival.proxy import Proxy

__all__ = ["ILL", "LIFE_S", "ROWS", "TURN", "WELL", "Run"]

ROWS, TURN = 240, 8
"""Rows of the recording, at ten a second, and after how many of them the machine changes between well and ill."""
SPEED = 20.0
LIFE_S = 1.8
"""An agent takes about this long to start and to play the recording once."""
BOOT_S = 1.7e9
ILL, WELL = level_of(9.0), level_of(0.5)


class Run:
    """What a scenario acts on.

    Args:
        folder: For everything that is written.
        chance: Decides when and how often.
    """

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder, self.chance = folder, chance
        self.environment: dict[str, str] = {}
        self.kills = 0
        self.logged: list[str] = []
        self.given_up: set[str] = set()
        """Events in a store that the scenario damaged."""
        self._stack = ExitStack()
        self.broker = self._stack.enter_context(Mosquitto(folder))
        self.proxy = Proxy(self.broker.port)
        self._stack.callback(self.proxy.close)
        self.bundle = write_plain_bundle(folder / "plain.evb")
        self.state_dir = folder / "state"
        self.config = self.configured("pump-1", "pump-2")

    def close(self) -> None:
        """End what still runs."""
        self._stack.close()

    def configured(
        self,
        *assets: str,
        folder: Path | None = None,
        sources: Mapping[str, dict[str, object]] = MappingProxyType({}),
        severity: str = "warning",
        more: str = "",
    ) -> Path:
        """An `agent.toml` with these machines, which play the recording or have a source of their own."""
        folder = folder or self.folder
        recording(folder / "rows.csv")
        played, alarm = replay(folder / "rows.csv") | {"speed": SPEED}, EVERY_WINDOW | {"severity": severity}
        tables = [pipeline(asset, self.bundle, sources.get(asset, played), alarm=alarm) for asset in assets]
        return write_config(folder, self.proxy.port, *tables, more)

    def agent(
        self, *words: str, config: Path | None = None, stdin: int | IO[bytes] = subprocess.DEVNULL
    ) -> AgentProcess:
        """A fresh agent; to be ended by `kill` or `done`."""
        started = AgentProcess(config or self.config, *words, environment=self.environment, stdin=stdin)
        return self._stack.enter_context(started)

    def subscriber(self, topic: str) -> Subscriber:
        """Listens to the broker itself until the run ends."""
        return self._stack.enter_context(Subscriber(self.broker, topic))

    def wire(self) -> Wire:
        """A serial line."""
        return self._stack.enter_context(Wire(self.folder))

    def mount_state(self) -> None:
        """Give the state directory a file system of its own, in memory; only root can."""
        self.state_dir.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", self.state_dir], check=True)
        self._stack.callback(subprocess.run, ["umount", "-l", self.state_dir], check=True)

    def remount_state(self, how: Literal["ro", "rw"]) -> None:
        """Make it read-only, while nothing is open in it, or writable again."""
        subprocess.run(["mount", "-o", f"remount,{how}", self.state_dir], check=True)

    def some_time(self, most_s: float = LIFE_S) -> None:
        """Let things happen for a random part of this time."""
        time.sleep(self.chance.uniform(0.0, most_s))

    def kill(self, agent: AgentProcess) -> None:
        """End an agent as a power cut would."""
        agent.kill()
        assert "Traceback" not in agent.log, agent.log
        self.proxy.life += 1
        self.kills += 1
        self.logged += agent.stored()

    def kill_broker(self) -> None:
        """End the broker as a power cut would."""
        self.broker.kill()
        self.kills += 1

    def done(self, agent: AgentProcess) -> None:
        """Wait until an agent that was told `--once` has played everything, and delivered it."""
        assert agent.wait() == 0, agent.log
        assert "Traceback" not in agent.log, agent.log
        assert "agent stopped waiting_messages=0" in agent.log, agent.log
        self.logged += agent.stored()

    def settle(self) -> Counts:
        """Let one more agent deliver everything, and count."""
        self.proxy.resume()
        self.done(self.agent("--once"))
        return counted(self.logged, self.proxy.account, kills=self.kills, given_up=self.given_up)


def recording(file: Path) -> None:
    """A machine that is ill every other moment; the first rows are well."""
    lines = [f"{BOOT_S + row / 10},{ILL if row // TURN % 2 else WELL}" for row in range(ROWS)]
    file.write_text("\n".join(["time,level", *lines, ""]))
