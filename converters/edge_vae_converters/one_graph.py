"""The whole way from a scaled window to its score as one TFLite graph, the views' models inside it.

What `edge_vae.view` and `edge_vae.score` compute in numpy, in some 150 calls a window, stands here once more in
operators that TFLite has. Every conversion compares the two (docs/decisions/0019).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge_vae.bundle import PCA_VIEW, Manifest
from edge_vae.features import POWER_FLOOR, SPREAD_FLOOR, band_edges, feature_names
from edge_vae.graph import SUMMARY, Graph
from edge_vae.score import (
    ERROR_FLOOR,
    LEAST_LEVEL,
    LEVEL,
    LOG_ERROR_FLOOR,
    LOG_VARIANCE_RANGE,
    TINY,
    Term,
    counted,
    view_of,
)
from edge_vae.view import LIMIT_SIGMA, OUTPUTS, View
from edge_vae_converters.joining import Joined, ends
from edge_vae_converters.tflite import Converted, described, silenced
from edge_vae_train.tflite_weights import weight_names

__all__ = ["one_graph"]

_LONGEST_FAST_MATRIX, _LONGEST_MATRIX = 64, 128
"""Samples up to which a matrix gives the spectrum sooner than TFLite's FFT does, and up to which it is used where the
FFT cannot be, whose length is a power of two."""

_MOST_JOINED = 5
"""Inputs up to which XNNPACK takes a CONCATENATION."""

Tensor = Any
Values = tuple[Tensor, Tensor]
"""A statistic (1, 1), and each channel's part in it (1, channels). The axis of windows stays everywhere: XNNPACK takes
no operator that drops an axis but RESHAPE, and one that is left to others costs 4 microseconds."""


@dataclass(frozen=True, slots=True)
class _Sight:
    """What a view makes of one window, see `edge_vae.view.Seen`, and its lag."""

    target: Tensor
    reconstruction: Tensor
    mean: Tensor
    log_variance: Tensor
    variance: NDArray[np.float32]
    lag: int


def one_graph(
    manifest: Manifest, models: Mapping[str, Converted], reference: Mapping[str, NDArray[Any]]
) -> tuple[bytes, Graph]:
    """The graph of a bundle, and what its manifest says of it.

    Inputs: `window` (1, length, channels), scaled and unclipped, and with modes `condition` (1, conditions). Outputs:
    `SUMMARY`, see there, and what the model of each view and the PCA give, by `view.output`.

    Args:
        manifest: Of the bundle.
        models: The model of each view that has one.
        reference: The arrays of the bundle, with those of the term `pca`.

    Raises:
        ValueError: There is no spectrum of such windows in TFLite, or a model has loops.
    """
    features = any(view.input == "features" for view in manifest.views)
    if features and manifest.window.length > _LONGEST_MATRIX and not _has_fft(manifest.window.length):
        msg = f"TFLite has no spectrum of {manifest.window.length} samples"
        raise ValueError(msg)
    joined = Joined()
    given = [joined.input("window", (1, manifest.window.length, len(manifest.channels)))]
    if manifest.conditions:
        given.append(joined.input("condition", (1, manifest.conditions)))
    with_model = [view for view in manifest.views if view.model]
    features_target, *clipped = joined.add(_before(manifest, with_model), given, name="before")
    outputs: dict[str, int] = {}
    for view, target in zip(with_model, clipped, strict=True):
        outputs |= _model(joined, view, models[view.name], [target, *given[1:]])
    lag = []
    if "lag_components" in reference:
        lag.append(joined.constant("lag_components", reference["lag_components"], steps=reference.get("lag_steps")))
    seen = [*given, features_target, *outputs.values(), *lag]
    after = joined.add(_after(manifest, list(outputs), reference, lagged=bool(lag)), seen, name="after")
    outputs |= dict(zip([SUMMARY, f"{PCA_VIEW}.{OUTPUTS[0]}"], after, strict=False))
    model = joined.model(outputs)
    told = described(model)
    return model, Graph.of(model, outputs=told.outputs, operators=told.operators)


def _has_fft(length: int) -> bool:
    return length & (length - 1) == 0


def _model(joined: Joined, view: View, converted: Converted, given: Sequence[int]) -> dict[str, int]:
    """The outputs of a view's model, by `view.output`."""
    ranks, names = ends(converted.model)
    # A condition has one axis less than a window, and the converter orders inputs as it likes.
    ordered, weights = [given[rank == 2] for rank in ranks], weight_names(converted.model)
    found = joined.add(converted.model, ordered, name=view.name, weights=weights)
    return {
        f"{view.name}.{name}": found[names.index(converted.outputs[name])]
        for name in OUTPUTS
        if name in converted.outputs
    }


