"""Recorded data to sessions of numbers: files and folders of CSV, Parquet and `.npz`.

Each file, or entry of an array file, is one session. Nothing is guessed silently: what is removed or assumed is told as
a note, and what cannot be used is a `DataError` with file, column and row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge_vae.errors import DataError
from edge_vae.sample import FloatArray
from edge_vae.window import sample_period_s, segment_starts
from edge_vae_train.table import SUFFIXES, Columns, Table, read_tables

__all__ = ["ASSUMED_RATE_HZ", "Columns", "Recording", "Session", "read"]

ASSUMED_RATE_HZ = 1.0
"""Used, and said, where the data has no times and the user gives no rate."""

_RATE_TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class Session:
    """One recording of one machine.

    Attributes:
        name: Path of the file relative to the argument it came from; `file.npz#i` for the i-th entry of an array file.
        values: (samples, channels) in sensor units; NaN where a reading is missing.
        times: (samples,) seconds since 1970-01-01 UTC; NaN without a time column.
        labels: (samples,) True where the row is labelled anomalous; None without a label column.
        modes: (samples, mode columns) the operating mode of each row; None where no mode columns are named.
    """

    name: str
    values: FloatArray
    times: FloatArray
    labels: NDArray[np.bool_] | None
    modes: FloatArray | None = None

    @property
    def columns(self) -> FloatArray:
        """(samples, channels + mode columns) what a source would deliver."""
        return self.values if self.modes is None else np.column_stack([self.values, self.modes])


@dataclass(frozen=True, slots=True)
class Recording:
    """Sessions that share their channels, mode columns and rate, and the notes that reading them gave."""

    sessions: tuple[Session, ...]
    channels: tuple[str, ...]
    rate_hz: float
    notes: tuple[str, ...] = field(default=())
    mode_columns: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """Rows of all sessions."""
        return sum(len(session.values) for session in self.sessions)


def read(paths: Sequence[Path], columns: Columns | None = None, *, model_rate_hz: float | None = None) -> Recording:
    """The sessions in files and folders, in the order of the arguments and of the sorted names within a folder.

    Args:
        paths: Files and folders.
        columns: Which columns mean what.
        model_rate_hz: The rate that a model was trained at: data with another one is refused.

    Raises:
        DataError: A file is missing, empty, not rectangular, holds text where a number must stand, or lacks a channel
            that the others have; or sampling rates differ.
    """
    columns = columns or Columns()
    notes: list[str] = []
    tables = [t for path in paths for file, name in _files(path) for t in read_tables(file, name, columns, notes)]
    channels = columns.channels or tuple(c for c in tables[0].channels if c not in columns.modes)
    sessions = tuple(_session(table, channels, columns, notes) for table in tables)
    rate_hz = _rate_hz(tables, sessions, given=columns.rate_hz, model=model_rate_hz)
    if rate_hz is None:
        rate_hz = ASSUMED_RATE_HZ
        notes.append(
            f"no times and no --rate: {rate_hz:g} Hz is assumed, and false alarms a day are meant at that rate"
        )
    for table, session in zip(tables, sessions, strict=True):
        notes += _breaks(table, session, period_s=1.0 / rate_hz)
    return Recording(sessions, channels, rate_hz, tuple(notes), columns.modes)


def _files(path: Path) -> Iterable[tuple[Path, str]]:
    if not path.exists():
        expected = "a CSV, Parquet or npz file, or a folder of them"
        raise DataError("no such file or folder", file=str(path), expected=expected, received="nothing")
    if path.is_file():
        return [(path, path.name)]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not found:
        expected = " or ".join(f"*{suffix}" for suffix in SUFFIXES)
        raise DataError("no data in the folder", file=str(path), expected=expected, received="none of them")
    return [(file, file.relative_to(path).as_posix()) for file in found]


def _session(table: Table, channels: tuple[str, ...], columns: Columns, notes: list[str]) -> Session:
    _check_channels(table, channels, columns.modes)
    values = np.column_stack([_numbers(table, name) for name in channels])
    unusable = ~np.isfinite(values)
    if unusable.any():
        row, column = np.argwhere(unusable)[0].tolist()
        notes.append(
            f"{table.file}: {unusable.any(axis=1).sum()} rows with a missing reading are left out and end a segment; "
            f"the first is row {table.place(row)}, column {channels[column]!r}"
        )
    if columns.label is not None and table.labels is None:
        notes.append(f"{table.file}: no column {columns.label!r}, all rows are taken as normal")
    modes = np.column_stack([_numbers(table, name) for name in columns.modes]) if columns.modes else None
    return Session(table.name, np.where(unusable, np.nan, values), table.times, table.labels, modes)


def _check_channels(table: Table, channels: tuple[str, ...], modes: tuple[str, ...]) -> None:
    wanted = (*channels, *modes)
    missing = [c for c in wanted if c not in table.channels]
    surplus = [c for c in table.channels if c not in wanted]
    if missing or surplus:
        what = f"channels are missing: {', '.join(missing)}" if missing else f"further channels: {', '.join(surplus)}"
        raise DataError(
            what,
            file=table.file,
            expected=f"the channels {', '.join(wanted)}",
            received=", ".join(table.channels) or "none",
            action="Add the columns, or give them the names that are expected."
            if missing
            else "Choose with --channels, or leave columns away with --ignore.",
        )
    if not channels:
        raise DataError("no channel is left", file=table.file, expected="at least one numeric column", received="none")


def _numbers(table: Table, name: str) -> FloatArray:
    column = table.frame[name]
    if pd.api.types.is_numeric_dtype(column):
        return np.asarray(column.to_numpy(np.float64, na_value=np.nan))
    numbers = pd.to_numeric(column, errors="coerce")
    bad = np.flatnonzero((numbers.isna() & column.notna()).to_numpy())
    if bad.size:
        raise DataError(
            "not a number",
            file=table.file,
            column=name,
            row=table.place(int(bad[0])),
            expected="a number, or an empty cell for a missing reading",
            received=repr(column.iloc[int(bad[0])]),
            action=f"Correct the cell, or leave the column away with --ignore {name}.",
        )
    return np.asarray(numbers.to_numpy(np.float64, na_value=np.nan))


def _rate_hz(
    tables: Sequence[Table], sessions: Sequence[Session], *, given: float | None, model: float | None
) -> float | None:
    """The sessions' common rate: from their times or files, else from the user or the model; None: nobody says."""
    own = [(t.file, _own_rate_hz(t, s)) for t, s in zip(tables, sessions, strict=True)]
    found = [(file, rate) for file, rate in own if rate is not None]
    common = float(np.median([rate for _, rate in found])) if found else given or model
    if given is not None:
        found.append(("--rate", given))
    expected: float | None
    if model is not None:
        expected, reason = model, "as the model was trained at"
    elif given is not None:
        expected, reason = given, "as --rate says"
    else:
        expected, reason = common, "as most files have"
    for file, rate in found:
        if expected is not None and abs(rate - expected) > _RATE_TOLERANCE * expected:
            raise DataError(
                "another sampling rate",
                file=file,
                expected=f"{expected:.4g} Hz {reason}",
                received=f"{rate:.4g} Hz",
                action="Resample the data to one rate, or train a model for each rate.",
            )
    return common


def _own_rate_hz(table: Table, session: Session) -> float | None:
    """What the session itself says of its rate, in its times or beside them."""
    period_s = sample_period_s(session.times)
    return 1.0 / period_s if np.isfinite(period_s) else table.rate_hz


def _breaks(table: Table, session: Session, *, period_s: float) -> list[str]:
    """A note when the session's clock has gaps or steps back, each of which ends a segment."""
    starts = np.flatnonzero(segment_starts(session.times, np.ones(len(session.times), np.bool_), period_s=period_s))
    if not len(starts):
        return []
    step_s = session.times[starts[0]] - session.times[starts[0] - 1]
    kind = f"a gap of {step_s:.4g} s" if step_s > 0 else f"a step back by {-step_s:.4g} s"
    count, row = len(starts), table.place(int(starts[0]))
    return [f"{table.file}: {count} gaps or steps back in time end a segment; the first is {kind} before row {row}"]
