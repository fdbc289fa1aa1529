"""Recordings played as if they happened now: what can be read, how fast it is played, what is told when not."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edge_vae.errors import MissingExtraError, SourceError
from edge_vae.sample import Block
from edge_vae.sources import ReplaySource
from edge_vae.sources.pace import Pace
from edge_vae.sources.recording import PIECE_BYTES, PIECE_ROWS

NAN = math.nan
NOON = 1_600_000_000.0


def played(path: Path, channels: Sequence[str] = ("a", "b"), **options: Any) -> list[Block]:
    """All blocks of a recording, flat out."""
    source = ReplaySource(path, speed=0, **options)
    source.open(channels)
    blocks: list[Block] = []
    while not source.exhausted:
        blocks += source.read(0)
    assert source.samples == sum(len(block.times) for block in blocks)
    return blocks


def values(blocks: Sequence[Block]) -> list[list[float]]:
    rows: list[list[float]] = np.concatenate([block.values for block in blocks]).tolist()
    return rows


def numbered(count: int, width: int = 2) -> np.ndarray:
    return np.arange(count * width, dtype=np.float64).reshape(count, width)


def test_each_file_of_a_folder_is_a_session_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("a,b\n3,4\n")
    (tmp_path / "a.csv").write_text("b;a\n2;1\n")
    (tmp_path / "c").mkdir()
    np.savez(tmp_path / "c" / "d.npz", X=np.array([[5, 6]]))
    (tmp_path / "notes.md").write_text("no data")

    blocks = played(tmp_path)
    assert values(blocks) == [[1, 2], [3, 4], [5, 6]]
    assert [block.starts_session for block in blocks] == [True, True, True]


def test_a_long_csv_is_read_in_pieces_and_is_one_session(tmp_path: Path) -> None:
    rows = numbered(20_000)
    np.savetxt(tmp_path / "long.csv", rows, fmt="%d", delimiter=",", header="a,b", comments="")

    blocks = played(tmp_path / "long.csv")
    np.testing.assert_array_equal(values(blocks), rows)
    assert len(blocks) >= (tmp_path / "long.csv").stat().st_size // PIECE_BYTES
    assert [block.starts_session for block in blocks] == [True] + [False] * (len(blocks) - 1)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kind", ["float64", "float32", ">f4", "int16", "uint8", "bool"])
def test_npz_numbers_of_every_kind_are_read(tmp_path: Path, save: Any, kind: str) -> None:
    rows = numbered(20).astype(kind)
    save(tmp_path / "x.npz", X=rows)

    np.testing.assert_array_equal(values(played(tmp_path / "x.npz")), rows.astype(np.float64))


def test_npz_entries_are_sessions_in_pieces(tmp_path: Path) -> None:
    rows = numbered(3 * (PIECE_ROWS + 10), 3).reshape(3, PIECE_ROWS + 10, 3)
    np.savez(tmp_path / "x.npz", X=rows, channels=np.array(["b", "other", "a"]), y=np.zeros(3))

    blocks = played(tmp_path / "x.npz")
    np.testing.assert_array_equal(values(blocks), rows.reshape(-1, 3)[:, [2, 0]])
    assert [block.starts_session for block in blocks] == [True, False] * 3


def test_npz_in_fortran_order_is_read(tmp_path: Path) -> None:
    rows = numbered(12, 2)
    np.savez(tmp_path / "x.npz", X=np.asfortranarray(rows))

    np.testing.assert_array_equal(values(played(tmp_path / "x.npz")), rows)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (pa.array([NOON, None]), [NOON, NAN]),
        (pa.array([1, 2]), [1, 2]),
        (pa.array(np.array([1_500_000_000, 2_000_000_000], "datetime64[ns]")), [1.5, 2]),
        (pa.array(np.array([1, 2], "datetime64[s]")).cast(pa.timestamp("s", "Europe/Berlin")), [1, 2]),
        (pa.array([date(1970, 1, 2), None]), [86400, NAN]),
        (pa.array(["1970-01-01T00:00:01Z", None]), [1, NAN]),
    ],
)
def test_parquet_times_of_every_kind_are_seconds(tmp_path: Path, times: pa.Array, expected: list[float]) -> None:
    table = pa.table({"a": pa.array([1, None], pa.int32()), "Time": times, "b": pa.array([1.5, 2], pa.float32())})
    pq.write_table(table, tmp_path / "x.parquet")

    [block] = played(tmp_path / "x.parquet")
    np.testing.assert_array_equal(block.values, [[1, 1.5], [NAN, 2]])
    np.testing.assert_array_equal(block.times, expected)


def test_a_parquet_time_that_is_none_is_counted(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1.0], "b": [2.0], "time": ["late"]}), tmp_path / "x.parquet")
    source = ReplaySource(tmp_path / "x.parquet", speed=0)
    source.open(["a", "b"])
    [block] = source.read(0)

    assert math.isnan(block.times[0])
    assert source.malformed == 1


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.parquet").write_bytes(b"")
    monkeypatch.delitem(sys.modules, "edge_vae.sources.parquet", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(MissingExtraError, match=r"pip install 'edge-vae\[parquet\]'"):
        ReplaySource(tmp_path / "x.parquet", speed=0).open(["a"])


def csv_file(text: str) -> Any:
    return lambda folder: (folder / "x.csv").write_text(text)


def npz_file(**arrays: Any) -> Any:
    return lambda folder: np.savez(folder / "x.npz", **arrays)


def parquet_file(**columns: Any) -> Any:
    return lambda folder: pq.write_table(pa.table(columns), folder / "x.parquet")


def bytes_file(name: str, data: bytes) -> Any:
    return lambda folder: (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, "holds no recording: expected files that end in .csv, .npz or .parquet, received none"),
        (csv_file(""), "is empty: expected a header with a, b, received no line"),
        (csv_file("a,b\n\n"), "has no rows: expected rows below the header, received only the header"),
        (csv_file("a,c\n1,2\n"), "has no column b: expected the columns a, b, received a, c"),
        (npz_file(Y=[1]), "cannot be read: expected an npz archive with an array X"),
        (npz_file(X=np.zeros(3)), "received float64 as (3,)"),
        (npz_file(X=np.zeros((0, 2))), "received float64 as (0, 2)"),
        (npz_file(X=np.array([["1", "2"]])), "received <U1 as (1, 2)"),
        (npz_file(X=np.zeros((4, 3))), "expected the columns a, b, received 3 columns and no array of their names"),
        (npz_file(X=np.zeros((4, 2)), channels=["a", "c"]), "received 2 columns named a, c"),
        (npz_file(X=np.zeros((4, 3)), channels=["a", "b"]), "received 3 columns named a, b"),
        (bytes_file("x.npz", b"PK\x03\x04 cut off"), "cannot be read: expected an npz archive"),
        (bytes_file("x.npz", b""), "cannot be read: expected an npz archive"),
        (bytes_file("x.parquet", b"PAR1 cut off"), "cannot be read: expected a Parquet file"),
        (parquet_file(a=[1.0], c=[2.0]), "has no column b: expected a, b, received a, c"),
        (parquet_file(a=[1.0], b=["x"]), "expected numbers in each channel, received string in column 'b'"),
        (parquet_file(a=pa.array([], pa.float64()), b=pa.array([], pa.float64())), "has no rows"),
    ],
)  # fmt: skip
def test_a_recording_that_cannot_be_played_is_an_error_when_it_is_opened(tmp_path: Path, make: Any, words: str) -> None:
    make(tmp_path)

    with pytest.raises(SourceError) as caught:
        ReplaySource(tmp_path, speed=0).open(["a", "b"])
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_path_that_is_no_recording_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.csv does not exist"):
        ReplaySource(tmp_path / "none.csv").open(["a"])
    (tmp_path / "x.xlsx").write_bytes(b"")
    with pytest.raises(SourceError, match=r"x\.xlsx is no recording: expected a name that ends in \.csv, \.npz or"):
        ReplaySource(tmp_path / "x.xlsx").open(["a"])


def test_every_file_is_looked_at_before_the_first_row_is_given_out(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a\n1\n")
    (tmp_path / "2.csv").write_text("b\n1\n")

    with pytest.raises(SourceError, match=r"2\.csv has no column a"):
        ReplaySource(tmp_path, speed=0).open(["a"])


def test_a_recording_that_is_cut_off_in_the_middle_is_an_error_after_the_rows_before(tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    np.savez(file, X=numbered(3 * PIECE_ROWS))
    data = bytearray(file.read_bytes())
    data[-2000] ^= 255  # the checksum of the archive no longer holds
    file.write_bytes(data)
    source = ReplaySource(file, speed=0)
    source.open(["a", "b"])
    assert len(source.read(0)[0].times) == PIECE_ROWS

    with pytest.raises(SourceError, match="cannot be read"):
        drain(source)


def drain(source: ReplaySource) -> None:
    while not source.exhausted:
        source.read(0)


def test_malformed_readings_of_all_files_are_counted(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1,oops\n")
    (tmp_path / "2.csv").write_text("a,b\n1,2\nx,y\n")
    source = ReplaySource(tmp_path, speed=0)
    source.open(["a", "b"])
    drain(source)

    assert source.malformed == 3


def test_the_first_row_is_due_at_once_and_the_next_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(f"t0,a\n{NOON},1\n{NOON + 3600},2\n")
    source = ReplaySource(tmp_path / "x.csv", speed=1, time="t0")
    source.open(["a"])

    [block] = source.read(0)
    assert block.values.tolist() == [[1.0]]
    assert source.read(0) == []
    assert source.read(0.01) == []
    assert not source.exhausted


def test_a_fast_replay_gives_out_every_row_once(tmp_path: Path) -> None:
    rows = numbered(3000)
    np.savez(tmp_path / "x.npz", X=rows, rate_hz=1.0)
    source = ReplaySource(tmp_path / "x.npz", speed=100_000)
    source.open(["a", "b"])
    blocks: list[Block] = []
    while not source.exhausted:
        blocks += source.read(0.01)

    np.testing.assert_array_equal(values(blocks), rows)


@pytest.mark.parametrize(
    "make",
    [csv_file("a,b\n1,2\n"), npz_file(X=np.zeros((2, 2))), csv_file("time,a,b\nlate,1,2\n")],
)
def test_a_speed_needs_times_or_a_rate(tmp_path: Path, make: Any) -> None:
    make(tmp_path)
    source = ReplaySource(tmp_path, speed=2)
    words = "cannot be replayed at speed 2: expected times in the recording, a rate_hz, or speed = 0, received neither"
    with pytest.raises(SourceError, match=words):
        open_and_read(source)

    source = ReplaySource(tmp_path, speed=2, rate_hz=10)
    source.open(["a", "b"])
    assert len(source.read(0)[0].times) == 1


def open_and_read(source: ReplaySource) -> None:
    source.open(["a", "b"])
    source.read(0)


def test_rows_are_due_as_far_apart_as_they_were_recorded() -> None:
    pace = Pace(100.0, speed=2.0, rate_hz=None)

    assert pace.due_s(NOON + np.array([0.0, 1, 4])).tolist() == [100, 100.5, 102]
    assert pace.due_s(NOON + np.array([6.0])).tolist() == [103]


def test_rows_without_times_are_due_by_the_rate() -> None:
    pace = Pace(100.0, speed=10.0, rate_hz=5.0)

    np.testing.assert_allclose(pace.due_s(np.full(3, NAN)), [100, 100.02, 100.04])
    np.testing.assert_allclose(pace.due_s(np.full(2, NAN)), [100.06, 100.08])


def test_no_row_is_due_before_the_one_in_front_of_it() -> None:
    pace = Pace(100.0, speed=1.0, rate_hz=None)

    assert pace.due_s(np.array([5.0, 7, 6, NAN, 8])).tolist() == [100, 102, 102, 102, 103]
    assert pace.due_s(np.array([NAN, 1.0, 9])).tolist() == [103, 103, 104]


def test_neither_times_nor_a_rate_is_an_error() -> None:
    with pytest.raises(ValueError, match="neither"):
        Pace(100.0, speed=1.0, rate_hz=None).due_s(np.array([NAN]))
