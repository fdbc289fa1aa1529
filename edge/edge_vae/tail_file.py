"""What the threshold of an asset has learned, kept on disk so that a restart goes on from there."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from pathlib import Path

import msgspec

from edge_vae.adapt import TailState

__all__ = ["TailFile"]

log = logging.getLogger(__name__)

SAVE_EVERY_S = 60.0
"""An SD card wears with every write, and a minute's evidence is no loss."""
MAX_BYTES = 4096
"""A larger file is none of ours."""


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    asset: str
    bundle: str
    tail: TailState


class TailFile:
    """A small JSON file in the state directory, replaced whole.

    Args:
        folder: The state directory.
        asset: Its name, of which the name of the file is made.
        bundle: sha256 of the bundle; what was learned with another bundle is not for this one.
    """

    def __init__(self, folder: Path, *, asset: str, bundle: str) -> None:
        # A hash: an asset's name may be any text, and a longer one than a file's.
        self.path = folder / f"tail-{hashlib.sha256(asset.encode()).hexdigest()[:16]}.json"
        self._asset, self._bundle = asset, bundle
        self._saved: TailState | None = None
        self._saved_s, self._failed = -math.inf, False

    def load(self) -> TailState | None:
        """What was kept; None if nothing was, with another bundle, or if it cannot be read, which is logged."""
        try:
            with self.path.open("rb") as file:
                kept = msgspec.json.decode(file.read(MAX_BYTES), type=_Kept)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            log.warning("learned threshold not read, beginning anew asset=%s file=%s error=%s", *self._words(error))
            return None
        if (kept.asset, kept.bundle) != (self._asset, self._bundle):
            log.info("learned threshold is of another bundle, beginning anew asset=%s", self._asset)
            return None
        return kept.tail

    def save(self, tail: TailState, now_s: float, *, force: bool = False) -> None:
        """Write what was learned, if it is new and `SAVE_EVERY_S` are over since the last time, or `force`.

        A disk that does not take it is logged once; nothing is raised, since no alarm may depend on it.

        Args:
            tail: What was learned.
            now_s: Monotonic time in seconds.
            force: Do not wait.
        """
        if tail == self._saved or (now_s - self._saved_s < SAVE_EVERY_S and not force):
            return
        self._saved_s = now_s
        try:
            self._replace(msgspec.json.encode(_Kept(self._asset, self._bundle, tail)))
        except OSError as error:
            level = logging.DEBUG if self._failed else logging.WARNING
            log.log(level, "learned threshold not kept asset=%s file=%s error=%s", *self._words(error))
            self._failed = True
        else:
            self._saved, self._failed = tail, False

    def _replace(self, content: bytes) -> None:
        partial = self.path.with_name(self.path.name + ".part")
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)

    def _words(self, error: Exception) -> tuple[str, Path, Exception]:
        return self._asset, self.path, error
