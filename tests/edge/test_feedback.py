"""The samples around alarms: what is recorded, how long it is kept, and what an export makes of it."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vae.alarm_memory import Active, Memory, Seen
from edge_vae.annunciator import Notice
from edge_vae.event import Cause
from edge_vae.feedback import Feedback, Judgement, export, judged
from edge_vae.recorder import Excerpt, Recorder
from edge_vae.sample import Block

LENGTH, BASELINE = 4, 6
BEFORE, AFTER, LONGEST = 4 * LENGTH + BASELINE, 4 * LENGTH, 16 * LENGTH
IDS = [f"{number:026}" for number in range(10)]


def notice(kind: str, sample: int, alarm_id: str = IDS[1], cause: str = "model") -> Notice:
    seen = Seen(Cause(kind=cause, channel=None, value=None, peak=None, limit=None), 1.0, 1.0, (), None, None, sample)
    return Notice(kind, Memory(), Active(alarm_id, "warning", 1.0, seen, 0.0))


def recorded(blocks: list[int], *notices: Notice) -> list[Excerpt]:
    """What is kept of samples that count upwards; a notice comes with the block that has its sample."""
    recorder, found, at = Recorder(length=LENGTH, baseline=BASELINE), [], 0
    for size in blocks:
        numbers = np.arange(at, at + size, dtype=float)
        at += size
        recorder.push(Block(numbers[:, None], 1000 + numbers, 0))
        for one in notices:
            assert one.alarm is not None
            if at - size <= one.alarm.seen.sample < at:
                recorder.follow(one)
        found += recorder.due()
    recorder.flush()
    return found + recorder.due()


def spans(excerpt: Excerpt) -> tuple[int, int, int, int]:
    """First sample and the one after the last, and the same of the alarm."""
    numbers, alarm = excerpt.values[:, 0].astype(int), np.flatnonzero(excerpt.alarm)
    assert (np.diff(numbers) == 1).all()
    assert (excerpt.times == 1000 + numbers).all()
    return numbers[0], numbers[-1] + 1, numbers[alarm[0]], numbers[alarm[-1]] + 1


def test_excerpt_reaches_from_before_the_alarm_to_behind_it() -> None:
    begun, whole = recorded([1] * 200, notice("raised", 100), notice("cleared", 120))
    first = 100 - LENGTH + 1
    assert spans(begun) == (first - BEFORE, 101, first, 101)
    assert spans(whole) == (first - BEFORE, 120 + AFTER, first, 120)


def test_excerpt_of_a_long_alarm_ends_before_the_alarm() -> None:
    *_, whole = recorded([1] * 200, notice("raised", 50), notice("cleared", 190))
    assert spans(whole) == (47 - BEFORE, 47 + LONGEST, 47, 47 + LONGEST)


def test_excerpt_begins_with_the_first_sample_where_there_is_none_before() -> None:
    *_, whole = recorded([1] * 50, notice("raised", 5), notice("cleared", 9))
    assert spans(whole) == (0, 9 + AFTER, 2, 9)


def test_excerpt_of_a_limit_begins_with_the_sample_that_crossed_it() -> None:
    *_, whole = recorded([1] * 200, notice("raised", 100, cause="high"), notice("cleared", 101, cause="high"))
    assert spans(whole)[2:] == (100, 101)


def test_what_has_begun_when_samples_end_is_kept_as_far_as_it_goes() -> None:
    _, whole = recorded([1] * 110, notice("raised", 100))
    assert spans(whole)[1:] == (110, 97, 110)


@given(st.lists(st.integers(1, 90), max_size=6), st.integers(40, 120), st.integers(1, 60))
def test_excerpts_are_the_same_whatever_the_blocks(sizes: list[int], raised: int, lasts: int) -> None:
    notices = notice("raised", raised), notice("cleared", raised + lasts)
    blocks = [*sizes, *[1] * (200 - sum(sizes))] if sum(sizes) < 200 else [200]
    assert spans(recorded(blocks, *notices)[-1]) == spans(recorded([1] * 200, *notices)[-1])


# on disk


def excerpt(alarm_id: str, rows: int = 4) -> Excerpt:
    numbers = np.arange(rows, dtype=float)
    values = np.stack([numbers, -numbers], axis=1)
    values[1, 0] = math.nan
    return Excerpt(alarm_id, values, numbers, numbers >= rows - 2)


COLUMNS = ("Current", 'Flow, "net"')
REAL, FALSE, UNKNOWN = (
    Judgement(word, "jo", None, "2026-01-01T00:00:00.000000Z") for word in ("true", "false", "unknown")
)


@pytest.fixture
def feedback(tmp_path: Path) -> Feedback:
    return Feedback(tmp_path, max_bytes=1 << 20)


def rows_of(file: Path) -> list[list[str]]:
    with file.open() as stream:
        return list(csv.reader(stream))


def test_export_labels_the_rows_of_a_real_alarm_and_none_of_a_false_one(feedback: Feedback, tmp_path: Path) -> None:
    for alarm_id, judgement in zip(IDS, (REAL, FALSE, UNKNOWN, None), strict=False):
        feedback.keep("pump", COLUMNS, excerpt(alarm_id))
        assert judgement is None or feedback.judge("pump", alarm_id, judgement)
    assert export(tmp_path, tmp_path / "out") == {"true": 1, "false": 1, "unknown": 1}
    assert sorted(path.name for path in (tmp_path / "out" / "pump").iterdir()) == [f"{IDS[0]}.csv", f"{IDS[1]}.csv"]
    assert rows_of(tmp_path / "out" / "pump" / f"{IDS[0]}.csv") == [
        ["time", *COLUMNS, "anomaly"],
        ["1970-01-01T00:00:00.000000Z", "0.0", "-0.0", "0"],
        ["1970-01-01T00:00:01.000000Z", "", "-1.0", "0"],
        ["1970-01-01T00:00:02.000000Z", "2.0", "-2.0", "1"],
        ["1970-01-01T00:00:03.000000Z", "3.0", "-3.0", "1"],
    ]
    assert {row[-1] for row in rows_of(tmp_path / "out" / "pump" / f"{IDS[1]}.csv")[1:]} == {"0"}
    told = json.loads((tmp_path / "out" / "verdicts.json").read_text())
    assert [(one["alarm_id"], one["verdict"], one["by"]) for one in told] == [
        (IDS[0], "true", "jo"), (IDS[1], "false", "jo"), (IDS[2], "unknown", "jo"),
    ]  # fmt: skip


def test_samples_without_time_are_exported_without(feedback: Feedback, tmp_path: Path) -> None:
    one = excerpt(IDS[0])
    feedback.keep("pump", COLUMNS, Excerpt(one.alarm_id, one.values, np.full(4, math.nan), one.alarm))
    feedback.judge("pump", IDS[0], REAL)
    export(tmp_path, tmp_path / "out")
    assert rows_of(tmp_path / "out" / "pump" / f"{IDS[0]}.csv")[0] == [*COLUMNS, "anomaly"]


def test_later_verdict_and_later_samples_take_the_place_of_earlier_ones(feedback: Feedback, tmp_path: Path) -> None:
    feedback.keep("pump", COLUMNS, excerpt(IDS[0]))
    feedback.judge("pump", IDS[0], REAL)
    feedback.judge("pump", IDS[0], FALSE)
    feedback.keep("pump", COLUMNS, excerpt(IDS[0], rows=9))
    (one,) = judged(tmp_path)
    assert (one.judgement, len(one.excerpt.times)) == (FALSE, 9)


def test_verdict_on_what_is_not_kept_is_refused(feedback: Feedback) -> None:
    assert not feedback.judge("pump", IDS[0], REAL)
    feedback.keep("pump", COLUMNS, excerpt(IDS[0]))
    assert not feedback.judge("fan", IDS[0], REAL)


def test_oldest_go_first_and_the_limit_holds(tmp_path: Path) -> None:
    feedback = Feedback(tmp_path, max_bytes=5000)
    for alarm_id in IDS:
        feedback.keep("pump", COLUMNS, excerpt(alarm_id, rows=40))
        assert feedback.judge("pump", alarm_id, REAL)
        assert sum(file.stat().st_size for file in (tmp_path / "feedback").iterdir()) <= 5000
    kept = [one.excerpt.alarm_id for one in judged(tmp_path)]
    assert kept == IDS[-len(kept) :]
    assert 2 <= len(kept) < len(IDS)


def test_nothing_is_kept_where_nothing_may_be(tmp_path: Path) -> None:
    feedback = Feedback(tmp_path, max_bytes=0)
    feedback.keep("pump", COLUMNS, excerpt(IDS[0]))
    assert not feedback.on
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"\xff", b"\x81\xa5asset\xa1p"])
def test_damaged_file_is_passed_over(
    feedback: Feedback, tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    for alarm_id in IDS[:2]:
        feedback.keep("pump", COLUMNS, excerpt(alarm_id))
        feedback.judge("pump", alarm_id, REAL)
    (tmp_path / "feedback" / f"{IDS[0]}.excerpt").write_bytes(damage)
    assert [one.excerpt.alarm_id for one in judged(tmp_path)] == [IDS[1]]
    assert "feedback not read" in caplog.text


def test_disk_that_takes_nothing_costs_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "feedback").write_text("a file in the folder's place")
    feedback = Feedback(tmp_path, max_bytes=1 << 20)
    feedback.keep("pump", COLUMNS, excerpt(IDS[0]))
    feedback.keep("pump", COLUMNS, excerpt(IDS[1]))
    assert not feedback.judge("pump", IDS[0], REAL)
    assert caplog.text.count("samples of an alarm not kept") == 1


@pytest.mark.parametrize("asset", ["..", ".hidden"])
def test_asset_whose_name_is_a_path_stays_in_the_folder(feedback: Feedback, tmp_path: Path, asset: str) -> None:
    feedback.keep(asset, COLUMNS, excerpt(IDS[0]))
    feedback.judge(asset, IDS[0], REAL)
    export(tmp_path, tmp_path / "out")
    assert [path.parent.parent for path in tmp_path.rglob("*.csv")] == [tmp_path / "out"]
