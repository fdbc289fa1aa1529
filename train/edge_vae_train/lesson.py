"""The model of a view: trained from nothing, or fine-tuned from that of another machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import Fit
from edge_vae.view import View, to_rows
from edge_vae_train import fit as fitting
from edge_vae_train import models
from edge_vae_train.finetune import Gain, Origin
from edge_vae_train.finetune_check import Trial
from edge_vae_train.prepare import WindowSet
from edge_vae_train.settings import Settings
from edge_vae_train.views import targets
from edge_vae_train.wander import wander

__all__ = ["WINDOW_VARIANCE_FLOOR", "Lesson", "Trained"]

WINDOW_VARIANCE_FLOOR = 0.05
"""Of the samples' decoder variance in squared sigmas: a slow channel that a model follows to a hundredth of a sigma
must not decide the score with its drift (SKAB with a baseline, ROC-AUC of `window.nll` 0.928 without, 0.936 with)."""

_FAMILIES = {"features": "dense"}
"""Families that do not follow `[model]`: features have no order in time."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A view with the variance that its model learned, the model, and the gain of fine-tuning where there was one."""

    view: View
    fitted: fitting.Fitted
    gain: Gain | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be told of it."""
        gained = () if self.gain is None else (self.gain.told(self.view.name),)
        return (*_collapse(self.view.name, self.fitted), *gained)

    @property
    def fit(self) -> Fit:
        """What a manifest says of it."""
        architecture = self.fitted.vae.architecture
        return Fit(
            family=architecture.family,
            latent=architecture.latent,
            active_units=self.fitted.active_units,
            beta=self.fitted.beta,
            retries=self.fitted.retries,
            epochs=len(self.fitted.history),
            loss=self.fitted.kept_losses[0],
            held_out_loss=self.fitted.kept_losses[1],
        )


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the models of all views learn from, and how.

    Attributes:
        settings: Family, epochs, seed and all else.
        training: Windows to learn from.
        held_out: Windows that say how well it was learned.
    """

    settings: Settings
    training: WindowSet
    held_out: WindowSet

    def learned(self, view: View, *, origin: Origin | None, progress: fitting.Progress) -> Trained:
        """The view's model, fine-tuned from the origin's where there is an origin."""
        if origin is None:
            return self._fitted(view, progress)
        return self._tuned(view, origin, progress)

    def _fitted(self, view: View, progress: fitting.Progress) -> Trained:
        windows = self._targets(view)
        wanted = models.Architecture(
            length=windows[0].shape[1],
            channels=windows[0].shape[2],
            family=_FAMILIES.get(view.name, self.settings.model.family),
            latent=self.settings.model.latent,
            width=models.width(view.name),
            modes=self.training.conditions.shape[1],
        )
        fitted = fitting.fit(wanted, *windows, beta=self.settings.beta, progress=progress, **self._how(view))
        return Trained(_learned(view, fitted, windows[0]), fitted)

    def _tuned(self, view: View, origin: Origin, progress: fitting.Progress) -> Trained:
        start = origin.model(view.name)
        trial = Trial.make(view, self.training, self.held_out, seed=self.settings.training.seed)
        found_before = trial.roc_auc(start.vae)
        how = self._how(view)
        windows = self._targets(view)
        fitted, after = fitting.tune(start.vae, *windows, beta=start.beta, progress=progress, **how)
        gain = Gain(
            before=fitted.history[0][1], after=after, found_before=found_before, found_after=trial.roc_auc(fitted.vae)
        )
        return Trained(_learned(view, fitted, windows[0]), fitted, gain)

    def _targets(self, view: View) -> tuple[Any, Any]:
        return targets(view, self.training), targets(view, self.held_out)

    def _how(self, view: View) -> dict[str, Any]:
        """The arguments that training and fine-tuning have in common."""
        chosen = self.settings.training
        return {
            "conditions": (self.training.conditions, self.held_out.conditions),
            "epochs": chosen.epochs,
            "batch_size": chosen.batch_size,
            "seed": chosen.seed,
            "masked": chosen.masked,
            "per_step_variance": view.input == "features",
        }


def _learned(view: View, fitted: fitting.Fitted, training: NDArray[np.float32]) -> View:
    """The view with its variance; `training` are the windows as its model sees them.

    That of features is wider by what wanders. The window's model follows a level with its reconstruction.
    """
    if view.input == "window":
        return msgspec.structs.replace(view, variance=to_rows(np.maximum(fitted.variance, WINDOW_VARIANCE_FLOOR)))
    wandering = [np.diag(wander(training[:, :, channel])) for channel in range(training.shape[2])]
    return msgspec.structs.replace(view, variance=to_rows(fitted.variance + np.transpose(wandering)))


def _collapse(name: str, fitted: fitting.Fitted) -> tuple[str, ...]:
    if not fitted.active_units:
        return (f"view {name}: no latent unit carries information even with beta {fitted.beta:g}: train longer",)
    if fitted.retries:
        return (f"view {name}: every latent unit fell silent, so it was trained again with beta {fitted.beta:g}",)
    return ()
