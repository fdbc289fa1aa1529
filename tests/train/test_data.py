"""Recorded data: what is read, what is told, and what is refused with file, column and row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vae.cli import run
from edge_vae.errors import DataError
from edge_vae_train.csv_table import line_of
from edge_vae_train.data import ASSUMED_RATE_HZ, Columns, Recording, read

Write = Callable[[str], Path]


@pytest.fixture
def csv(tmp_path: Path) -> Write:
    """Writes a text as `data.csv`."""

    def write(text: str) -> Path:
        file = tmp_path / "data.csv"
        file.write_bytes(text.encode())
        return file

    return write


def rows(count: int, *, rate_hz: float = 1.0, start: float = 0.0) -> str:
    return "".join(f"{start + i / rate_hz:.6f},{i % 7},{i % 5}\n" for i in range(count))


def only(recording: Recording) -> list[list[float]]:
    (session,) = recording.sessions
    values: list[list[float]] = session.values.tolist()
    return values


def refused(*paths: Path, **columns: object) -> str:
    with pytest.raises(DataError) as caught:
        read(paths, Columns(**columns))  # type: ignore[arg-type]  # options by name
    line = str(caught.value)
    assert line.startswith(str(paths[-1])) or caught.value.file == "--rate"
    assert "expected " in line
    assert "received " in line
    assert "\n" not in line
    return line


def notes(*paths: Path, **columns: object) -> str:
    return "\n".join(read(paths, Columns(**columns)).notes)  # type: ignore[arg-type]  # options by name


# What is read


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_of_a_csv_is_found(csv: Write, delimiter: str) -> None:
    recording = read([csv("a,b\n1,2\n3,4.5\n".replace(",", delimiter))])
    assert recording.channels == ("a", "b")
    assert only(recording) == [[1, 2], [3, 4.5]]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\ufeffa,b\n1,2\n3,4\n", id="byte order mark"),
        pytest.param("a,b\r\n1,2\r\n3,4\r\n", id="crlf"),
        pytest.param(' "a" , "b"\n1, 2\n3, 4\n', id="quotes and spaces"),
        pytest.param("a,b\n1,2\n3,4", id="no last newline"),
        pytest.param("a,b,\n1,2,\n3,4,\n", id="delimiter at the end"),
        pytest.param("\n\na,b\n1,2\n3,4\n", id="blank lines first"),
    ],
)
def test_csv_as_programs_write_it_is_read(csv: Write, text: str) -> None:
    recording = read([csv(text)])
    assert recording.channels == ("a", "b")
    assert only(recording) == [[1, 2], [3, 4]]


def test_a_decimal_comma_is_read_and_told_even_when_it_comes_late(csv: Write) -> None:
    file = csv("a;b\n1;2\n-3,5;4\n")
    assert only(read([file])) == [[1, 2], [-3.5, 4]]
    assert f"{file}: numbers with a decimal comma" in notes(file)


def test_one_column_is_a_recording(csv: Write) -> None:
    assert only(read([csv("flow\n1\n2\n")])) == [[1], [2]]


@pytest.mark.parametrize("name", ["time", "Timestamp", "datetime", "DATE"])
def test_a_time_column_is_recognised_and_is_no_channel(csv: Write, name: str) -> None:
    recording = read([csv(f"{name},a\n2020-03-09 10:14:33,1\n2020-03-09T10:14:33.5Z,2\n2020-03-09T12:14:34+02:00,3\n")])
    assert recording.channels == ("a",)
    assert recording.rate_hz == pytest.approx(2.0)
    assert recording.sessions[0].times.tolist() == [1583748873.0, 1583748873.5, 1583748874.0]


def test_numbers_are_seconds_and_another_column_can_be_the_time(csv: Write) -> None:
    recording = read([csv("t,a\n10,1\n10.25,2\n10.5,3\n")], Columns(time="t"))
    assert recording.channels == ("a",)
    assert recording.rate_hz == pytest.approx(4.0)


def test_a_column_that_is_a_channel_is_not_the_time_whatever_its_name(csv: Write) -> None:
    assert read([csv("time,a\n5,1\n6,2\n")], Columns(channels=("time",))).channels == ("time",)


def test_channels_are_chosen_and_ordered_by_name_and_others_are_left_out(csv: Write) -> None:
    recording = read([csv("a,b,c\n1,2,text\n3,4,text\n")], Columns(channels=("b", "a")))
    assert recording.channels == ("b", "a")
    assert only(recording) == [[2, 1], [4, 3]]
    assert read([csv("a,b,c\n1,2,text\n")], Columns(ignore=("c", "absent"))).channels == ("a", "b")


def test_columns_in_another_order_are_taken_by_name(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1,2\n")
    (tmp_path / "2.csv").write_text("b;a\n4;3\n")
    recording = read([tmp_path])
    assert [s.values.tolist() for s in recording.sessions] == [[[1, 2]], [[3, 4]]]


def test_labels_mark_rows_and_are_no_channel(csv: Write) -> None:
    recording = read([csv("a,fault\n1,0\n2,1\n3,1.0\n")], Columns(label="fault"))
    assert recording.channels == ("a",)
    assert recording.sessions[0].labels is not None
    assert recording.sessions[0].labels.tolist() == [False, True, True]


def test_a_file_without_the_label_column_is_normal_and_that_is_told(csv: Write) -> None:
    file = csv("a\n1\n2\n")
    assert read([file], Columns(label="fault")).sessions[0].labels is None
    assert f"{file}: no column 'fault', all rows are taken as normal" in notes(file, label="fault")


def test_a_folder_is_its_files_by_name_and_a_file_is_itself(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/2.CSV", "a.csv", "b/1.csv"):
        (tmp_path / name).write_text("x\n1\n")
    (tmp_path / "notes.md").write_text("no data")
    assert [s.name for s in read([tmp_path]).sessions] == ["a.csv", "b/1.csv", "b/2.CSV"]
    assert [s.name for s in read([tmp_path / "a.csv", tmp_path / "b"]).sessions] == ["a.csv", "1.csv", "2.CSV"]


def test_a_parquet_table_is_read_with_its_times_and_labels(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    times = pd.date_range("2020-01-01", periods=4, freq="250ms", tz="UTC")
    pd.DataFrame({"time": times, "a": [1, 2, 3, 4], "fault": [False, False, True, True]}).to_parquet(file)
    recording = read([file], Columns(label="fault"))
    assert (recording.channels, recording.rate_hz) == (("a",), pytest.approx(4.0))
    assert recording.sessions[0].labels is not None
    assert recording.sessions[0].labels.tolist() == [False, False, True, True]


def test_a_parquet_tables_named_index_is_a_column(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pd.DataFrame({"a": [1.0, 2.0]}, index=pd.Index([5.0, 5.5], name="time")).to_parquet(file)
    assert read([file]).rate_hz == pytest.approx(2.0)


def test_missing_integers_of_a_parquet_table_are_missing_readings(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pd.DataFrame({"a": pd.array([1, None, 3], dtype="Int64")}).to_parquet(file)
    assert np.isnan(read([file]).sessions[0].values[:, 0]).tolist() == [False, True, False]
    assert "row 1, column 'a'" in notes(file)


def test_an_npz_of_two_axes_is_one_session_and_of_three_axes_many(tmp_path: Path) -> None:
    X = np.arange(24.0).reshape(3, 4, 2)
    np.savez(tmp_path / "three.npz", X=X, channels=np.array(["u", "v"]), rate_hz=25)
    np.savez(tmp_path / "two.npz", X=X[0].astype(np.int16))
    many, one = read([tmp_path / "three.npz"]), read([tmp_path / "two.npz"])
    assert [s.name for s in many.sessions] == ["three.npz#0", "three.npz#1", "three.npz#2"]
    assert (many.channels, many.rate_hz) == (("u", "v"), 25.0)
    np.testing.assert_array_equal([s.values for s in many.sessions], X)
    assert [s.name for s in one.sessions] == ["two.npz"]
    assert one.channels == ("ch0", "ch1")
    assert only(one) == X[0].tolist()


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([0, 1], [[False] * 3, [True] * 3]),
        ([[0, 0, 1], [1, 0, 0]], [[False, False, True], [True, False, False]]),
        ([0, 0, 1, 1, 0, 0], [[False, False, True], [True, False, False]]),
    ],
    ids=["a session", "a row", "flat"],
)
def test_labels_of_an_npz_are_per_row_or_per_session(tmp_path: Path, y: list[int], expected: list[list[bool]]) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, X=np.zeros((2, 3, 1)), y=np.array(y))
    found = [s.labels for s in read([file], Columns(label="y")).sessions]
    assert [labels.tolist() for labels in found if labels is not None] == expected


def test_labels_of_an_npz_that_are_not_asked_for_are_told(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, X=np.zeros((4, 1)), y=np.zeros(4))
    assert "--label y would use them" in notes(file)


def test_channels_of_an_npz_are_chosen_and_ignored(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, X=np.array([[1, 2, 3]]), channels=np.array(["u", "v", "w"]))
    assert only(read([file], Columns(channels=("w", "u")))) == [[3, 1]]
    assert only(read([file], Columns(ignore=("v",)))) == [[1, 3]]


# What is told


def test_missing_readings_are_counted_and_the_first_is_named(csv: Write) -> None:
    file = csv("a,b\n1,2\n3,\n\nnan,4\n5,inf\n6,7\n")
    (session,) = read([file]).sessions
    assert np.argwhere(np.isnan(session.values)).tolist() == [[1, 1], [2, 0], [3, 1]]
    line = f"{file}: 3 rows with a missing reading are left out and end a segment; the first is row 3, column 'b'"
    assert line in notes(file)


def test_gaps_and_steps_back_in_time_are_told_with_the_first_row(csv: Write) -> None:
    file = csv("time,a\n0,1\n1,1\n2,1\n9,1\n10,1\n4,1\n5,1\n")
    line = f"{file}: 2 gaps or steps back in time end a segment; the first is a gap of 7 s before row 5"
    assert line in notes(file)
    back = csv("time,a\n10,1\n11,1\n5,1\n6,1\n7,1\n")
    assert "the first is a step back by 6 s before row 4" in notes(back)


def test_steady_data_with_times_gives_no_note(csv: Write) -> None:
    assert notes(csv("time,a,b\n" + rows(50))) == ""


def test_without_times_and_rate_one_hertz_is_assumed_and_told(csv: Write) -> None:
    file = csv("a\n1\n2\n")
    assert read([file]).rate_hz == ASSUMED_RATE_HZ == 1.0
    assert "1 Hz is assumed" in notes(file)
    assert read([file], Columns(rate_hz=20.0)).rate_hz == 20.0
    assert notes(file, rate_hz=20.0) == ""


def test_a_models_rate_is_taken_for_data_that_has_none_without_a_note(csv: Write) -> None:
    recording = read([csv("a\n1\n2\n")], model_rate_hz=12.5)
    assert recording.rate_hz == 12.5
    assert recording.notes == ()


# What is refused


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("a,b\n", "a header and no rows"),
        ("a,b\n\n\n", "a header and no rows"),
        ("1,2\n3,4\n", "row 1: the first line is numbers"),
        ("7\n8\n", "row 1: the first line is numbers"),
        ("a,b\n1,2\n3,oops\n", "column 'b', row 3: not a number"),
        ("a,b\n1,2\n\n\n3,oops\n", "column 'b', row 5: not a number"),
        ("a,b\n1,2\n3,4 5\n", "column 'b', row 3: not a number"),
        ("a,machine\n1,x\n2,x\n", "leave the column away with --ignore machine"),
        ("a,b\n1,2,3\n4,5,6\n", "row 2: not a rectangular table: expected 2 cells, received 3 in the first row"),
        ("a,b\n1,2\n4,5,6\n", "Expected 2 fields in line 3, saw 3"),
        ("a,b,a\n1,2,3\n", "column 'a': a column stands twice: expected unique names, received 2 columns"),
        (",a\n0,1\n1,2\n", "column 'Unnamed: 0', row 1: a column has no name"),
        ("time\n1\n2\n", "no channel is left"),
        ("time,a\n2020-01-01,1\nyesterday,2\n", "column 'time', row 3: not a time"),
        ("time,a\n2020-01-01,1\n,2\n", "received an empty cell"),
        ("time,a\n1583748873000,1\n1583748874000,2\n", "row 2: not a time: expected ISO 8601 or seconds since 1970"),
        ("time,a\n10.5,1\n11,2\n11.5,3\nnoon,4\n", "column 'time', row 5: not a time"),
        ("time,a\n09.03.2020 10:14,1\n09.03.2020 10:15,2\n", "row 2: not a time"),
        (
            "time,a\n" + "".join(f"2020-01-01 00:00:0{i // 8},1\n" for i in range(40)),
            "times are coarser than the samples",
        ),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused_with_the_place(csv: Write, text: str, says: str) -> None:
    assert says in refused(csv(text))


@pytest.mark.parametrize(("cell", "shown"), [("0.5", "0.5"), ("2", "2"), ("yes", "'yes'"), ("", "an empty cell")])
def test_a_label_that_is_neither_0_nor_1_is_refused_with_its_row(csv: Write, cell: str, shown: str) -> None:
    line = refused(csv(f"a,fault\n1,0\n2,{cell}\n3,1\n"), label="fault")
    assert f"column 'fault', row 3: not a label: expected 0 or 1, received {shown}" in line


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("temp [\u00b0C]\n1\n".encode("latin-1"))
    assert "cannot be read: expected CSV text in UTF-8" in refused(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_bytes(b"a\n" + b"1\n" * 200_000 + b"\xb0\n")
    assert "not a rectangular table" in refused(tmp_path / "b.csv")


def test_a_time_column_that_is_not_there_is_refused(csv: Write) -> None:
    assert "no such time column: expected 't', received time, a" in refused(csv("time,a\n1,2\n"), time="t")


def test_paths_without_data_are_refused(tmp_path: Path) -> None:
    assert "no such file or folder" in refused(tmp_path / "none")
    assert "no data in the folder: expected *.csv or *.parquet or *.npz" in refused(tmp_path)
    (tmp_path / "a.xlsx").write_text("x")
    assert "not a data file: expected .csv .parquet .npz, received .xlsx" in refused(tmp_path / "a.xlsx")


def test_files_with_other_channels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1,2\n")
    (tmp_path / "2.csv").write_text("a,c\n1,2\n")
    (tmp_path / "3.csv").write_text("a,b,c\n1,2,3\n")
    first, second, third = (tmp_path / f"{i}.csv" for i in (1, 2, 3))
    assert "channels are missing: b: expected the channels a, b, received a, c" in refused(first, second)
    assert "further channels: c: expected the channels a, b, received a, b, c" in refused(first, third)
    assert "channels are missing: z" in refused(first, channels=("a", "z"))


def test_other_sampling_rates_are_refused(tmp_path: Path) -> None:
    for name, rate_hz in (("1", 1.0), ("2", 1.05), ("3", 4.0)):
        (tmp_path / f"{name}.csv").write_text("time,a,b\n" + rows(30, rate_hz=rate_hz))
    assert read([tmp_path / "1.csv", tmp_path / "2.csv"]).rate_hz == pytest.approx(1.025)
    files = [tmp_path / f"{i}.csv" for i in (1, 2, 3)]
    assert "expected 1.05 Hz as most files have, received 4 Hz. Resample" in refused(*files)


def test_a_rate_that_contradicts_the_times_or_the_file_is_refused(tmp_path: Path) -> None:
    timed, array = tmp_path / "a.csv", tmp_path / "a.npz"
    timed.write_text("time,a,b\n" + rows(30, rate_hz=10))
    np.savez(array, X=np.zeros((30, 2)), rate_hz=10.0)
    for file in (timed, array):
        assert read([file], Columns(rate_hz=10.4)).rate_hz == pytest.approx(10.0)
        assert "expected 5 Hz as --rate says, received 10 Hz" in refused(file, rate_hz=5.0)
        with pytest.raises(DataError, match="expected 2 Hz as the model was trained at, received 10 Hz"):
            read([file], model_rate_hz=2.0)


def test_a_rate_that_contradicts_the_models_is_refused(csv: Write) -> None:
    with pytest.raises(
        DataError, match="--rate: another sampling rate: expected 2 Hz as the model was trained at, received 5 Hz"
    ):
        read([csv("a\n1\n2\n")], Columns(rate_hz=5.0), model_rate_hz=2.0)


@pytest.mark.parametrize(
    "arrays",
    [
        {"Z": np.zeros((3, 2))},
        {"X": np.zeros(3)},
        {"X": np.zeros((2, 2, 2, 2))},
        {"X": np.zeros((0, 2))},
        {"X": np.array([["a"]])},
        {"X": np.zeros((3, 2), complex)},
        {"X": np.array([[{}]], dtype=object)},
        {"X": np.zeros((3, 2)), "channels": np.array(["a"])},
        {"X": np.zeros((3, 2)), "channels": np.array(["a", "a"])},
        {"X": np.zeros((3, 2)), "rate_hz": np.array([1.0, 2.0])},
        {"X": np.zeros((3, 2)), "rate_hz": np.array(-1.0)},
        {"X": np.zeros((3, 2)), "rate_hz": np.array("fast")},
        {"X": np.zeros((3, 2)), "y": np.array([0, 1])},
        {"X": np.zeros((3, 2)), "y": np.array([0, 1, 2])},
        {"X": np.zeros((3, 2)), "y": np.array([0, 1, np.nan])},
        {"X": np.zeros((3, 2)), "y": np.array(["a", "b", "c"])},
    ],
    ids=lambda arrays: ", ".join(f"{name} {array.dtype}{array.shape}" for name, array in arrays.items()),
)
def test_an_npz_that_cannot_be_used_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]  # arrays by name
    refused(tmp_path / "a.npz", label="y")


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_a_damaged_file_is_refused(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez_compressed(file, X=np.random.default_rng(0).normal(size=(50, 2)))
    else:
        pd.DataFrame({"a": np.arange(50.0)}).to_parquet(file)
    whole = file.read_bytes()
    for damaged in (
        b"",
        b"hello",
        whole[: len(whole) // 2],
        whole[:-30],
        b"\0" * 40 + whole[40:],
        np.zeros(3).tobytes(),
    ):
        file.write_bytes(damaged)
        assert "cannot be read" in refused(file)


def test_arrays_in_a_file_with_the_wrong_name_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 2)))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    assert "cannot be read: expected an .npz file of plain arrays" in refused(tmp_path / "a.npz")


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_the_line_of_a_row_counts_blank_lines(filled: list[bool]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.csv"
        file.write_text("header\n" + "".join("1\n" if full else "\n" for full in filled))
        expected = [i + 2 for i, full in enumerate(filled) if full]
        assert [line_of(file, row) for row in range(len(expected))] == expected


# Through the command line: one line, the right status, no traceback


def failed(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 1) -> str:
    """The one line on stderr of a command that must fail; lines before it are notes."""
    assert run([str(argument) for argument in arguments]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    *_, line = captured.err.splitlines()
    assert line.startswith("edge-vae: ")
    assert "expected " in line
    assert "received " in line
    assert line.count("edge-vae: ") == 1
    return line


GOOD = "time,a,b\n" + rows(40)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file is empty: expected a header line and rows, received nothing"),
        ("time,a,b\n", "a header and no rows: expected rows of numbers, received none"),
        ("time,a,b\n0,1,2\n1,one,2\n", "column 'a', row 3: not a number: expected a number"),
        ("time,a,b,fault\n0,1,2,0\n1,1,2,0.5\n", "column 'fault', row 3: not a label: expected 0 or 1, received 0.5"),
        ("time,a,b\n" + rows(10), "too little normal data for windows of 64 samples: expected sessions of several"),
    ],
    ids=["empty", "header", "text", "label", "ten rows"],
)
def test_train_refuses_bad_data_in_one_line(
    tmp_path: Path, csv: Write, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    file = csv(text)
    line = failed(capsys, "train", file, "--label", "fault", "--window", 64, "-o", tmp_path / "run")
    assert says in line
    assert not (tmp_path / "run").exists()


def test_train_refuses_files_of_which_one_lacks_a_channel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "1.csv").write_text(GOOD)
    (tmp_path / "2.csv").write_text("time,a\n0,1\n1,2\n")
    line = failed(capsys, "train", tmp_path, "-o", tmp_path / "run")
    assert f"edge-vae: {tmp_path / '2.csv'}: channels are missing: b: expected the channels a, b, received a." in line


def test_train_refuses_a_path_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such file or folder" in failed(capsys, "train", tmp_path / "none", "-o", tmp_path / "run")


def test_train_tells_its_notes_on_stderr_before_it_fails(
    tmp_path: Path, csv: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["train", str(csv("a,b\n1,\n2,3\n")), "-o", str(tmp_path / "run")])
    noted = capsys.readouterr().err
    assert "1 rows with a missing reading are left out and end a segment; the first is row 2, column 'b'" in noted
    assert "1 Hz is assumed" in noted


def test_a_command_in_a_process_of_its_own_ends_with_its_status_and_without_a_traceback(
    tmp_path: Path, edge_vae: Callable[..., CompletedProcess[str]]
) -> None:
    refused = edge_vae("train", tmp_path / "none.csv", "-o", tmp_path / "run", status=1)
    assert refused.stderr.startswith(f"edge-vae: {tmp_path / 'none.csv'}: no such file or folder")
    assert len(refused.stderr.splitlines()) == 1
    assert "Missing argument 'DATA...'" in edge_vae("train", "-o", tmp_path / "run", status=2).stderr


# Operating modes


def test_mode_columns_travel_beside_the_channels_and_are_none_of_them(csv: Write) -> None:
    recording = read([csv("recipe,a,load,b\n1,2,3,4\n1,5,,6\n")], Columns(modes=("load", "recipe")))
    assert (recording.channels, recording.mode_columns) == (("a", "b"), ("load", "recipe"))
    (session,) = recording.sessions
    assert session.modes is not None
    np.testing.assert_array_equal(session.modes, [[3, 1], [np.nan, 1]])
    np.testing.assert_array_equal(session.columns, [[2, 4, 3, 1], [5, 6, np.nan, 1]])
    assert not any("missing reading" in note for note in recording.notes)  # a missing mode is told where it matters


def test_mode_columns_stand_beside_channels_that_are_chosen_by_name(csv: Write, tmp_path: Path) -> None:
    columns = Columns(channels=("b",), modes=("recipe",))
    (session,) = read([csv("recipe,a,b\n1,2,3\n")], columns).sessions
    assert session.columns.tolist() == [[3, 1]]
    np.savez(tmp_path / "a.npz", X=np.array([[1, 2, 3]]), channels=np.array(["recipe", "a", "b"]))
    (session,) = read([tmp_path / "a.npz"], columns).sessions
    assert session.columns.tolist() == [[3, 1]]


def test_data_without_mode_columns_has_only_channels(csv: Write) -> None:
    (session,) = read([csv("a,b\n1,2\n")]).sessions
    assert session.modes is None
    assert session.columns is session.values


def test_a_mode_column_that_is_missing_or_holds_text_is_refused(csv: Write) -> None:
    assert "channels are missing: recipe" in refused(csv("a,b\n1,2\n"), modes=("recipe",))
    assert "'steel'" in refused(csv("a,recipe\n1,2\n1,steel\n"), modes=("recipe",))
