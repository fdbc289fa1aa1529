import os
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vae.clock import boot_id, format_time, parse_time, read_timex, time_quality

WITHIN_CENTURIES = st.datetimes(
    min_value=datetime(1900, 1, 1),  # noqa: DTZ001 (hypothesis wants naive bounds)
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001 (hypothesis wants naive bounds)
    timezones=st.sampled_from([timezone.utc, timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(hours=-11))]),
)


@settings(deadline=None)
@given(WITHIN_CENTURIES)
def test_text_of_any_offset_gives_the_time_that_datetime_gives(at: datetime) -> None:
    assert parse_time(at.isoformat()) == pytest.approx(at.timestamp(), abs=1e-6)


@settings(deadline=None)
@given(WITHIN_CENTURIES)
def test_formatting_and_parsing_return_to_the_same_microsecond(at: datetime) -> None:
    text = format_time(at.timestamp())
    assert text.endswith("Z")
    assert format_time(parse_time(text)) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01t00:00:00z", 0.0),
        ("1970-01-01 00:00:01", 1.0),
        ("  1970-01-01T00:00:00.5Z\n", 0.5),
        ("1970-01-01T00:00:00.123456789Z", 0.123456),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1969-12-31T22:30:00-01:30", 0.0),
        ("2016-12-31T23:59:60Z", 1483228800.0),
    ],
)
def test_accepts(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "now", "2020-03-01", "12:00:00", "2020-13-01T00:00:00Z", "2020-03-01T00:00:61Z", "2020-03-01T24:00:00Z",
     "2020-03-01T00:00Z", "2020-03-01T00:00:00+99:00", "2020-03-01T00:00:00 Z", "٢٠٢٠-03-01T00:00:00Z"],
)  # fmt: skip
def test_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="expected a time like"):
        parse_time(text)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), float("-inf"), 1e15, -1e15])
def test_a_time_that_has_no_text_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        format_time(seconds)


def test_local_time_zone_of_the_machine_changes_nothing() -> None:
    code = "from edge_vae.clock import *; print(parse_time('2020-07-01T00:00:00'), format_time(0.0))"
    command = [sys.executable, "-c", code]
    shown = {
        subprocess.check_output(command, env=os.environ | {"TZ": zone}, text=True) for zone in ("UTC", "Asia/Kathmandu")
    }
    assert shown == {"1593561600.0 1970-01-01T00:00:00.000000Z\n"}


def test_boot_id_is_the_kernels() -> None:
    assert boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert len(boot_id()) == 36


def test_a_marker_of_timesyncd_is_enough(tmp_path: Path) -> None:
    marker = tmp_path / "synchronized"
    marker.touch()
    assert time_quality(marker) == "synchronised"


def test_without_a_marker_the_kernel_decides(tmp_path: Path) -> None:
    timex = read_timex()
    expected = "synchronised" if timex is not None and not timex.status & 0x40 else "unsynchronised"
    assert time_quality(tmp_path / "absent") == expected


def test_the_kernels_answer_is_read_at_the_right_places() -> None:
    before = int(time.time())
    timex = read_timex()
    if timex is None:  # a system-call filter refuses adjtimex: then the clock must count as unsynchronised
        assert time_quality(Path("/absent")) == "unsynchronised"
        return
    assert before <= timex.seconds <= int(time.time())
