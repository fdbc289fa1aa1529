"""Repairing an outbox without its agent."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Any

from edge_vae import clock
from edge_vae.config import AgentConfig, OutboxConfig
from edge_vae.event import notice_maker
from edge_vae.outbox import Outbox
from edge_vae.outbox_view import fault
from edge_vae.stamp import Stamper
from edge_vae.topics import Topics

__all__ = ["repair"]


def repair(folder: Path, config: AgentConfig | None) -> dict[str, Any]:
    """Do what the agent does with a damaged file when it starts: messages saved, and where the damaged file went.

    Args:
        folder: The agent's state directory.
        config: Names the assets that are told of the damage; without it those whose messages could be saved are.

    Raises:
        OutboxError: There is no file, the agent uses it, or it cannot be written.
    """
    fault(folder)  # one line if there is no file, instead of a new one
    limits = OutboxConfig() if config is None else config.outbox
    assets = {}
    if config is not None:
        topics = Topics(config.mqtt.base_topic, config.node.site, config.node.name)
        assets = {pipeline.asset: topics.event(pipeline.asset) for pipeline in config.pipelines}
    opened = Outbox(
        folder,
        assets=assets,
        notice=notice_maker(Stamper(clock.boot_id())),
        max_bytes=limits.max_bytes,
        on_full=limits.on_full,
    )
    with closing(opened) as outbox:
        moved_to, messages = outbox.moved_to, outbox.count
        salvaged = outbox.salvaged.messages.total() if outbox.salvaged else None
    _give_to_owner(folder)
    return {"moved_to": None if moved_to is None else str(moved_to), "salvaged": salvaged, "messages": messages}


def _give_to_owner(folder: Path) -> None:
    """Root repairs, and the agent runs as somebody else: the new files go to whom the folder belongs."""
    if os.geteuid() != 0:
        return
    owner = folder.stat()
    for path in folder.glob("outbox.*"):
        os.chown(path, owner.st_uid, owner.st_gid)
