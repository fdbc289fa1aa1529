"""A bundle with every term that a score can hold, operating modes and a baseline, on models that nobody trained."""

from __future__ import annotations

import hashlib
from typing import Any

import keras
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import PCA_VIEW, Bundle, Channel, Fit, Modes, Training, WindowShape
from edge_vae.detector import Detector
from edge_vae.features import feature_names, features
from edge_vae.principal import PrincipalRuntime
from edge_vae.runtime import Runtime, TFLiteRuntime
from edge_vae.score import TERMS, Term, fit_terms
from edge_vae.view import Model, View, see, to_rows
from edge_vae_converters.tflite import Converted, convert
from edge_vae_train.models import Architecture, build, scoring_graph
from plain_bundle import plain_manifest, plain_threshold

__all__ = ["CHANNELS", "LENGTH", "MODES", "every_term_bundle", "model_free_bundle"]

LENGTH, CHANNELS, LATENT, LAG, CLIP = 14, 3, 3, 4, 8.0
MODES = Modes(
    columns=("recipe", "load"),
    values=((1.0, 0.1), (2.0, 0.1), (2.0, 0.7)),
    centre=((5.0, -2.0, 1e5), (7.0, -1.0, 1e5), (7.0, 3.0, 2e5)),
    scale=((0.5, 1.0, 3.0), (0.25, 2.0, 4.0), (1.0, 0.5, 2.0)),
)
"""The third channel is a pressure in pascal: a float has few digits left behind such a centre."""
FEATURES = len(feature_names(LENGTH))
GENERATOR_SEED = 5


def windows(count: int, *, seed: int = GENERATOR_SEED) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scaled windows (count, length, channels), some far out, and their conditions."""
    generator = np.random.default_rng(seed)
    made = generator.normal(size=(count, LENGTH, CHANNELS)) * np.geomspace(0.3, 30.0, count)[:, None, None]
    made += np.sin(np.arange(LENGTH) * 0.7)[None, :, None]
    return made.astype(np.float32), MODES.conditions[np.arange(count) % len(MODES.values)]


def every_term_bundle(**changes: Any) -> Bundle:
    """All terms; the model of the window computes in int8, that of its features in float32."""
    normal, conditions = windows(48)
    views = [_view("window"), _view("features"), _view(PCA_VIEW)]
    converted = {
        "window": _converted("conv", LENGTH, "int8", views[0].target(normal.astype(np.float64), conditions)),
        "features": _converted("dense", FEATURES, "float32", views[1].target(normal.astype(np.float64), conditions)),
    }
    precisions = {"window": "int8", "features": "float32"}
    views = [
        msgspec.structs.replace(view, model=_model(converted[view.name], precisions[view.name]))
        if view.name in converted
        else view
        for view in views
    ]
    return _bundle(tuple(views), TERMS, {name: one.model for name, one in converted.items()}, changes)


def model_free_bundle(**changes: Any) -> Bundle:
    """The terms that need no model: what C computes of them, it computes alone."""
    terms = ("z", "pca", "features.level", "features.mahalanobis", "features.student")
    return _bundle((_view("features"), _view(PCA_VIEW)), terms, {}, changes)


def _bundle(
    views: tuple[View, ...], terms: tuple[str, ...], models: dict[str, bytes], changes: dict[str, Any]
) -> Bundle:
    normal, conditions = windows(48)
    reference = _principal()
    runtimes: dict[str, Runtime] = {PCA_VIEW: PrincipalRuntime(reference)}
    runtimes |= {
        view.name: TFLiteRuntime(models[view.name], outputs=view.model.outputs) for view in views if view.model
    }
    seen = see(views, runtimes, normal.astype(np.float64), clip=CLIP, conditions=conditions)
    drafts = [_draft(name) for name in terms]
    fitted, scores = fit_terms(drafts, normal.astype(np.float64), seen, known={}, overlap=1.0)
    fit = Fit("conv", LATENT, LATENT, 1.0, 0, 1, 0.0, 0.0)
    training = Training(seed=1, sessions=1, samples=1, windows=1, held_out_windows=1, fits=dict.fromkeys(models, fit))
    manifest = plain_manifest(
        channels=tuple(Channel(f"channel {i}", 0.0, 1.0) for i in range(CHANNELS)),
        window=WindowShape(LENGTH, 3), clip=CLIP, baseline=25, modes=MODES, views=views, score=fitted,
        threshold=plain_threshold(value=float(np.median(scores))), training=training,
    )  # fmt: skip
    manifest = msgspec.structs.replace(manifest, **changes)
    given, modes = windows(12, seed=GENERATOR_SEED + 1)
    score = Detector(manifest, runtimes)(given.astype(np.float64), modes)[0].score
    golden = {"windows": given, "conditions": modes, "score": score.astype(np.float32)}
    return Bundle(manifest, models, golden, reference)


def _view(name: str) -> View:
    if name != "features":
        return View(name, "window", (), (), ((1.0, 0.5, 2.0),), LAG if name == PCA_VIEW else 0, (), None)
    found = features(windows(48)[0].astype(np.float64))
    modes = len(MODES.values)
    centre = np.concatenate([found.mean(axis=0) + 0.1 * mode for mode in range(modes)])
    scale = np.concatenate([found.std(axis=0) + 0.1 * mode for mode in range(modes)])
    variance = np.random.default_rng(1).uniform(0.2, 2.0, (FEATURES, CHANNELS))
    conditions = to_rows(MODES.conditions[::-1].astype(np.float64))  # a view may have its modes in another order
    return View("features", "features", to_rows(centre), to_rows(scale), to_rows(variance), 0, conditions, None)


def _draft(name: str) -> Term:
    """What training fits: any centre, and any precision that is symmetric and positive."""
    generator = np.random.default_rng(len(name))
    if name == "features.level":
        return Term(name, centre=to_rows(generator.normal(size=(1, CHANNELS))), precision=_precision(CHANNELS, 1))
    if name == "features.mahalanobis":
        centre = to_rows(generator.normal(size=(FEATURES, CHANNELS)))
        return Term(name, centre=centre, precision=_precision(FEATURES, CHANNELS))
    return Term(name)


def _precision(size: int, count: int) -> Any:
    """`count` matrices one below the other, whose eigenvalues lie a factor of 1000 apart."""
    generator = np.random.default_rng(size)
    turned = [np.linalg.qr(generator.normal(size=(size, size)))[0] for _ in range(count)]
    return to_rows(np.concatenate([q @ np.diag(np.geomspace(0.01, 10.0, size)) @ q.T for q in turned]))


def _principal() -> dict[str, NDArray[Any]]:
    generator = np.random.default_rng(2)
    axes = np.linalg.qr(generator.normal(size=(LAG * CHANNELS, 5)))[0].T
    mean = generator.normal(size=LAG * CHANNELS)
    return {"lag_mean": mean.astype(np.float32), "lag_components": axes.astype(np.float16)}


def _converted(family: str, steps: int, precision: str, target: NDArray[np.float64]) -> Converted:
    keras.utils.set_random_seed(3)
    conditions = MODES.conditions.shape[1]
    architecture = Architecture(steps, CHANNELS, family=family, latent=LATENT, width=8, modes=conditions)
    given = np.clip(target, -CLIP, CLIP).astype(np.float32)
    return convert(scoring_graph(build(architecture)), precision=precision, representative=(given, windows(48)[1]))


def _model(converted: Converted, precision: str) -> Model:
    return Model(hashlib.sha256(converted.model).hexdigest(), precision, converted.outputs, converted.operators)
