"""What a configuration key expects, in words, and the word that was probably meant."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from msgspec import inspect

from edge_vae.toml_text import literal

__all__ = ["expectation", "nearest", "one_of"]

CLOSE_ENOUGH = 0.6
"""Share of matching characters from which a misspelt word counts as meant; difflib's own default."""


def expectation(hint: Any) -> str:
    """What a value of this annotation looks like.

    >>> from typing import Annotated, Literal
    >>> from msgspec import Meta
    >>> expectation(Annotated[int, Meta(ge=1, le=65535)])
    'a whole number from 1 to 65535'
    >>> expectation(Literal["csv", "jsonl"] | None)
    'one of "csv", "jsonl"'
    """
    return _words(inspect.type_info(hint))


def one_of(choices: Collection[object]) -> str:
    """The choices as a list of TOML values, after the words that introduce them."""
    return ("one of " if len(choices) > 1 else "") + ", ".join(map(literal, choices))


def nearest(word: object, known: Collection[object]) -> str | None:
    """The known word that was probably meant; case, dashes and underscores make no difference. No number is meant."""
    import difflib  # for a file that is wrong alone, and not for an agent that runs for years

    plain = {_plain(name): name for name in known if isinstance(name, str)}
    found = difflib.get_close_matches(_plain(str(word)), plain, n=1, cutoff=CLOSE_ENOUGH)
    return plain[found[0]] if found else None


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")


def _words(info: inspect.Type) -> str:
    match info:
        case inspect.Metadata(type=inner, extra=extra):
            return str((extra or {}).get("expected") or _words(inner))
        case inspect.UnionType(types=members):
            words = [_words(member) for member in members if not isinstance(member, inspect.NoneType)]
            return " or ".join(dict.fromkeys(words))
        case inspect.LiteralType(values=values):
            return one_of(values)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "a whole number" + _range(info)
        case inspect.FloatType():
            return "a number" + _range(info)
        case inspect.StrType():
            return "text"
        case inspect.CustomType():
            return "a path"
        case inspect.TupleType(item_types=items):
            return f"[{', '.join(map(_words, items))}]"
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return f"a list, each item {_words(item)}"
        case _:
            return "a table"


def _range(info: inspect.IntType | inspect.FloatType) -> str:
    if info.ge is not None and info.le is not None:
        return f" from {info.ge:.15g} to {info.le:.15g}"
    bounds = {"of at least": info.ge, "above": info.gt, "of at most": info.le, "below": info.lt}
    words = [f"{word} {bound:.15g}" for word, bound in bounds.items() if bound is not None]
    return f" {' and '.join(words)}" if words else ""
