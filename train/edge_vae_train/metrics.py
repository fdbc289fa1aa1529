"""One method's scores against labels: window by window, and event by event after alarms. Never point-adjusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from edge_vae.alarm import Alarm, AlarmRules
from edge_vae.sample import FloatArray
from edge_vae.threshold import SECONDS_PER_DAY
from edge_vae_train.vus import runs, vus_pr

__all__ = ["Metrics", "ScoredSession", "alarm_states", "alarms", "measure"]


@dataclass(frozen=True, slots=True)
class ScoredSession:
    """The windows of one session, in order, and the labels of its rows.

    Attributes:
        rows: (windows,) 0-based row of each window's last sample, increasing.
        score: (windows,) higher is more anomalous.
        labels: (samples,) True for each row of the session that is labelled anomalous.
        after_break: (windows,) True for the first window of a segment.
    """

    rows: NDArray[np.int64]
    score: FloatArray
    labels: NDArray[np.bool_]
    after_break: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if not self.rows.shape == self.score.shape == self.after_break.shape or self.rows.ndim != 1:
            shapes = f"{self.rows.shape}, {self.score.shape} and {self.after_break.shape}"
            msg = f"expected rows, score and after_break (windows,) of one length, received {shapes}"
            raise ValueError(msg)
        ends = np.concatenate([[-1], self.rows, [len(self.labels)]])
        if (np.diff(ends) <= 0).any():
            msg = f"expected increasing rows from 0 and below the {len(self.labels)} labels, received {self.rows}"
            raise ValueError(msg)

    @property
    def window_labels(self) -> NDArray[np.bool_]:
        """(windows,) the label of each window: that of its last row."""
        return self.labels[self.rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Figures of one method. None where the data leaves a figure undefined, as with windows of one class only.

    An *event* is a labelled run of rows of which at least one lies in a window. A window *overlaps* a run when it holds
    at least one of its rows.

    Attributes:
        roc_auc: Area under the ROC curve of all windows together.
        average_precision: Area under their precision-recall curve, as steps.
        vus_pr: `edge_vae_train.vus.vus_pr` of all windows together, with buffers of up to one window's length; ranges
            and buffers end where a segment does.
        f1: Harmonic mean of precision and recall.
        far: False alarm rate: share of normal windows above the threshold.
        mar: Missed alarm rate: share of anomalous windows not above it.
        precision: Share of windows above the threshold that are anomalous.
        recall: Share of anomalous windows above the threshold.
        events: Number of events.
        event_recall: Share of events that a window overlaps in which an alarm is active, raised there or before.
        first_alarm_inside: Share of sessions with an event whose first alarm is raised by a window that overlaps a
            labelled run; in a session without an alarm it is not.
        mean_delay_s: Mean time in seconds from an event's first row to the last row of the first window overlapping it
            that raises an alarm. Events detected only by an alarm raised before them are left out.
        false_alarms: Alarms raised by a window without a labelled row.
        false_alarms_per_day: These, a day of `normal_days`.
        normal_days: Scored normal time: windows without a labelled row, each a stride long.
        windows: Number of windows.
        positive_share: Share of windows that are anomalous.
    """

    roc_auc: float | None
    average_precision: float | None
    vus_pr: float | None
    f1: float | None
    far: float | None
    mar: float | None
    precision: float | None
    recall: float | None
    events: int
    event_recall: float | None
    first_alarm_inside: float | None
    mean_delay_s: float | None
    false_alarms: int
    false_alarms_per_day: float | None
    normal_days: float
    windows: int
    positive_share: float | None


