"""The folder that the demo writes to, and never another one."""

from __future__ import annotations

from pathlib import Path

from edge_vae.errors import EdgeVaeError

__all__ = ["MARK", "claim"]

MARK = "demo.json"
"""Tells a folder of the demo from all others; after the demo it holds what `--json` prints."""


def claim(folder: Path) -> None:
    """Make the folder, or take that of an earlier demo.

    Raises:
        EdgeVaeError: It holds something else, which the demo would write over.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file()):
        what = f"folder {folder}"
        raise EdgeVaeError(
            what,
            expected="a new or empty one, or that of an earlier demo",
            received="one that holds something else",
            action="Choose another one with -o.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text("{}\n", encoding="utf-8")
