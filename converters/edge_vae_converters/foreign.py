"""Somebody's autoencoder and normal data to a run: all that conversion and calibration need, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import FOREIGN, Fit, Training
from edge_vae.errors import ModelError
from edge_vae.runtime import Runtime
from edge_vae.sample import FloatArray
from edge_vae.score import needs_model, view_of
from edge_vae.view import Seen, View, see, to_rows
from edge_vae_train import shift
from edge_vae_train.data import Recording
from edge_vae_train.described import described
from edge_vae_train.fit import ACTIVE_VARIANCE
from edge_vae_train.lesson import WINDOW_VARIANCE_FLOOR
from edge_vae_train.prepare import Prepared, WindowSet, prepare
from edge_vae_train.run_folder import FORMAT, Run, RunRecord
from edge_vae_train.settings import MANY_CHANNELS, Settings
from edge_vae_train.training import CALIBRATION_WINDOWS, CLOSED_FORM_WINDOWS, closed_forms, now
from edge_vae_train.views import CLIP, fit_view

__all__ = ["WINDOW", "default_terms", "expect_terms", "foreign_run", "prepared", "raw_rows", "tried_windows"]

WINDOW = "window"
"""The view of a model that was made elsewhere."""
_TRIED_WINDOWS = 256
_LATENT = ("window.kl", "window.t2")


def default_terms(channels: int) -> tuple[str, ...]:
    """What a bundle scores by when the user names no terms: the error of the user's model alone."""
    return ("window.max",) if channels >= MANY_CHANNELS else ("window.nll",)


def expect_terms(terms: Sequence[str], *, latent: bool) -> None:
    """Raise ModelError unless the model can say what the terms ask of it."""
    others = [name for name in terms if needs_model(name) and view_of(name) != WINDOW]
    silent = [name for name in terms if name in _LATENT and not latent]
    if others or silent or not any(map(needs_model, terms)):
        what = f"--score {','.join(terms)}"
        raise ModelError(
            what,
            expected="a term of the model, as window.nll, and none of another model"
            + ("" if latent else "; without a latent neither window.kl nor window.t2"),
            received=", ".join(others or silent) or "none of the model",
        )


def prepared(recording: Recording, settings: Settings) -> Prepared:
    """Windows of normal data, scaled to sigmas.

    Raises:
        TrainingError: There is too little normal data.
    """
    return prepare(
        recording,
        length=settings.window.length,
        stride=settings.window.stride,
        baseline=settings.baseline.samples,
        robust=settings.data.scaling == "robust",
    )


def raw_rows(given: Prepared) -> FloatArray:
    """The normal rows (rows, channels) in sensor units; with a baseline around the common centre."""
    return np.concatenate([given.scaler.inverse(rows) for rows in given.sessions])


def tried_windows(given: Prepared) -> NDArray[np.float32]:
    """A few held-out windows (windows, length, channels), clipped, that tell outputs and scalings of a model apart."""
    windows = WindowSet.joined(given.held_out).windows
    few = np.linspace(0, len(windows) - 1, min(_TRIED_WINDOWS, len(windows)), dtype=np.intp)
    return np.clip(windows[few], -CLIP, CLIP)


def foreign_run(
    recording: Recording,
    settings: Settings,
    given: Prepared,
    *,
    runtime: Runtime,
    graphs: Mapping[str, Any],
    notes: Sequence[str],
    folder: Path,
) -> Run:
    """The run that training would have left behind, had it trained this model.

    Args:
        recording: The normal data.
        settings: Window, columns and the terms of the score.
        given: The windows of that data.
        runtime: The model.
        graphs: Its scoring graph, where there is one.
        notes: What was told of it.
        folder: A folder that conversion may write to.
    """
    seed, names = settings.training.seed, settings.terms(len(recording.channels))
    held_out = WindowSet.joined(given.held_out)
    normal = len(given.training) + len(held_out) + len(given.between)
    wanted = dict.fromkeys(name for name in map(view_of, names) if name is not None)
    views = {name: fit_view(name, given.training, normal=normal) for name in wanted}
    few = np.linspace(0, len(given.training) - 1, min(len(given.training), CLOSED_FORM_WINDOWS), dtype=np.intp)
    learned, checked = (_seen(views[WINDOW], runtime, windows) for windows in (given.training[few], held_out))
    error = np.square(learned.target - learned.reconstruction).mean(axis=(0, 1))
    variance = to_rows(np.maximum(error, WINDOW_VARIANCE_FLOOR)[None])
    views[WINDOW] = msgspec.structs.replace(views[WINDOW], variance=variance)
    terms, known, reference = closed_forms(names, views, given, seed=seed)
    chosen = np.random.default_rng(seed).permutation(len(given.training))[:CALIBRATION_WINDOWS]
    record = RunRecord(
        format=FORMAT,
        created=now(),
        settings=settings,
        channels=described(recording, given.scaler),
        rate_hz=recording.rate_hz,
        clip=CLIP,
        modes=None,
        views=tuple(views.values()),
        terms=tuple(terms),
        training=Training(
            seed=seed,
            sessions=len(given.sessions),
            samples=sum(map(len, given.sessions)),
            windows=len(given.training),
            held_out_windows=len(held_out),
            fits={WINDOW: _fit(learned, checked)},
        ),
        shift=shift.measure(given.sessions, recording.channels).ratios,
        notes=(*recording.notes, *given.notes, *notes),
    )
    return Run(
        folder=folder,
        record=record,
        held_out=given.held_out,
        calibration=given.training[np.sort(chosen)],
        known={name: statistic.astype(np.float32) for name, statistic in known.items()},
        reference=reference,
        graphs=graphs,
    )


def _seen(view: View, runtime: Runtime, windows: WindowSet) -> Seen:
    scaled = windows.windows.astype(np.float64)
    return see([view], {view.name: runtime}, scaled, clip=CLIP, conditions=windows.conditions)[view.name]


def _fit(learned: Seen, checked: Seen) -> Fit:
    """What is known of a model that was trained elsewhere; its losses are mean squared errors, in squared sigmas."""
    loss, held_out_loss = (float(np.square(s.target - s.reconstruction).mean()) for s in (learned, checked))
    return Fit(
        family=FOREIGN,
        latent=checked.mean.shape[1],
        active_units=int((checked.mean.var(axis=0) > ACTIVE_VARIANCE).sum()),
        beta=0.0,
        retries=0,
        epochs=0,
        loss=loss,
        held_out_loss=held_out_loss,
    )
