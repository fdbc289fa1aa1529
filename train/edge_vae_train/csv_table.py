"""A CSV file to a frame: delimiter and decimal sign are found, and what is malformed is refused, not bent to fit."""

from __future__ import annotations

import csv
import re
from itertools import islice
from pathlib import Path

import pandas as pd

from edge_vae.errors import DataError

__all__ = ["line_of", "read_csv"]

_DELIMITERS = (",", ";", "\t", "|")
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+")
_SNIFFED_ROWS = 100
"""Rows that are looked at for a decimal comma: the first may hold whole numbers only."""


def read_csv(file: Path, notes: list[str]) -> pd.DataFrame:
    """The rows below the header line, with a column for each of its names.

    Raises:
        DataError: The file is empty, has no names or no rows, is not rectangular, or no text in UTF-8.
    """
    header, rows = _first_lines(file)
    delimiter = max(_DELIMITERS, key=header.count)
    names = _cells(header, delimiter)
    _check_names(file, names)
    surplus = len(_cells(rows[0], delimiter)) - len(names)
    if surplus > 0:
        received = f"{len(names) + surplus} in the first row below it"
        raise DataError(
            "not a rectangular table", file=str(file), row=2, expected=f"{len(names)} cells", received=received
        )
    comma = delimiter != "," and any(_DECIMAL_COMMA.fullmatch(cell) for row in rows for cell in _cells(row, delimiter))
    if comma:
        notes.append(f"{file}: numbers with a decimal comma")
    try:
        frame = pd.read_csv(
            file,
            sep=delimiter,
            decimal="," if comma else ".",
            encoding="utf-8-sig",
            skipinitialspace=True,
            index_col=False,
            low_memory=False,
        )
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        expected = "as many cells in every row, in UTF-8"
        raise DataError("not a rectangular table", file=str(file), expected=expected, received=str(error)) from error
    return _without_nameless(file, frame, names)


def line_of(file: Path, row: int) -> int:
    """The 1-based line in which the 0-based row below the header stands; blank lines are no rows."""
    with file.open("rb") as lines:
        filled = (number for number, line in enumerate(lines, 1) if line.strip())
        return next(islice(filled, row + 1, None))


def _first_lines(file: Path) -> tuple[str, list[str]]:
    """The header line, and the first rows below it."""
    try:
        with file.open(encoding="utf-8-sig") as lines:
            header, *rows = [line for line in islice(lines, _SNIFFED_ROWS) if line.strip()] or [""]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("cannot be read", file=str(file), expected="CSV text in UTF-8", received=str(error)) from error
    if not header:
        expected, action = "a header line and rows", "Record the file again, or leave it out."
        raise DataError("the file is empty", file=str(file), expected=expected, received="nothing", action=action)
    if not rows:
        raise DataError(
            "the file has a header and no rows",
            file=str(file),
            expected="rows of numbers",
            received="none",
            action="Record the file again, or leave it out.",
        )
    return header, rows


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line.strip("\r\n")], delimiter=delimiter, skipinitialspace=True))]


def _check_names(file: Path, names: list[str]) -> None:
    if all(map(_is_number, names)):
        raise DataError(
            "the first line is numbers",
            file=str(file),
            row=1,
            expected="a header line with the names of the columns",
            received=", ".join(names),
            action="Put the names above the numbers.",
        )
    named = [name for name in names if name]
    if repeated := [name for name in named if named.count(name) > 1]:
        raise DataError(
            "a column stands twice",
            file=str(file),
            column=repeated[0],
            expected="unique names",
            received=f"{named.count(repeated[0])} columns of this name",
            action="Rename or remove all but one of them.",
        )


def _without_nameless(file: Path, frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The frame without columns that have no name and no cell, as a delimiter at the end of each line makes them."""
    nameless = [column for column, name in zip(frame.columns, names, strict=True) if not name]
    filled = [str(column) for column in nameless if frame[column].notna().any()]
    if filled:
        raise DataError(
            "a column has no name",
            file=str(file),
            column=filled[0],
            row=1,
            expected="a name above every column",
            received="an empty cell",
            action=f"Name it, or leave it away with --ignore {filled[0]!r}.",
        )
    kept: pd.DataFrame = frame.drop(columns=nameless)
    return kept


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
