"""Numbers and texts as C99 definitions, and how many bytes they take."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from edge_vae.errors import GateError

__all__ = ["Definitions", "number", "text"]

_WIDTH = 120
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _-.,:/()[]%+")
"""Characters that mean themselves in a C string; `?` is not among them, because C99 has trigraphs."""
_BYTES = {"double": 8, "float": 4, "int32_t": 4, "int8_t": 1, "uint16_t": 2, "unsigned char": 1}


@dataclass(slots=True)
class Definitions:
    """C definitions, one after the other.

    Attributes:
        lines: What was defined so far.
        size_bytes: What the arrays among them take.
    """

    lines: list[str] = field(default_factory=list)
    size_bytes: int = 0

    def array(self, kind: str, name: str, numbers: ArrayLike, *, qualifier: str = "const ") -> str:
        """Define an array of one of C's types, of one 0 where there are no numbers; its name."""
        flat = np.ravel(np.asarray(numbers)).tolist() or [0]
        self.size_bytes += _BYTES[kind] * len(flat)
        listed = ", ".join(number(one, kind) for one in flat)
        self.add(f"{qualifier}{kind} {name}[{len(flat)}] = {{", *_wrapped(listed), "};", "")
        return name

    def zeros(self, kind: str, name: str, count: int) -> str:
        """Define memory that is written at run time; its name."""
        self.add(f"static {kind} {name}[{count}];", "")
        return name

    def add(self, *lines: str) -> None:
        """Add lines as they are."""
        self.lines += lines

    def file(self, head: Iterable[str]) -> bytes:
        """The content of a file with a head before the definitions."""
        return ("\n".join([*head, *self.lines]).rstrip("\n") + "\n").encode()


def number(value: float, kind: str) -> str:
    """A literal of one of C's types.

    Raises:
        GateError: It is beyond what the type can hold.
    """
    if kind not in ("float", "double"):
        return str(int(value))
    with np.errstate(over="ignore"):
        held = np.float32(value) if kind == "float" else np.float64(value)
    if not np.isfinite(held):
        raise GateError(
            "a number of the bundle is too large for C",
            expected=f"a finite {kind}",
            received=f"{value:g}",
            action="Give the channel a unit in which its readings are smaller, and train again.",
        )
    digits = str(held)
    return digits + ("f" if kind == "float" else "")


def text(value: str) -> str:
    """A string literal of any text, in UTF-8."""
    return '"' + "".join(chr(b) if chr(b) in _PLAIN else f"\\{b:03o}" for b in value.encode()) + '"'


def _wrapped(listed: str) -> list[str]:
    return textwrap.wrap(listed, _WIDTH - 2, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
