"""One asset from samples to what is told of it: plain rules, stream, threshold, alarm, annunciator, drift. Pure."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import numpy as np

from edge_vae.adapt import Adaptation, TailState
from edge_vae.alarm import Alarm, AlarmRules, Change
from edge_vae.alarm_memory import Memory, Seen, Word
from edge_vae.annunciator import Annunciation, Annunciator, Notice
from edge_vae.detector import Explainer
from edge_vae.drift import DEFAULT_HOURS, Drifted, DriftState, DriftTest
from edge_vae.event import AssetState, Cause, Channel, Quality, Severity
from edge_vae.found import Drift, Found, Strange
from edge_vae.limits import Limit
from edge_vae.plain_rules import PlainRules
from edge_vae.recorder import Recorder
from edge_vae.sample import Block, FloatArray
from edge_vae.sensor_alarm import SensorAlarms
from edge_vae.sensor_watch import SensorRules, SensorWatch
from edge_vae.stream import Scored, Stream, UnknownMode
from edge_vae.window import overlap

__all__ = ["Learned", "Pipeline"]

PIECE_BYTES = 1 << 16
"""So much memory may the windows take that are scored together: more at once are no faster (measured)."""
HOLD_OFF = 10
"""Lengths of the window after an alarm in which nothing is learned: the machine settles, and the first windows still
hold samples of the alarm."""
MODEL = "model"
"""Key of the alarm that follows the score."""


class Learned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a pipeline has learned of its machine, to be kept over a restart.

    Attributes:
        tail: Of the tail that the threshold follows, if it does.
        drift: Of drift that may have begun, if it is looked for.
    """

    tail: TailState = TailState()
    drift: DriftState = DriftState()

    def expect_channels(self, channels: int) -> None:
        """Raise ValueError if this is about another number of channels."""
        drifted = self.drift.drifted
        if drifted and len(drifted.shares) != channels:
            msg = f"expected means of {channels} channels, received {len(drifted.shares)}"
            raise ValueError(msg)