def measure(
    sessions: Sequence[ScoredSession],
    *,
    threshold: float,
    rules: AlarmRules,
    window_length: int,
    period_s: float,
    stride: int,
) -> Metrics:
    """The figures of one method's results; the windows of all sessions count alike.

    Args:
        sessions: At least one; each starts with a fresh alarm.
        threshold: A score above it is anomalous.
        rules: Delays and deadband of the alarm stage.
        window_length: Samples in a window.
        period_s: Seconds from one sample to the next.
        stride: Samples from one window to the next.
    """
    labels = np.concatenate([session.window_labels for session in sessions])
    scores = np.concatenate([session.score for session in sessions])
    above = scores > threshold
    hits, positives, windows = int((above & labels).sum()), int(labels.sum()), len(labels)
    ranked = 0 < positives < windows
    outcomes = [_outcome(session, threshold, rules, window_length) for session in sessions]
    events = sum(outcome.events for outcome in outcomes)
    false_alarms = sum(outcome.false_alarms for outcome in outcomes)
    normal_days = sum(outcome.normal_windows for outcome in outcomes) * stride * period_s / SECONDS_PER_DAY
    inside = [outcome.first_inside for outcome in outcomes if outcome.events]
    delays = [delay for outcome in outcomes for delay in outcome.delays]
    return Metrics(
        roc_auc=float(roc_auc_score(labels, scores)) if ranked else None,
        average_precision=float(average_precision_score(labels, scores)) if ranked else None,
        vus_pr=_pooled_vus_pr(sessions, labels, scores, window_length // stride) if ranked else None,
        f1=_share(2 * hits, above.sum() + positives) if positives else None,
        far=_share(above.sum() - hits, windows - positives),
        mar=_share(positives - hits, positives),
        precision=_share(hits, above.sum()) if positives else None,
        recall=_share(hits, positives),
        events=events,
        event_recall=_share(sum(outcome.detected for outcome in outcomes), events),
        first_alarm_inside=_share(sum(inside), len(inside)),
        mean_delay_s=float(np.mean(delays)) * period_s if delays else None,
        false_alarms=false_alarms,
        false_alarms_per_day=_share(false_alarms, normal_days),
        normal_days=normal_days,
        windows=windows,
        positive_share=_share(positives, windows),
    )


def alarm_states(session: ScoredSession, *, threshold: float, rules: AlarmRules) -> NDArray[np.bool_]:
    """(windows,) True where an alarm is active after the window, as the agent's alarm stage decides it."""
    alarm = Alarm(rules, threshold=threshold)
    states = np.zeros(len(session.score), np.bool_)
    for i, (score, after_break) in enumerate(zip(session.score.tolist(), session.after_break.tolist(), strict=True)):
        if after_break:
            alarm.interrupt()
        alarm.push(score)
        states[i] = alarm.active
    return states


def alarms(session: ScoredSession, *, threshold: float, rules: AlarmRules) -> list[tuple[int, int | None]]:
    """The row at which each alarm is raised and the row at which it is cleared; None when the session ends before."""
    active = runs(alarm_states(session, threshold=threshold, rules=rules))
    rows = [*session.rows.tolist(), None]
    return [(rows[first], rows[stop]) for first, stop in active.tolist()]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What the alarm stage made of one session; `delays` in samples."""

    events: int
    detected: int
    delays: list[int]
    first_inside: bool
    false_alarms: int
    normal_windows: int


def _outcome(session: ScoredSession, threshold: float, rules: AlarmRules, window_length: int) -> _Outcome:
    states = alarm_states(session, threshold=threshold, rules=rules)
    raised = runs(states)[:, 0]
    labelled = _holds_label(session, window_length)
    events = _events(session, window_length)
    detected, delays = 0, []
    for row, first, stop in events:
        detected += bool(states[first:stop].any())
        at = raised[(raised >= first) & (raised < stop)]
        delays += [int(session.rows[at[0]]) - row] if len(at) else []
    return _Outcome(
        events=len(events),
        detected=detected,
        delays=delays,
        first_inside=bool(labelled[raised[:1]].any()),
        false_alarms=int((~labelled[raised]).sum()),
        normal_windows=int((~labelled).sum()),
    )


def _events(session: ScoredSession, window_length: int) -> list[tuple[int, int, int]]:
    """Each event's first row, and the first window that overlaps it and the one after the last."""
    labelled = runs(session.labels)
    first = np.searchsorted(session.rows, labelled[:, 0])
    stop = np.searchsorted(session.rows - window_length + 1, labelled[:, 1])
    scored = first < stop
    return list(zip(labelled[scored, 0].tolist(), first[scored].tolist(), stop[scored].tolist(), strict=True))


def _holds_label(session: ScoredSession, window_length: int) -> NDArray[np.bool_]:
    """(windows,) True where any row of the window is labelled."""
    labelled_before = np.concatenate([[0], np.cumsum(session.labels)])
    first = np.maximum(session.rows - window_length + 1, 0)
    return np.asarray(labelled_before[session.rows + 1] > labelled_before[first], dtype=np.bool_)


def _pooled_vus_pr(
    sessions: Sequence[ScoredSession], labels: NDArray[np.bool_], scores: FloatArray, max_buffer: int
) -> float:
    """One ranking over all sessions, so that a session without an event still costs precision where it scores high."""
    joints: list[int] = []
    at = 0
    for session in sessions:
        joints += [at, *(at + np.flatnonzero(session.after_break)).tolist()] if len(session.rows) else []
        at += len(session.rows)
    return vus_pr(labels, scores, max_buffer=max_buffer, joints=joints)


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None
