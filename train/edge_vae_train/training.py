"""Recorded data to a run folder: prepare, fit, keep what conversion and evaluation need."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import PCA_VIEW, Channel, Fit, Training
from edge_vae.features import features
from edge_vae.sample import FloatArray
from edge_vae.score import Term, needs_model, view_of
from edge_vae.view import LIMIT_SIGMA, Rows, View, to_rows
from edge_vae_train import fit as fitting
from edge_vae_train import models, plots, shift
from edge_vae_train.clean import cleaned
from edge_vae_train.data import Recording
from edge_vae_train.finetune import Gain, Origin, expect_gain
from edge_vae_train.mahalanobis import fit_mahalanobis
from edge_vae_train.prepare import Prepared, WindowSet, prepare
from edge_vae_train.principal import fit_principal, lag, principal_statistic
from edge_vae_train.reference import fit_pca
from edge_vae_train.run_folder import FORMAT, Run, RunRecord
from edge_vae_train.settings import Settings

__all__ = ["CLIP", "train"]

CLIP = 8.0
"""Scaled samples are clipped to plus and minus this before the model sees them: int8 has 256 steps for it all."""

CALIBRATION_WINDOWS = 400

Progress = Callable[[str, int, int, float, float], None]
"""Called after each epoch: view, epoch, epochs, training loss, held-out loss."""

_FAMILIES = {"features": "dense"}
"""Families that do not follow `[model]`: features have no order in time."""
_FEATURE_SCALE_FLOOR = 1e-3
WINDOW_VARIANCE_FLOOR = 0.05
"""Of the samples' decoder variance in squared sigmas: a slow channel that a model follows to a hundredth of a sigma
must not decide the score with its drift (SKAB with a baseline, ROC-AUC of `window.nll` 0.928 without, 0.936 with)."""
_MODE_PRIOR_WINDOWS = 10.0
"""The spread of a mode's features is taken as if so many further windows had shown the spread of all modes."""
MAHALANOBIS = "features.mahalanobis"
CLEANING = "cleaning"
"""What progress calls the first training that finds the worst windows."""


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
    prepared = prepare(
        recording,
        length=settings.window.length,
        stride=settings.window.stride,
        baseline=settings.baseline.samples,
        robust=settings.data.scaling == "robust",
    )
    prepared = cleaned(prepared, settings, clip=CLIP, progress=partial(progress, CLEANING))
    names = settings.terms(len(recording.channels))
    training, held_out = prepared.training, WindowSet.joined(prepared.held_out)
    everything = WindowSet.joined([training, held_out])
    views = {name: _view(name, training) for name in dict.fromkeys(map(view_of, names)) if name is not None}
    modelled = {view_of(term) for term in names if needs_model(term)}
    if origin is not None:
        origin.expect_modes(prepared.modes)
    fit = _trained if origin is None else partial(_tuned, origin=origin)
    trained = {
        name: fit(view, settings=settings, training=training, held_out=held_out, progress=partial(progress, name))
        for name, view in views.items()
        if name in modelled
    }
    if origin is not None:
        expect_gain({name: one.gain for name, one in trained.items() if one.gain is not None})
    reference = fit_pca(training.windows, held_out.windows, seed=seed)
    known = {}
    if PCA_VIEW in names:
        view = views[PCA_VIEW]
        before = fit_principal(view, training, clip=CLIP, seed=seed)
        known[PCA_VIEW] = principal_statistic(view, before, held_out, clip=CLIP)
        reference |= fit_principal(view, everything, clip=CLIP, seed=seed)
    drafts = [Term(name) for name in names]
    if MAHALANOBIS in names:
        term, known[MAHALANOBIS] = fit_mahalanobis(views["features"], training, held_out)
        drafts = [term if draft.name == MAHALANOBIS else draft for draft in drafts]
    found = shift.measure(prepared.sessions, recording.channels)
    chosen = np.random.default_rng(seed).permutation(len(training))[:CALIBRATION_WINDOWS]
    run = Run(
        folder=folder,
        record=_record(recording, settings, prepared, views, drafts, trained, found, origin),
        held_out=prepared.held_out,
        calibration=training[np.sort(chosen)],
        known={name: statistic.astype(np.float32) for name, statistic in known.items()},
        reference=reference,
    )
    run.write({name: models.scoring_graph(one.fitted.vae) for name, one in trained.items()})
    plots.loss({name: (one.fitted.history, one.fitted.kept_epoch) for name, one in trained.items()}, folder)
    return run, found


@dataclass(frozen=True, slots=True)
class _Trained:
    """A view, the model that was trained for it, how, and what is to be told of it."""

    view: View
    fitted: fitting.Fitted
    notes: tuple[str, ...]
    gain: Gain | None = None


def _view(name: str, training: WindowSet) -> View:
    _, length, channels = training.windows.shape
    unit = ((1.0,) * channels,)
    if name == "features":
        return _features_view(training, unit)
    lagged = lag(len(training), length=length, channels=channels) if name == PCA_VIEW else 0
    return View(name, "window", (), (), unit, lagged, (), None)


def _targets(view: View, windows: WindowSet) -> NDArray[np.float32]:
    return np.clip(view.target(windows.windows.astype(np.float64), windows.conditions), -CLIP, CLIP).astype(np.float32)


