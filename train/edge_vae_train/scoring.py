"""Recorded data through the agent's own scoring path: whole sessions to scores, and to the CSV of `edge-vae score`."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import Bundle, Manifest
from edge_vae.detector import Detector, Explainer, Scorer
from edge_vae.detector import load as load_detector
from edge_vae.errors import DataError
from edge_vae.probe import expect_sound
from edge_vae.stream import Scored, Stream, join
from edge_vae_train import data as recorded
from edge_vae_train.data import Columns, Recording, Session
from edge_vae_train.judge import judge, keras_runtimes, manifest, principal_runtime, reference_thresholds, seen_by
from edge_vae_train.metrics import ScoredSession, alarm_states
from edge_vae_train.prepare import WindowSet
from edge_vae_train.run_folder import Run

__all__ = [
    "Subject",
    "Summary",
    "as_scored_session",
    "nothing_scored",
    "read_for",
    "score_session",
    "score_to_csv",
    "subject",
    "unscored",
]

_PIECE_ROWS = 8192
"""Rows pushed at once: enough to be fast, few enough that a long recording's windows never stand in memory together."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A run or a bundle that can score, and the arrays of its baselines."""

    name: str
    kind: str
    detector: Explainer
    reference: Mapping[str, NDArray[np.float32]]
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class Summary:
    """What `edge-vae score` did."""

    output: str
    sessions: int
    rows: int
    windows: int
    alarms: int
    threshold: float
    notes: tuple[str, ...]

    def line(self) -> str:
        """One line for people."""
        return (
            f"scored {self.windows} windows of {self.rows} rows in {self.sessions} sessions, "
            f"{self.alarms} of them in alarm (threshold {self.threshold:.3f}); wrote {self.output}"
        )

    def document(self) -> dict[str, object]:
        """The same for programs."""
        return {name: getattr(self, name) for name in self.__slots__}


def subject(path: Path) -> Subject:
    """The model in a run folder (float, in Keras) or in a bundle (as it runs on the device).

    Raises:
        DataError: The folder is not a run.
        BundleError: The file is not a whole bundle, or does not score here as it should.
    """
    if path.is_dir():
        run = Run.read(path)
        runtimes = keras_runtimes(run)
        wished = run.record.settings.calibration.false_alarms_per_day
        judged = judge(run, seen_by(run, runtimes, WindowSet.joined(run.held_out)), wished)
        float32 = Detector(manifest(run, judged, name=path.name), {**runtimes, **principal_runtime(run)})
        return Subject(str(path), "float32, Keras", float32, run.reference | reference_thresholds(run, wished), None)
    bundle = Bundle.read(path)
    expect_sound(bundle, path)
    detector = load_detector(bundle, path=str(path), threads=len(os.sched_getaffinity(0)))
    return Subject(str(path), bundle.manifest.precision, detector, bundle.reference, path.stat().st_size)


def read_for(scorer: Scorer, paths: Sequence[Path], columns: Columns) -> Recording:
    """The recording with the channels that the model needs, in its order; further columns are left out.

    Raises:
        DataError: A channel is missing, or the data has another rate than the model.
    """
    wanted = scorer.manifest
    modes = wanted.modes.columns if wanted.modes else ()
    chosen = Columns(columns.time, columns.label, wanted.channel_names, columns.ignore, modes, columns.rate_hz)
    return recorded.read(paths, chosen, model_rate_hz=wanted.rate_hz)


def score_session(stream: Stream, session: Session) -> Scored:
    """Every window of a session, scored piece by piece as on the device."""
    stream.start_session()
    return join(list(_scored_pieces(stream, session)))


def _scored_pieces(stream: Stream, session: Session) -> Iterator[Scored]:
    for at in range(0, max(len(session.values), 1), _PIECE_ROWS):
        piece = slice(at, at + _PIECE_ROWS)
        yield stream.push(session.columns[piece], session.times[piece])


def score_to_csv(bundle: Path, paths: Sequence[Path], columns: Columns, output: Path, *, stride: int | None) -> Summary:
    """Score data with a bundle or run and write one line a window.

    Columns: session, row (0-based, of the window's last sample), time of that sample, score, threshold, alarm (0 or 1
    after the alarm stage), and `share_<channel>` for each channel.

    Raises:
        DataError: The data does not fit the model, or no session is long enough for a window.
        BundleError: The bundle is not whole.
    """
    scorer = subject(bundle).detector
    recording = read_for(scorer, paths, columns)
    described = scorer.manifest
    stream = Stream(scorer, stride=stride)
    windows = alarms = 0
    notes = list(recording.notes)
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        shares = [f"share_{name}" for name in described.channel_names]
        writer.writerow(["session", "row", "time", "score", "threshold", "alarm", *shares])
        for session in recording.sessions:
            scored = score_session(stream, session)
            states = alarm_states(
                as_scored_session(session, scored), threshold=described.threshold.value, rules=described.alarm
            )
            writer.writerows(_lines(session.name, scored, states, described.threshold.value))
            windows += len(scored.rows)
            notes += [] if len(scored.rows) else [unscored(session, described)]
            alarms += int(states.sum())
    if not windows:
        raise nothing_scored(recording, described, str(paths[0]))
    threshold = described.threshold.value
    return Summary(str(output), len(recording.sessions), recording.samples, windows, alarms, threshold, tuple(notes))


def unscored(session: Session, manifest: Manifest) -> str:
    """The note on a session that is too short to be scored."""
    usable = int(np.isfinite(session.values).all(axis=1).sum())
    return f"{session.name}: not scored, its {usable} usable rows hold no {_needed(manifest)}"


def nothing_scored(recording: Recording, manifest: Manifest, file: str) -> DataError:
    """The error when no session of a recording gives a single window."""
    longest = max(len(session.values) for session in recording.sessions)
    return DataError(
        "nothing can be scored",
        file=file,
        expected=f"a session that holds a {_needed(manifest)}",
        received=f"{len(recording.sessions)} sessions, the longest with {longest} rows",
        action="Give longer recordings.",
    )


def _needed(manifest: Manifest) -> str:
    baseline = f"baseline of {manifest.baseline} rows and then a " if manifest.baseline else ""
    return f"{baseline}window of {manifest.window.length} rows without a break"


def as_scored_session(session: Session, scored: Scored) -> ScoredSession:
    """The session as metrics see it; rows without a label column are normal."""
    labels = np.zeros(len(session.values), np.bool_) if session.labels is None else session.labels
    return ScoredSession(rows=scored.rows, score=scored.score, labels=labels, after_break=scored.after_break)


def _lines(name: str, scored: Scored, states: NDArray[np.bool_], threshold: float) -> Iterator[list[object]]:
    for i, row in enumerate(scored.rows):
        shares = [f"{share:.4f}" for share in scored.shares[i]]
        yield [
            name,
            int(row),
            _time(scored.ends[i]),
            f"{scored.score[i]:.6g}",
            f"{threshold:.6g}",
            int(states[i]),
            *shares,
        ]


def _time(seconds: float) -> str:
    if not np.isfinite(seconds):
        return ""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
