"""Numbers on the command line of a benchmark."""

from __future__ import annotations

import argparse

__all__ = ["at_least_one", "positive"]


def at_least_one(text: str) -> int:
    """A whole number above zero."""
    if not text.isdecimal() or int(text) < 1:
        msg = f"expected a whole number of at least 1, received {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def positive(text: str) -> float:
    """A finite number of seconds above zero."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        msg = f"expected a number of seconds above 0, received {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return number