def _trained(
    view: View, settings: Settings, training: WindowSet, held_out: WindowSet, progress: fitting.Progress
) -> _Trained:
    targets = [_targets(view, windows) for windows in (training, held_out)]
    family = _FAMILIES.get(view.name, settings.model.family)
    wanted = models.Architecture(
        length=targets[0].shape[1],
        channels=targets[0].shape[2],
        family=family,
        latent=settings.model.latent,
        width=models.width(view.name),
        modes=training.conditions.shape[1],
    )
    fitted = fitting.fit(
        wanted,
        *targets,
        conditions=(training.conditions, held_out.conditions),
        beta=settings.beta,
        epochs=settings.training.epochs,
        batch_size=settings.training.batch_size,
        seed=settings.training.seed,
        progress=progress,
        masked=settings.training.masked,
        per_step_variance=view.input == "features",
    )
    return _Trained(_learned(view, fitted), fitted, _fit_notes(view.name, fitted))


def _tuned(
    view: View,
    origin: Origin,
    settings: Settings,
    training: WindowSet,
    held_out: WindowSet,
    progress: fitting.Progress,
) -> _Trained:
    start = origin.model(view.name)
    fitted, after = fitting.tune(
        start.vae,
        *(_targets(view, windows) for windows in (training, held_out)),
        conditions=(training.conditions, held_out.conditions),
        beta=start.beta,
        epochs=settings.training.epochs,
        batch_size=settings.training.batch_size,
        seed=settings.training.seed,
        progress=progress,
        masked=settings.training.masked,
        per_step_variance=view.input == "features",
    )
    gain = Gain(before=fitted.history[0][1], after=after)
    return _Trained(_learned(view, fitted), fitted, (*_fit_notes(view.name, fitted), gain.told(view.name)), gain)


def _learned(view: View, fitted: fitting.Fitted) -> View:
    floor = WINDOW_VARIANCE_FLOOR if view.input == "window" else 0.0
    return msgspec.structs.replace(view, variance=to_rows(np.maximum(fitted.variance, floor)))


def _features_view(training: WindowSet, variance: Rows) -> View:
    """The view of the features, which are centred and scaled on the training windows, in each mode by itself.

    The spread of a mode with few windows leans on that of all modes.
    """
    raw = features(np.clip(training.windows.astype(np.float64), -LIMIT_SIGMA, LIMIT_SIGMA))
    conditions, mode = np.unique(training.conditions, axis=0, return_inverse=True)
    groups = [raw[mode.ravel() == i] for i in range(len(conditions))]
    variances = np.array([group.var(axis=0) for group in groups])
    weights = np.array([len(group) for group in groups])[:, None, None]
    pooled = (weights * variances).sum(axis=0) / len(raw)
    variances = (weights * variances + _MODE_PRIOR_WINDOWS * pooled) / (weights + _MODE_PRIOR_WINDOWS)
    centre = np.concatenate([group.mean(axis=0) for group in groups])
    scale = np.maximum(np.sqrt(np.concatenate(variances)), _FEATURE_SCALE_FLOOR)
    known = to_rows(conditions.astype(np.float64)) if conditions.shape[1] else ()
    return View("features", "features", to_rows(centre), to_rows(scale), variance, 0, known, None)


def _record(
    recording: Recording,
    settings: Settings,
    prepared: Prepared,
    views: Mapping[str, View],
    terms: Sequence[Term],
    trained: Mapping[str, _Trained],
    found: shift.Shift,
    origin: Origin | None,
) -> RunRecord:
    centre, scale = prepared.scaler.centre, prepared.scaler.scale
    start = [] if origin is None else [f"fine-tuned from {origin.told}"]
    notes = [*recording.notes, *start, *prepared.notes, *(note for one in trained.values() for note in one.notes)]
    return RunRecord(
        format=FORMAT,
        created=_now(),
        settings=settings,
        channels=tuple(map(Channel, recording.channels, _floats(centre), _floats(scale))),
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
            fits={name: _fit(t) for name, t in trained.items()},
        ),
        shift=found.ratios,
        notes=tuple(notes),
    )


def _fit(trained: _Trained) -> Fit:
    fitted = trained.fitted
    return Fit(
        family=fitted.vae.architecture.family,
        latent=fitted.vae.architecture.latent,
        active_units=fitted.active_units,
        beta=fitted.beta,
        retries=fitted.retries,
        epochs=len(fitted.history),
        loss=fitted.kept_losses[0],
        held_out_loss=fitted.kept_losses[1],
    )


def _fit_notes(name: str, fitted: fitting.Fitted) -> tuple[str, ...]:
    if not fitted.active_units:
        return (f"view {name}: no latent unit carries information even with beta {fitted.beta:g}: train longer",)
    if fitted.retries:
        return (f"view {name}: every latent unit fell silent, so it was trained again with beta {fitted.beta:g}",)
    return ()


def _floats(values: FloatArray) -> list[float]:
    return [float(v) for v in values]


def _now() -> str:
    """Time of the end of training; `SOURCE_DATE_EPOCH` (reproducible-builds.org) replaces it for equal bytes."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    at = datetime.fromtimestamp(int(seconds), timezone.utc) if seconds else datetime.now(timezone.utc)
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
