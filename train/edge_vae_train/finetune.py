"""A model to start from: a run or a bundle of one machine, whose models are fine-tuned to another machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from edge_vae.bundle import FOREIGN, GRAPH, Bundle, Channel, Fit, Modes
from edge_vae.detector import load
from edge_vae.errors import TrainingError
from edge_vae.probe import expect_sound
from edge_vae.view import View
from edge_vae_train.keras_runtime import KerasRuntime
from edge_vae_train.models import Architecture, VariationalAutoencoder, build, scoring_graph, width
from edge_vae_train.run_folder import Run
from edge_vae_train.settings import (
    BaselineSettings,
    CalibrationSettings,
    DataSettings,
    ModelSettings,
    Settings,
    TrainingSettings,
    WindowSettings,
)
from edge_vae_train.tflite_weights import Weights, read_weights, set_weights

__all__ = ["EPOCHS", "MAX_FOUND_LESS", "Gain", "Origin", "Start", "expect_gain"]

EPOCHS = 30
"""Of a fine-tuning: the weights have little way to go."""
MAX_REBUILT_NOISE = 0.03
"""Largest power of the difference between a bundle's reconstruction and that of the graph rebuilt from it, relative to
the reconstruction: int8 itself costs about 0.001, one wrong layer about 1."""

MAX_FOUND_LESS = 0.05
"""Of ROC-AUC on mild synthetic faults. Fine-tuned to three minutes of the same rig, or of one whose sensors stand
elsewhere, a model with a lower loss had up to 0.024 less and 0.12 more than before (seeds 1 and 2)."""


@dataclass(frozen=True, slots=True)
class Start:
    """The trained model of a view, and the weight that the KL term had in its loss."""

    vae: VariationalAutoencoder
    beta: float


@dataclass(frozen=True, slots=True)
class Origin:
    """A model of another machine.

    Attributes:
        told: What it is, for people: run or bundle, its name, and when it was made or its hash.
        settings: All of its settings, with the terms of its score and its channels by name.
        rate_hz: Samples a second.
        modes: Its operating modes; None without mode columns.
        views: What its models see.
        fits: How each view's model was trained.
        source: The run or bundle itself.
    """

    told: str
    settings: Settings
    rate_hz: float
    modes: Modes | None
    views: tuple[View, ...]
    fits: Mapping[str, Fit]
    source: Run | Bundle

    @classmethod
    def read(cls, path: Path) -> Origin:
        """The model in a run folder or a bundle.

        Raises:
            DataError: The folder is not a run.
            BundleError: The file is not a whole bundle, or does not score here as it should.
            TrainingError: It holds no model that could be fine-tuned.
        """
        origin = _of_run(Run.read(path), path) if path.is_dir() else _of_bundle(_sound(path), path)
        solved = [name for name, fit in origin.fits.items() if fit.family == "linear"]
        if solved or not origin.fits:
            what = f"{path}: nothing to fine-tune"
            raise TrainingError(
                what,
                expected="models that were trained in steps",
                received=f"a linear model in view {solved[0]}, which is solved"
                if solved
                else "a score without a model",
                action="Train without --from: such a model takes seconds.",
            )
        return origin

    def expect_modes(self, modes: Modes | None) -> None:
        """Raise TrainingError unless the new data shows the operating modes that the models know."""
        known, found = (() if m is None else m.values for m in (self.modes, modes))
        if np.shape(known) != np.shape(found) or not np.allclose(known, found):
            raise TrainingError(
                "the new data has other operating modes than the model",
                expected=f"rows of each of the modes {_shown(known)}",
                received=_shown(found),
                action="Record the missing modes too, label the rows of unknown ones, or train without --from.",
            )

    def model(self, view: str) -> Start:
        """The model of a view, as it was trained.

        Raises:
            DataError: Its file is missing or damaged.
            TrainingError: The model in a bundle cannot be read back, or does not reconstruct what the bundle does.
        """
        fit, seen = self.fits[view], next(v for v in self.views if v.name == view)
        vae = build(
            Architecture(
                length=seen.steps(self.settings.window.length),
                channels=len(self.settings.data.channels),
                family=fit.family,
                latent=fit.latent,
                width=width(view),
                modes=self.modes.conditions.shape[1] if self.modes else 0,
            )
        )
        try:
            set_weights(vae, self._weights(view))
        except ValueError as error:
            raise _not_rebuilt(self.told, view, str(error)) from error
        if isinstance(self.source, Bundle):
            self._expect_same(seen, vae, self.source)
        return Start(vae, fit.beta)

    def _weights(self, view: str) -> Weights:
        if isinstance(self.source, Bundle):
            models = self.source.models
            return _weights_of(models[GRAPH], f"{view}/") if GRAPH in models else _weights_of(models[view], "")
        graph = self.source.graph(view)
        parts = {part: graph.get_layer(part) for part in ("encoder", "decoder")}
        return {(part, la.name): tuple(la.get_weights()) for part, m in parts.items() for la in m.layers if la.weights}

    def _expect_same(self, view: View, vae: VariationalAutoencoder, bundle: Bundle) -> None:
        """Raise TrainingError unless the model gives the bundle's reconstruction of its golden windows."""
        windows, conditions = bundle.golden["windows"].astype(np.float64), bundle.golden["conditions"]
        seen, clip = load(bundle, path=self.told).see(windows, conditions)[view.name], bundle.manifest.clip
        given, expected = np.clip(seen.target, -clip, clip).astype(np.float32), seen.reconstruction
        received = KerasRuntime(scoring_graph(vae))(given, conditions)["reconstruction"]
        noise = float(np.square(received - expected).mean() / max(float(np.square(expected).mean()), 1e-12))
        if not noise <= MAX_REBUILT_NOISE:
            raise _not_rebuilt(self.told, view.name, f"one with {noise:.2g} times its power as difference")


