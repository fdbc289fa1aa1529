"""From what a pipeline found to the messages about its asset: events, each with its stamp, and the present state."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from edge_vae import clock
from edge_vae.alarm_memory import Active, Memory, Word
from edge_vae.annunciator import Notice
from edge_vae.event import Action, ActiveAlarm, AssetState, Event, EventKind, Model, Severity, State, Window
from edge_vae.found import Drift, Found, Strange
from edge_vae.pipeline import Pipeline
from edge_vae.stamp import Stamper

__all__ = ["Put", "Reporter"]

log = logging.getLogger(__name__)

Put = Callable[[Event, Memory | None], int]
"""Stores an event and, in the same transaction, what is then known of the alarms; the event's sequence number."""


class Reporter:
    """Makes the messages about one asset. An event is logged once it is stored, and only what is logged was promised.

    Args:
        asset: Its name.
        model: Its bundle.
        core: Its pipeline.
        stamper: Stamps events.
        put: Stores them.
    """

    def __init__(self, asset: str, model: Model, core: Pipeline, *, stamper: Stamper, put: Put) -> None:
        self._asset, self._model, self._core, self._stamper, self._put = asset, model, core, stamper, put

    def report(self, found: Found, *, arrived_ns: int | None = None) -> None:
        """Store an event about what was found, and log it.

        Args:
            found: Of this asset.
            arrived_ns: Monotonic clock when the samples arrived that brought it; None where time or an operator did.
        """
        if isinstance(found, Strange):
            self._report_strange(found)
        elif isinstance(found, Drift):
            self._report_drift(found)
        elif found.alarm is not None:
            self._report_alarm(found, found.alarm, arrived_ns)
        else:
            self._report_asset(found)

    def state(self, state: AssetState, since: str) -> State:
        """The message about the present state, which has been this one since then."""
        memory, core = self._core.memory, self._core
        alarms = tuple(
            ActiveAlarm(
                alarm_id=alarm.alarm_id, severity=alarm.severity, cause=alarm.seen.cause,
                since=self._time(alarm.since_s), peak_score=_peak_score(alarm),
                acknowledged=self._action(alarm.acknowledged),
            )
            for alarm in memory.alarms.values()
        )  # fmt: skip
        return State(
            asset=self._asset, state=state, since=since, time=clock.format_time(time.time()), score=core.score,
            threshold=core.threshold, model=self._model, alarms=alarms, shelved=self._action(memory.shelved),
            flood=memory.flood is not None,
        )  # fmt: skip

    def _report_alarm(self, notice: Notice, alarm: Active, arrived_ns: int | None) -> None:
        seen, word = alarm.seen, notice.word or alarm.acknowledged
        raised = {"event_id": alarm.alarm_id} if notice.kind == "raised" else {}
        time_s = seen.end_s if arrived_ns is not None else None
        kind: EventKind = "sensor_fault" if seen.cause.of_sensor else notice.kind
        phase = notice.kind if seen.cause.of_sensor else None
        event = self._event(
            kind, severity=alarm.severity, monotonic_ns=arrived_ns, time_s=time_s,
            alarm_id=alarm.alarm_id, score=seen.score, peak_score=_peak_score(alarm), threshold=seen.threshold,
            channels=seen.channels, window=_window(seen.start_s, seen.end_s), cause=seen.cause, reason=notice.reason,
            action=self._action(word), quality=seen.quality, phase=phase, **raised,
        )  # fmt: skip
        seq = self._put(event, notice.memory)
        if seen.cause.of_sensor:
            log.info(
                "sensor fault %s asset=%s event_id=%s seq=%d severity=%s fault=%s channels=%s value=%s",
                notice.kind, self._asset, event.event_id, seq, event.severity, seen.cause.kind,
                ",".join(channel.name for channel in seen.channels) or "-", _shown(seen.cause.value),
            )  # fmt: skip
            return
        leader = seen.channels[0]
        log.info(
            "alarm %s asset=%s event_id=%s seq=%d severity=%s score=%s threshold=%s channel=%s share=%.2f reason=%s",
            event.event, self._asset, event.event_id, seq, event.severity, _shown(seen.score), _shown(seen.threshold),
            leader.name, leader.share, notice.reason or seen.cause.kind,
        )  # fmt: skip

    def _report_asset(self, notice: Notice) -> None:
        """Of shelving and of floods."""
        flood = notice.flood
        facts: dict[str, Any] = {}
        if flood is not None:
            facts = {"peak_score": flood.peak_score, "collapsed": flood.collapsed}
            facts["window"] = Window(start=self._time(flood.began_s), end=self._time(flood.raised_s))
        event = self._event(
            notice.kind, severity=flood.severity if flood else "info", action=self._action(notice.word), quality=None,
            **facts,
        )  # fmt: skip
        seq = self._put(event, notice.memory)
        log.info(
            "alarms %s asset=%s event_id=%s seq=%d collapsed=%s",
            event.event, self._asset, event.event_id, seq, event.collapsed,
        )  # fmt: skip

    def _report_drift(self, drift: Drift) -> None:
        start_s, end_s = (time_s if math.isfinite(time_s) else None for time_s in (drift.start_s, drift.end_s))
        event = self._event(
            "drift", severity="info", monotonic_ns=drift.arrived_ns, time_s=end_s, score=drift.score,
            threshold=drift.threshold, channels=drift.channels, window=_window(start_s, end_s),
        )  # fmt: skip
        seq, leader = self._put(event, None), drift.channels[0]
        log.info(
            "drift begins asset=%s event_id=%s seq=%d windows=%d mean_score=%.3f threshold=%.3f channel=%s share=%.2f",
            self._asset, event.event_id, seq, drift.windows, drift.score, drift.threshold, leader.name, leader.share,
        )  # fmt: skip

    def _report_strange(self, strange: Strange) -> None:
        time_s = strange.time_s if math.isfinite(strange.time_s) else None
        event = self._event(
            "unknown_mode", severity="info", monotonic_ns=strange.arrived_ns, time_s=time_s, channels=strange.channels
        )
        seq = self._put(event, None)
        mode = " ".join(f"{column.name}={column.value:g}" for column in strange.channels)
        log.info("unknown mode asset=%s event_id=%s seq=%d %s", self._asset, event.event_id, seq, mode)

    def _event(
        self,
        kind: EventKind,
        *,
        severity: Severity,
        monotonic_ns: int | None = None,
        time_s: float | None = None,
        score: float | None = None,
        threshold: float | None = None,
        **facts: Any,
    ) -> Event:
        """An event with its stamp; what is not said is null, and the time is that of the stamp."""
        stamp = self._stamper()
        nothing: dict[str, Any] = dict.fromkeys(
            ("alarm_id", "peak_score", "window", "dropped", "cause", "reason", "action", "collapsed", "phase")
        )
        said: dict[str, Any] = {
            "event_id": stamp.event_id, "seq": 1, "asset": self._asset, "event": kind, "severity": severity,
            "time": stamp.time if time_s is None else clock.format_time(time_s), "time_quality": stamp.time_quality,
            "boot_id": stamp.boot_id, "monotonic_ns": stamp.monotonic_ns if monotonic_ns is None else monotonic_ns,
            "score": score, "threshold": threshold,
            "ratio": None if score is None or not threshold else score / threshold,
            "channels": (), "model": self._model, "quality": "good", "replayed": False,
        }  # fmt: skip
        return Event(**(nothing | said | facts))

    def _action(self, word: Word | None) -> Action | None:
        if word is None:
            return None
        until = None if word.until_s is None else self._time(word.until_s)
        return Action(by=word.by, note=word.note, at=self._time(word.at_s), until=until, verdict=word.verdict)

    def _time(self, at_s: float) -> str:
        """A time of the annunciator's clock, by the clock on the wall if that was set since, to the second."""
        set_by_s = round(time.time() - self._core.now_s(time.monotonic_ns()))
        return clock.format_time(at_s + set_by_s)


def _peak_score(alarm: Active) -> float | None:
    return alarm.peak if alarm.seen.cause.kind == "model" else None


def _window(start_s: float | None, end_s: float | None) -> Window | None:
    if start_s is None or end_s is None:
        return None
    return Window(start=clock.format_time(start_s), end=clock.format_time(end_s))


def _shown(number: float | None) -> str:
    return "-" if number is None else f"{number:.3f}"
