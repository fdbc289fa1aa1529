"""The one configuration of all sets: defaults, but for what a data set's documentation says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from edge_vae_train.settings import BaselineSettings, DataSettings, Settings, TrainingSettings, WindowSettings

__all__ = ["POLICIES", "Policy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What differs between the sets; every other setting is the default.

    Attributes:
        length: Samples in a window.
        stride: Samples from one window to the next, in training.
        score_stride: The same where test sessions are scored.
        rate_hz: Samples a second.
        reason: Where these numbers come from; never from a label.
        baseline: Samples that each session is re-centred on.
        modes: Columns that name the operating mode.
    """

    length: int
    stride: int
    score_stride: int
    rate_hz: float
    reason: str
    baseline: int = 0
    modes: tuple[str, ...] = ()

    def settings(self, *, seed: int) -> Settings:
        """The settings that a model is trained with."""
        return Settings(
            data=DataSettings(modes=self.modes),
            window=WindowSettings(length=self.length, stride=self.stride),
            baseline=BaselineSettings(samples=self.baseline),
            training=TrainingSettings(seed=seed),
        )


_MILLING = Policy(
    length=64,
    stride=64,
    score_stride=64,
    rate_hz=250.0,
    modes=("DOC", "feed", "material"),
    reason="window and stride of the publication; depth of cut, feed and material are set by the operator of each cut",
)

_TELEMETRY = Policy(
    length=64,
    stride=8,
    score_stride=1,
    rate_hz=1.0 / 60.0,
    reason="the default window and stride; every row is scored",
)

POLICIES = {
    "skab": Policy(
        length=16,
        stride=1,
        score_stride=1,
        rate_hz=1.0,
        reason="every row is scored; 400 training rows hold 25 separate windows of 16, twelve of 32",
    ),
    "milling-published": _MILLING,
    "milling-honest": _MILLING,
    "fan": Policy(
        length=200,
        stride=200,
        score_stride=200,
        rate_hz=200.0,
        reason="a window is a clip: one second at 200 Hz",
    ),
    "tep": Policy(
        length=48,
        stride=1,
        score_stride=1,
        rate_hz=1.0 / 180.0,
        reason="a sample every 3 minutes, every row is scored; 48 are 2.4 h, as in the PCA row of the data's README",
    ),
    "smap": _TELEMETRY,
    "msl": _TELEMETRY,
}
