"""What to train and how: `edge-vae.toml`, whose values the command line overrides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge_vae.score import TERMS
from edge_vae.toml_table import Mistake, Table

__all__ = [
    "BASELINE_TERMS",
    "BETA_WITH_MODES",
    "MANY_CHANNELS",
    "MAX_CLEAN",
    "MAX_MASKED",
    "BaselineSettings",
    "CalibrationSettings",
    "DataSettings",
    "ModelSettings",
    "Settings",
    "TrainingSettings",
    "WindowSettings",
]

BASELINE_TERMS = ("window.nll",)
"""Terms where each session is re-centred on its first samples: what drifts from there is normal, and `z`, features and
components, which know exact levels, take it for a fault (SKAB: with `z` besides, the ROC-AUC is the same to 0.003, but
the held-out drift lifts the threshold, and 2 of 16 faults are found instead of 9)."""

MANY_CHANNELS = 4
"""From so many channels on a fault is in few of them, which a mean over all dilutes. Two or three have few terms: the
three axes of the ceiling fan, the one real machine of that kind here, are told worse with a PCA or with distances of
the features (docs/decisions/0017)."""

BETA_WITH_MODES = 4.0
"""With the operating mode as a condition the latent need not tell it, and a tighter one finds more (milling, average
precision 0.72 with 4, 0.39 with 1)."""

MAX_CLEAN = 0.3
"""A larger share of the training windows is not dirt any more, but a part of what the machine does."""
MAX_MASKED = 0.9

Name = Annotated[str, Meta(min_length=1)]
Positive = Annotated[float, Meta(gt=0)]
Term = Annotated[
    str, Meta(pattern="^(" + "|".join(TERMS).replace(".", r"\.") + ")$", extra={"expected": " or ".join(TERMS)})
]
Family = Literal["conv", "dense", "linear", "tcn"]
Scaling = Literal["robust", "standard"]
CleanBy = Literal["forest", "model"]
Seed = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class DataSettings(Table, frozen=True, kw_only=True):
    """Which columns of the data mean what, and how channels are scaled.

    `scaling`: `standard` is mean and standard deviation; `robust`, which a few faulty rows do not move, is median and
    median absolute deviation.
    """

    rate_hz: Positive | None = None
    time: Name | None = None
    channels: tuple[Name, ...] = ()
    label: Name | None = None
    ignore: tuple[Name, ...] = ()
    modes: tuple[Name, ...] = ()
    scaling: Scaling = "standard"


class WindowSettings(Table, frozen=True, kw_only=True):
    """Samples in a window, and from one window to the next."""

    length: Annotated[int, Meta(ge=4, le=65_536)] = 64
    stride: Annotated[int, Meta(ge=1, le=65_536)] = 8


class BaselineSettings(Table, frozen=True, kw_only=True):
    """Samples that each session is re-centred on; 0: one scaler for all sessions."""

    samples: Annotated[int, Meta(ge=0)] = 0


class ModelSettings(Table, frozen=True, kw_only=True):
    """The model of the window: its family, latent dimensions, and the weight of the KL term.

    Without a `beta` it is 1, and 4 where operating modes are named.
    """

    family: Family = "conv"
    latent: Annotated[int, Meta(ge=1, le=256)] = 8
    beta: Positive | None = None


class TrainingSettings(Table, frozen=True, kw_only=True):
    """How long and with which seed, and what is left out.

    `clean` is the share of the worst training windows that is left out, as `clean_by` finds them
    (`edge_vae_train.clean`): with 3 % of faulty rows in the data of the simulated rig the model found them (ROC-AUC
    0.951 to 0.954 and 0.931 to 0.937), the forest took rare normal windows instead (0.949 and 0.917). `masked` is the
    share of points that each step of training hides from the model.
    """

    epochs: Annotated[int, Meta(ge=1, le=100_000)] = 100
    batch_size: Annotated[int, Meta(ge=1, le=65_536)] = 256
    seed: Seed = 7
    clean: Annotated[float, Meta(ge=0, le=MAX_CLEAN)] = 0.0
    clean_by: CleanBy = "model"
    masked: Annotated[float, Meta(ge=0, le=MAX_MASKED)] = 0.0


class CalibrationSettings(Table, frozen=True, kw_only=True):
    """The wish in false alarms a day, and the terms of the score.

    Without `score` the terms follow from the data: `Settings.terms`.
    """

    false_alarms_per_day: Positive = 0.5
    score: Annotated[tuple[Term, ...], Meta(min_length=1)] | None = None


class Settings(Table, frozen=True, kw_only=True):
    """The whole file."""

    data: DataSettings = msgspec.field(default_factory=DataSettings)
    window: WindowSettings = msgspec.field(default_factory=WindowSettings)
    baseline: BaselineSettings = msgspec.field(default_factory=BaselineSettings)
    model: ModelSettings = msgspec.field(default_factory=ModelSettings)
    training: TrainingSettings = msgspec.field(default_factory=TrainingSettings)
    calibration: CalibrationSettings = msgspec.field(default_factory=CalibrationSettings)

    def mistakes(self) -> Iterator[Mistake]:
        """A share of masked points where the model of the window is solved, not trained in steps."""
        if self.training.masked and self.model.family == "linear":
            yield ("training", "masked"), f"expected 0 for family linear, received {self.training.masked:g}"

    @property
    def beta(self) -> float:
        """The weight of the KL term that is in force."""
        return self.model.beta or (BETA_WITH_MODES if self.data.modes else 1.0)

    def terms(self, channels: int) -> tuple[str, ...]:
        """The terms of the score that are in force for a machine with so many channels.

        By default the two VAEs, and how the levels of the channels lie together, which a single one has no use for.
        With one channel or many, a PCA and the features' distances besides; with operating modes, where few sessions
        show each, the features have a distance each by itself. Of many channels the window's VAE is asked for the one
        with the largest error. With a baseline `BASELINE_TERMS`.
        """
        if self.calibration.score is not None:
            return tuple(dict.fromkeys(self.calibration.score))
        if self.baseline.samples:
            return BASELINE_TERMS
        few, many = 1 < channels < MANY_CHANNELS, channels >= MANY_CHANNELS
        models = ("window.max" if many else "window.nll", "features.nll")
        levels = ("features.level",) if channels > 1 else ()
        closed = () if few else ("pca", "features.student" if self.data.modes else "features.mahalanobis")
        return (*models, *levels, *closed)
