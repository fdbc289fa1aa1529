"""TOML text to values, and values and tables to TOML text."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore] # newer Pythons, which need no tomli, lack it

__all__ = ["document", "literal", "parse", "written_key"]

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def parse(text: str) -> dict[str, Any]:
    """The values that a TOML document holds.

    Raises:
        ValueError: The text is no TOML; the message ends with the place.
    """
    values: dict[str, Any] = tomllib.loads(text)
    return values


def literal(value: object) -> str:
    """One value as it would stand behind the equals sign.

    >>> literal({"on_delay": [2, 3], "severity": "warning"})
    '{ on_delay = [2, 3], severity = "warning" }'
    """
    if isinstance(value, str | Path):
        # JSON's escapes are TOML's, but for DEL.
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, Mapping):
        pairs = (f"{written_key(name)} = {literal(item)}" for name, item in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    return repr(value)


def document(table: msgspec.Struct) -> str:
    """A TOML document of all that is in force in a table: what is not set stands there as a comment."""
    return "\n".join(_lines(table, ())) + "\n"


def written_key(name: str) -> str:
    """A key as it stands in a document: in quotes where it must."""
    return name if BARE_KEY.fullmatch(name) else literal(name)


def _lines(table: msgspec.Struct, path: tuple[str, ...]) -> list[str]:
    plain, tables = [], []
    config = table.__struct_config__
    if config.tag_field:
        plain.append(f"{config.tag_field} = {literal(config.tag)}")
    for field in msgspec.structs.fields(table):
        value: Any = getattr(table, field.name)
        name = field.encode_name
        if value is None:
            plain.append(f"# {name} is not set")
        elif isinstance(value, msgspec.Struct):
            tables += ["", _header(path, name), *_lines(value, (*path, name))]
        elif isinstance(value, tuple | list) and value and isinstance(value[0], msgspec.Struct):
            for item in value:
                tables += ["", f"[{_header(path, name)}]", *_lines(item, (*path, name))]
        else:
            plain.append(f"{written_key(name)} = {literal(value)}")
    return plain + tables if path or plain else tables[1:]


def _header(path: tuple[str, ...], name: str) -> str:
    return f"[{'.'.join(map(written_key, (*path, name)))}]"
