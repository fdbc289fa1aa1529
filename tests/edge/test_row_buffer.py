"""The queue between the thread that receives rows and the one that reads them."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vae.sources.decode import Rows
from edge_vae.sources.row_buffer import MERGED_PIECES, RowBuffer

DEADLINE_S = 20.0


def rows(*numbers: int) -> Rows:
    return Rows(np.array(numbers, dtype=np.float64).reshape(-1, 1), np.array(numbers, dtype=np.float64))


def taken(buffer: RowBuffer) -> list[float]:
    got = buffer.take(0)
    return [] if got is None else [float(number) for number in got[0].times]


@given(sizes=st.lists(st.integers(0, 7), max_size=30), max_rows=st.integers(1, 20))
def test_the_newest_rows_stay_and_the_others_are_counted(sizes: list[int], max_rows: int) -> None:
    buffer = RowBuffer(max_rows, source="test")
    total = 0
    for size in sizes:
        buffer.put(rows(*range(total, total + size)), arrived_ns=total)
        total += size

    kept = min(total, max_rows)
    assert taken(buffer) == list(range(total - kept, total))
    assert buffer.dropped == total - kept


def test_many_small_pieces_stay_in_order_when_they_are_merged() -> None:
    count = 3 * MERGED_PIECES + 5
    buffer = RowBuffer(count - 10, source="test")
    for number in range(count):
        buffer.put(rows(number), arrived_ns=number)

    assert buffer.take(0) is not None
    for number in range(count):
        buffer.put(rows(number), arrived_ns=number)
    got = buffer.take(0)
    assert got is not None
    assert got[0].times.tolist() == list(range(10, count))
    assert got[0].values.ravel().tolist() == list(range(10, count))
    assert got[1] == count - 1


def test_taking_waits_for_rows_of_another_thread() -> None:
    buffer = RowBuffer(10, source="test")
    thread = threading.Thread(target=buffer.put, args=(rows(1), 5))
    thread.start()

    got = buffer.take(DEADLINE_S)
    thread.join()
    assert got is not None
    assert (got[0].times.tolist(), got[1]) == ([1.0], 5)
    assert buffer.take(0) is None


def test_clearing_drops_and_counts_what_waits() -> None:
    buffer = RowBuffer(10, source="test")
    buffer.put(rows(1, 2, 3), arrived_ns=0)
    buffer.clear()

    assert buffer.take(0) is None
    assert buffer.dropped == 3


def test_the_first_drop_is_logged_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    buffer = RowBuffer(2, source="topic t")
    for number in range(5):
        buffer.put(rows(number), arrived_ns=0)

    assert [record.getMessage() for record in caplog.records] == [
        "rows dropped: source=topic t kept=2; more are counted, not logged"
    ]


def test_what_a_source_doubts_stays_beside_its_readings() -> None:
    buffer = RowBuffer(3, source="test")
    for number in range(4):
        doubted = np.array([[True]]) if number % 2 else None
        buffer.put(Rows(np.array([[float(number)]]), np.array([float(number)]), doubted), arrived_ns=0)
    got = buffer.take(0)
    assert got is not None
    assert (got[0].values[:, 0].tolist(), got[0].uncertain is not None) == ([1.0, 2.0, 3.0], True)
    assert np.asarray(got[0].uncertain)[:, 0].tolist() == [True, False, True]
