"""Bytes to rows: CSV and JSON lines, however the bytes are cut."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vae.errors import SourceError
from edge_vae.sources.csv_rows import CsvRows, sniff_delimiter
from edge_vae.sources.decode import TIME_NAMES, Decoder, Rows, parse_time, time_column
from edge_vae.sources.json_rows import JsonRows
from edge_vae.sources.lines import MAX_LINE_BYTES

NAN = math.nan


def decoded(decoder: Decoder, data: bytes | str) -> Rows:
    """All rows of a stream that ends."""
    rows = [decoder.feed(data.encode() if isinstance(data, str) else data), decoder.flush()]
    return Rows(np.concatenate([r.values for r in rows]), np.concatenate([r.times for r in rows]))


def csv(text: str | bytes, channels: Sequence[str] = ("a", "b")) -> list[list[float]]:
    return decoded(CsvRows(channels), text).values.tolist()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2020-03-09 10:14:33", 1583748873.0),
        ("2020-03-09T10:14:33.5", 1583748873.5),
        ("2020-03-09T10:14:33.123456789Z", 1583748873.123456),
        ("2020-03-09T10:14:33.25+02:00", 1583741673.25),
        ("2020-03-09 10:14", 1583748840.0),
        ("2020-03-09", 1583712000.0),
        ("2016-12-31T23:59:60Z", 1483228800.0),
        ("1583748873", 1583748873.0),
        ("1583748873.25", 1583748873.25),
        ("1.583748873e9", 1583748873.0),
        ("-3600", -3600.0),
        ("1.5e-3", 0.0015),
        ("0", 0.0),
    ],
)
def test_times_are_iso_8601_in_utc_or_seconds(text: str, seconds: float) -> None:
    assert parse_time(text) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize("text", ["", "noon", "09.03.2020 10:14", "1583748873000", "inf", "2020-13-01", "10:14:33"])
def test_text_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_time(text)


def test_a_time_column_is_recognised_by_its_name_in_any_case() -> None:
    for name in TIME_NAMES:
        assert time_column(["a", name.upper(), "b"]) == name.upper()
    assert time_column(["a", "daytime"]) is None
    assert time_column(["date", "time"]) == "date"


def test_a_time_column_that_is_a_channel_or_not_the_named_one_is_not_taken() -> None:
    assert time_column(["time", "a"], channels=["time"]) is None
    assert time_column(["time", "stamp"], name="stamp") == "stamp"
    assert time_column(["time"], name="stamp") is None


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_columns_are_found_by_name_whatever_the_delimiter(delimiter: str) -> None:
    lines = [
        ["datetime", "b", "note", "a"],
        ["2020-03-09 10:14:33", "2", "fine", "1"],
        ["2020-03-09 10:14:34", "4", "", "3.5"],
    ]
    rows = decoded(CsvRows(["a", "b"]), "\n".join(map(delimiter.join, lines)))

    assert rows.values.tolist() == [[1.0, 2.0], [3.5, 4.0]]
    assert rows.times.tolist() == [1583748873.0, 1583748874.0]


def test_the_delimiter_is_the_one_that_finds_the_channels() -> None:
    assert sniff_delimiter("flow, l/min, net;bar", wanted=["bar"]) == ";"
    assert sniff_delimiter("a;b,c,d") == ","
    assert csv("a\n1\n", ["a"]) == [[1.0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\ufeffa,b\r\n1,2\r\n", [[1, 2]]),
        ('"a","b"\n"1",2\n', [[1, 2]]),
        ('"a, left";b\n1;2\n', [[1, 2]]),
        ("\n\na,b\n\n1,2\n \n3,4", [[1, 2], [3, 4]]),
        (" a , b \n 1 , 2 \n", [[1, 2]]),
        ("a;b\n1,5;-2,25\n3;4\n", [[1.5, -2.25], [3, 4]]),
        ("a,b,\n1,2,\n", [[1, 2]]),
        ("a,b\n1,2,,\n", [[1, 2]]),
        ("a,b\n-inf,1e3\n", [[-math.inf, 1000]]),
    ],
)
def test_csv_is_read_as_people_and_spreadsheets_write_it(text: str, expected: list[list[float]]) -> None:
    channels = ["a, left", "b"] if "left" in text else ["a", "b"]

    assert csv(text, channels) == expected


@pytest.mark.parametrize(
    ("line", "expected", "malformed"),
    [
        (",2", [NAN, 2], 0),
        ("nan,2", [NAN, 2], 0),
        ("broken,2", [NAN, 2], 1),
        ("broken,err", [NAN, NAN], 2),
        ("1", [1, NAN], 1),
        ("1,2,3", [NAN, NAN], 1),
        ('"1,2', [NAN, NAN], 2),  # a quote without its end makes one cell of it
    ],
)
def test_a_missing_reading_is_nan_and_one_that_is_no_number_is_counted(
    line: str, expected: list[float], malformed: int
) -> None:
    decoder = CsvRows(["a", "b"])
    rows = decoded(decoder, f"a,b\n1,2\n{line}\n3,4\n")

    np.testing.assert_array_equal(rows.values, [[1, 2], expected, [3, 4]])
    assert decoder.malformed == malformed


def test_only_the_first_malformed_reading_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        decoded(CsvRows(["a", "b"], source="pump.csv"), "a,b\n1,2\n1,oops\nfoo,bar\n")

    [record] = caplog.records
    assert record.getMessage() == (
        "malformed reading: source=pump.csv line=3 cell=2 expected=a number received='oops'"
        "; more are counted, not logged"
    )


def test_a_time_that_is_missing_or_no_time_is_nan() -> None:
    decoder = CsvRows(["a"])
    rows = decoded(decoder, "time,a\n5,1\n,2\nlate,3\n")

    np.testing.assert_array_equal(rows.times, [5, NAN, NAN])
    assert decoder.malformed == 1


def test_the_named_time_column_is_taken() -> None:
    assert decoded(CsvRows(["a"], time="t0"), "time,t0,a\n1,2,3\n").times.tolist() == [2.0]


@pytest.mark.parametrize(
    ("header", "time", "words"),
    [
        ("a,c", None, "no column b: expected the columns a, b, received a, c"),
        ("a,b,a", None, "two columns a: expected the columns a, b, received a, b, a"),
        ("a,b", "t", "no column t: expected the columns a, b, t, received a, b"),
        ("1.5,2.5", None, "no column a, b"),
    ],
)
def test_a_header_that_does_not_fit_says_what_is_missing_and_what_was_there(
    header: str, time: str | None, words: str
) -> None:
    with pytest.raises(SourceError, match=f"^pump.csv has {words}"):
        CsvRows(["a", "b"], time=time, source="pump.csv").feed(f"{header}\n".encode())


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_csv_without_a_header_line_is_an_error_at_its_end(text: str) -> None:
    with pytest.raises(SourceError, match="CSV is empty: expected a header with a, b, received no line"):
        csv(text)


def test_rows_without_header_are_in_the_order_of_the_channels() -> None:
    assert decoded(CsvRows(["a", "b"], header=False), "1,2\n3,4").values.tolist() == [[1, 2], [3, 4]]

    timed = decoded(CsvRows(["a", "b"], header=False), "2020-03-09T10:14:33Z;1;2\n")
    assert (timed.values.tolist(), timed.times.tolist()) == ([[1, 2]], [1583748873.0])


def test_rows_without_header_and_with_the_wrong_number_of_cells_are_left_out_and_counted() -> None:
    decoder = CsvRows(["a", "b"], header=False)

    assert decoded(decoder, "1,2,3,4\n1\n5,6\n7,8,9\n7\n1,2\n").values.tolist() == [[5, 6], [1, 2]]
    assert decoder.malformed == 4


def test_json_objects_become_rows_in_the_order_of_the_channels() -> None:
    rows = decoded(
        JsonRows(["a", "b"]),
        '{"b": 2, "a": 1.5, "other": {}, "time": "2020-03-09T10:14:33Z"}\n'
        '\n{"time": 1583748874.5, "values": {"a": 3, "b": "4.5"}}\n'
        '[{"Timestamp": 7, "a": 5, "b": null}, {"a": 6}]\n'
        '{"a": 7, "b": 8}',
    )

    np.testing.assert_array_equal(rows.values, [[1.5, 2], [3, 4.5], [5, NAN], [6, NAN], [7, 8]])
    np.testing.assert_array_equal(rows.times, [1583748873, 1583748874.5, 7, NAN, NAN])


@pytest.mark.parametrize(
    "line",
    [
        '{"a": 1, "b": true}',
        '{"a": 1, "b": [2]}',
        '{"a": 1, "b": "two"}',
        pytest.param('{"a": 1, "b": 1' + "0" * 400 + "}", id="too-large"),
        '{"a": 1, "time": "noon"}',
        '{"a": 1, "time": 1583748874000}',
        '{"a": 1, "time": false}',
    ],
)
def test_a_json_reading_or_time_that_is_none_is_nan_and_counted(line: str) -> None:
    decoder = JsonRows(["a", "b"])
    rows = decoded(decoder, line)

    np.testing.assert_array_equal(rows.values, [[1, NAN]])
    np.testing.assert_array_equal(rows.times, [NAN])
    assert decoder.malformed == 1


def test_json_of_writers_that_emit_nan_is_read() -> None:
    decoder = JsonRows(["a", "b"])

    np.testing.assert_array_equal(decoded(decoder, '{"a": NaN, "b": 2}\n').values, [[NAN, 2]])
    assert decoder.malformed == 0


@pytest.mark.parametrize(
    "line",
    [b"{", b"12", b'"a"', b"null", b'{"c": 1}', b'{"values": {"c": 1}}', b"[1]", b"\xff\xfe", b"[" * 5000, b"a,b"],
)
def test_lines_that_are_no_samples_are_left_out_and_counted(line: bytes) -> None:
    decoder = JsonRows(["a", "b"])

    assert decoded(decoder, line + b'\n{"a": 1, "b": 2}\n').values.tolist() == [[1, 2]]
    assert decoder.malformed == 1


def test_the_named_key_is_the_time() -> None:
    assert decoded(JsonRows(["a"], time="at"), '{"time": 1, "at": 2, "a": 3}').times.tolist() == [2.0]


def test_a_message_may_be_one_document_on_many_lines_or_many_lines() -> None:
    decoder = JsonRows(["a"])

    assert decoder.messages([b'{\n  "a": 1\n}']).values.tolist() == [[1]]
    assert decoder.messages([b'{"a": 1}\n{"a": 2}\n']).values.tolist() == [[1], [2]]
    assert decoder.messages([b'[{"a": 1},\n{"a": 2}]']).values.tolist() == [[1], [2]]
    assert len(decoder.messages([b""])) == 0
    assert CsvRows(["a"], header=False).messages([b"1\r\n2"]).values.tolist() == [[1], [2]]


CSV = "time,a,b\n1,2,3\n2,,5\n\n3,x,7\n4,8,9"
JSONL = '{"time": 1, "a": 2, "b": 3}\n{"time": 2, "b": 5}\n\noops\n[{"a": 1}, {"b": 7}]\n{"time": 4, "a": 8, "b": 9}'


@given(cuts=st.lists(st.integers(0, len(JSONL)), max_size=8), form=st.sampled_from(["csv", "jsonl"]))
def test_rows_do_not_depend_on_how_the_bytes_are_cut(cuts: list[int], form: str) -> None:
    text, kind = (CSV, CsvRows) if form == "csv" else (JSONL, JsonRows)
    data = text.encode()
    whole, cut = kind(["a", "b"]), kind(["a", "b"])
    expected = decoded(whole, data)
    places = [0, *sorted(cuts), len(data)]
    pieces = [cut.feed(data[start:end]) for start, end in pairwise(places)] + [cut.flush()]

    np.testing.assert_array_equal(np.concatenate([rows.values for rows in pieces]), expected.values)
    np.testing.assert_array_equal(np.concatenate([rows.times for rows in pieces]), expected.times)
    assert cut.malformed == whole.malformed == 1


def test_no_rows_have_the_shape_of_rows() -> None:
    rows = CsvRows(["a", "b"]).feed(b"a,b\n")

    assert (rows.values.shape, rows.times.shape) == ((0, 2), (0,))


def test_a_line_that_never_ends_is_left_out_and_counted_once() -> None:
    decoder = CsvRows(["a"])
    decoder.feed(b"a\n1\n")
    for _ in range(40):
        decoder.feed(b"9" * (MAX_LINE_BYTES // 16))

    assert decoded(decoder, b"9\n2\n").values.tolist() == [[2]]
    assert decoder.malformed == 1


@given(st.binary(max_size=200))
def test_no_bytes_break_the_decoders(data: bytes) -> None:
    csv_rows, json_rows = CsvRows(["a"]), JsonRows(["a"])
    csv_rows.feed(b"time,a\n")

    assert decoded(csv_rows, data).values.shape[1] == 1
    assert decoded(json_rows, data).values.shape[1] == 1
    assert decoded(CsvRows(["a"], header=False), data).values.shape[1] == 1
