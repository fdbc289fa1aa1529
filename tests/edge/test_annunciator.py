"""What of alarms is told, whatever the order of scores, commands, floods and restarts."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from edge_vae.alarm import Alarm, AlarmRules, Change
from edge_vae.alarm_memory import Memory, Seen, Word
from edge_vae.annunciator import Annunciation, Annunciator, Notice
from edge_vae.event import Cause, Channel

THRESHOLD = 10.0
MODEL, LIMIT = "model", "high x 5"
LOW, HIGH, HIGHER, HIGHEST = 1.0, 11.0, 20.0, 40.0
RULES = AlarmRules(on_delay=(1, 1), off_delay=(1, 1), deadband=0.0)


def seen(kind: str, score: float | None, leader: str) -> Seen:
    cause = Cause(kind=kind, channel=None, value=score, peak=None, limit=None)  # type: ignore[arg-type]
    channel = Channel(name=leader, share=1.0, value=1.0, expected=0.0, quality="good")
    return Seen(cause, score, THRESHOLD, (channel,), None, None, 0)


class Stage:
    """The alarms of one asset: the condition of the score, that of a limit, and what is told of them."""

    def __init__(self, annunciation: Annunciation, new_id: Callable[[], str], rules: AlarmRules = RULES) -> None:
        self._told, self._new_id, self._rules = annunciation, new_id, rules
        self.alarm, self.limit = Alarm(rules, threshold=THRESHOLD), False
        self.annunciator = Annunciator(annunciation, new_id=new_id)
        self.looks = 0

    def after_restart(self, memory: Memory, now_s: float) -> Stage:
        """A new one that knows what the memory, once stored and read, tells."""
        fresh = Stage(self._told, self._new_id, self._rules)
        memory = msgspec.msgpack.decode(msgspec.msgpack.encode(memory), type=Memory).as_of(now_s)
        fresh.annunciator.resume(memory, known=[MODEL, LIMIT])
        if MODEL in memory.alarms:
            fresh.alarm.resume(memory.alarms[MODEL].peak)
        fresh.limit = LIMIT in memory.alarms
        return fresh

    def push(self, score: float, now_s: float, leader: str = "a") -> list[Notice]:
        found, change, annunciator = self.annunciator.tick(now_s), self.alarm.push(score), self.annunciator
        peak = self.alarm.peak_score
        severity = self._told.severity_of(peak / THRESHOLD)
        if change is Change.CLEARED:
            return found + annunciator.cleared(MODEL, seen=seen("model", score, leader))
        if change is Change.RAISED:
            return found + annunciator.raised(
                MODEL, now_s, severity=severity, peak=peak, seen=seen("model", score, leader)
            )
        if self.alarm.active:
            found += annunciator.still(MODEL, now_s, severity=severity, peak=peak, look=lambda: self._look(leader))
        return found

    def cross(self, now_s: float) -> list[Notice]:
        """The limit is crossed, or no longer is."""
        self.limit = not self.limit
        if self.limit:
            return self.annunciator.raised(LIMIT, now_s, severity="warning", peak=6.0, seen=seen("high", None, "x"))
        return self.annunciator.cleared(LIMIT, seen=seen("high", None, "x"))

    def _look(self, leader: str) -> Seen:
        self.looks += 1
        return seen("model", HIGH, leader)


def stage(**told: Any) -> Stage:
    numbers = itertools.count(1)
    return Stage(Annunciation(**told), lambda: str(next(numbers)))


def word(at_s: float, minutes: float | None = None, **more: Any) -> Word:
    return Word("jo", None, at_s, None if minutes is None else at_s + 60 * minutes, **more)


def kinds(found: list[Notice]) -> list[str]:
    return [notice.reason or notice.kind for notice in found]


def ids(found: list[Notice]) -> list[str | None]:
    return [notice.alarm.alarm_id if notice.alarm else None for notice in found]


def run(stage: Stage, *scores: float, start_s: float = 0.0, step_s: float = 1.0, leader: str = "a") -> list[Notice]:
    return [
        notice for i, score in enumerate(scores) for notice in stage.push(score, start_s + i * step_s, leader=leader)
    ]


# a plain alarm


def test_plain_alarm_is_raised_and_cleared_under_one_id() -> None:
    found = run(stage(), LOW, HIGH, HIGHEST, HIGH, LOW, HIGH, LOW)
    assert kinds(found) == ["raised", "cleared"] * 2
    assert ids(found) == ["1", "1", "2", "2"]
    assert [notice.alarm.peak for notice in found if notice.alarm] == [HIGH, HIGHEST, HIGH, HIGH]


# severity


@pytest.mark.parametrize(
    ("peak", "told"), [(HIGH, "info"), (19.0, "info"), (HIGHER, "warning"), (39.0, "warning"), (HIGHEST, "critical")]
)
def test_severity_follows_the_ratio(peak: float, told: str) -> None:
    (raised,) = run(stage(severity="info", warning_ratio=2.0, critical_ratio=4.0), peak)
    assert raised.alarm is not None
    assert raised.alarm.severity == told


def test_alarm_below_the_least_severity_is_active_and_told_once_it_is_above() -> None:
    quiet = stage(critical_ratio=4.0, min_severity="critical")
    assert run(quiet, HIGH, HIGHER) == []
    assert quiet.annunciator.active
    assert run(quiet, LOW, HIGH) == []
    assert kinds(run(quiet, HIGHEST, HIGH, LOW)) == ["raised", "cleared"]


def test_severity_that_rises_is_told_once_and_not_sooner_than_the_interval() -> None:
    rising = stage(severity="info", warning_ratio=2.0, critical_ratio=4.0, update_s=10.0)
    assert kinds(run(rising, HIGH, HIGHER, HIGHEST, HIGH)) == ["raised"]
    (updated,) = run(rising, *[HIGH] * 30, start_s=4.0)
    assert (updated.reason, updated.kind) == ("severity", "updated")
    assert updated.alarm is not None
    assert (updated.alarm.severity, updated.alarm.peak, updated.alarm.told_s) == ("critical", HIGHEST, 10.0)


# re-alarm and other updates


def test_alarm_that_stays_is_repeated_until_somebody_acknowledges_it() -> None:
    staying = stage(realarm_s=100.0, update_s=10.0)
    assert kinds(run(staying, *[HIGH] * 301)) == ["raised", *["repeated"] * 3]
    assert kinds(staying.annunciator.acknowledge(word(301.0))) == ["acknowledged"]
    assert kinds(run(staying, *[HIGH] * 300, LOW, start_s=302.0)) == ["cleared"]


def test_each_channel_that_comes_to_lead_is_told_once_and_looks_are_rare() -> None:
    shifting = stage(update_s=10.0)
    leaders = "a" * 15 + "b" * 15 + "ab" * 15 + "c" * 15
    found = [n for at_s, leader in enumerate(leaders) for n in shifting.push(HIGH, float(at_s), leader)]
    assert kinds(found) == ["raised", "channel", "channel"]
    assert [n.alarm.seen.channels[0].name for n in found if n.alarm] == ["a", "b", "c"]
    assert shifting.looks <= len(leaders) / 10


# shelving


def test_alarm_of_a_shelved_asset_is_raised_when_the_shelf_expires_and_it_is_still_active() -> None:
    shelved = stage()
    assert kinds(shelved.annunciator.shelve(word(0.0, minutes=1))) == ["shelved"]
    assert run(shelved, HIGH, LOW, HIGH) == []
    assert shelved.push(HIGH, 59.9) == []
    found = shelved.annunciator.tick(60.0)
    assert kinds(found) == ["unshelved", "raised"]
    assert found[0].word == Word(None, "expired", 60.0)
    assert kinds(shelved.push(LOW, 61.0)) == ["cleared"]


def test_alarm_that_was_told_and_outlives_the_shelf_is_told_again_under_its_id() -> None:
    shelved = stage(realarm_s=20.0, update_s=1.0)
    run(shelved, HIGH)
    shelved.annunciator.shelve(word(1.0, minutes=1))
    assert run(shelved, *[HIGH] * 50, start_s=2.0) == []
    found = shelved.annunciator.unshelve(word(55.0))
    assert (kinds(found), ids(found)) == (["unshelved", "unshelved"], [None, "1"])
    assert found[1].kind == "updated"
    assert run(shelved, HIGH, HIGH, start_s=56.0) == []


def test_alarm_that_was_told_and_ended_on_the_shelf_is_cleared_behind_it() -> None:
    shelved = stage()
    run(shelved, HIGH)
    shelved.annunciator.shelve(word(1.0, minutes=1))
    assert run(shelved, LOW, HIGH, start_s=2.0) == []
    found = shelved.annunciator.tick(70.0)
    assert (kinds(found), ids(found)) == (["unshelved", "cleared", "raised"], [None, "1", "2"])


def test_asset_that_is_not_shelved_cannot_be_unshelved() -> None:
    assert stage().annunciator.unshelve(word(0.0)) == []


@pytest.mark.parametrize("clock_s", [-1e6, 1e6])
def test_clock_that_was_set_makes_no_shelf_longer(clock_s: float) -> None:
    before = stage()
    before.annunciator.shelve(word(1e7, minutes=2))
    after = before.after_restart(before.annunciator.memory, 1e7 + clock_s)
    assert kinds(after.annunciator.tick(1e7 + clock_s + 120.0)) == ["unshelved"]


# acknowledging


def test_acknowledgement_is_of_what_is_active_or_else_of_the_latest_alarm() -> None:
    told = stage()
    assert told.annunciator.acknowledge(word(0.0)) == []
    run(told, HIGH)
    told.cross(1.0)
    found = told.annunciator.acknowledge(word(2.0, verdict="true"))
    assert (kinds(found), ids(found)) == (["acknowledged"] * 2, ["1", "2"])
    assert ids(told.annunciator.acknowledge(word(2.0), alarm_id="2")) == ["2"]
    assert told.annunciator.acknowledge(word(2.0), alarm_id="3") == []
    (cleared,) = run(told, LOW)
    assert cleared.alarm is not None
    assert cleared.alarm.acknowledged == word(2.0, verdict="true")
    told.cross(3.0)
    assert ids(told.annunciator.acknowledge(word(4.0))) == ["2"]
    assert told.annunciator.acknowledge(word(4.0), alarm_id="1") == []


# floods


def test_flood_is_told_once_and_collapsed_into_its_end() -> None:
    flapping = stage(flood_raises=2, flood_s=60.0)
    found = run(flapping, *[HIGH, LOW, HIGHEST, LOW] * 5)
    assert kinds(found) == ["raised", "cleared"] * 2 + ["flood_begun"]
    assert found[-1].flood is not None
    assert found[-1].flood.collapsed == 1
    assert run(flapping, *[LOW] * 50, start_s=20.0) == []
    (ended,) = flapping.annunciator.tick(78.0)
    assert ended.flood is not None
    assert (ended.kind, ended.flood.collapsed, ended.flood.peak_score) == ("flood_ended", 8, HIGHEST)
    assert kinds(run(flapping, HIGH, LOW, start_s=80.0)) == ["raised", "cleared"]


def test_alarm_that_outlives_the_flood_is_raised_behind_it_and_one_before_it_is_cleared_in_it() -> None:
    flapping = stage(flood_raises=2, flood_s=60.0)
    flapping.cross(0.0)
    assert kinds(run(flapping, HIGH, LOW, HIGH, start_s=1.0)) == ["raised", "cleared", "flood_begun"]
    assert kinds(flapping.cross(4.0)) == ["cleared"]
    assert kinds(run(flapping, *[HIGH] * 100, LOW, start_s=5.0)) == ["flood_ended", "raised", "cleared"]


def test_raises_that_lie_apart_are_no_flood() -> None:
    assert "flood_begun" not in kinds(run(stage(flood_raises=2, flood_s=60.0), *[HIGH, LOW] * 50, step_s=20.0))


# restarts


def test_alarm_of_a_rule_that_is_gone_is_cleared() -> None:
    before = stage()
    before.cross(0.0)
    after = Annunciator(Annunciation(), new_id=str)
    after.resume(before.annunciator.memory, known=[MODEL])
    found = after.tick(1.0)
    assert (kinds(found), ids(found), after.active) == (["cleared"], ["1"], False)


@settings(max_examples=100, stateful_step_count=40, deadline=None)
class StageMachine(RuleBasedStateMachine):
    """A stage that is restarted and killed beside one that goes on, and a subscriber to what is told."""

    @initialize(
        told=st.builds(
            Annunciation,
            severity=st.just("info"),
            warning_ratio=st.sampled_from([None, 2.0]),
            critical_ratio=st.sampled_from([None, 4.0]),
            min_severity=st.sampled_from(["info", "info", "warning"]),
            realarm_s=st.sampled_from([None, 30.0]),
            update_s=st.sampled_from([1.0, 20.0]),
            flood_raises=st.sampled_from([None, 1, 3]),
            flood_s=st.just(60.0),
        ),
        on=st.sampled_from([(1, 1), (2, 3)]),
    )
    def begin(self, told: Annunciation, on: tuple[int, int]) -> None:
        self.now_s, self.step = 1000.0, 0
        self.stage, self.twin = (Stage(told, self.new_id, AlarmRules(on_delay=on, off_delay=on)) for _ in range(2))
        self.disk = Memory()
        self.open: dict[str, str] = {}
        self.raised: set[str] = set()
        self.shelved = False

    def new_id(self) -> str:
        """The same for both stages, for both are asked for the same."""
        self.issued += 1
        return f"{self.step}.{self.issued}"

    def does(self, what: Callable[[Stage], list[Notice]]) -> None:
        self.step, self.issued = self.step + 1, 0
        found, self.issued = what(self.stage), 0
        assert found == what(self.twin)
        for notice in found:
            self.gets(notice)

    def gets(self, notice: Notice) -> None:
        """What the subscriber hears, and what is stored with it."""
        self.disk = notice.memory
        alarm_id = notice.alarm.alarm_id if notice.alarm else None
        key = notice.alarm.seen.cause.kind if notice.alarm else ""
        if notice.kind in ("shelved", "unshelved"):
            self.shelved = notice.kind == "shelved"
            return
        if notice.kind == "acknowledged":
            assert alarm_id in self.raised
            return
        assert not self.shelved, notice
        if notice.kind == "raised":
            assert key not in self.open
            assert alarm_id is not None
            self.open[key] = alarm_id
            self.raised.add(alarm_id)
        elif notice.kind == "cleared":
            assert self.open.pop(key) == alarm_id
        elif notice.kind == "updated":
            assert self.open[key] == alarm_id

    @rule(
        score=st.sampled_from([LOW, LOW, HIGH, HIGH, HIGHER, HIGHEST]),
        after_s=st.sampled_from([0.5, 5.0, 40.0]),
        leader=st.sampled_from("ab"),
    )
    def window(self, score: float, after_s: float, leader: str) -> None:
        self.now_s += after_s
        self.does(lambda stage: stage.push(score, self.now_s, leader))

    @rule()
    def limit(self) -> None:
        self.does(lambda stage: stage.cross(self.now_s))

    @rule(after_s=st.sampled_from([1.0, 100.0]))
    def time_passes(self, after_s: float) -> None:
        self.now_s += after_s
        self.does(lambda stage: stage.annunciator.tick(self.now_s))

    @rule(minutes=st.sampled_from([0.1, 2.0]))
    def shelve(self, minutes: float) -> None:
        self.does(lambda stage: stage.annunciator.shelve(word(self.now_s, minutes)))

    @rule()
    def unshelve(self) -> None:
        self.does(lambda stage: stage.annunciator.unshelve(word(self.now_s)))

    @rule()
    def acknowledge(self) -> None:
        self.does(lambda stage: stage.annunciator.acknowledge(word(self.now_s)))

    @rule()
    def restarts(self) -> None:
        """Stopped and started: what is kept changes nothing but that no window reaches back."""
        self.stage = self.stage.after_restart(self.stage.annunciator.memory, self.now_s)
        self.twin.alarm.interrupt()

    @rule(score=st.sampled_from([LOW, HIGH, HIGHEST]), after_s=st.sampled_from([1.0, 100.0]), heard=st.integers(0, 3))
    def is_killed(self, score: float, after_s: float, heard: int) -> None:
        """Killed behind any of the notices that a window brings: the disk has what went with the last one."""
        self.now_s, self.step, self.issued = self.now_s + after_s, self.step + 1, 0
        for notice in self.stage.push(score, self.now_s)[:heard]:
            self.gets(notice)
        self.stage = self.stage.after_restart(self.disk, self.now_s)
        self.twin = self.stage.after_restart(self.disk, self.now_s)

    def teardown(self) -> None:
        if not hasattr(self, "stage"):
            return
        if self.stage.limit:
            self.limit()
        for _ in range(4):
            self.window(LOW, 200.0, "a")
        assert self.open == {}
        assert not self.shelved
        assert not self.stage.annunciator.active


TestStageMachine = StageMachine.TestCase
