"""Sessions to training and held-out windows, by the device's own rules for baselines, segments and windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import Modes
from edge_vae.errors import TrainingError
from edge_vae.sample import FloatArray
from edge_vae.scale import MAD_TO_SIGMA, Baseline, Scaler, trimmed_mean
from edge_vae.view import to_rows
from edge_vae.window import overlap, segment_starts, sliding
from edge_vae_train.data import Recording, Session

__all__ = ["Prepared", "WindowSet", "normal_rows", "prepare"]

HELD_OUT_EVERY = 5
"""Every fifth block of windows is held out, so they come from all sessions and times."""
_BLOCKS_WANTED = 10
_GAPS_PER_BLOCK = 10
_FEW_GAPS = 50
"""Data with fewer separate windows than this is little."""
_MANY_SESSIONS = 10
"""With so many sessions whole ones are held out: two of them, or more, say what another day looks like."""
_WHOLE_SHARE = (0.1, 0.3)
"""Least and largest part of the windows that whole sessions may take: about a fifth, as blocks do."""
_CONSTANT = 1e-9
"""A spread below this part of the channel's magnitude is rounding, not signal."""

Windows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class WindowSet:
    """Windows (windows, length, channels), scaled and unclipped, and their conditions (windows, conditions)."""

    windows: Windows
    conditions: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, chosen: slice | NDArray[np.intp] | NDArray[np.bool_]) -> WindowSet:
        return WindowSet(self.windows[chosen], self.conditions[chosen])

    @classmethod
    def joined(cls, parts: Sequence[WindowSet]) -> WindowSet:
        """All windows of at least one part, in order."""
        return cls(np.concatenate([p.windows for p in parts]), np.concatenate([p.conditions for p in parts]))


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a model is trained and calibrated on.

    Attributes:
        scaler: The model's scaler; of all modes together where there are modes.
        modes: The operating modes with a scaler each; None without mode columns.
        training: Windows to train on.
        held_out: Blocks of consecutive windows, at least one window away from training.
        between: The windows in that distance, for what is fitted on all normal data in the end.
        order: (windows,) puts training, held-out blocks and what is between them, joined, in order of time.
        sessions: Scaled normal rows of each session that the windows came from, for the report on their shift.
        notes: What was left out, and why.
    """

    scaler: Scaler
    modes: Modes | None
    training: WindowSet
    held_out: tuple[WindowSet, ...]
    between: WindowSet
    order: NDArray[np.intp]
    sessions: tuple[FloatArray, ...]
    notes: tuple[str, ...]


def prepare(recording: Recording, *, length: int, stride: int, baseline: int, robust: bool = False) -> Prepared:
    """Windows of the normal rows. A change of the operating mode counts as the end of a session.

    Args:
        recording: What was recorded.
        length: Samples in a window.
        stride: Samples from one window to the next.
        baseline: Samples that each session is re-centred on; 0: none is.
        robust: Whether channels are scaled by median and median absolute deviation, not mean and standard deviation.

    Raises:
        TrainingError: No session is long enough, or there are too few windows to train on some and hold out others.
    """
    notes: list[str] = []
    sessions = [run for session in recording.sessions for run in _mode_runs(session, notes)]
    healthy = [s for s in sessions if _starts_healthy(s, length=length, baseline=baseline, notes=notes)]
    if not healthy:
        raise _too_short(recording, length, baseline)
    scaler = _fit_scaler(healthy, recording.channels, baseline, notes, robust=robust)
    modes = _fit_modes(healthy, recording, baseline, robust=robust) if recording.mode_columns else None
    numbers = [0 if modes is None else int(modes.find(_mode(s))[0]) for s in healthy]
    conditions = np.zeros((1, 0), np.float32) if modes is None else modes.conditions
    scalers = [scaler if modes is None else modes.scaler(number) for number in numbers]
    scaled = [_scaled(session, own, baseline) for session, own in zip(healthy, scalers, strict=True)]
    period_s = 1.0 / recording.rate_hz
    windows, scored_ones = [], []
    for session, rows, number in zip(healthy, scaled, numbers, strict=True):
        found, scored = _session_windows(
            session, rows, length=length, stride=stride, baseline=baseline, period_s=period_s
        )
        windows.append(WindowSet(found, np.repeat(conditions[[number]], len(found), axis=0)))
        scored_ones.append(scored)
    # A baseline takes the difference between sessions away, and a mode has few of them.
    differ = not baseline and modes is None
    split = _split(scored_ones, gap=math.ceil(overlap(length, stride)), sessions_differ=differ)
    if not len(split.training) or not split.held_out:
        raise _too_short(recording, length, baseline)
    every = WindowSet.joined(windows)
    training, between = every[split.training], every[split.between]
    held_out = tuple(every[block] for block in split.held_out)
    order = np.argsort(np.concatenate([split.training, *split.held_out, split.between]))
    normal = tuple(rows[normal_rows(session)] for session, rows in zip(healthy, scaled, strict=True))
    return Prepared(scaler, modes, training, held_out, between, order, normal, tuple(notes))


def _mode_runs(session: Session, notes: list[str]) -> list[Session]:
    """The stretches of a session in which its mode does not change; a row whose mode is missing has no readings."""
    if session.modes is None:
        return [session]
    known = np.asarray(np.isfinite(session.modes).all(axis=1))
    if not known.all():
        notes.append(f"{session.name}: {np.count_nonzero(~known)} rows without an operating mode are left out")
    if not known.any():
        return []
    modes = session.modes[np.maximum.accumulate(np.where(known, np.arange(len(known)), known.argmax()))]
    values = np.where(known[:, None], session.values, np.nan)
    edges = [0, *(np.flatnonzero((np.diff(modes, axis=0) != 0).any(axis=1)) + 1), len(modes)]
    return [
        Session(
            session.name, values[run], session.times[run],
            None if session.labels is None else session.labels[run], modes[run],
        )
        for run in (slice(at, end) for at, end in pairwise(edges))
    ]  # fmt: skip


def _mode(session: Session) -> FloatArray:
    """(1, mode columns) the one mode of a run."""
    return np.empty((1, 0)) if session.modes is None else session.modes[:1]


def _fit_modes(sessions: list[Session], recording: Recording, baseline: int, *, robust: bool) -> Modes:
    """The modes of the sessions, in rising order, each with the scaler of its own rows."""
    own = np.concatenate([_mode(session) for session in sessions])
    values, which = np.unique(own, axis=0, return_inverse=True)
    scalers = [
        _fit_scaler(
            [s for s, w in zip(sessions, which.ravel(), strict=True) if w == mode], (), baseline, [], robust=robust
        )
        for mode in range(len(values))
    ]
    return Modes(
        recording.mode_columns,
        to_rows(values),
        to_rows(np.array([scaler.centre for scaler in scalers])),
        to_rows(np.array([scaler.scale for scaler in scalers])),
    )


def _finite(session: Session) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(session.values).all(axis=1))


def normal_rows(session: Session) -> NDArray[np.bool_]:
    """True for each row (rows,) that is whole and not labelled anomalous."""
    finite = _finite(session)
    return finite if session.labels is None else finite & ~session.labels


def _starts_healthy(session: Session, *, length: int, baseline: int, notes: list[str]) -> bool:
    """Whether the session can be used: it has normal rows, and a whole baseline without a row labelled anomalous."""
    rows = np.flatnonzero(_finite(session))
    if len(rows) < baseline + length:
        notes.append(
            f"{session.name}: left out, {len(rows)} usable rows are fewer than baseline {baseline} + window {length}"
        )
        return False
    if baseline and session.labels is not None and session.labels[rows[:baseline]].any():
        notes.append(f"{session.name}: left out, rows of its baseline are labelled anomalous")
        return False
    if (normal := np.count_nonzero(normal_rows(session))) < length:
        notes.append(f"{session.name}: left out, {normal} normal rows are fewer than window {length}")
        return False
    return True


def _fit_scaler(
    sessions: list[Session], channels: tuple[str, ...], baseline: int, notes: list[str], *, robust: bool
) -> Scaler:
    """Centre and spread of the normal rows.

    With a baseline, each session's rows are taken around its own centre, and every session counts alike: one long
    recording must not decide what a usual spread is.
    """
    normal = [session.values[normal_rows(session)] for session in sessions]
    if baseline:
        centres = np.array([trimmed_mean(s.values[_finite(s)][:baseline]) for s in sessions])
        around = [rows - own for rows, own in zip(normal, centres, strict=True)]
        centre = np.median(centres, axis=0) if robust else centres.mean(axis=0)
        scale = np.sqrt(np.mean([np.square(rows).mean(axis=0) for rows in around], axis=0))
        deviation = np.median([np.median(np.abs(rows), axis=0) for rows in around], axis=0)
    else:
        pooled = np.concatenate(normal)
        centre, scale = np.median(pooled, axis=0) if robust else pooled.mean(axis=0), pooled.std(axis=0)
        deviation = np.median(np.abs(pooled - centre), axis=0)
    limit = _CONSTANT * np.maximum(np.abs(centre), 1.0)
    constant = scale <= limit
    if robust:
        scale = _robust(scale, MAD_TO_SIGMA * deviation, still=limit, channels=channels, notes=notes)
    if constant.any():
        names = _named(channels, constant)
        notes.append(f"constant in normal data, so any change of it will count as a large one: {names}")
    floor = np.maximum(np.abs(centre), 1.0) * 1e-3
    return Scaler(centre, np.where(constant, floor, scale))


def _robust(
    scale: FloatArray, robust: FloatArray, *, still: FloatArray, channels: tuple[str, ...], notes: list[str]
) -> FloatArray:
    """The robust spread, but the standard deviation where more than half of the rows have one and the same value."""
    resting = (robust <= still) & (scale > still)
    if resting.any():
        names = _named(channels, resting)
        notes.append(f"at rest in more than half of the rows, so scaled by its standard deviation: {names}")
    return np.where(resting, scale, robust)


def _named(channels: tuple[str, ...], chosen: NDArray[np.bool_]) -> str:
    return ", ".join(name for name, is_chosen in zip(channels, chosen, strict=False) if is_chosen)


def _scaled(session: Session, scaler: Scaler, baseline: int) -> FloatArray:
    """All rows of the session as the device would scale them, those of the baseline included."""
    learned = Baseline(samples=baseline, model=scaler)
    learned.push(session.values[_finite(session)])
    return scaler(session.values) if learned.scaler is None else learned.scaler(session.values)


def _session_windows(
    session: Session, scaled: FloatArray, *, length: int, stride: int, baseline: int, period_s: float
) -> tuple[Windows, NDArray[np.bool_]]:
    """Windows of the normal rows, and for each whether the device would score it: no row is the baseline's."""
    normal = normal_rows(session)
    first_scored = int(np.flatnonzero(_finite(session))[baseline]) if baseline else 0
    edges = np.flatnonzero(segment_starts(session.times, normal, period_s=period_s) | _first(normal))
    windows, scored = [], []
    for at, end in zip(edges, [*edges[1:], len(normal)], strict=True):
        rows = at + np.flatnonzero(normal[at:end])
        found = sliding(scaled[rows], length=length, stride=stride).astype(np.float32)
        windows.append(found)
        scored.append(rows[0] + stride * np.arange(len(found)) >= first_scored)
    return np.concatenate(windows), np.concatenate(scored)


