"""One recorded file to tables: CSV, Parquet or npz, and what its columns mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge_vae.errors import DataError
from edge_vae.sample import FloatArray
from edge_vae.sources.decode import LATEST_S, time_column
from edge_vae_train.csv_table import line_of, read_csv

__all__ = ["SUFFIXES", "Columns", "Table", "read_tables"]

SUFFIXES = (".csv", ".parquet", ".npz")

_NUMERIC_KINDS = "fiub"
_MOST = 0.5


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of the data mean what.

    Attributes:
        time: Name of the time column; None: recognised by its usual names.
        label: Name of the 0/1 column that tells anomalous rows; None: there is none.
        channels: Names of the channels, in order; empty: all other numeric columns.
        ignore: Columns that are not used.
        modes: Names of the columns that tell the operating mode; never channels.
        rate_hz: Samples a second where the data has no times.
    """

    time: str | None = None
    label: str | None = None
    channels: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    rate_hz: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """One session as read.

    Attributes:
        file: Path of the file, as the user gave it.
        name: Name of the session.
        frame: Readings by channel, whose cells may still be text.
        times: (samples,) seconds since 1970-01-01 UTC; NaN without a time column.
        labels: (samples,) True where the row is labelled anomalous; None without labels.
        rate_hz: Samples a second, where the file says so.
        place: Index of a row to what the user calls it: the line of a CSV file, the index itself elsewhere.
    """

    file: str
    name: str
    frame: pd.DataFrame
    times: FloatArray
    labels: NDArray[np.bool_] | None
    rate_hz: float | None
    place: Callable[[int], int]

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the columns of readings."""
        return tuple(map(str, self.frame.columns))


def read_tables(file: Path, name: str, columns: Columns, notes: list[str]) -> list[Table]:
    """The sessions in a file: one, or as many as an array file has entries.

    Raises:
        DataError: The file cannot be read as such.
    """
    suffix = file.suffix.lower()
    if suffix == ".npz":
        return _from_npz(file, name, columns, notes)
    if suffix == ".csv":
        return [_from_frame(file, name, read_csv(file, notes), columns, place=partial(line_of, file))]
    if suffix == ".parquet":
        return [_from_frame(file, name, _read_parquet(file), columns, place=int)]
    raise DataError("not a data file", file=str(file), expected=" ".join(SUFFIXES), received=suffix or "no suffix")


def _read_parquet(file: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(file)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise DataError("cannot be read", file=str(file), expected="a Parquet table", received=str(error)) from error
    if frame.empty:
        raise DataError("the table has no rows", file=str(file), expected="rows of numbers", received="none")
    return frame.reset_index(drop=False) if frame.index.name else frame


def _from_frame(file: Path, name: str, frame: pd.DataFrame, columns: Columns, *, place: Callable[[int], int]) -> Table:
    frame = frame.rename(columns=lambda c: str(c).strip())
    frame = frame.drop(columns=[c for c in columns.ignore if c in frame])
    time = _time_column(file, frame, columns)
    times = np.full(len(frame), np.nan) if time is None else _times(file, time, frame[time], place)
    labels = None
    if columns.label is not None and columns.label in frame:
        labels = _labels(file, columns.label, frame[columns.label], place)
    frame = frame.drop(columns=[c for c in (time, columns.label) if c is not None and c in frame])
    wanted = [c for c in frame if not columns.channels or c in (*columns.channels, *columns.modes)]
    return Table(str(file), name, frame[wanted], times, labels, None, place)


def _time_column(file: Path, frame: pd.DataFrame, columns: Columns) -> str | None:
    names = [str(c) for c in frame]
    found = time_column(names, channels=columns.channels, name=columns.time)
    if columns.time is not None and found is None:
        raise DataError("no such time column", file=str(file), expected=repr(columns.time), received=", ".join(names))
    return found


def _times(file: Path, name: str, column: pd.Series[Any], place: Callable[[int], int]) -> FloatArray:
    times = _seconds(column)
    if (bad := np.flatnonzero(~np.isfinite(times))).size:
        raise DataError(
            "not a time",
            file=str(file),
            column=name,
            row=place(int(bad[0])),
            expected="ISO 8601 or seconds since 1970",
            received=_shown(column.iloc[int(bad[0])]),
            action=f"Correct it, or leave the column away with --ignore {name}.",
        )
    repeated = np.flatnonzero(np.diff(times) == 0) + 1
    if len(repeated) > _MOST * len(times):
        raise DataError(
            "the times are coarser than the samples",
            file=str(file),
            column=name,
            row=place(int(repeated[0])),
            expected="a time of its own for each row",
            received=f"the time of the row before in {len(repeated)} of {len(times)} rows",
            action=f"Give finer times, or leave the column away with --ignore {name} and say --rate HZ.",
        )
    return times


def _seconds(column: pd.Series[Any]) -> FloatArray:
    """Seconds since 1970; NaN where a cell is neither such a number nor ISO 8601."""
    if not pd.api.types.is_datetime64_any_dtype(column):
        numbers = _as_numbers(column)
        if np.isfinite(numbers).mean() > _MOST:
            return np.where(np.abs(numbers) < LATEST_S, numbers, np.nan)
    parsed = pd.to_datetime(column, errors="coerce", format="ISO8601", utc=True)
    microseconds = parsed.astype("datetime64[us, UTC]").astype("int64").to_numpy()
    return np.where(parsed.isna(), np.nan, microseconds / 1e6)


def _as_numbers(column: pd.Series[Any]) -> FloatArray:
    numbers = pd.to_numeric(column, errors="coerce")
    return np.asarray(numbers.to_numpy(np.float64, na_value=np.nan))


def _labels(file: Path, name: str, column: pd.Series[Any], place: Callable[[int], int]) -> NDArray[np.bool_]:
    numbers = _as_numbers(column)
    if (bad := np.flatnonzero((numbers != 0) & (numbers != 1))).size:
        raise DataError(
            "not a label",
            file=str(file),
            column=name,
            row=place(int(bad[0])),
            expected="0 or 1",
            received=_shown(column.iloc[int(bad[0])]),
            action="Correct the label column, or name another one with --label.",
        )
    return np.asarray(numbers == 1)


def _shown(cell: Any) -> str:
    return "an empty cell" if pd.isna(cell) else repr(cell.item() if isinstance(cell, np.generic) else cell)


def _from_npz(file: Path, name: str, columns: Columns, notes: list[str]) -> list[Table]:
    arrays = _arrays(file)
    X = arrays["X"]
    entries = X[None] if X.ndim == 2 else X
    channels = _npz_channels(file, arrays.get("channels"), entries.shape[2])
    rate_hz = _npz_rate_hz(file, arrays.get("rate_hz"))
    labels = None
    if "y" in arrays and columns.label is None:
        notes.append(f"{file}: its labels y are not used; --label y would use them")
    elif "y" in arrays:
        labels = _npz_labels(file, arrays["y"], entries.shape[:2])
    chosen = (*columns.channels, *columns.modes) if columns.channels else channels
    wanted = [c for c in channels if c in chosen and c not in columns.ignore]
    return [
        Table(
            file=str(file),
            name=name if X.ndim == 2 else f"{name}#{i}",
            frame=pd.DataFrame(entry.astype(np.float64), columns=channels)[wanted],
            times=np.full(len(entry), np.nan),
            labels=None if labels is None else labels[i],
            rate_hz=rate_hz,
            place=int,
        )
        for i, entry in enumerate(entries)
    ]


def _arrays(file: Path) -> dict[str, NDArray[Any]]:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as loaded:
            arrays = {key: loaded[key] for key in ("X", "y", "channels", "rate_hz") if key in loaded.files}
    except Exception as error:  # zipfile, zlib and numpy answer damaged files with exceptions of many types
        expected = "an .npz file of plain arrays"
        raise DataError("cannot be read", file=str(file), expected=expected, received=str(error)) from error
    X = arrays.get("X")
    if X is None or X.ndim not in (2, 3) or X.dtype.kind not in _NUMERIC_KINDS or not X.size:
        received = "no X" if X is None else f"X {X.shape} of {X.dtype}"
        expected = "numbers X (sessions, samples, channels) or (samples, channels)"
        raise DataError("no sessions", file=str(file), expected=expected, received=received)
    return arrays


def _npz_channels(file: Path, names: NDArray[Any] | None, width: int) -> list[str]:
    if names is None:
        return [f"ch{i}" for i in range(width)]
    channels = [str(name) for name in names.ravel()]
    if len(set(channels)) != width or len(channels) != width:
        received = f"{len(channels)} names: {', '.join(channels)}"
        raise DataError(
            "wrong names", file=str(file), column="channels", expected=f"{width} unique ones", received=received
        )
    return channels


def _npz_rate_hz(file: Path, stated: NDArray[Any] | None) -> float | None:
    if stated is None:
        return None
    if stated.size != 1 or stated.dtype.kind not in _NUMERIC_KINDS or not 0 < stated.item() < np.inf:
        expected = "one number above zero"
        raise DataError("not a rate", file=str(file), column="rate_hz", expected=expected, received=str(stated))
    return float(stated.item())


def _npz_labels(file: Path, y: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Labels of every sample (sessions, samples); `y` may also hold one label a session."""
    if y.size == shape[0]:
        y = np.repeat(y.reshape(-1, 1), shape[1], axis=1)
    if y.size != shape[0] * shape[1]:
        raise DataError("not labels", file=str(file), column="y", expected=f"shape {shape}", received=f"{y.shape}")
    if (bad := np.flatnonzero(~np.isin(y.ravel(), (0, 1)))).size:
        where, received = int(bad[0]) % shape[1], _shown(y.ravel()[bad[0]])
        raise DataError("not a label", file=str(file), column="y", row=where, expected="0 or 1", received=received)
    return np.asarray(y.reshape(shape) == 1)
