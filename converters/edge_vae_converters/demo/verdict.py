"""What the subscriber received, beside the labels: which events were missed, which alarms were false."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from edge_vae.clock import parse_time
from edge_vae.sample import FloatArray
from edge_vae_converters.demo.plan import WatchedFile
from edge_vae_converters.demo.subscriber import Received
from edge_vae_train.data import Columns
from edge_vae_train.evaluation import Evaluation
from edge_vae_train.metrics import ScoredSession
from edge_vae_train.scoring import read_for
from edge_vae_train.vus import runs

__all__ = ["Verdict", "Watched", "judge", "watched"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One replayed file as the evaluation scored it; where it holds several sessions, they follow each other.

    Attributes:
        asset: The name that its events carry.
        rows: (windows,) row of each window's last sample.
        score: (windows,) higher is worse.
        labels: (samples,) True where a row is labelled anomalous.
        times: (samples,) seconds since 1970; NaN without times.
        values: (samples, channels) in sensor units.
        length: Samples in a window.
        period_s: Seconds from one sample to the next.
    """

    asset: str
    rows: NDArray[np.int64]
    score: FloatArray
    labels: NDArray[np.bool_]
    times: FloatArray
    values: FloatArray
    length: int
    period_s: float

    @property
    def seconds(self) -> float:
        """How long it takes to replay as recorded."""
        timed = self.times[np.isfinite(self.times)]
        return float(timed[-1] - timed[0]) if len(timed) else len(self.times) * self.period_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The events of one asset, held against its labels.

    Attributes:
        watched: The file.
        raised: Alarms received, each with the index of the window that raised it.
        cleared: Ends of alarms received, in the same way.
        labelled: Labelled stretches of which some window holds a row.
        missed: Those of them in which no window raised an alarm.
        false_alarms: Alarms raised by a window without a labelled row.
        delays_s: For each stretch that was found, from its first row to the last row of the first window that raised.
    """

    watched: Watched
    raised: tuple[tuple[int, Received], ...]
    cleared: tuple[tuple[int, Received], ...]
    labelled: int
    missed: int
    false_alarms: int
    delays_s: tuple[float, ...]


def watched(evaluation: Evaluation, files: Sequence[WatchedFile], columns: Columns) -> list[Watched]:
    """The files of an evaluation, one by one.

    Args:
        evaluation: Of just these files, in this order.
        files: Names of the assets.
        columns: As the evaluation read them.
    """
    sessions = iter(evaluation.rows[0].sessions)
    return [_watched(evaluation, sessions, file, columns) for file in files]


def judge(watched: Watched, events: Sequence[Received]) -> Verdict:
    """The verdict on one asset's events, which are in the order in which they happened."""
    placed = list(zip(_windows(watched, events), events, strict=True))
    raised = tuple((window, received) for window, received in placed if received.event.event == "raised")
    spans = [(watched.rows[window] - watched.length + 1, watched.rows[window] + 1) for window, _ in raised]
    stretches = [run for run in runs(watched.labels).tolist() if _is_scored(watched, *run)]
    found = [next((stop for first, stop in spans if first < end and stop > start), None) for start, end in stretches]
    return Verdict(
        watched=watched,
        raised=raised,
        cleared=tuple((window, received) for window, received in placed if received.event.event == "cleared"),
        labelled=len(stretches),
        missed=found.count(None),
        false_alarms=sum(not watched.labels[max(first, 0) : stop].any() for first, stop in spans),
        delays_s=tuple(
            max(float(stop - 1 - start), 0.0) * watched.period_s
            for (start, _), stop in zip(stretches, found, strict=True)
            if stop is not None
        ),
    )


def _watched(evaluation: Evaluation, scored: Iterator[ScoredSession], file: WatchedFile, columns: Columns) -> Watched:
    detector = evaluation.subject.detector
    recorded = read_for(detector, [file.path], columns).sessions
    parts = list(islice(scored, len(recorded)))
    offsets = np.cumsum([0, *(len(session.values) for session in recorded)])
    return Watched(
        asset=file.asset,
        rows=np.concatenate([part.rows + offset for part, offset in zip(parts, offsets, strict=False)]),
        score=np.concatenate([part.score for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        times=np.concatenate([session.times for session in recorded]),
        values=np.concatenate([session.values for session in recorded]),
        length=detector.manifest.window.length,
        period_s=detector.manifest.period_s,
    )


def _windows(watched: Watched, events: Sequence[Received]) -> Iterator[int]:
    """The window that each event tells of: by its last sample's time or, without times, the next one with its score."""
    ends, after = watched.times[watched.rows], 0
    for received in events:
        event = received.event
        if event.window is not None:
            yield int(np.nanargmin(np.abs(ends - parse_time(event.window.end))))
        else:
            after += int(np.argmin(np.abs(watched.score[after:] - (event.score or 0.0))))
            yield after


def _is_scored(watched: Watched, start: int, stop: int) -> bool:
    return bool(np.any((watched.rows >= start) & (watched.rows - watched.length + 1 < stop)))