def _first(normal: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True at the first normal row alone."""
    first = np.zeros_like(normal)
    first[np.argmax(normal)] = normal.any()
    return first


class _Split(NamedTuple):
    """Which windows of all sessions, in order of time, train, are held out in blocks, or lie between."""

    training: NDArray[np.intp]
    held_out: tuple[NDArray[np.intp], ...]
    between: NDArray[np.intp]


def _split(sessions: list[NDArray[np.bool_]], *, gap: int, sessions_differ: bool) -> _Split:
    """Training windows, every fifth block of windows that the device would score, and what lies between.

    A block lies within one session. A training window is at least `gap` windows away from held-out ones of its session.
    Of little data the end is held out, in one piece: gaps on both sides of several blocks would cost more windows than
    the blocks hold. Of many sessions that differ every fifth is held out as a whole: a block beside training windows of
    its own session is more like them than the next day will be (docs/decisions/0034).

    Args:
        sessions: For each session, in order of time, which of its windows the device would score.
        gap: In windows.
        sessions_differ: Whether a session can be unlike those before it.
    """
    total = sum(int(scored.sum()) for scored in sessions)
    if total < _FEW_GAPS * gap:
        return _last_block_held_out(sessions, gap=gap, size=max(gap + 1, total // HELD_OUT_EVERY))
    size = max(gap + 1, min(_GAPS_PER_BLOCK * gap, total // _BLOCKS_WANTED))
    whole = _whole_sessions(sessions, gap=gap) if sessions_differ else frozenset()
    training, held_out, between, block, first = [], [], [], 0, 0
    for i, scored in enumerate(sessions):
        trained, near = np.ones(len(scored), np.bool_), np.zeros(len(scored), np.bool_)
        at = np.flatnonzero(scored)
        for piece in np.array_split(at, max(1, len(at) // size)) if len(at) else []:
            block += 1
            if i in whole or (not whole and block % HELD_OUT_EVERY == HELD_OUT_EVERY // 2 + 1):
                held_out.append(first + piece)
                around = slice(max(piece[0] - gap, 0), piece[-1] + gap + 1)
                near[around] = trained[around]
                trained[around] = near[piece] = False
        training.append(first + np.flatnonzero(trained))
        between.append(first + np.flatnonzero(near))
        first += len(scored)
    if not held_out and block > 1:
        return _last_block_held_out(sessions, gap=gap, size=size)
    return _Split(np.concatenate(training), tuple(held_out), np.concatenate(between))


def _whole_sessions(scored: list[NDArray[np.bool_]], *, gap: int) -> frozenset[int]:
    """Every fifth session that holds more than a window, where they are many; none where these are not about a fifth.

    One long session among short ones would take most of the data away from training, or leave hardly any held out.
    """
    sizes = np.array([np.count_nonzero(one) for one in scored])
    long = np.flatnonzero(sizes > gap)
    chosen = long[HELD_OUT_EVERY // 2 :: HELD_OUT_EVERY]
    least, most = _WHOLE_SHARE
    fits = len(long) >= _MANY_SESSIONS and least <= sizes[chosen].sum() / sizes.sum() <= most
    return frozenset(chosen.tolist()) if fits else frozenset()


def _last_block_held_out(sessions: list[NDArray[np.bool_]], *, gap: int, size: int) -> _Split:
    """The split of little data: the last `size` windows that the device would score are held out, a block a session.

    At most half of them, so that something is left to train on.
    """
    total, end = sum(int(scored.sum()) for scored in sessions), sum(map(len, sessions))
    if total < 2 * (gap + 1):
        return _Split(np.arange(end), (), np.arange(0))
    missing = min(size, total // 2)
    training, held_out, between = [], [], []
    for scored in reversed(sessions):
        start = end - len(scored)
        at = start + np.flatnonzero(scored)[-missing:] if missing else np.arange(0)
        missing -= len(at)
        if len(at):
            last, kept = int(at[0]), max(int(at[0]) - gap, start)
            held_out.append(np.arange(last, end))
            between.append(np.arange(kept, last))
            end = kept
        training.append(np.arange(start, end))
        end = start
    return _Split(np.concatenate(training[::-1]), tuple(held_out[::-1]), np.concatenate(between[::-1]))


def _too_short(recording: Recording, length: int, baseline: int) -> TrainingError:
    longest = max((len(s.values) for s in recording.sessions), default=0)
    after = f" after a baseline of {baseline}" if baseline else ""
    return TrainingError(
        f"too little normal data for windows of {length} samples",
        expected=f"sessions of several times {length} normal rows{after}, in at least two blocks",
        received=f"{len(recording.sessions)} sessions, the longest with {longest} rows",
        action="Give more data, or a smaller --window, --stride or --baseline.",
    )
