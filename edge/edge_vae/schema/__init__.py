"""The JSON Schemas (draft 2020-12) of the messages, for subscribers that validate what they get."""

from __future__ import annotations

from importlib.resources import files

__all__ = ["NAMES", "text"]

NAMES = ("event", "reply", "state", "status")
"""The messages that have a schema, each on the topics whose last level is its name."""


def text(name: str) -> str:
    """The JSON Schema of one message, as JSON.

    Raises:
        ValueError: There is no message of this name.
    """
    if name not in NAMES:
        msg = f"expected one of {', '.join(NAMES)}, received {name!r}"
        raise ValueError(msg)
    return files(__name__).joinpath(f"{name}.schema.json").read_text(encoding="utf-8")