def _before(manifest: Manifest, with_model: Sequence[View]) -> bytes:
    """Window, and condition, to the target of the features (1, features, channels) and each model's clipped input."""
    features = next((view for view in manifest.views if view.input == "features"), None)

    def before(*given: Tensor) -> list[Tensor]:
        window = tf.clip_by_value(given[0], -LIMIT_SIGMA, LIMIT_SIGMA)
        target = _standardised(features, _features(window), given[1:]) if features else tf.zeros((1, 1, 1))
        seen = [target if view.input == "features" else window for view in with_model]
        return [target, *(tf.clip_by_value(one, -manifest.clip, manifest.clip) for one in seen)]

    return _converted(before, _given(manifest))


def _given(manifest: Manifest) -> list[tuple[int, ...]]:
    """Shapes of the graph's inputs."""
    window = (1, manifest.window.length, len(manifest.channels))
    return [window, *([(1, manifest.conditions)] if manifest.conditions else [])]


def _features(window: Tensor) -> Tensor:
    """`edge_vae.features.features` of one window (1, length, channels), in operators of TFLite."""
    length = window.shape[1]
    mean = tf.reduce_mean(window, 1, keepdims=True)
    centred = window - mean
    quarter = max(1, length // 4)
    ends = np.zeros((1, length, 1), np.float32)
    ends[:, -quarter:] += 1.0 / quarter
    ends[:, :quarter] -= 1.0 / quarter
    spreads = [
        tf.sqrt(tf.reduce_mean(tf.square(centred), 1, keepdims=True)),
        tf.reduce_mean(tf.abs(window[:, 1:] - window[:, :-1]), 1, keepdims=True),
        tf.reduce_max(window, 1, keepdims=True) - tf.reduce_min(window, 1, keepdims=True),
    ]
    logs = tf.math.log(tf.concat(spreads, 1) + SPREAD_FLOOR)
    slope = tf.reduce_sum(centred * ends, 1, keepdims=True)
    return tf.concat([mean, logs, slope, tf.math.log(_bands(centred) + POWER_FLOOR)], 1)


def _bands(centred: Tensor) -> Tensor:
    """Mean power (1, bands, channels) of the bands of the Hann-windowed spectrum of (1, length, channels)."""
    length, edges = centred.shape[1], band_edges(centred.shape[1])
    tapered = tf.transpose(centred * np.hanning(length)[:, None].astype(np.float32), (0, 2, 1))
    averages = np.zeros((len(edges) - 1, length // 2), np.float32)
    for band, (low, high) in enumerate(itertools.pairwise(edges)):
        averages[band, low:high] = 1.0 / (high - low)
    if length > _LONGEST_FAST_MATRIX and _has_fft(length):
        power = tf.square(tf.abs(tf.signal.rfft(tapered))[:, :, 1:])
    else:
        # Numbers of one turn, bit for bit: what repeats itself takes an eighth of its bytes in the bundle.
        turn = np.exp(-2j * np.pi * np.arange(length) / length)
        waves = turn[np.outer(np.arange(1, length // 2 + 1), np.arange(length)) % length]
        parts = np.concatenate([waves.real, waves.imag]).round(12).astype(np.float32)
        power = tf.square(tf.linalg.matmul(tapered, parts, transpose_b=True))
        averages = np.concatenate([averages, averages], axis=1)
    return tf.transpose(tf.linalg.matmul(power, averages, transpose_b=True), (0, 2, 1))


def _standardised(view: View, raw: Tensor, condition: Sequence[Tensor]) -> Tensor:
    centre, scale = (_of_mode(view, table, condition) for table in (view.centre, view.scale))
    return tf.clip_by_value((raw - centre) / scale, -LIMIT_SIGMA, LIMIT_SIGMA)


def _of_mode(view: View, table: Any, condition: Sequence[Tensor]) -> Tensor:
    """The rows (1, steps, channels) of a table that belong to the window's operating mode."""
    rows = np.array(table, np.float32)
    if not view.conditions:
        return tf.constant(rows[None])
    likeness = tf.linalg.matmul(condition[0], np.array(view.conditions, np.float32), transpose_b=True)
    return tf.gather(rows.reshape(len(view.conditions), -1, rows.shape[1]), tf.argmax(likeness, 1))


def _after(manifest: Manifest, outputs: Sequence[str], reference: Mapping[str, NDArray[Any]], *, lagged: bool) -> bytes:
    """Window and condition, the features' target, the models' outputs and the PCA's components to the summary.

    Where there is a PCA, its reconstruction is the second output.
    """
    views = {view.name: view for view in manifest.views}
    length, channels = manifest.window.length, len(manifest.channels)
    conditions = int(manifest.conditions > 0)

    def after(window: Tensor, *others: Tensor) -> list[Tensor]:
        condition, (features, *given) = others[:conditions], others[conditions:]
        window = tf.clip_by_value(window, -LIMIT_SIGMA, LIMIT_SIGMA)
        found = dict(zip(outputs, given, strict=False))
        extra = []
        if lagged:
            target = _lagged(window, views[PCA_VIEW].lag)
            found[f"{PCA_VIEW}.{OUTPUTS[0]}"] = _principal(target, reference["lag_mean"], given[-1])
            extra = [found[f"{PCA_VIEW}.{OUTPUTS[0]}"]]
        sights = {}
        for name, view in views.items():
            target = features if view.input == "features" else _lagged(window, view.lag)
            nothing = tf.zeros((1, 1)), tf.zeros((1, 1))
            reconstruction = found.get(f"{name}.{OUTPUTS[0]}", tf.zeros_like(target))
            mean, log_variance = (found.get(f"{name}.{o}", n) for o, n in zip(OUTPUTS[1:], nothing, strict=True))
            variance = np.array(view.variance, np.float32)
            sights[name] = _Sight(target, reconstruction, mean, log_variance, variance, view.lag)
        expected = _expected(manifest, sights, condition)
        return [_summary(manifest, window, sights, expected), *extra]

    shapes = _given(manifest)
    seen = any(view.input == "features" for view in views.values())
    shapes.append((1, len(feature_names(length)), channels) if seen else (1, 1, 1))
    for output in outputs:
        view, name = output.split(".")
        steps = views[view].steps(length)
        shapes.append((1, steps, channels) if name == OUTPUTS[0] else (1, manifest.training.fits[view].latent))
    if lagged:
        shapes.append(reference["lag_components"].shape)
    return _converted(after, shapes)


def _lagged(window: Tensor, lag: int) -> Tensor:
    """All lag vectors of a window (1, length, channels), one after the other; the window itself without a lag."""
    length = window.shape[1]
    if lag in (0, length):
        return window
    pieces = [window[:, at : at + lag] for at in range(length - lag + 1)]
    while len(pieces) > 1:
        pieces = [tf.concat(pieces[at : at + _MOST_JOINED], 1) for at in range(0, len(pieces), _MOST_JOINED)]
    return pieces[0]


def _principal(target: Tensor, mean: NDArray[np.float32], components: Tensor) -> Tensor:
    # A product of three axes with a matrix becomes BATCH_MATMUL, which XNNPACK takes with the components on either
    # side; one of two axes becomes a FULLY_CONNECTED of transposed components, which are no constant and stay out.
    steps, channels = target.shape[1:]
    centred = tf.reshape(target, (1, steps * channels // len(mean), len(mean))) - mean
    kept = tf.linalg.matmul(tf.linalg.matmul(centred, components, transpose_b=True), components)
    return tf.reshape(kept + mean, target.shape)


def _summary(manifest: Manifest, window: Tensor, sights: Mapping[str, _Sight], expected: Tensor) -> Tensor:
    """See `edge_vae.graph.SUMMARY`; what `edge_vae.score.fuse` and the detector's expectation say."""
    terms = manifest.score
    values = [_values(term, window, sights) for term in terms]
    logs = tf.math.log(tf.maximum(tf.concat([value for value, _ in values], 1), TINY))
    median, scale = (np.array([getattr(t.tail, n) for t in terms], np.float32) for n in ("median", "scale"))
    said = tf.math.log(_softplus((logs - median) / scale) + 1.0)
    parts = tf.reshape(tf.concat([part for _, part in values], 1), (1, len(terms), len(manifest.channels)))
    weighted = tf.reshape(said + TINY, (1, len(terms), 1)) * _normalised(parts)
    shares = _normalised(tf.reduce_sum(weighted, 1) + TINY)
    return tf.concat(
        [_score(said), said, tf.reshape(parts, (1, len(terms) * len(manifest.channels))), shares, expected], 1
    )


def _softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), without overflow."""
    return tf.nn.relu(x) + tf.math.log(tf.exp(-tf.abs(x)) + 1.0)


def _score(said: Tensor) -> Tensor:
    weights = counted(said.shape[1]).astype(np.float32)
    if len(weights) < 2 or np.ptp(weights[:-1]) == 0:  # all but the loudest count alike
        total, loudest = (reduce(said, 1, keepdims=True) for reduce in (tf.reduce_sum, tf.reduce_max))
        return weights[0] * total + (weights[-1] - weights[0]) * loudest
    loudest_first = tf.math.top_k(said, k=len(weights)).values
    return tf.reduce_sum(loudest_first * weights[::-1], 1, keepdims=True)


def _normalised(parts: Tensor) -> Tensor:
    parts = parts + TINY
    return parts / tf.reduce_sum(parts, -1, keepdims=True)


def _expected(manifest: Manifest, sights: Mapping[str, _Sight], condition: Sequence[Tensor]) -> Tensor:
    """Mean (1, channels) of the expected window: by a model of the window, else of its features, else the centre."""
    for view in manifest.views:
        if view.input == "window" and not view.lag:
            return tf.reduce_mean(sights[view.name].reconstruction, 1)
    for view in manifest.views:
        if view.input == "features":
            centre, scale = (_of_mode(view, table, condition) for table in (view.centre, view.scale))
            return _levels(sights[view.name].reconstruction * scale + centre)
    return tf.zeros((1, len(manifest.channels)))


def _levels(features: Tensor) -> Tensor:
    """The channels' means (1, channels) among features (1, features, channels)."""
    chosen = np.zeros((1, features.shape[1], 1), np.float32)
    chosen[:, LEVEL] = 1.0
    return tf.reduce_sum(features * chosen, 1)


def _values(term: Term, window: Tensor, sights: Mapping[str, _Sight]) -> Values:
    view = view_of(term.name)
    if view is None:
        return _with_mean(tf.reduce_mean(tf.abs(window), 1))
    return _STATISTICS[term.name.partition(".")[2] or "mse"](sights[view], term)


def _with_mean(parts: Tensor) -> Values:
    return tf.reduce_mean(parts, 1, keepdims=True), parts


def _errors(sight: _Sight, variance: NDArray[np.float32] | float) -> Tensor:
    squares = tf.square(sight.target - sight.reconstruction) / variance
    if sight.lag:  # rows are added sooner where they are long
        _, steps, channels = squares.shape
        means = tf.reduce_mean(tf.reshape(squares, (1, steps // sight.lag, sight.lag * channels)), 1)
        squares = tf.reshape(means, (1, sight.lag, channels))
    return tf.reduce_mean(squares, 1)


def _mean_error(sight: _Sight, _: Term) -> Values:
    return _with_mean(_errors(sight, 1.0))


def _likelihood(sight: _Sight, _: Term) -> Values:
    return _with_mean(_errors(sight, sight.variance))


def _largest_error(sight: _Sight, term: Term) -> Values:
    parts = _errors(sight, 1.0) / np.maximum(np.array(term.centre, np.float32), ERROR_FLOOR)
    return tf.reduce_max(parts, 1, keepdims=True), parts


def _feature_distance(sight: _Sight, term: Term) -> Values:
    _, steps, channels = sight.target.shape
    offset = tf.transpose(sight.target - np.array(term.centre, np.float32), (0, 2, 1))
    offset = tf.reshape(offset, (1, channels, 1, steps))
    precision = np.array(term.precision, np.float32).reshape(1, channels, steps, steps)
    products = tf.reshape(tf.linalg.matmul(offset, precision) * offset, (1, channels, steps))
    parts = tf.reduce_sum(products, 2)
    return tf.reduce_max(parts, 1, keepdims=True), tf.maximum(parts, 0.0)


def _level_distance(sight: _Sight, term: Term) -> Values:
    precision = np.array(term.precision, np.float32)
    offset = _levels(sight.target) - np.array(term.centre, np.float32)
    pulled = tf.linalg.matmul(offset, precision)
    distance = tf.reduce_sum(pulled * offset, 1, keepdims=True)
    return tf.maximum(distance, LEAST_LEVEL), tf.square(pulled) / np.diagonal(precision)


def _heavy_tailed(sight: _Sight, _: Term) -> Values:
    return _with_mean(tf.reduce_mean(tf.math.log(tf.square(sight.target) + 1.0), 1))


def _divergence(sight: _Sight, _: Term) -> Values:
    log_variance = tf.clip_by_value(sight.log_variance, *LOG_VARIANCE_RANGE)
    each = tf.square(sight.mean) + tf.exp(log_variance) - 1.0 - log_variance
    return 0.5 * tf.reduce_sum(each, 1, keepdims=True), _errors(sight, sight.variance)


def _latent_distance(sight: _Sight, term: Term) -> Values:
    products = _products(sight.mean - np.array(term.centre, np.float32), term)
    return tf.reduce_sum(products, 1, keepdims=True), _errors(sight, sight.variance)


def _log_error_distance(sight: _Sight, term: Term) -> Values:
    logs = tf.math.log(_errors(sight, 1.0) + LOG_ERROR_FLOOR)
    products = _products(tf.maximum(logs - np.array(term.centre, np.float32), 0.0), term)
    return tf.maximum(tf.reduce_sum(products, 1, keepdims=True), 0.0), tf.maximum(products, 0.0)


def _products(offset: Tensor, term: Term) -> Tensor:
    return tf.linalg.matmul(offset, np.array(term.precision, np.float32)) * offset


_STATISTICS: Mapping[str, Callable[[_Sight, Term], Values]] = {
    "kl": _divergence,
    "level": _level_distance,
    "logm": _log_error_distance,
    "mahalanobis": _feature_distance,
    "max": _largest_error,
    "mse": _mean_error,
    "nll": _likelihood,
    "student": _heavy_tailed,
    "t2": _latent_distance,
}


def _converted(function: Callable[..., list[Tensor]], shapes: Sequence[tuple[int, ...]]) -> bytes:
    """A function of float32 tensors of these shapes as a TFLite model."""
    traced = tf.function(function, autograph=False).get_concrete_function(
        *(tf.TensorSpec(shape, tf.float32) for shape in shapes)
    )
    with silenced():  # what takes a function without variables announces its end, and has no successor
        model: bytes = tf.lite.TFLiteConverter.from_concrete_functions([traced]).convert()
    return model
