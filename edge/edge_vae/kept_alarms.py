"""What is known of an asset's alarms, kept on disk: with each event that tells of them, in the outbox's own file."""

from __future__ import annotations

import logging
import math

import msgspec

from edge_vae.alarm_memory import Memory
from edge_vae.errors import OutboxError
from edge_vae.outbox import Outbox

__all__ = ["KeptAlarms"]

log = logging.getLogger(__name__)

NAME = "alarms"
SAVE_EVERY_S = 600.0
"""A peak that has risen is kept at least this often: an SD card wears with every write."""


class KeptAlarms:
    """The memory of one asset's annunciator.

    Args:
        outbox: Keeps it.
        asset: Whose it is.
    """

    def __init__(self, outbox: Outbox, asset: str) -> None:
        self._outbox, self._asset = outbox, asset
        self._saved: Memory | None = None
        self._saved_s = -math.inf

    def load(self) -> Memory:
        """What was kept; nothing if nothing was, or if it cannot be read, which is logged."""
        kept = self._outbox.kept(self._asset, NAME)
        if kept is None:
            return Memory()
        try:
            return msgspec.msgpack.decode(kept, type=Memory)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("state of the alarms is not read, beginning anew asset=%s error=%s", self._asset, error)
            return Memory()

    def beside(self, memory: Memory | None) -> dict[str, bytes]:
        """What the outbox is to keep with the event that brought this memory."""
        self._saved = memory or self._saved
        return {} if memory is None else {NAME: msgspec.msgpack.encode(memory)}

    def save(self, memory: Memory, now_s: float, *, force: bool = False) -> None:
        """Keep what has changed without an event, if `SAVE_EVERY_S` are over since the last time, or `force`.

        A disk that does not take it is logged.
        """
        if memory is self._saved or (now_s - self._saved_s < SAVE_EVERY_S and not force):
            return
        self._saved, self._saved_s = memory, now_s
        try:
            self._outbox.keep(self._asset, NAME, msgspec.msgpack.encode(memory))
        except OutboxError as error:
            log.warning("state of the alarms is not kept asset=%s error=%s", self._asset, error)
