"""Files that are replaced whole: whoever reads one finds the old content or the new, also after a power cut."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["replace"]


def replace(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Put a file with this content in the place of the one that is there, if one is.

    Args:
        path: Of the file; `<name>.part` beside it is written first.
        content: All of it.
        sync: Wait until the content is on the disk, so that a power cut leaves no empty file.

    Raises:
        OSError: It cannot be written; the old file is as it was.
    """
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as file:
        file.write(content)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    partial.replace(path)