class Pipeline:
    """Turns the samples of one asset into notices of its alarms.

    Windows of an alarm, and those of a while after it, teach neither the threshold nor the drift test anything; while
    there is drift, the threshold learns nothing, so that a slow fault does not raise its own threshold.

    Args:
        detector: The loaded bundle.
        rules: When an alarm is raised and cleared.
        annunciation: What is told of it.
        limits: Plain rules beside the model, for its channels.
        sensors: What is a fault of a sensor; None: nothing is.
        sensor_severity: Of each such fault.
        new_id: Makes the id of an alarm that is raised; by default they are numbered.
        epoch_s: Added to the monotonic clock it gives the seconds of the annunciator's, see there.
        baseline: Samples that each session is learned from; by default what the bundle says.
        drift_hours: Hours of windows after which drift is told, see `DriftTest`; None: drift is not looked for.
        adapt_limit: Part of the bundle's threshold by which it may move, see `Adaptation`; None: it stays.
        learned: What was learned before.

    Raises:
        ValueError: The threshold is to move, and is none that can.
    """

    def __init__(
        self,
        detector: Explainer,
        *,
        rules: AlarmRules,
        annunciation: Annunciation | None = None,
        limits: Sequence[Limit] = (),
        sensors: SensorRules | None = None,
        sensor_severity: Severity = "warning",
        new_id: Callable[[], str] | None = None,
        epoch_s: float = 0.0,
        baseline: int | None = None,
        drift_hours: float | None = DEFAULT_HOURS,
        adapt_limit: float | None = None,
        learned: Learned | None = None,
    ) -> None:
        manifest = detector.manifest
        self.channel_names, self.columns = manifest.channel_names, manifest.source_columns
        self._detector, self._stream = detector, Stream(detector, baseline=baseline)
        self._mode_columns = self.columns[len(self.channel_names) :]
        self._baseline_samples = manifest.baseline if baseline is None else baseline
        window, threshold, stride_s = manifest.window, manifest.threshold, manifest.window.stride * manifest.period_s
        self._length, self._alarm = window.length, Alarm(rules, threshold=threshold.value)
        self._annunciation, self._epoch_s = annunciation or Annunciation(), epoch_s
        self._annunciator = Annunciator(self._annunciation, new_id=new_id or _numbered())
        watch = SensorWatch(sensors) if sensors else None
        alarms = (
            SensorAlarms(watch, self._annunciator, severity=sensor_severity, columns=self.columns) if watch else None
        )
        self._rules = PlainRules(
            self._annunciator, sensors=alarms, limits=limits, columns=self.columns, length=window.length,
            period_s=manifest.period_s,
        )  # fmt: skip
        overlapping = math.ceil(overlap(window.length, window.stride))
        self._hold_off, self._quiet = HOLD_OFF * overlapping, HOLD_OFF * overlapping
        before = learned or Learned()
        self._drift: DriftTest | None = None
        if drift_hours is not None:
            self._drift = DriftTest(start=threshold.start, hours=drift_hours, stride_s=stride_s, state=before.drift)
        self._adaptation: Adaptation | None = None
        if adapt_limit is not None:
            self._adaptation = Adaptation(
                threshold, limit=adapt_limit, stride_s=stride_s, overlap=overlapping, on_delay=manifest.alarm.on_delay,
                state=before.tail,
            )  # fmt: skip
            self._alarm.threshold = self._adaptation.threshold
        window_bytes = window.length * len(self.channel_names) * np.float64().nbytes
        self._piece = window.stride * max(1, PIECE_BYTES // window_bytes)
        self._blind_after = 2 * window.length + window.stride
        self.windows = self.samples = self._session_at = self._scored_at = 0
        self.score: float | None = None

    @property
    def state(self) -> AssetState:
        """`shelved`, `alarm` while one is active, told or not, `learning` while the baseline is taken; else `normal`.

        Before both of the latter `fault`: no samples come, or none can be scored: in an unknown mode, when a window's
        length of them was of no use, or where nearly every window has a break.
        """
        if self.memory.shelved is not None:
            return "shelved"
        if self._annunciator.alarmed:
            return "alarm"
        if self._stream.mode < 0 or self._stream.unusable >= self._length or self._rules.silent:
            return "fault"
        if self.samples - self._scored_at >= self._blind_after:
            return "fault"
        return "learning" if self._stream.learning else "normal"

    @property
    def threshold(self) -> float:
        """The threshold in force."""
        return self._alarm.threshold

    @property
    def awaited(self) -> int:
        """Samples, at least 1, without which no window can be completed."""
        return self._stream.awaited

    @property
    def recorder(self) -> Recorder:
        """A recorder for the samples of this pipeline."""
        return Recorder(length=self._length, baseline=self._baseline_samples)

    @property
    def memory(self) -> Memory:
        """What is known of the alarms, to be kept."""
        return self._annunciator.memory

    def now_s(self, now_ns: int) -> float:
        """The annunciator's time at a time of the monotonic clock."""
        return self._epoch_s + now_ns / 1e9

    def resume(self, memory: Memory, now_ns: int) -> None:
        """Go on with the alarms of before a restart."""
        self._annunciator.resume(memory.as_of(self.now_s(now_ns)), known=[MODEL, *self._rules.resume(memory)])
        if MODEL in memory.alarms:
            self._alarm.resume(memory.alarms[MODEL].peak)

    def tick(self, now_ns: int) -> list[Notice]:
        """What the passing of time brings, with samples or without."""
        now_s = self.now_s(now_ns)
        return self._rules.tick(now_s) + self._annunciator.tick(now_s)

    def shelve(self, word: Word) -> list[Notice]:
        """Tell nothing of alarms for a while, see `Annunciator`."""
        return self._annunciator.shelve(word)

    def unshelve(self, word: Word) -> list[Notice]:
        """Tell of them again."""
        return self._annunciator.unshelve(word)

    def acknowledge(self, word: Word, *, alarm_id: str | None) -> list[Notice]:
        """An operator has taken note."""
        return self._annunciator.acknowledge(word, alarm_id=alarm_id)

    @property
    def learned(self) -> Learned:
        """What was learned so far, to be kept."""
        tail = self._adaptation.state if self._adaptation else TailState()
        return Learned(tail, self._drift.state if self._drift else DriftState())

    @property
    def removed(self) -> int:
        """Samples that were left out because a reading was missing."""
        return self._stream.removed

    def rebaseline(self) -> int:
        """Learn the session's baseline anew, and say from how many samples; 0 when the model knows no baseline.

        What was taken for drift is forgotten, and so is what the threshold has learned: both were about scores against
        the baseline before. An active alarm stays until windows judged by the new baseline clear it: a command is no
        evidence that the machine is well, and nothing clears an alarm unseen.
        """
        if not self._baseline_samples:
            return 0
        self._restart_stream()
        if self._drift:
            self._drift.restart()
        if self._adaptation:
            self._adaptation.forget()
            if not self._alarm.active:
                self._alarm.threshold = self._adaptation.threshold
        return self._stream.learning

    def push(self, block: Block) -> list[Found]:
        """Notices of alarms that these samples bring, drift that begins, and unknown modes that are met."""
        if block.starts_session:
            self._start_session()
        found: list[Found] = []
        for at in range(0, len(block.times), self._piece):
            piece = slice(at, at + self._piece)
            values, times = block.values[piece], block.times[piece]
            doubts = None if block.uncertain is None else block.uncertain[piece]
            self._rules.push(values, times, doubts, at=self.samples, now_s=self.now_s(block.arrived_ns))
            scored = self._stream.push(values, times)
            for i in range(len(scored.rows)):
                self._scored_at = self._session_at + int(scored.rows[i]) + 1
                found += self._rules.told(until=self._scored_at - 1)
                found += self._judged(scored, i, block.arrived_ns)
            found += self._rules.told()
            found += [self._strange(unknown, block.arrived_ns) for unknown in self._stream.take_unknown()]
            self.samples += len(times)
            if self._stream.learning:
                self._scored_at = self.samples
        return found

    def _start_session(self) -> None:
        self._rules.interrupt()
        self._restart_stream()

    def _restart_stream(self) -> None:
        self._stream.start_session()
        self._session_at = self._scored_at = self.samples

    def _judged(self, scored: Scored, i: int, arrived_ns: int) -> Iterator[Notice | Drift]:
        """What one window brings."""
        self.windows += 1
        if scored.after_break[i]:
            self._interrupt()
        self.score = float(scored.score[i])
        change = self._alarm.push(self.score)
        if self._alarm.active or change is Change.CLEARED:
            yield from self._announced(scored, i, change, self.now_s(arrived_ns))
        if self._annunciator.active or change is Change.CLEARED:
            self._hold()
        elif self._quiet < self._hold_off:
            self._quiet += 1
        elif (drifted := self._learn(scored, i)) is not None:
            yield self._told(drifted, arrived_ns)

    def _announced(self, scored: Scored, i: int, change: Change, now_s: float) -> list[Notice]:
        look = functools.partial(self._seen, scored, i)
        if change is Change.CLEARED:
            return self._annunciator.cleared(MODEL, seen=look())
        peak = self._alarm.peak_score
        severity = self._annunciation.severity_of(peak / self._alarm.threshold)
        if change is Change.RAISED:
            return self._annunciator.raised(MODEL, now_s, severity=severity, peak=peak, seen=look())
        return self._annunciator.still(MODEL, now_s, severity=severity, peak=peak, look=look)

    def _interrupt(self) -> None:
        self._alarm.interrupt()
        if self._adaptation:
            self._adaptation.interrupt()

    def _hold(self) -> None:
        """Learn nothing from this window, nor from those of the hold-off after it."""
        self._quiet = 0
        if self._adaptation:
            self._adaptation.interrupt()

    def _learn(self, scored: Scored, i: int) -> Drifted | None:
        """Take a window of normal operation into account; what has drifted, if drift begins with it."""
        score, drifted = float(scored.score[i]), None
        if self._drift:
            drifted = self._drift.push(
                score, shares=scored.shares[i], values=scored.values[i], expected=scored.expected[i],
                start_s=float(scored.starts[i]), end_s=float(scored.ends[i]),
            )  # fmt: skip
        if self._adaptation:
            if self._drift and self._drift.active:
                self._adaptation.interrupt()
            else:
                self._alarm.threshold = self._adaptation.push(score)
        return drifted

    def _seen(self, scored: Scored, i: int) -> Seen:
        # Asked for what is told alone: an explanation may cost as much as a hundred scores.
        scaled, conditions, scaler = self._stream.window(i)
        explained = self._detector.explain(scaled, conditions)
        last = self._session_at + int(scored.rows[i])
        means = (explained.shares[0], scored.values[i], scaler.inverse(explained.expected)[0])
        channels = self._channels(*means, qualities=self._rules.qualities(last))
        return Seen(
            Cause(kind="model", channel=None, value=None, peak=None, limit=None), float(scored.score[i]),
            self._alarm.threshold, channels, _known(scored.starts[i]), _known(scored.ends[i]), last,
            self._rules.quality(channels, last),
        )  # fmt: skip

    def _told(self, drifted: Drifted, arrived_ns: int) -> Drift:
        means = (np.array(each) for each in (drifted.shares, drifted.values, drifted.expected))
        # While a sensor is broken nothing is learned, so nothing is bad in what has drifted.
        good: dict[str, Quality] = dict.fromkeys(self.channel_names, "good")
        start_s, end_s = (math.nan if time_s is None else time_s for time_s in (drifted.start_s, drifted.end_s))
        channels = self._channels(*means, qualities=good)
        return Drift(drifted.windows, drifted.score, self._alarm.threshold, channels, start_s, end_s, arrived_ns)

    def _strange(self, unknown: UnknownMode, arrived_ns: int) -> Strange:
        modes = zip(self._mode_columns, unknown.values, strict=True)
        columns = tuple(
            Channel(name=name, share=None, value=value, expected=None, quality="good") for name, value in modes
        )
        return Strange(columns, unknown.time_s, arrived_ns)

    def _channels(
        self, shares: FloatArray, values: FloatArray, expected: FloatArray, *, qualities: Mapping[str, Quality]
    ) -> tuple[Channel, ...]:
        return tuple(
            Channel(
                name=(name := self.channel_names[c]), share=float(shares[c]), value=float(values[c]),
                expected=float(expected[c]), quality=qualities[name],
            )
            for c in shares.argsort()[::-1]
        )  # fmt: skip


def _known(time_s: float) -> float | None:
    return float(time_s) if math.isfinite(time_s) else None


def _numbered() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"{next(numbers):026}"
