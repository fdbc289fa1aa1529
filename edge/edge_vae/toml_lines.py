"""Lines of a TOML file, by key: what a parser throws away and a person needs."""

from __future__ import annotations

import re
from bisect import bisect_right

from edge_vae.toml_text import parse, written_key

__all__ = ["Key", "Lines", "dotted"]

Key = tuple[str | int, ...]
"""The way to a value: names of keys, and 0-based indices in arrays."""

BLANK = re.compile(r"[ \t]*")
SPACE = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
# A multi-line string may end in up to five quotes, of which the first two belong to it.
STRING = re.compile(
    r"""
    "{3} (?: \\. | [^\\] )*? "{3,5}
    | '{3} .*? '{3,5}
    | " (?: \\. | [^"\\\n] )* "
    | ' [^'\n]* '
    """,
    re.DOTALL | re.VERBOSE,
)
SCALAR = re.compile(r"[^,\]}#\n]+")


def dotted(key: Key) -> str:
    """The key as a person writes it, indices counted from 0.

    >>> dotted(("pipeline", 1, "source", "path"))
    'pipeline[1].source.path'
    """
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{written_key(part)}" for part in key)
    return text.removeprefix(".")


class Lines:
    """The 1-based line at which each key of a valid TOML document stands.

    Args:
        text: A document that a TOML parser has accepted.
    """

    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._newlines = [match.start() for match in re.finditer("\n", self._text)]
        self._at = 0
        self._lines: dict[Key, int] = {(): 1}
        self._last: dict[Key, int] = {}
        self._document()

    def of(self, key: Key) -> int:
        """The line of a key, or of the nearest table around it that the file has."""
        while key not in self._lines:
            key = key[:-1]
        return self._lines[key]

    def _line(self) -> int:
        return bisect_right(self._newlines, self._at - 1) + 1

    def _skip(self, pattern: re.Pattern[str]) -> None:
        if match := pattern.match(self._text, self._at):
            self._at = match.end()

    def _next_is(self, mark: str) -> bool:
        return self._text.startswith(mark, self._at)

    def _document(self) -> None:
        table: Key = ()
        self._skip(SPACE)
        while self._at < len(self._text):
            if self._next_is("["):
                table = self._header(array=self._next_is("[["))
            else:
                self._pair(table)
            self._skip(SPACE)

    def _header(self, *, array: bool) -> Key:
        line, brackets = self._line(), 2 if array else 1
        self._at += brackets
        *parents, name = self._names()
        self._at += brackets
        key: Key = ()
        for parent in parents:
            key = self._newest((*key, parent))
            self._lines.setdefault(key, line)
        key = (*key, name)
        if array:
            self._lines.setdefault(key, line)
            self._last[key] = self._last.get(key, -1) + 1
        key = self._newest(key)
        self._lines[key] = line
        return key

    def _newest(self, key: Key) -> Key:
        return (*key, self._last[key]) if key in self._last else key

    def _names(self) -> list[str]:
        names = []
        while True:
            self._skip(BLANK)
            pattern = BARE_KEY if BARE_KEY.match(self._text, self._at) else STRING
            start = self._at
            self._skip(pattern)
            name = self._text[start : self._at]
            names.append(name if pattern is BARE_KEY else str(parse(f"name = {name}")["name"]))
            self._skip(BLANK)
            if not self._next_is("."):
                return names
            self._at += 1

    def _pair(self, table: Key) -> None:
        line, key = self._line(), table
        for name in self._names():
            key = (*key, name)
            self._lines.setdefault(key, line)
        self._at += 1  # the equals sign
        self._skip(BLANK)
        self._value(key)

    def _value(self, key: Key) -> None:
        if self._next_is("["):
            self._array(key)
        elif self._next_is("{"):
            self._inline_table(key)
        else:
            self._skip(STRING if self._next_is('"') or self._next_is("'") else SCALAR)

    def _array(self, key: Key) -> None:
        index = 0
        self._pass()
        while not self._ends("]"):
            item = (*key, index)
            self._lines[item] = self._line()
            self._value(item)
            self._pass(",")
            index += 1

    def _inline_table(self, key: Key) -> None:
        self._pass()
        while not self._ends("}"):
            self._pair(key)
            self._pass(",")

    def _pass(self, mark: str = "") -> None:
        """Move over one character, or over one mark if it is there, and the space around it."""
        self._skip(SPACE)
        if not mark or self._next_is(mark):
            self._at += 1
        self._skip(SPACE)

    def _ends(self, bracket: str) -> bool:
        ends = self._next_is(bracket)
        self._at += ends
        return ends
