"""A pipeline as the configuration describes it, with its bundle tried and loaded, before its first sample."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from edge_vae.alarm import AlarmRules
from edge_vae.alarm_config import AlarmConfig, limits_of
from edge_vae.annunciator import Annunciation
from edge_vae.bundle import Bundle
from edge_vae.config import PipelineConfig
from edge_vae.detector import Explainer, load
from edge_vae.errors import BundleError
from edge_vae.event import Model
from edge_vae.pipeline import Learned, Pipeline
from edge_vae.probe import expect_sound
from edge_vae.sensor_rules import sensor_rules

__all__ = ["Assembly", "assemble"]


@dataclass(frozen=True, slots=True)
class Assembly:
    """All that a pipeline is made of, but what it has learned.

    Attributes:
        config: Its tables.
        model: Its bundle, as events name it.
        detector: The loaded bundle.
    """

    config: PipelineConfig
    model: Model
    detector: Explainer

    def pipeline(self, learned: Learned | None = None, *, new_id: Callable[[], str] | None = None) -> Pipeline:
        """A fresh pipeline, with what was learned before, and ids for its alarms.

        Raises:
            BundleError: The bundle has no threshold that can adapt, and is to.
        """
        config, manifest = self.config, self.detector.manifest
        try:
            return Pipeline(
                self.detector,
                rules=_rules(manifest.alarm, config.alarm),
                annunciation=_annunciation(config.alarm),
                limits=[limit for table in config.limits for limit in limits_of(table)],
                sensors=sensor_rules(
                    config.sensor, manifest.channels, columns=manifest.source_columns, rate_hz=manifest.rate_hz,
                    length=manifest.window.length,
                ),
                sensor_severity=config.sensor.severity,
                new_id=new_id,
                epoch_s=time.time() - time.monotonic(),
                baseline=config.baseline.samples,
                drift_hours=config.drift.hours if config.drift.detect else None,
                adapt_limit=config.threshold.limit if config.threshold.adapt else None,
                learned=learned,
            )  # fmt: skip
        except ValueError as error:
            what = f"{config.bundle}: a threshold that cannot adapt: {error}"
            action = "Leave adapt = true under [pipeline.threshold] out, or convert with fewer false alarms a day."
            raise BundleError(what, action=action) from error


def assemble(config: PipelineConfig) -> Assembly:
    """The parts of the pipeline that a configuration describes; a pipeline can be made of them for sure.

    Raises:
        InferenceError: There is nothing here that runs models.
        BundleError: The bundle is none, does not score here as it should, or has no threshold that can adapt and is to.
    """
    bundle = Bundle.read(config.bundle)
    manifest = bundle.manifest
    expect_sound(bundle, config.bundle)
    model = Model(name=manifest.name, version=manifest.version, sha256=bundle.sha256)
    made = Assembly(config, model, load(bundle, path=str(config.bundle)))
    made.pipeline()
    return made


def _rules(defaults: AlarmRules, wished: AlarmConfig) -> AlarmRules:
    """The bundle's rules with what the configuration changes."""
    return msgspec.structs.replace(defaults, **_said(wished, AlarmRules))


def _annunciation(wished: AlarmConfig) -> Annunciation:
    return Annunciation(**_said(wished, Annunciation))


def _said(config: AlarmConfig, kind: type[msgspec.Struct]) -> dict[str, Any]:
    """What the configuration says of the fields of a kind of rules."""
    named = {name: getattr(config, name) for name in kind.__struct_fields__}
    return {name: value for name, value in named.items() if value is not None}
