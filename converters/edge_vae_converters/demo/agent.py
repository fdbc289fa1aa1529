"""The agent of the demo: a configuration as an engineer would write it, and `edge-vae run` in a process of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_vae.broker_config import DEFAULT_BASE_TOPIC, MqttConfig
from edge_vae.config import AgentConfig, NodeConfig, PipelineConfig, effective
from edge_vae.errors import EdgeVaeError
from edge_vae.source_config import ReplayConfig
from edge_vae.topics import Topics
from edge_vae_converters.demo.child import child, last_words
from edge_vae_converters.demo.plan import Plan

__all__ = ["STATUS_TOPIC", "Agent", "agent", "agent_config"]

SITE, NODE = "demo", "gateway"
STATUS_TOPIC = Topics(DEFAULT_BASE_TOPIC, SITE, NODE).status
"""Where the agent says that it comes and goes."""
RUN = "from edge_vae.cli import main; main()"
"""What the `edge-vae` program does, by the very interpreter that runs the demo."""


class Agent:
    """A running agent.

    Args:
        process: Of `edge-vae run`.
        log: What it writes.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self._log = process, log

    @property
    def ended(self) -> bool:
        """Whether it has replayed everything and delivered every message.

        Raises:
            EdgeVaeError: It failed.
        """
        status = self._process.poll()
        if status:
            raise EdgeVaeError(
                "the agent failed",
                expected="exit status 0",
                received=f"{status}: {last_words(self._log)}",
                action=f"See {self._log}.",
            )
        return status == 0


def agent_config(
    state: Path, mqtt: MqttConfig, bundle: Path, plan: Plan, *, speed: float, rate_hz: float
) -> AgentConfig:
    """A configuration with one pipeline for each watched file, all replayed at the same time.

    Args:
        state: The agent's state directory.
        mqtt: The broker.
        bundle: Judges every file.
        plan: Files and assets.
        speed: Of the replay.
        rate_hz: Of recordings without times.
    """
    time = plan.settings.data.time
    return AgentConfig(
        node=NodeConfig(site=SITE, name=NODE, state_dir=state.absolute()),
        mqtt=mqtt,
        pipelines=tuple(
            PipelineConfig(
                asset=file.asset,
                bundle=bundle.absolute(),
                source=ReplayConfig(path=file.path.absolute(), speed=speed, rate_hz=rate_hz, time=time),
            )
            for file in plan.watch
        ),
    )


@contextmanager
def agent(config: AgentConfig, folder: Path) -> Iterator[Agent]:
    """The agent, running with a fresh state directory, ended when the context is left.

    Args:
        config: Written to `agent.toml`.
        folder: For that file and for the agent's log.
    """
    shutil.rmtree(config.node.state_dir, ignore_errors=True)
    file, log = folder / "agent.toml", folder / "agent.log"
    file.write_text(effective(config), encoding="utf-8")
    with child([sys.executable, "-c", RUN, "run", "--config", str(file), "--once"], log) as process:
        yield Agent(process, log)
