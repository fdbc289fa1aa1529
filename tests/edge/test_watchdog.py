from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vae.watchdog import Progress, Vigil, Watchdog


def stages(*at: int) -> dict[str, Progress]:
    """Stages 0, 1, 2, ... that were last heard of at these times."""
    return {str(number): Progress(at_ns, "reading") for number, at_ns in enumerate(at)}


# Vigil


def test_stage_without_progress_for_the_whole_time_hangs_until_it_goes_on() -> None:
    vigil = Vigil(limit_s=3.0)
    found = [vigil.hanging(stages(0, now), float(now)) for now in range(6)]
    assert found == [[], [], [], ["0"], ["0"], ["0"]]
    assert vigil.hanging(stages(1, 6), 6.0) == []


@pytest.mark.parametrize("after", [Progress(0, "scoring"), Progress(0, "reading", 1), Progress(1, "reading")])
def test_whatever_is_different_is_progress(after: Progress) -> None:
    vigil = Vigil(limit_s=2.0)
    for now, progress in enumerate([Progress(0, "reading"), Progress(0, "reading"), after, after]):
        assert vigil.hanging({"pump": progress}, float(now)) == []
    assert vigil.hanging({"pump": after}, 4.0) == ["pump"]


def test_process_that_stood_still_as_a_whole_has_no_stage_that_hangs() -> None:
    vigil = Vigil(limit_s=3.0)
    assert vigil.hanging(stages(0), 0.0) == []
    assert vigil.hanging(stages(0), 3600.0) == []  # the threads did not run either
    assert vigil.hanging(stages(0), 3601.0) == ["0"]


def test_stage_that_is_no_more_is_forgotten() -> None:
    vigil = Vigil(limit_s=1.0)
    vigil.hanging(stages(0), 0.0)
    assert vigil.hanging({}, 1.0) == []
    assert vigil.hanging(stages(0), 2.0) == []


@given(st.lists(st.tuples(st.floats(0.0, 10.0), st.booleans()), max_size=50), st.floats(0.1, 20.0))
def test_only_a_stage_that_was_seen_without_progress_for_so_long_hangs(
    turns: list[tuple[float, bool]], limit_s: float
) -> None:
    vigil, now_s, at_ns, quiet_s = Vigil(limit_s), 0.0, 0, 0.0
    vigil.hanging(stages(at_ns), now_s)
    for passed_s, progresses in turns:
        now_s, at_ns = now_s + passed_s, at_ns + progresses
        quiet_s = 0.0 if progresses else quiet_s + passed_s
        if vigil.hanging(stages(at_ns), now_s):
            assert quiet_s >= limit_s - 1e-6


# Watchdog


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], list[str]]]:
    """What a service manager was told since the last call."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(0.0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))

        def since() -> list[str]:
            found = []
            with suppress(BlockingIOError):
                while True:
                    found.append(manager.recv(4096).decode())
            return found

        yield since


def test_sign_of_life_comes_once_a_second_while_all_is_well(told: Callable[[], list[str]]) -> None:
    watchdog = Watchdog(30.0)
    for tenth in range(31):
        watchdog.turn(stages(tenth), tenth / 10)
    assert told() == ["WATCHDOG=1"] * 4


def test_stage_that_hangs_is_told_once_and_no_sign_of_life_until_it_goes_on(
    told: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    watchdog = Watchdog(4.0)
    for now in range(8):
        watchdog.turn(stages(0, now), float(now))
    assert told() == ["WATCHDOG=1"] * 4 + ["WATCHDOG=trigger"]
    watchdog.turn(stages(8, 8), 8.0)
    assert told() == ["WATCHDOG=1"]
    assert caplog.messages == ["stage makes no progress stage=0 doing=reading seconds=4", "stage goes on again stage=0"]


def test_without_a_service_manager_a_stage_that_hangs_is_logged(
    told: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    watchdog = Watchdog(None)
    for now in range(40):
        watchdog.turn(stages(0), float(now))
    assert told() == []
    assert caplog.messages == ["stage makes no progress stage=0 doing=reading seconds=30"]


def test_stages_that_wait_get_the_time_that_they_need_however_impatient_the_service_manager_is() -> None:
    assert Watchdog(0.1).limit_s == 3.0
