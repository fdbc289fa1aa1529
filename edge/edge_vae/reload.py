"""A configuration that is read anew while the agent runs: what is different in it, and whether that can be done."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge_vae import notify, toml_file
from edge_vae.command import Outcome
from edge_vae.config import AgentConfig, PipelineConfig
from edge_vae.errors import ConfigError, EdgeVaeError
from edge_vae.source_config import StdinConfig
from edge_vae.toml_table import Mistake

__all__ = ["Changes", "Reload", "changes"]

log = logging.getLogger(__name__)

FIXED = ("node", "mqtt", "outbox", "feedback", "health")
"""Tables that hold from the start of the agent to its end: names of topics, the connection, the files and the port."""

Answer = Callable[[Outcome], object]
"""Is told once whether a new configuration is in force, and what changed or why not."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a new configuration asks for.

    Attributes:
        stay: Assets whose pipelines go on as they are.
        leave: Assets that are watched no longer.
        begin: Pipelines to start, in place of the asset's present one if it has one.
    """

    stay: tuple[str, ...]
    leave: tuple[str, ...]
    begin: tuple[PipelineConfig, ...]

    @property
    def text(self) -> str:
        """The same in a few words."""
        begun = [config.asset for config in self.begin]
        words = [f"started {', '.join(begun)}"] if begun else []
        words += [f"ended {', '.join(self.leave)}"] if self.leave else []
        words += [f"{len(self.stay)} went on unchanged"]
        return ", ".join(words)


def changes(before: AgentConfig, after: AgentConfig, *, running: Mapping[str, str], file: str | Path) -> Changes:
    """What is different in a new configuration.

    A pipeline is also started anew when the file of its bundle holds another bundle.

    Args:
        before: In force.
        after: The new one, which is right by itself.
        running: The SHA-256 of each asset's bundle in use.
        file: Where the new one was read, for the lines of what cannot be done.

    Raises:
        ConfigError: It wants another table of `FIXED`, or another pipeline to read standard input.
    """
    old = {config.asset: config for config in before.pipelines}
    same = {
        config.asset
        for config in after.pipelines
        if config == old.get(config.asset) and running.get(config.asset) == _sha256(config.bundle)
    }
    if mistakes := [*_fixed(before, after), *_stdin(after, same)]:
        raise ConfigError(str(file), toml_file.problems_at(file, mistakes))
    wanted = [config.asset for config in after.pipelines]
    return Changes(
        stay=tuple(asset for asset in wanted if asset in same),
        leave=tuple(asset for asset in old if asset not in wanted),
        begin=tuple(config for config in after.pipelines if config.asset not in same),
    )


def _sha256(bundle: Path) -> str:
    try:
        return hashlib.sha256(bundle.read_bytes()).hexdigest()
    except OSError:
        return ""  # another one than that in use; whoever loads it says what is wrong


def _fixed(before: AgentConfig, after: AgentConfig) -> Iterator[Mistake]:
    for table in FIXED:
        old, new = getattr(before, table), getattr(after, table)
        for field in msgspec.structs.fields(new):
            if getattr(old, field.name) != getattr(new, field.name):
                yield (table, field.encode_name), "expected what it was at the start: restart the agent to change it"


def _stdin(after: AgentConfig, same: set[str]) -> Iterator[Mistake]:
    for index, config in enumerate(after.pipelines):
        if config.asset not in same and any(isinstance(source, StdinConfig) for source in config.sources):
            message = "expected no change where standard input is read, which cannot begin anew: restart the agent"
            yield ("pipeline", index, "source"), message


class Reload:
    """Carries out wishes for a new configuration, in a thread that lives as long as that takes.

    Args:
        apply: Takes the new configuration into force and says what changed; an EdgeVaeError says why nothing did.
    """

    def __init__(self, apply: Callable[[], str]) -> None:
        self._apply = apply
        self._waiting: deque[Answer] = deque()
        self._thread: threading.Thread | None = None

    def ask(self, answer: Answer) -> None:
        """Wish for it, from any thread or from a signal handler; wishes that wait together are one."""
        self._waiting.append(answer)

    def turn(self) -> None:
        """Begin to carry out what was wished, unless that is being done."""
        if self._waiting and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._run, name="reload", daemon=True)
            self._thread.start()

    def join(self) -> None:
        """Wait until what is being done is done."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        answers = [self._waiting.popleft() for _ in range(len(self._waiting))]
        notify.reloading()
        outcome = self._outcome()
        notify.ready()
        notify.status(outcome.message)
        for answer in answers:
            answer(outcome)

    def _outcome(self) -> Outcome:
        try:
            message = self._apply()
        except EdgeVaeError as error:
            log.error("configuration kept, the new one cannot be used error=%s", error)  # noqa: TRY400 (no fault here)
            return Outcome(ok=False, message=f"configuration kept: {error}")
        except Exception as error:
            # A fault of this program; it must not end the agent. What is in force now is not known.
            log.exception("unforeseen while a configuration was read anew")
            return Outcome(ok=False, message=f"fault of this program, restart the agent: {error!r}")
        log.info("configuration in force, read anew changes=%s", message)
        return Outcome(ok=True, message=f"configuration in force: {message}")
