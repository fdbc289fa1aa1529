"""What an asset does on command, in the thread of its pipeline."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from edge_vae.alarm_memory import Word
from edge_vae.annunciator import Notice
from edge_vae.clock import format_time
from edge_vae.command import Ack, Outcome, Shelve, Unshelve
from edge_vae.feedback import Feedback, Judgement
from edge_vae.pipeline import Pipeline

__all__ = ["Operations"]

log = logging.getLogger(__name__)


class Operations:
    """The commands of one asset, carried out.

    Args:
        asset: Its name.
        core: Its pipeline.
        rebaselines: Whether it may be told to learn its baseline anew.
        feedback: Takes verdicts.
        report: Stores what is to be told, and tells the state that has come of it.
    """

    def __init__(
        self,
        asset: str,
        core: Pipeline,
        *,
        rebaselines: bool,
        feedback: Feedback,
        report: Callable[[Sequence[Notice]], None],
    ) -> None:
        self._asset, self._core, self._rebaselines = asset, core, rebaselines
        self._feedback, self._report = feedback, report

    def rebaseline(self) -> Outcome:
        """Learn the baseline anew."""
        if not self._rebaselines:
            return Outcome(ok=False, message='expected "command" in on under [pipeline.baseline] of the configuration')
        samples = self._core.rebaseline()
        if not samples:
            return Outcome(ok=False, message="expected a bundle with a baseline, received one that has none")
        log.info("baseline is learned anew, by command asset=%s samples=%d", self._asset, samples)
        self._report([])
        return Outcome(ok=True, message=f"the baseline is learned from the next {samples} samples")

    def shelve(self, request: Shelve) -> Outcome:
        """Publish no alarm for a while."""
        now_s = self._now_s()
        self._report(self._core.shelve(Word(request.by, request.note, now_s, now_s + 60.0 * request.minutes)))
        return Outcome(ok=True, message=f"no alarm is published for {request.minutes:g} minutes")

    def unshelve(self, request: Unshelve) -> Outcome:
        """Publish alarms again."""
        found = self._core.unshelve(Word(request.by, request.note, self._now_s()))
        if not found:
            return Outcome(ok=False, message="expected an asset that is shelved, received one that is not")
        self._report(found)
        return Outcome(ok=True, message="alarms are published again")

    def acknowledge(self, request: Ack) -> Outcome:
        """Somebody has taken note of an alarm."""
        word = Word(request.by, request.note, self._now_s(), verdict=request.verdict)
        found = self._core.acknowledge(word, alarm_id=request.alarm_id)
        self._report(found)
        ids = [notice.alarm.alarm_id for notice in found if notice.alarm and notice.alarm.alarm_id]
        # An alarm that is long over is known by its samples alone.
        kept = self._judge(request, ids or [request.alarm_id or ""])
        if not ids and not kept:
            what = f"alarm_id {request.alarm_id}" if request.alarm_id else "no alarm that was published"
            return Outcome(ok=False, message=f"expected an alarm that is active, or the latest one, received {what}")
        words = [f"acknowledged: {', '.join(ids)}"] if ids else []
        words += [f"verdict kept with samples: {', '.join(kept)}"] if kept else []
        return Outcome(ok=True, message="; ".join(words))

    def _judge(self, request: Ack, ids: list[str]) -> list[str]:
        """The alarms with whose samples the verdict is kept, if there is one."""
        if request.verdict is None:
            return []
        judgement = Judgement(request.verdict, request.by, request.note, format_time(time.time()))
        return [alarm_id for alarm_id in ids if self._feedback.judge(self._asset, alarm_id, judgement)]

    def _now_s(self) -> float:
        return self._core.now_s(time.monotonic_ns())