@dataclass(frozen=True, slots=True)
class Gain:
    """What fine-tuning made of a view's model, on held-out windows of the new machine.

    Attributes:
        before: Loss of the origin's weights, with scaler and variance fitted to the new data.
        after: Loss of the fine-tuned weights.
        found_before: ROC-AUC of the origin's weights on mild synthetic faults; see `finetune_check.Trial`.
        found_after: That of the weights that are kept, on the same faults.
    """

    before: float
    after: float
    found_before: float
    found_after: float

    @property
    def worse(self) -> bool:
        """Whether the model finds clearly less than before."""
        return self.found_after < self.found_before - MAX_FOUND_LESS

    def told(self, view: str) -> str:
        """The note on it."""
        what = (
            f"view {view}: fine-tuning took the held-out loss from {self.before:.4f} (old weights, scaler and variance "
            f"fitted anew) to {self.after:.4f}"
        )
        if not self.after < self.before:
            return f"{what}, so the old weights are kept"
        return f"{what}, and the ROC-AUC on synthetic faults from {self.found_before:.3f} to {self.found_after:.3f}"


def expect_gain(gains: Mapping[str, Gain]) -> None:
    """Raise TrainingError unless fine-tuning made the model of at least one view better, and none worse.

    Better is a lower held-out loss; a model without keeps its weights. Worse is a model that with its lower loss finds
    clearly fewer synthetic faults: it has learned to reconstruct them. Training from nothing is not compared with: it
    would take as long as fine-tuning is meant to save.
    """
    if not any(gain.after < gain.before for gain in gains.values()):
        raise TrainingError(
            "fine-tuning made no model better on the new machine",
            expected="a held-out loss below that of the old weights with scaler and variance fitted anew, "
            + _each(gains, "before", 4),
            received=_each(gains, "after", 4),
            action="Give more data of the new machine, or train without --from.",
        )
    if worse := {view: gain for view, gain in gains.items() if gain.worse}:
        raise TrainingError(
            "fine-tuning made a model find fewer faults on the new machine",
            expected=f"a ROC-AUC on synthetic faults at most {MAX_FOUND_LESS:g} below that of the old weights with "
            f"scaler and variance fitted anew, {_each(worse, 'found_before', 3)}",
            received=_each(worse, "found_after", 3),
            action="Give fewer --epochs or more data of the new machine, or train without --from.",
        )


