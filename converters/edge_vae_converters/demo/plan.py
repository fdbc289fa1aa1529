"""Which recordings the demo learns from, which it watches, and how."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_vae.errors import DataError
from edge_vae.sources.recording import recorded_files
from edge_vae_train.data import Columns
from edge_vae_train.datasets import SETS, locate
from edge_vae_train.recording import FAULTS
from edge_vae_train.settings import (
    BaselineSettings,
    CalibrationSettings,
    DataSettings,
    Settings,
    TrainingSettings,
    WindowSettings,
)
from edge_vae_train.simulate import LABEL, simulate

__all__ = ["Plan", "WatchedFile", "own", "rig", "skab"]

SKAB_WATCHED = "valve2"
ONE_AN_EXPERIMENT = 72.0
"""Wished false alarms a day: one in each of SKAB's experiments of 20 minutes."""
RIG_HEALTHY, RIG_RATE_HZ = 20, 2.0
"""Runs enough to meet most loads of the rig, and slow enough that a window of 16 s sees more than sensor noise."""
RIG_EPOCHS = 40
WATCHED_PART = 4
"""Of own files the last quarter is watched."""


@dataclass(frozen=True, slots=True)
class WatchedFile:
    """A recording that the agent replays, and the name of its asset."""

    asset: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to learn from and what to watch.

    Attributes:
        name: Of the bundle.
        what: The data, and where it came from, in a few words.
        rule: What of it is trained on and what is watched, in a sentence.
        train: Files and folders; labelled rows are left out.
        watch: Files of which no row is trained on.
        settings: As `edge-vae train` has them.
    """

    name: str
    what: str
    rule: str
    train: tuple[Path, ...]
    watch: tuple[WatchedFile, ...]
    settings: Settings

    @property
    def watched_paths(self) -> tuple[Path, ...]:
        """The watched files without their assets."""
        return tuple(file.path for file in self.watch)


def skab(*, epochs: int | None = None) -> Plan | None:
    """SKAB's pump rig, with all of `valve2` kept for watching; None when it is not on this machine."""
    folder = locate("skab")
    if folder is None:
        return None
    settings = Settings(
        data=DataSettings(label="anomaly", ignore=("changepoint",)),
        window=WindowSettings(length=32, stride=4),
        baseline=BaselineSettings(samples=400),
        training=_training(epochs),
        calibration=CalibrationSettings(false_alarms_per_day=ONE_AN_EXPERIMENT),
    )
    return Plan(
        name="skab",
        what=f"SKAB's pump rig, recorded on a real machine ({folder}, licence {SETS['skab'].licence})",
        rule="trained on the normal rows of anomaly-free and valve1; valve2, never trained on, is watched",
        train=(folder / "anomaly-free", folder / "valve1"),
        watch=_watched(recorded_files(folder / SKAB_WATCHED)),
        settings=settings,
    )


def rig(folder: Path, *, epochs: int | None = None, advance: Callable[[str], object] | None = None) -> Plan:
    """The simulated pump rig, written to a folder: healthy runs to learn from, and one with each fault to watch.

    Args:
        folder: An earlier simulation in it is replaced.
        epochs: At most so many.
        advance: Called with the name of each file once it is written.
    """
    simulate(folder, healthy=RIG_HEALTHY, rate_hz=RIG_RATE_HZ, force=True, advance=advance)
    settings = Settings(
        data=DataSettings(label=LABEL),
        window=WindowSettings(length=32, stride=8),
        training=_training(epochs or RIG_EPOCHS),
    )
    return Plan(
        name="rig",
        what=f"a simulated pump rig ({folder})",
        rule=f"trained on {RIG_HEALTHY} healthy runs; {len(FAULTS)} runs with one fault each are watched",
        train=(folder / "healthy",),
        watch=_watched(recorded_files(folder / "faulty")),
        settings=settings,
    )


def own(
    data: Sequence[Path],
    columns: Columns,
    *,
    window: WindowSettings | None = None,
    baseline: int = 0,
    epochs: int | None = None,
) -> Plan:
    """The user's own labelled files: the last quarter of them is watched, the others are trained on.

    Args:
        data: Files and folders.
        columns: What their columns mean.
        window: By default what `edge-vae train` takes.
        baseline: Samples that each session is re-centred on.
        epochs: At most so many.

    Raises:
        DataError: There are fewer than two files.
        SourceError: A path does not exist, or holds no recording.
    """
    files = list({file.resolve(): file for path in data for file in recorded_files(path)}.values())
    if len(files) == 1:
        raise DataError(
            "one file cannot be both trained on and watched",
            file=str(files[0]),
            expected="at least two files, of which the last quarter is watched",
            received="one",
            action="Give more files or their folder, or go step by step with edge-vae train, convert and score.",
        )
    count = max(1, len(files) // WATCHED_PART)
    train, watch = files[:-count], files[-count:]
    settings = Settings(
        data=DataSettings(label=columns.label, ignore=columns.ignore, time=columns.time, rate_hz=columns.rate_hz),
        window=window or WindowSettings(),
        baseline=BaselineSettings(samples=baseline),
        training=_training(epochs),
    )
    return Plan(
        name="data",
        what=f"{len(files)} files of your own",
        rule=f"trained on the normal rows of all but the last {count} of them, watched and never trained on",
        train=tuple(train),
        watch=_watched(watch),
        settings=settings,
    )


def _training(epochs: int | None) -> TrainingSettings:
    return TrainingSettings() if epochs is None else TrainingSettings(epochs=epochs)


def _watched(files: Sequence[Path]) -> tuple[WatchedFile, ...]:
    """Each file with an asset name of its own: its stem, and its folder where the stem is only a number."""
    named: dict[str, Path] = {}
    for file in files:
        stem = file.stem if re.search("[A-Za-z]", file.stem) else f"{file.absolute().parent.name}-{file.stem}"
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-") or "asset"
        while name in named:
            name = f"{name}-{len(named) + 1}"
        named[name] = file
    return tuple(WatchedFile(asset, file) for asset, file in named.items())
