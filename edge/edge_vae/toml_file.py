"""A configuration file: TOML text on disk to a frozen table, with every problem in it at its line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from edge_vae.errors import ConfigError, Problem
from edge_vae.toml_lines import Lines, dotted
from edge_vae.toml_table import Mistake, Table, build
from edge_vae.toml_text import parse

__all__ = ["problems_at", "read", "values"]

T = TypeVar("T", bound=Table)


def read(file: str | Path, kind: type[T]) -> T:
    """The table that a TOML file describes; relative paths in it are relative to the file.

    Args:
        file: Path of the file.
        kind: The struct of the whole file.

    Raises:
        ConfigError: The file cannot be read, is no TOML, or says what the table does not accept; with all problems.
    """
    text = _text(Path(file))
    table, mistakes = build(_parsed(file, text), kind, folder=Path(file).absolute().parent)
    if table is None:
        raise ConfigError(str(file), _problems(text, mistakes))
    return table


def values(file: str | Path) -> dict[str, Any]:
    """What a TOML file holds, looked at by nobody yet.

    Raises:
        ConfigError: The file cannot be read, or is no TOML.
    """
    return _parsed(file, _text(Path(file)))


def problems_at(file: str | Path, mistakes: Sequence[Mistake]) -> list[Problem]:
    """The mistakes with their lines in the file, in the order of the file."""
    return _problems(_text(Path(file)), mistakes)


def _problems(text: str, mistakes: Sequence[Mistake]) -> list[Problem]:
    lines = Lines(text)
    found = [Problem(lines.of(key), dotted(key), message) for key, message in mistakes]
    return sorted(found, key=lambda problem: problem.line)


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        problem = Problem(1, "file", f"expected a TOML file that can be read, received: {error.strerror}")
        raise ConfigError(str(file), [problem]) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problem = Problem(line, "encoding", f"expected UTF-8 text, received the byte 0x{error.object[error.start]:02x}")
        raise ConfigError(str(file), [problem]) from error


def _parsed(file: str | Path, text: str) -> dict[str, Any]:
    try:
        return parse(text)
    except ValueError as error:
        place = re.search(r"\(at (?:line (\d+), column (\d+)|end of document)\)", str(error))
        line = int(place[1]) if place and place[1] else len(text.splitlines()) or 1
        column = f" at column {place[2]}" if place and place[2] else ""
        what = str(error)[: place.start()].strip() if place else str(error)
        problem = Problem(line, "syntax", f"expected TOML, received something else{column}: {what}")
        raise ConfigError(str(file), [problem]) from error
    except RecursionError as error:
        problem = Problem(1, "syntax", "expected TOML, received brackets that are nested too deeply")
        raise ConfigError(str(file), [problem]) from error
