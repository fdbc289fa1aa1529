"""Tables of a configuration: frozen structs, and everything that is wrong in what a file says about them.

A configuration is a tree of `Table` structs. Types, ranges and choices stand in the annotations; what must hold between
several values stands in `Table.mistakes`. `build` collects what is wrong in all of them; msgspec stops at the first.
"""

from __future__ import annotations

import contextlib
import math
import os
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo

from edge_vae.toml_lines import Key, dotted
from edge_vae.toml_text import literal
from edge_vae.toml_words import expectation, nearest, one_of

__all__ = ["CREDENTIAL", "Mistake", "Table", "build"]

Mistake = tuple[Key, str]
"""The key that is wrong, and what was expected, what was received."""

T = TypeVar("T", bound="Table")

CREDENTIAL = msgspec.Meta(extra={"credential": True})
"""Marks a path to a secret: looked for among the service manager's credentials first, and it must be readable."""


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of a configuration file; its fields are the keys, in the words of the file."""

    def mistakes(self) -> Iterator[Mistake]:
        """What is wrong between the values of this table, with keys relative to it."""
        return iter(())

    def __post_init__(self) -> None:
        if found := list(self.mistakes()):
            raise ValueError("; ".join(f"{dotted(key)}: {message}" for key, message in found))


def build(raw: Mapping[str, Any], kind: type[T], *, folder: Path) -> tuple[T | None, list[Mistake]]:
    """The table that parsed TOML describes, or None and everything that is wrong with it.

    Args:
        raw: What the TOML parser returned.
        kind: The struct to build.
        folder: What relative paths are relative to.
    """
    reading = _Reading(folder)
    table = reading.table(raw, kind, ())
    return (None if reading.mistakes else cast("T", table)), reading.mistakes


class _Unknown(AttributeError):  # noqa: N818 (a signal between two functions, never an error)
    """A rule asked for a value that is wrong itself."""


class _Incomplete:
    """The values of a table that are right, so that its rules can be checked as far as these go."""

    def __init__(self, **values: object) -> None:
        self._values = {name: value for name, value in values.items() if value is not INVALID}

    def __getattr__(self, name: str) -> object:
        try:
            return self._values[name]
        except KeyError:
            raise _Unknown from None


INVALID = _Incomplete()
"""Stands for a value that is wrong while the rest is checked."""


class _Reading:
    """One walk through a parsed file, beside the structs that it should fit."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.mistakes: list[Mistake] = []

    def _wrong(self, key: Key, message: str) -> _Incomplete:
        self.mistakes.append((key, message))
        return INVALID

    def table(self, raw: object, kind: type[Table], key: Key) -> object:
        """A struct, or as much of it as is right."""
        if not isinstance(raw, Mapping):
            return self._wrong(key, f"expected a table, received {literal(raw)}")
        before, fields, tag = len(self.mistakes), msgspec.structs.fields(kind), kind.__struct_config__.tag_field
        names = [*([tag] if tag else []), *(field.encode_name for field in fields)]
        meant = {self._unknown_key(name, raw, names, key) for name in raw if name not in names}
        values = {field.name: self._field(field, raw, key, meant) for field in fields}
        return self._checked(kind, values, key, whole=len(self.mistakes) == before)

    def _unknown_key(self, name: str, raw: Mapping[str, Any], names: Sequence[str], key: Key) -> str | None:
        meant = nearest(name, [known for known in names if known not in raw])
        self._wrong((*key, name), f"unknown key, expected one of {', '.join(sorted(names))}{_suggest(meant)}")
        return meant

    def _field(self, field: FieldInfo, raw: Mapping[str, Any], key: Key, meant: set[str | None]) -> object:
        name = field.encode_name
        if name in raw:
            return self._value(raw[name], field.type, (*key, name))
        if field.default is not msgspec.NODEFAULT:
            return field.default
        if field.default_factory is not msgspec.NODEFAULT:
            return field.default_factory()
        if name in meant:
            return INVALID
        return self._wrong((*key, name), f"expected {expectation(field.type)}, received nothing: the key is missing")

    def _checked(self, kind: type[Table], values: dict[str, Any], key: Key, *, whole: bool) -> object:
        seen = _Incomplete(**values)
        found: list[Mistake] = []
        with contextlib.suppress(_Unknown):
            found.extend(kind.mistakes(cast("Table", seen)))
        self.mistakes += [((*key, *inner), message) for inner, message in found]
        return kind(**values) if whole and not found else seen

    def _value(self, raw: object, hint: Any, key: Key) -> object:
        plain, metas = _plain(hint)
        members = get_args(plain) if get_origin(plain) in (Union, types.UnionType) else (plain,)
        tables = [member for member in members if isinstance(member, type) and issubclass(member, Table)]
        lists = [member for member in members if get_origin(_plain(member)[0]) is tuple]
        if tables and lists and isinstance(raw, list):
            return self._list(raw, lists[0], key)
        if len(tables) > 1:
            return self._tagged(raw, tables, key)
        if tables:
            return self.table(raw, tables[0], key)
        if plain is Path:
            return self._path(raw, key, credential=any((meta.extra or {}).get("credential") for meta in metas))
        if get_origin(plain) is tuple and get_args(plain)[1:] == (...,):
            return self._list(raw, hint, key)
        return self._leaf(raw, hint, key)

    def _tagged(self, raw: object, tables: Sequence[type[Table]], key: Key) -> object:
        if not isinstance(raw, Mapping):
            return self._wrong(key, f"expected a table, received {literal(raw)}")
        by_tag = {str(table.__struct_config__.tag): table for table in tables}
        tag = str(tables[0].__struct_config__.tag_field)
        if tag not in raw and (misspelt := nearest(tag, list(raw))):
            return self._wrong(
                (*key, misspelt), f"unknown key, expected {tag} = {one_of(sorted(by_tag))}{_suggest(tag)}"
            )
        received = raw.get(tag)
        if isinstance(received, str) and received in by_tag:
            return self.table(raw, by_tag[received], key)
        shown = literal(received) + _suggest(nearest(received, by_tag)) if tag in raw else "nothing: the key is missing"
        return self._wrong((*key, tag), f"expected {one_of(sorted(by_tag))}, received {shown}")

    def _list(self, raw: object, hint: Any, key: Key) -> object:
        plain, metas = _plain(hint)
        if not isinstance(raw, list) or any(len(raw) < (meta.min_length or 0) for meta in metas):
            return self._wrong(key, f"expected {expectation(hint)}, received {literal(raw)}")
        items = tuple(self._value(item, get_args(plain)[0], (*key, index)) for index, item in enumerate(raw))
        return INVALID if INVALID in items else items

    def _path(self, raw: object, key: Key, *, credential: bool) -> object:
        if not isinstance(raw, str) or not raw:
            return self._wrong(key, f"expected a path, received {literal(raw)}")
        path = self._folder / Path(raw).expanduser()
        if not credential:
            return path
        given = os.environ.get("CREDENTIALS_DIRECTORY")
        if given and "/" not in raw and Path(given, raw).is_file():
            path = Path(given, raw)
        if not (path.is_file() and os.access(path, os.R_OK)):
            return self._wrong(key, f"expected a file that can be read, received {path}, which is none")
        return path

    def _leaf(self, raw: object, hint: Any, key: Key) -> object:
        if not isinstance(raw, float) or math.isfinite(raw):
            with contextlib.suppress(msgspec.ValidationError):
                return cast("object", msgspec.convert(raw, hint))
        plain, _ = _plain(hint)
        meant = nearest(raw, get_args(plain)) if get_origin(plain) is Literal and isinstance(raw, str) else None
        return self._wrong(key, f"expected {expectation(hint)}, received {literal(raw)}{_suggest(meant)}")


def _plain(hint: Any) -> tuple[Any, list[msgspec.Meta]]:
    """An annotation without `| None` and constraints, and these constraints."""
    metas: list[msgspec.Meta] = []
    while True:
        if get_origin(hint) is Annotated:
            metas += hint.__metadata__
            hint = hint.__origin__
        elif get_origin(hint) in (Union, types.UnionType) and types.NoneType in get_args(hint):
            hint = Union[tuple(member for member in get_args(hint) if member is not types.NoneType)]  # noqa: UP007
        else:
            return hint, metas


def _suggest(meant: str | None) -> str:
    return f"; did you mean {meant!r}?" if meant else ""