def _each(gains: Mapping[str, Gain], figure: str, digits: int) -> str:
    return ", ".join(f"{getattr(gain, figure):.{digits}f} ({view})" for view, gain in gains.items())


def _of_run(run: Run, path: Path) -> Origin:
    record = run.record
    settings, channels = record.settings, _names(record.channels)
    terms = tuple(term.name for term in record.terms)
    settings = msgspec.structs.replace(
        settings,
        data=msgspec.structs.replace(settings.data, channels=channels),
        training=msgspec.structs.replace(settings.training, epochs=EPOCHS),
        calibration=msgspec.structs.replace(settings.calibration, score=terms),
    )
    told = f"run {path.absolute().name}, made {record.created}"
    return Origin(told, settings, record.rate_hz, record.modes, record.views, record.training.fits, run)


def _weights_of(model: bytes, prefix: str) -> Weights:
    try:
        return read_weights(model, prefix=prefix)
    except ValueError:
        raise
    except Exception as error:  # a damaged model, even one that runs, is answered with exceptions of many types
        msg = f"expected a graph, received a damaged one ({error})"
        raise ValueError(msg) from error


def _sound(path: Path) -> Bundle:
    bundle = Bundle.read(path)
    expect_sound(bundle, path)
    return bundle


def _of_bundle(bundle: Bundle, path: Path) -> Origin:
    if any(fit.family == FOREIGN for fit in bundle.manifest.training.fits.values()):
        what = f"{path}: nothing to fine-tune"
        raise TrainingError(
            what,
            expected="models that edge-vae train made",
            received="one that was made elsewhere",
            action="Train it on the new machine where it was made, or train without --from.",
        )
    manifest = bundle.manifest
    fits, modes = manifest.training.fits, manifest.modes
    settings = Settings(
        data=DataSettings(channels=manifest.channel_names, modes=modes.columns if modes else ()),
        window=WindowSettings(length=manifest.window.length, stride=manifest.window.stride),
        baseline=BaselineSettings(samples=manifest.baseline),
        model=_model_settings(fits),
        training=TrainingSettings(epochs=EPOCHS, seed=manifest.training.seed),
        calibration=CalibrationSettings(
            false_alarms_per_day=manifest.threshold.false_alarms_per_day,
            score=tuple(term.name for term in manifest.score),
        ),
    )
    told = f"bundle {path.name}, sha256 {bundle.sha256}"
    return Origin(told, settings, manifest.rate_hz, modes, manifest.views, fits, bundle)


def _model_settings(fits: Mapping[str, Fit]) -> ModelSettings:
    """What `[model]` said: the family is that of the window's model, where there is one."""
    if "window" in fits:
        fit = fits["window"]
        return msgspec.convert({"family": fit.family, "latent": fit.latent, "beta": fit.beta}, ModelSettings)
    return next((ModelSettings(latent=fit.latent, beta=fit.beta) for fit in fits.values()), ModelSettings())


def _names(channels: tuple[Channel, ...]) -> tuple[str, ...]:
    return tuple(channel.name for channel in channels)


def _shown(modes: tuple[tuple[float, ...], ...]) -> str:
    return "; ".join(", ".join(f"{value:g}" for value in mode) for mode in modes) or "none"


def _not_rebuilt(told: str, view: str, received: str) -> TrainingError:
    return TrainingError(
        f"{told}: the model of view {view} cannot be read back out of the bundle",
        expected="a graph that reconstructs the golden windows as the bundle does",
        received=received,
        action="Fine-tune from the run folder that the bundle was made of.",
    )
