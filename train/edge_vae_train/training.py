"""Recorded data to a run folder: prepare, fit, keep what conversion and evaluation need."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import PCA_VIEW, Training
from edge_vae.sample import FloatArray
from edge_vae.score import Term, needs_model, view_of
from edge_vae.view import View
from edge_vae_train import fit as fitting
from edge_vae_train import models, plots, shift
from edge_vae_train.clean import cleaned
from edge_vae_train.data import Recording
from edge_vae_train.described import described
from edge_vae_train.finetune import Origin, expect_gain
from edge_vae_train.interrupt import answer, held
from edge_vae_train.lesson import Lesson, Trained
from edge_vae_train.mahalanobis import featured, fit_level, fit_mahalanobis
from edge_vae_train.prepare import Prepared, WindowSet, prepare
from edge_vae_train.principal import fit_principal, principal_statistic
from edge_vae_train.reference import fit_pca
from edge_vae_train.run_folder import FORMAT, Run, RunRecord
from edge_vae_train.settings import Settings
from edge_vae_train.views import CLIP, chunks, fit_view

__all__ = ["CALIBRATION_WINDOWS", "CLOSED_FORM_WINDOWS", "closed_forms", "now", "train"]

CALIBRATION_WINDOWS = 400
CLOSED_FORM_WINDOWS = 20_000
"""What is solved, not trained, is fitted on at most so many windows: more would cost memory and move no digit that
counts."""

Progress = Callable[[str, int, int, float, float], None]
"""Called after each epoch: view, epoch, epochs, training loss, held-out loss."""

_GAUSSIANS = {"features.level": fit_level, "features.mahalanobis": fit_mahalanobis}
"""Terms that are Gaussians of the features."""
CLEANING = "cleaning"
"""What progress calls the first training that finds the worst windows."""


@held()
def train(
    recording: Recording, settings: Settings, folder: Path, *, progress: Progress, origin: Origin | None = None
) -> tuple[Run, shift.Shift]:
    """A trained run, written to `folder`, and the shift between the sessions of normal data.

    Args:
        recording: Normal data.
        settings: What to train and how; with an origin, its settings, perhaps with other epochs or seed.
        folder: The run folder to write.
        progress: Called after each epoch.
        origin: A model of another machine that is fine-tuned; without one, training starts from nothing.

    Raises:
        TrainingError: There is too little normal data, or fine-tuning did not make the origin's models better.
        DataError: The origin's models cannot be read.
    """
    seed = settings.training.seed
    fitting.deterministic(seed)
    prepared = _prepared(recording, settings, progress)
    if origin is not None:
        origin.expect_modes(prepared.modes)
    answer()
    names = settings.terms(len(recording.channels))
    training, held_out = prepared.training, WindowSet.joined(prepared.held_out)
    normal = len(training) + len(held_out) + len(prepared.between)
    wanted = dict.fromkeys(name for name in map(view_of, names) if name is not None)
    views = {name: fit_view(name, training, normal=normal) for name in wanted}
    modelled = {view_of(term) for term in names if needs_model(term)}
    lesson = Lesson(settings, training, held_out)
    trained = {
        name: lesson.learned(view, origin=origin, progress=partial(progress, name))
        for name, view in views.items()
        if name in modelled
    }
    if origin is not None:
        expect_gain({name: one.gain for name, one in trained.items() if one.gain is not None})
    answer()
    terms, known, reference = closed_forms(names, views, prepared, seed=seed)
    found = shift.measure(prepared.sessions, recording.channels)
    chosen = np.random.default_rng(seed).permutation(len(training))[:CALIBRATION_WINDOWS]
    run = Run(
        folder=folder,
        record=_record(recording, settings, prepared, views, terms, trained, found, origin),
        held_out=prepared.held_out,
        calibration=training[np.sort(chosen)],
        known={name: statistic.astype(np.float32) for name, statistic in known.items()},
        reference=reference,
    )
    answer()
    run.write({name: models.scoring_graph(one.fitted.vae) for name, one in trained.items()})
    plots.loss({name: (one.fitted.history, one.fitted.kept_epoch) for name, one in trained.items()}, folder)
    return run, found


def _prepared(recording: Recording, settings: Settings, progress: Progress) -> Prepared:
    prepared = prepare(
        recording,
        length=settings.window.length,
        stride=settings.window.stride,
        baseline=settings.baseline.samples,
        robust=settings.data.scaling == "robust",
    )
    return cleaned(prepared, settings, clip=CLIP, progress=partial(progress, CLEANING))


def closed_forms(
    names: Sequence[str], views: Mapping[str, View], prepared: Prepared, *, seed: int
) -> tuple[list[Term], dict[str, FloatArray], dict[str, NDArray[Any]]]:
    """The terms with what is solved of them, statistics of the held-out windows by term, and what a bundle refers to.

    A statistic comes from a fit without the held-out windows; what ships is fitted with them.
    """
    solved: dict[str, Term] = {}
    known: dict[str, FloatArray] = {}
    held_out = WindowSet.joined(prepared.held_out)
    training = prepared.training
    some = _at_most(CLOSED_FORM_WINDOWS, [training], np.arange(len(training)), seed=seed)
    every = _at_most(CLOSED_FORM_WINDOWS, [training, held_out, prepared.between], prepared.order, seed=seed)
    reference: dict[str, NDArray[Any]] = {**fit_pca(some.windows, held_out.windows, seed=seed)}
    if PCA_VIEW in names:
        view = views[PCA_VIEW]
        axes = fit_principal(view, some, clip=CLIP, seed=seed)
        known[PCA_VIEW] = np.concatenate([principal_statistic(view, axes, part) for _, part in chunks(held_out)])
        reference |= fit_principal(view, every, clip=CLIP, seed=seed)
    gaussians = [name for name in names if name in _GAUSSIANS]
    if gaussians:
        before, unknown, everything = (featured(views["features"], windows) for windows in (some, held_out, every))
        for name in gaussians:
            solved[name], known[name] = _GAUSSIANS[name](before, unknown, every=everything)
    return [solved.get(name, Term(name)) for name in names], known, reference


def _at_most(count: int, parts: Sequence[WindowSet], order: NDArray[np.intp], *, seed: int) -> WindowSet:
    """All windows of the joined parts in this order, or where they are more than `count`, so many drawn from them."""
    if len(order) > count:
        order = order[np.sort(np.random.default_rng(seed).choice(len(order), count, replace=False))]
    drawn = np.zeros(sum(map(len, parts)), np.bool_)
    drawn[order] = True
    ends = np.cumsum([0, *map(len, parts)])
    chosen = WindowSet.joined([part[drawn[first:end]] for part, first, end in zip(parts, ends, ends[1:], strict=False)])
    return chosen[(np.cumsum(drawn) - 1)[order]]


def _record(
    recording: Recording,
    settings: Settings,
    prepared: Prepared,
    views: Mapping[str, View],
    terms: Sequence[Term],
    trained: Mapping[str, Trained],
    found: shift.Shift,
    origin: Origin | None,
) -> RunRecord:
    start = [] if origin is None else [f"fine-tuned from {origin.told}"]
    notes = [*recording.notes, *start, *prepared.notes, *(note for one in trained.values() for note in one.notes)]
    return RunRecord(
        format=FORMAT,
        created=now(),
        settings=settings,
        channels=described(recording, prepared.scaler),
        rate_hz=recording.rate_hz,
        clip=CLIP,
        modes=prepared.modes,
        views=tuple(trained[name].view if name in trained else view for name, view in views.items()),
        terms=tuple(terms),
        training=Training(
            seed=settings.training.seed,
            sessions=len(prepared.sessions),
            samples=sum(len(rows) for rows in prepared.sessions),
            windows=len(prepared.training),
            held_out_windows=sum(len(block) for block in prepared.held_out),
            fits={name: one.fit for name, one in trained.items()},
        ),
        shift=found.ratios,
        notes=tuple(notes),
    )


def now() -> str:
    """Time of the end of training; `SOURCE_DATE_EPOCH` (reproducible-builds.org) replaces it for equal bytes."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    at = datetime.fromtimestamp(int(seconds), timezone.utc) if seconds else datetime.now(timezone.utc)
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
