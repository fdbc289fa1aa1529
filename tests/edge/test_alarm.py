from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vae.alarm import Alarm, AlarmRules, Change

THRESHOLD = 10.0
NONE, RAISED, CLEARED = Change.NONE, Change.RAISED, Change.CLEARED


def changes(scores: list[float], **rules: object) -> str:
    """One letter a window: R raised, C cleared, a dot for neither."""
    alarm = Alarm(AlarmRules(**rules), threshold=THRESHOLD)
    return "".join({NONE: ".", RAISED: "R", CLEARED: "C"}[alarm.push(score)] for score in scores)


HIGH, BETWEEN, LOW = 11.0, 9.5, 5.0


@pytest.mark.parametrize(
    ("rules", "scores", "expected"),
    [
        ({}, [LOW, HIGH, LOW, LOW], "...."),
        ({}, [HIGH, HIGH], ".R"),
        ({}, [HIGH, LOW, HIGH], "..R"),
        ({}, [HIGH, LOW, LOW, HIGH], "...."),
        ({}, [HIGH, HIGH, LOW, LOW, LOW], ".R..C"),
        ({}, [HIGH, HIGH, LOW, LOW, HIGH, LOW, LOW, LOW], ".R.....C"),
        ({"on_delay": (1, 1), "off_delay": (1, 1)}, [HIGH, BETWEEN, LOW, HIGH], "R.CR"),
        ({"on_delay": (1, 1), "off_delay": (1, 1), "deadband": 0.0}, [HIGH, BETWEEN], "RC"),
        ({"on_delay": (1, 1), "off_delay": (1, 1)}, [THRESHOLD], "."),
        ({"on_delay": (1, 1), "off_delay": (1, 1), "deadband": 0.0}, [HIGH, THRESHOLD], "R."),
        ({"on_delay": (1, 1), "off_delay": (1, 1)}, [math.inf, math.nan, LOW], "R.C"),
        ({"on_delay": (3, 3), "off_delay": (2, 4)}, [HIGH, HIGH, HIGH, LOW, HIGH, HIGH, LOW], "..R...C"),
        ({"on_delay": (3, 3), "off_delay": (2, 3)}, [HIGH, HIGH, HIGH, LOW, HIGH, HIGH, LOW], "..R...."),
    ],
)
def test_alarm_is_raised_and_cleared_by_k_of_n_windows(
    rules: dict[str, object], scores: list[float], expected: str
) -> None:
    assert changes(scores, **rules) == expected


def test_windows_that_raised_an_alarm_do_not_raise_the_next() -> None:
    rules = {"on_delay": (2, 9), "off_delay": (1, 1)}
    assert changes([HIGH, HIGH, LOW, HIGH, LOW, HIGH], **rules) == ".RC..R"


def test_peak_score_is_that_of_the_present_alarm() -> None:
    alarm = Alarm(AlarmRules(on_delay=(1, 1), off_delay=(1, 1)), threshold=THRESHOLD)
    for score, peak in [(12.0, 12.0), (30.0, 30.0), (20.0, 30.0), (1.0, 30.0), (15.0, 15.0)]:
        alarm.push(score)
        assert alarm.peak_score == peak


def test_interruption_forgets_windows_and_keeps_the_alarm() -> None:
    alarm = Alarm(AlarmRules(), threshold=THRESHOLD)
    alarm.push(HIGH)
    alarm.interrupt()
    assert alarm.push(HIGH) is NONE
    assert alarm.push(HIGH) is RAISED
    alarm.interrupt()
    assert alarm.active
    assert [alarm.push(LOW) for _ in range(3)] == [NONE, NONE, CLEARED]


@pytest.mark.parametrize("rules", [{"on_delay": (3, 2)}, {"off_delay": (0, 2)}, {"deadband": 1.0}, {"deadband": -0.1}])
def test_impossible_rules_are_refused(rules: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"expected .* received"):
        AlarmRules(**rules)


delays = st.integers(1, 5).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n)))
deadbands = st.floats(0.0, 0.9)
scores = st.lists(st.sampled_from([0.0, LOW, 9.0, BETWEEN, THRESHOLD, 10.5, HIGH, math.inf]), max_size=60)
moments = st.sets(st.integers(0, 59))


@given(scores, delays, delays, deadbands, moments)
def test_alarm_agrees_with_a_slow_plain_twin(
    scores: list[float], on: tuple[int, int], off: tuple[int, int], deadband: float, interrupted: set[int]
) -> None:
    alarm = Alarm(AlarmRules(on_delay=on, off_delay=off, deadband=deadband), threshold=THRESHOLD)
    received = []
    for i, score in enumerate(scores):
        if i in interrupted:
            alarm.interrupt()
        received.append(alarm.push(score))
    assert received == twin(scores, on, off, deadband, interrupted)


def twin(
    scores: list[float], on: tuple[int, int], off: tuple[int, int], deadband: float, interrupted: set[int]
) -> list[Change]:
    """Looks back over all scores at every window."""
    found: list[Change] = []
    first, active = 0, False
    for i in range(len(scores)):
        first = i if i in interrupted else first
        k, n = off if active else on
        recent = scores[max(first, i + 1 - n) : i + 1]
        bar = THRESHOLD * (1 - deadband)
        count = sum(score < bar for score in recent) if active else sum(score > THRESHOLD for score in recent)
        if count >= k:
            active, first = not active, i + 1
            found.append(RAISED if active else CLEARED)
        else:
            found.append(NONE)
    return found


@given(scores, delays, delays, deadbands)
def test_alarm_is_never_raised_twice_without_being_cleared(
    scores: list[float], on: tuple[int, int], off: tuple[int, int], deadband: float
) -> None:
    turns = changes(scores, on_delay=on, off_delay=off, deadband=deadband).replace(".", "")
    assert turns == ("RC" * len(turns))[: len(turns)]
