"""Recorded data to a run folder: prepare, fit, keep what conversion and evaluation need."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from edge_vae.bundle import Channel, Training
from edge_vae.sample import FloatArray
from edge_vae_train import fit as fitting
from edge_vae_train import models, plots, shift
from edge_vae_train.data import Recording
from edge_vae_train.prepare import Prepared, prepare
from edge_vae_train.reference import fit_pca
from edge_vae_train.run_folder import FORMAT, Run, RunRecord
from edge_vae_train.settings import Settings

__all__ = ["CLIP", "train"]

CLIP = 8.0
"""Scaled samples are clipped to plus and minus this before the model sees them: int8 has 256 steps for it all."""

CALIBRATION_WINDOWS = 400


def train(
    recording: Recording, settings: Settings, folder: Path, *, progress: fitting.Progress
) -> tuple[Run, shift.Shift]:
    """A trained run, written to `folder`, and the shift between the sessions of normal data.

    Raises:
        TrainingError: There is too little normal data.
    """
    prepared = prepare(
        recording, length=settings.window.length, stride=settings.window.stride, baseline=settings.baseline.samples
    )
    seed = settings.training.seed
    fitting.deterministic(seed)
    vae = models.build(
        models.Architecture(settings.window.length, len(recording.channels), latent=settings.model.latent)
    )
    held_out = np.concatenate(prepared.held_out)
    fitted = fitting.fit(
        vae,
        np.clip(prepared.training, -CLIP, CLIP),
        np.clip(held_out, -CLIP, CLIP),
        beta=settings.model.beta,
        epochs=settings.training.epochs,
        batch_size=settings.training.batch_size,
        seed=seed,
        progress=progress,
    )
    found = shift.measure(prepared.sessions, recording.channels)
    chosen = np.random.default_rng(seed).permutation(len(prepared.training))[:CALIBRATION_WINDOWS]
    run = Run(
        folder=folder,
        record=_record(recording, settings, prepared, fitted, found),
        held_out=prepared.held_out,
        calibration=prepared.training[np.sort(chosen)],
        reference=fit_pca(prepared.training, held_out, seed=seed),
    )
    run.write(models.scoring_graph(vae))
    plots.loss(fitted.history, fitted.kept_epoch, folder)
    return run, found


def _record(
    recording: Recording, settings: Settings, prepared: Prepared, fitted: fitting.Fitted, found: shift.Shift
) -> RunRecord:
    centre, scale = prepared.scaler.centre, prepared.scaler.scale
    notes = [*recording.notes, *prepared.notes]
    if not fitted.active_units:
        notes.append(
            "no latent unit carries information: the model reconstructs the mean; train longer, or with a lower beta"
        )
    return RunRecord(
        format=FORMAT,
        created=_now(),
        settings=settings,
        channels=tuple(map(Channel, recording.channels, _floats(centre), _floats(scale))),
        rate_hz=recording.rate_hz,
        clip=CLIP,
        variance=tuple(_floats(fitted.variance)),
        training=Training(
            family=settings.model.family,
            latent=settings.model.latent,
            beta=settings.model.beta,
            seed=settings.training.seed,
            epochs=len(fitted.history),
            sessions=len(prepared.sessions),
            samples=sum(len(rows) for rows in prepared.sessions),
            windows=len(prepared.training),
            held_out_windows=sum(len(block) for block in prepared.held_out),
            loss=fitted.kept_losses[0],
            held_out_loss=fitted.kept_losses[1],
        ),
        shift=found.ratios,
        notes=tuple(notes),
    )


def _floats(values: FloatArray) -> list[float]:
    return [float(v) for v in values]


def _now() -> str:
    """Time of the end of training; `SOURCE_DATE_EPOCH` (reproducible-builds.org) replaces it for equal bytes."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    at = datetime.fromtimestamp(int(seconds), timezone.utc) if seconds else datetime.now(timezone.utc)
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
