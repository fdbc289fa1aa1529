"""Files of the service put in place: what is there already is compared first, and never overwritten unasked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path, PurePosixPath
from typing import Literal

from edge_vae.service import EXAMPLES, File

__all__ = ["Comparison", "compare", "difference", "present", "remove", "write"]

State = Literal["new", "same", "differs", "kept"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A file that should be there, what is, and the text that is."""

    file: File
    state: State
    found: str = ""


def compare(files: Iterable[File], root: Path) -> list[Comparison]:
    """What is there of every file.

    Raises:
        OSError: A file is there and cannot be read.
    """
    return [_compared(file, file.under(root)) for file in files]


def difference(comparison: Comparison, root: Path) -> str:
    """What is there (-) and what would be written (+), as a unified diff of the changed lines alone."""
    path = str(comparison.file.under(root))
    lines = unified_diff(
        comparison.found.splitlines(), comparison.file.text.splitlines(), f"{path} (is there)", path, n=0, lineterm=""
    )
    return "\n".join(lines)


def write(comparisons: Iterable[Comparison], root: Path) -> None:
    """Put every file in place that is not there as it should be; each is whole or not there. The umask gives its mode.

    Raises:
        OSError: A file cannot be written.
    """
    for comparison in comparisons:
        if comparison.state not in {"new", "differs"}:
            continue
        target = comparison.file.under(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.new")
        fresh.write_text(comparison.file.text, encoding="utf-8")
        fresh.replace(target)


def present(paths: Iterable[PurePosixPath], root: Path) -> list[Path]:
    """Where those of the files lie that are there."""
    return [place for path in paths if (place := root / path.relative_to("/")).is_file()]


def remove(paths: Iterable[PurePosixPath], root: Path) -> list[Path]:
    """Delete those files that are there; the ones that were.

    Raises:
        OSError: A file cannot be deleted.
    """
    found = present(paths, root)
    for place in found:
        place.unlink()
    return found


def _compared(file: File, place: Path) -> Comparison:
    if not place.exists():
        return Comparison(file, "new")
    found = place.read_text("utf-8", errors="replace")
    if found == file.text:
        return Comparison(file, "same", found)
    return Comparison(file, "kept" if file.path in EXAMPLES else "differs", found)
