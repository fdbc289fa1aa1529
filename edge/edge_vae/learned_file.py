"""What a pipeline has learned of an asset, kept on disk so that a restart goes on from there."""

from __future__ import annotations

import hashlib
import logging
import math
from pathlib import Path

import msgspec

from edge_vae.pipeline import Learned
from edge_vae.whole_file import replace

__all__ = ["LearnedFile"]

log = logging.getLogger(__name__)

SAVE_EVERY_S = 60.0
"""An SD card wears with every write, and a minute's evidence is no loss."""
MAX_BYTES = 1 << 20
"""A larger file is none of ours: a channel takes some sixty bytes."""


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    asset: str
    bundle: str
    learned: Learned


class LearnedFile:
    """A small JSON file in the state directory, replaced whole.

    Args:
        folder: The state directory.
        asset: Its name, of which the name of the file is made.
        bundle: sha256 of the bundle; what was learned with another bundle is not for this one.
        channels: How many the bundle has.
    """

    def __init__(self, folder: Path, *, asset: str, bundle: str, channels: int) -> None:
        # A hash: an asset's name may be any text, and a longer one than a file's.
        self.path = folder / f"learned-{hashlib.sha256(asset.encode()).hexdigest()[:16]}.json"
        self._asset, self._bundle, self._channels = asset, bundle, channels
        self._saved = Learned()
        self._saved_s, self._failed = -math.inf, False

    def load(self) -> Learned:
        """What was kept; nothing if that was with another bundle, or if it cannot be read, which is logged."""
        try:
            with self.path.open("rb") as file:
                kept = msgspec.json.decode(file.read(MAX_BYTES), type=_Kept)
            kept.learned.expect_channels(self._channels)
        except FileNotFoundError:
            return Learned()
        except (OSError, ValueError, RecursionError) as error:
            log.warning("what was learned is not read, beginning anew asset=%s file=%s error=%s", *self._words(error))
            return Learned()
        if (kept.asset, kept.bundle) != (self._asset, self._bundle):
            log.info("what was learned is of another bundle, beginning anew asset=%s", self._asset)
            return Learned()
        self._saved = kept.learned
        return kept.learned

    def save(self, learned: Learned, now_s: float, *, force: bool = False) -> None:
        """Write what was learned, if it is new and `SAVE_EVERY_S` are over since the last time, or `force`.

        A disk that does not take it is logged once; nothing is raised, since no alarm may depend on it.

        Args:
            learned: What was learned.
            now_s: Monotonic time in seconds.
            force: Do not wait.
        """
        if (now_s - self._saved_s < SAVE_EVERY_S and not force) or learned == self._saved:
            return
        self._saved_s = now_s
        try:
            replace(self.path, msgspec.json.encode(_Kept(self._asset, self._bundle, learned)))
        except OSError as error:
            level = logging.DEBUG if self._failed else logging.WARNING
            log.log(level, "what was learned is not kept asset=%s file=%s error=%s", *self._words(error))
            self._failed = True
        else:
            self._saved, self._failed = learned, False

    def _words(self, error: Exception) -> tuple[str, Path, Exception]:
        return self._asset, self.path, error
