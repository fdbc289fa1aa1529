"""What to train and how: `edge-vae.toml`, whose values the command line overrides."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge_vae.score import STATISTICS
from edge_vae.toml_table import Table

__all__ = [
    "BaselineSettings",
    "CalibrationSettings",
    "DataSettings",
    "ModelSettings",
    "Settings",
    "TrainingSettings",
    "WindowSettings",
]

Name = Annotated[str, Meta(min_length=1)]
Positive = Annotated[float, Meta(gt=0)]
Term = Annotated[
    str, Meta(pattern="^(" + "|".join(sorted(STATISTICS)) + ")$", extra={"expected": " or ".join(sorted(STATISTICS))})
]
Seed = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class DataSettings(Table, frozen=True, kw_only=True):
    """Which columns of the data mean what."""

    rate_hz: Positive | None = None
    time: Name | None = None
    channels: tuple[Name, ...] = ()
    label: Name | None = None
    ignore: tuple[Name, ...] = ()


class WindowSettings(Table, frozen=True, kw_only=True):
    """Samples in a window, and from one window to the next."""

    length: Annotated[int, Meta(ge=4, le=65_536)] = 64
    stride: Annotated[int, Meta(ge=1, le=65_536)] = 8


class BaselineSettings(Table, frozen=True, kw_only=True):
    """Samples that each session is re-centred on; 0: one scaler for all sessions."""

    samples: Annotated[int, Meta(ge=0)] = 0


class ModelSettings(Table, frozen=True, kw_only=True):
    """The model: its family, latent dimensions, and the weight of the KL term."""

    family: Literal["conv"] = "conv"
    latent: Annotated[int, Meta(ge=1, le=256)] = 8
    beta: Positive = 1.0


class TrainingSettings(Table, frozen=True, kw_only=True):
    """How long and with which seed."""

    epochs: Annotated[int, Meta(ge=1, le=100_000)] = 100
    batch_size: Annotated[int, Meta(ge=1, le=65_536)] = 256
    seed: Seed = 7


class CalibrationSettings(Table, frozen=True, kw_only=True):
    """The wish in false alarms a day, and the terms of the score."""

    false_alarms_per_day: Positive = 0.5
    score: Annotated[tuple[Term, ...], Meta(min_length=1)] = ("window.nll", "z")


class Settings(Table, frozen=True, kw_only=True):
    """The whole file."""

    data: DataSettings = msgspec.field(default_factory=DataSettings)
    window: WindowSettings = msgspec.field(default_factory=WindowSettings)
    baseline: BaselineSettings = msgspec.field(default_factory=BaselineSettings)
    model: ModelSettings = msgspec.field(default_factory=ModelSettings)
    training: TrainingSettings = msgspec.field(default_factory=TrainingSettings)
    calibration: CalibrationSettings = msgspec.field(default_factory=CalibrationSettings)
