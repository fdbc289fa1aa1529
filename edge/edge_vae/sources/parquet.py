"""Recorded Parquet files, batch by batch; the one module that needs pyarrow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edge_vae.errors import MissingExtraError, SourceError
from edge_vae.sample import FloatArray
from edge_vae.sources.decode import Rows, parse_time, time_column
from edge_vae.sources.lines import Malformed
from edge_vae.sources.recording import PIECE_ROWS, Piece

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ModuleNotFoundError as error:
    raise MissingExtraError("reading Parquet files", module="pyarrow", extra="parquet") from error

__all__ = ["ParquetRecording"]


class ParquetRecording:
    """A Parquet file with a column for each channel: one session.

    Raises:
        SourceError: It is no Parquet file, has no rows, lacks a channel, or has one that is no number.
    """

    rate_hz = None

    def __init__(self, file: Path, channels: Sequence[str], *, time: str | None = None) -> None:
        self._file, self._channels = file, tuple(channels)
        self._malformed = Malformed(str(file))
        with self._opened() as parquet:
            schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
        wanted = [*channels, *([time] if time else [])]
        if missing := [name for name in wanted if name not in schema.names]:
            what = f"has no column {', '.join(missing)}"
            raise self._wrong(what, ", ".join(wanted), ", ".join(schema.names))
        for name in channels:
            if not _is_number(schema.field(name).type):
                received = f"{schema.field(name).type} in column {name!r}"
                raise self._wrong("holds no numbers", "numbers in each channel", received)
        if not rows:
            raise self._wrong("has no rows", "at least one row", "none")
        self._time = time_column(schema.names, channels=channels, name=time)

    @property
    def has_times(self) -> bool:
        """Whether there is a time column."""
        return self._time is not None

    @property
    def malformed(self) -> int:
        """How many times could not be read so far."""
        return self._malformed.count

    def pieces(self) -> Iterator[Piece]:
        """All rows, from the first, in pieces of bounded size."""
        starts = True
        columns = [*self._channels, *([self._time] if self._time else [])]
        with self._opened() as parquet:
            for batch in parquet.iter_batches(batch_size=PIECE_ROWS, columns=columns):
                values = np.column_stack([_numbers(batch.column(name)) for name in self._channels])
                times = self._times(batch.column(self._time)) if self._time else np.full(len(values), np.nan)
                yield Piece(Rows(values, times), starts_session=starts)
                starts = False

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        try:
            with pq.ParquetFile(self._file) as parquet:
                yield parquet
        except pa.ArrowException as error:
            raise self._wrong("cannot be read", "a Parquet file", str(error)) from error

    def _times(self, column: pa.Array) -> FloatArray:
        """The column as (rows,) seconds since 1970-01-01 UTC, null as NaN; a naive time is UTC."""
        if pa.types.is_timestamp(column.type):
            return _numbers(column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())) / 1e6
        if pa.types.is_date(column.type):
            return self._times(column.cast(pa.timestamp("us")))
        if _is_number(column.type):
            return _numbers(column)
        return np.array([self._time_of(text) for text in column.to_pylist()], dtype=np.float64)

    def _time_of(self, text: object) -> float:
        try:
            return math.nan if text is None else parse_time(str(text))
        except ValueError:
            self._malformed.add(f"column={self._time} expected=a time", text)
            return math.nan

    def _wrong(self, what: str, expected: str, received: str) -> SourceError:
        return SourceError(f"{self._file} {what}", expected=expected, received=received)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))


def _numbers(column: pa.Array) -> FloatArray:
    """The column as (rows,) numbers, null as NaN."""
    numbers: FloatArray = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers
