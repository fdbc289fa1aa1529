"""Recorded files, piece by piece: CSV, npz and Parquet as the training side takes them, in the memory of a gateway."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from edge_vae.errors import SourceError
from edge_vae.sources.csv_rows import CsvRows
from edge_vae.sources.decode import Rows

__all__ = ["CsvRecording", "NpzRecording", "Piece", "Recording", "open_recording", "recorded_files"]

SUFFIXES = (".csv", ".npz", ".parquet")
"""What the training side reads as well."""

PIECE_BYTES = 2**14
"""Four times as much would be read 5 % faster, and takes a third of a MiB more while it is decoded."""
PIECE_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive rows of a recording; the first piece of each of its sessions says so."""

    rows: Rows
    starts_session: bool


class Recording(Protocol):
    """One recorded file whose columns are known to fit."""

    @property
    def has_times(self) -> bool:
        """Whether its rows have times."""
        ...

    @property
    def rate_hz(self) -> float | None:
        """How often it was sampled, where the file says so."""
        ...

    @property
    def malformed(self) -> int:
        """How many readings could not be read so far."""
        ...

    def pieces(self) -> Iterator[Piece]:
        """All rows, from the first, in pieces of bounded size."""
        ...


def recorded_files(path: Path) -> list[Path]:
    """The file itself, or all recordings in a folder and below it, by name.

    Raises:
        SourceError: There is none, or the file is of another kind.
    """
    kinds = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        if files:
            return files
        raise _wrong(path, "holds no recording", expected=f"files that end in {kinds}", received="none")
    if not path.exists():
        raise _wrong(path, "does not exist", expected="a recorded file or a folder of them", received="nothing")
    if path.suffix.lower() not in SUFFIXES:
        raise _wrong(path, "is no recording", expected=f"a name that ends in {kinds}", received=path.name)
    return [path]


def open_recording(file: Path, channels: Sequence[str], *, time: str | None = None) -> Recording:
    """The recording in a file, after a look at its columns.

    Args:
        file: One of `recorded_files`.
        channels: Names of the channels to read, in the order wanted.
        time: Name of the time column; by default it is recognised.

    Raises:
        SourceError: It cannot be read, is empty, or lacks a channel.
        MissingExtraError: Reading Parquet needs a package that is not installed.
    """
    suffix = file.suffix.lower()
    try:
        if suffix == ".parquet":
            from edge_vae.sources.parquet import ParquetRecording  # pyarrow is large and often absent

            return ParquetRecording(file, channels, time=time)
        return NpzRecording(file, channels) if suffix == ".npz" else CsvRecording(file, channels, time=time)
    except OSError as error:
        received = error.strerror or str(error)
        raise _wrong(file, "cannot be read", expected="a recording", received=received) from error


class CsvRecording:
    """A CSV file with a header line: one session.

    Raises:
        SourceError: The header lacks a channel, or there are no rows below it.
    """

    rate_hz = None

    def __init__(self, file: Path, channels: Sequence[str], *, time: str | None = None) -> None:
        self._file = file
        self._new_decoder = partial(CsvRows, channels, time=time, source=str(file))
        self._decoder = self._new_decoder()
        with file.open("rb") as stream:
            while not self._decoder.has_header:
                line = stream.readline(PIECE_BYTES)
                _ = self._decoder.feed(line) if line else self._decoder.flush()
            self.has_times = self._decoder.has_times
            if not stream.read(PIECE_BYTES).strip():
                raise _wrong(file, "has no rows", expected="rows below the header", received="only the header")

    @property
    def malformed(self) -> int:
        """How many readings could not be read so far."""
        return self._decoder.malformed

    def pieces(self) -> Iterator[Piece]:
        """All rows, from the first, in pieces of bounded size."""
        self._decoder = self._new_decoder()
        starts = True
        with self._file.open("rb") as stream:
            while data := stream.read(PIECE_BYTES):
                if len(rows := self._decoder.feed(data)):
                    yield Piece(rows, starts_session=starts)
                    starts = False
        if len(rows := self._decoder.flush()):
            yield Piece(rows, starts_session=starts)


class NpzRecording:
    """An npz file: `X` as (sessions, samples, channels) or (samples, channels), optionally `channels` and `rate_hz`.

    The array is read as a stream, never whole, so that a long recording fits a small machine.

    Raises:
        SourceError: It has no such array of numbers, no rows, or lacks a channel.
    """

    has_times = False
    malformed = 0

    def __init__(self, file: Path, channels: Sequence[str]) -> None:
        self._file = file
        with _npz_errors(file), zipfile.ZipFile(file) as archive:
            present = archive.namelist()
            names = [str(name) for name in _array(archive, "channels")] if "channels.npy" in present else None
            self.rate_hz = float(_array(archive, "rate_hz").item()) if "rate_hz.npy" in present else None
        with self._open() as (_, shape, dtype, _):
            if len(shape) not in (2, 3) or 0 in shape or dtype.kind not in "fiub":
                raise _wrong(
                    file,
                    "has no recording in X",
                    expected="numbers as (sessions, samples, channels) or (samples, channels), none of them 0",
                    received=f"{dtype} as {shape}",
                )
            self._columns = _columns(file, names, channels, shape[-1])

    def pieces(self) -> Iterator[Piece]:
        """All rows, from the first, in pieces of bounded size."""
        with self._open() as (stream, shape, dtype, fortran_order):
            sessions, (samples, width) = (shape[0] if len(shape) == 3 else 1), shape[-2:]
            if fortran_order:
                with zipfile.ZipFile(self._file) as archive:
                    stream = BytesIO(_array(archive, "X").tobytes())
            for _ in range(sessions):
                for start in range(0, samples, PIECE_ROWS):
                    count = min(PIECE_ROWS, samples - start)
                    data = stream.read(count * width * dtype.itemsize)
                    values = np.frombuffer(data, dtype).reshape(count, width)[:, self._columns].astype(np.float64)
                    yield Piece(Rows(values, np.full(count, np.nan)), starts_session=start == 0)

    @contextmanager
    def _open(self) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[Any], bool]]:
        """A stream that stands at the first number of X; its shape, type, and whether it is in Fortran order."""
        with _npz_errors(self._file), zipfile.ZipFile(self._file) as archive, archive.open("X.npy") as stream:
            version = npy_format.read_magic(stream)
            read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
            shape, fortran_order, dtype = read_header(stream)
            yield stream, shape, dtype, fortran_order


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as stream:
        array: NDArray[Any] = npy_format.read_array(stream, allow_pickle=False)
        return array


@contextmanager
def _npz_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError, ValueError) as error:
        raise _wrong(
            file,
            "cannot be read",
            expected="an npz archive with an array X",
            received=str(error),
        ) from error


def _columns(file: Path, names: Sequence[str] | None, channels: Sequence[str], width: int) -> list[int]:
    known = list(channels) if names is None and width == len(channels) else list(names or [])
    missing = [channel for channel in channels if channel not in known]
    if missing or len(known) != width:
        raise _wrong(
            file,
            "does not fit the channels",
            expected=f"the columns {', '.join(channels)}",
            received=f"{width} columns" + (f" named {', '.join(known)}" if known else " and no array of their names"),
        )
    return [known.index(channel) for channel in channels]


def _wrong(file: Path, what: str, *, expected: str, received: str) -> SourceError:
    return SourceError(f"{file} {what}", expected=expected, received=received)
