"""One graph in place of many steps: every term, view and mode gives the numbers that numpy gives."""

from __future__ import annotations

from typing import Any

import keras
import msgspec
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from edge_vae.alarm import AlarmRules
from edge_vae.bundle import FORMAT, Bundle, Channel, Fit, Manifest, Modes, Training, WindowShape
from edge_vae.detector import CompiledDetector, Detector, load
from edge_vae.errors import InferenceError
from edge_vae.explain import Explanation
from edge_vae.features import feature_names, features
from edge_vae.graph import BATCH, SUMMARY, Graph, ScoringGraph
from edge_vae.principal import PrincipalRuntime, in_int8
from edge_vae.runtime import Runtime, TFLiteRuntime
from edge_vae.sample import FloatArray
from edge_vae.score import TERMS, Term, fit_terms, needs_model, view_of
from edge_vae.threshold import Threshold
from edge_vae.view import Model, View, see, to_rows
from edge_vae_converters import joining
from edge_vae_converters.compiling import compiled
from edge_vae_converters.joining import ends
from edge_vae_converters.one_graph import _converted, one_graph
from edge_vae_converters.tflite import Converted, convert
from edge_vae_train.models import Architecture, build, scoring_graph
from edge_vae_train.prepare import WindowSet

pytestmark = pytest.mark.keras

CHANNELS, CLIP, LATENT = 3, 8.0, 4
COUNT = 60
MODES = Modes(("load",), ((1.0,), (2.0,)), ((0.0,) * CHANNELS,) * 2, ((1.0,) * CHANNELS,) * 2)
RTOL = 2e-4
"""float32 in place of float64: a few hundred roundings of 6e-8 each, more where nearly equal numbers are subtracted."""


def windows_of(length: int, *, seed: int = 0) -> FloatArray:
    """Windows of very different size: a waving channel, a noisy one, and one that hardly moves."""
    generator = np.random.default_rng(seed)
    waves = np.sin(np.arange(length)[None] * generator.uniform(0.05, 2.0, (COUNT, 1)))
    windows = np.stack([waves, generator.normal(size=(COUNT, length)), np.full((COUNT, length), 0.3)], axis=2)
    windows += generator.normal(0, 0.02, windows.shape)
    return np.asarray(windows * generator.lognormal(0, 0.8, (COUNT, 1, 1)))


def made(
    terms: tuple[str, ...], *, length: int = 12, modes: Modes | None = None, precision: str = "float32"
) -> tuple[Bundle, dict[str, Converted], FloatArray]:
    """A bundle of separate models with these terms, its models, and windows."""
    keras.utils.set_random_seed(5)
    windows = windows_of(length)
    known = modes.conditions if modes else np.zeros((1, 0), np.float32)
    conditions = known[np.arange(COUNT) % len(known)]
    wanted = {view_of(term) for term in terms} - {None}
    modelled = {view_of(term) for term in terms if needs_model(term)}
    views, models, runtimes, reference = [], {}, {}, {}
    for view in (one for one in _views(length, windows, known) if one.name in wanted):
        target = np.clip(view.target(windows, conditions), -CLIP, CLIP).astype(np.float32)
        model = None
        if view.name in modelled:
            architecture = Architecture(
                target.shape[1], CHANNELS, family="dense", latent=LATENT, width=8, modes=conditions.shape[1]
            )
            converted = convert(
                scoring_graph(build(architecture)), precision=precision, representative=[target, conditions]
            )
            models[view.name] = converted
            runtimes[view.name] = _running(converted)
            model = Model("", precision, converted.outputs, converted.operators)
        if view.name == "pca":
            reference = _components(view.lag)
            runtimes[view.name] = PrincipalRuntime(reference)
        views.append(msgspec.structs.replace(view, model=model))
    seen = see(views, runtimes, windows, clip=CLIP, conditions=conditions)
    fitted, scores = fit_terms([_drafted(name, length) for name in terms], windows, seen, known={}, overlap=1.0)
    manifest = Manifest(
        format=FORMAT, name="graph", version=1, created="",
        channels=tuple(Channel(name, 0.0, 1.0) for name in "abc"), rate_hz=1.0, window=WindowShape(length, 1),
        clip=CLIP, baseline=0, modes=modes, views=tuple(views), graph=None, score=fitted,
        threshold=Threshold(2.0, "rank", 1.0, 2.0, 0.0, 0.4, 9.0, 40, 4.4, 5, 2.8, 3.3),
        explanation=Explanation("share", (), (), {}), alarm=AlarmRules(),
        training=Training(1, 1, 1, 1, 1, {view.name: Fit("dense", LATENT, 1, 1.0, 0, 1, 0.0, 0.0) for view in views}),
        calibration="", parity=(),
    )  # fmt: skip
    golden = {"windows": windows[:4].astype(np.float32), "conditions": conditions[:4]}
    golden["score"] = scores[:4].astype(np.float32)
    return Bundle(manifest, {name: c.model for name, c in models.items()}, golden, reference), models, conditions


def _views(length: int, windows: FloatArray, known: NDArray[np.float32]) -> tuple[View, ...]:
    found = features(windows)
    centre, scale = (np.concatenate([table] * len(known)) for table in (found.mean(axis=0), found.std(axis=0) + 0.1))
    centre[len(centre) // len(known) :] += 0.5  # the second mode is centred elsewhere
    conditions = to_rows(known.astype(np.float64)) if known.shape[1] else ()
    one = ((0.5, 0.7, 1.3),)
    return (
        View("window", "window", (), (), one, 0, (), None),
        View(
            "features",
            "features",
            to_rows(centre),
            to_rows(scale),
            one * len(feature_names(length)),
            0,
            conditions,
            None,
        ),
        View("pca", "window", (), (), ((1.0,) * CHANNELS,), length // 2, (), None),
    )


def _components(lag: int) -> dict[str, NDArray[Any]]:
    generator = np.random.default_rng(2)
    basis = np.linalg.qr(generator.normal(size=(lag * CHANNELS, 3)))[0].T
    return {
        "lag_mean": generator.normal(0, 0.1, lag * CHANNELS).astype(np.float32),
        "lag_components": basis.astype(np.float16),
    }


def _drafted(name: str, length: int) -> Term:
    generator, steps = np.random.default_rng(3), len(feature_names(length))

    def precision(size: int) -> NDArray[np.float64]:
        root = generator.normal(size=(size, size))
        return np.asarray(root @ root.T / size + np.eye(size))

    if name == "features.level":
        return Term(
            name, centre=to_rows(generator.normal(0, 0.2, (1, CHANNELS))), precision=to_rows(precision(CHANNELS))
        )
    if name == "features.mahalanobis":
        tables = np.concatenate([precision(steps) for _ in range(CHANNELS)])
        return Term(name, centre=to_rows(generator.normal(0, 0.2, (steps, CHANNELS))), precision=to_rows(tables))
    return Term(name)


def _running(converted: Converted) -> TFLiteRuntime:
    return TFLiteRuntime(converted.model, outputs=converted.outputs)


def by_steps(bundle: Bundle, models: dict[str, Converted]) -> Detector:
    runtimes: dict[str, Runtime] = {name: _running(one) for name, one in models.items()}
    if bundle.reference:
        runtimes["pca"] = PrincipalRuntime(bundle.reference)
    return Detector(bundle.manifest, runtimes)


def by_graph(bundle: Bundle, joined: tuple[bytes, Graph], *, threads: int = 0) -> CompiledDetector:
    terms, channels = len(bundle.manifest.score), len(bundle.manifest.channels)
    running = ScoringGraph(*joined, terms=terms, channels=channels, threads=threads)
    return CompiledDetector(bundle.manifest, running)


def check_same(
    bundle: Bundle, models: dict[str, Converted], conditions: NDArray[np.float32], *, rtol: float = RTOL
) -> None:
    windows = windows_of(bundle.manifest.window.length, seed=1)
    windows[0] *= 1e6  # a broken sensor
    joined = one_graph(bundle.manifest, models, bundle.reference)
    expected, means = by_steps(bundle, models)(windows, conditions)
    found, found_means = by_graph(bundle, joined)(windows, conditions)
    for name in ("score", "terms", "parts"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=rtol, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(found.shares, expected.shares, atol=1e-4)
    np.testing.assert_allclose(found_means, means, rtol=1e-4, atol=1e-5)
    # In batches, with some windows left over. Kernels may add in another order for several rows.
    batched, batched_means = by_graph(bundle, joined, threads=1)(windows, conditions)
    for name in ("score", "terms", "parts", "shares"):
        np.testing.assert_allclose(getattr(batched, name), getattr(found, name), rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(batched_means, found_means, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("term", sorted(TERMS))
def test_every_term_gives_the_same_numbers(term: str) -> None:
    check_same(*made((term,)))


@pytest.mark.parametrize(
    "terms",
    [
        ("window.nll", "features.nll", "features.level"),
        ("window.nll", "features.nll", "pca", "features.mahalanobis"),
        ("window.max", "features.nll", "features.level", "pca", "features.mahalanobis"),
        ("z", "window.mse", "window.nll", "window.max", "features.nll", "features.level"),
    ],
    ids=len,
)
def test_terms_are_summed_without_the_loudest_fifth(terms: tuple[str, ...]) -> None:
    check_same(*made(terms))


@pytest.mark.parametrize("length", [5, 16, 64, 100, 128, 256])
def test_features_of_windows_of_any_length_are_the_same(length: int) -> None:
    check_same(*made(("features.nll",), length=length))


def test_without_a_spectrum_in_tflite_the_models_stay_separate() -> None:
    bundle, models, conditions = made(("features.nll",), length=130)
    scores = by_steps(bundle, models)(windows_of(130), conditions)[0].score
    tried = WindowSet(windows_of(130).astype(np.float32), conditions)
    kept, lines = compiled(bundle, models, windows=tried, expected=scores)
    assert kept is bundle
    assert lines == ("no single graph: TFLite has no spectrum of 130 samples",)


def test_operating_modes_choose_centre_and_condition() -> None:
    bundle, models, conditions = made(("window.nll", "features.nll", "features.student"), modes=MODES)
    check_same(bundle, models, conditions)
    found = by_graph(bundle, one_graph(bundle.manifest, models, bundle.reference))
    same = np.repeat(windows_of(12)[:1], 2, axis=0)
    first, second = found(same, MODES.conditions)[0].score
    assert first != second


def test_the_mean_that_features_expect_is_that_of_the_mode() -> None:
    check_same(*made(("features.nll",), modes=MODES))


@pytest.mark.parametrize("precision", ["int8", "int16x8", "dynamic", "float16"])
def test_models_of_every_precision_can_be_joined(precision: str) -> None:
    # A rounding to int8 that is a tie in float64 may fall the other way in float32, by one step of 255.
    check_same(*made(("window.nll", "features.nll"), precision=precision), rtol=5e-3)


def test_a_compiled_bundle_comes_back_whole_and_scores_and_sees_as_before() -> None:
    bundle, models, conditions = made(("window.nll", "features.t2", "pca"))
    windows = windows_of(12)
    steps = by_steps(bundle, models)
    tried = WindowSet(windows.astype(np.float32), conditions)
    expected = steps(tried.windows.astype(np.float64), conditions)[0].score
    packed, lines = compiled(bundle, models, windows=tried, expected=expected)
    assert lines == ()
    back = Bundle.unpack(packed.pack(), path="graph.evb")
    assert list(back.models) == ["scoring"]
    assert "lag_components" not in back.reference
    assert back.manifest.parity[-1].value < 1e-4
    detector = load(back, path="graph.evb")
    assert isinstance(detector, CompiledDetector)
    seen, stepwise = detector.see(windows, conditions), steps.see(windows, conditions)
    assert seen.keys() == stepwise.keys()
    for view, one in stepwise.items():
        np.testing.assert_array_equal(seen[view].target, one.target)
        np.testing.assert_allclose(seen[view].reconstruction, one.reconstruction, atol=1e-5)
        np.testing.assert_allclose(seen[view].mean, one.mean, atol=1e-5)
    assert detector.explain(windows[:1], conditions[:1]).shares.shape == (1, CHANNELS)


def test_components_in_int8_are_the_same_numbers_in_the_graph() -> None:
    bundle, models, conditions = made(("pca", "features.level"))
    components, steps = in_int8(bundle.reference["lag_components"].astype(np.float32))
    stored = bundle.reference | {"lag_components": components, "lag_steps": steps}
    small = Bundle(bundle.manifest, bundle.models, bundle.golden, stored)
    check_same(small, models, conditions)
    sizes = [len(one_graph(bundle.manifest, models, one.reference)[0]) for one in (bundle, small)]
    assert sizes[0] - sizes[1] == pytest.approx(components.size, abs=200)


def test_a_compiled_bundle_has_the_tables_of_its_terms_in_the_graph_alone() -> None:
    bundle, models, conditions = made(("features.mahalanobis", "features.level"))
    tried = WindowSet(windows_of(12).astype(np.float32), conditions)
    expected = by_steps(bundle, models)(tried.windows.astype(np.float64), conditions)[0].score
    packed, _ = compiled(bundle, models, windows=tried, expected=expected)
    assert all(term.precision for term in bundle.manifest.score)
    assert [term.tail for term in packed.manifest.score] == [term.tail for term in bundle.manifest.score]
    assert not any(term.centre or term.precision for term in packed.manifest.score)
    with pytest.raises(ValueError, match="which stand in the graph"):
        msgspec.structs.replace(packed.manifest, score=bundle.manifest.score).__post_init__()


def test_a_graph_that_scores_otherwise_is_not_taken() -> None:
    bundle, models, conditions = made(("window.nll",))
    tried = WindowSet(windows_of(12).astype(np.float32), conditions)
    expected = by_steps(bundle, models)(tried.windows.astype(np.float64), conditions)[0].score
    kept, (line,) = compiled(bundle, models, windows=tried, expected=expected * 1.02)
    assert kept is bundle
    assert line.startswith("no single graph: its scores differ by 1.")


def test_joining_twice_gives_the_same_bytes_and_names_what_comes_out() -> None:
    bundle, models, _ = made(("window.nll", "features.nll", "pca"))
    (first, graph), (second, _) = (one_graph(bundle.manifest, models, bundle.reference) for _ in range(2))
    assert first == second
    outputs = {"reconstruction", "posterior_mean", "posterior_log_variance"}
    of_models = {f"{view}.{output}" for view in ("window", "features") for output in outputs}
    assert set(graph.outputs) == {SUMMARY, "pca.reconstruction", *of_models}


def test_a_summary_of_another_size_is_refused() -> None:
    bundle, models, _ = made(("window.nll",))
    model, graph = one_graph(bundle.manifest, models, bundle.reference)
    with pytest.raises(InferenceError, match="expected 15 numbers for 2 terms and 3 channels, received"):
        ScoringGraph(model, graph, terms=2, channels=CHANNELS)


@pytest.mark.parametrize("modes", [None, MODES], ids=["no modes", "modes"])
def test_a_graph_takes_several_windows_at_once(modes: Modes | None) -> None:
    terms = ("window.max", "features.nll", "features.level", "pca", "features.mahalanobis")
    bundle, models, _ = made(terms, modes=modes, precision="int8")
    model, graph = one_graph(bundle.manifest, models, bundle.reference)
    batched = TFLiteRuntime(model, outputs=graph.outputs, batch=BATCH)
    conditions = np.zeros((BATCH, batched.conditions), np.float32)
    assert batched.only(SUMMARY)(windows_of(12)[:BATCH], conditions).shape == (BATCH, 1 + 5 + 7 * CHANNELS)


@pytest.fixture(scope="module")
def two_terms() -> tuple[bytes, Graph]:
    bundle, models, _ = made(("window.nll", "features.nll"))
    return one_graph(bundle.manifest, models, bundle.reference)


@pytest.mark.parametrize("count", [0, 1, BATCH - 1, BATCH, 3 * BATCH + 1, 100])
def test_windows_are_scored_alike_by_one_interpreter_and_by_several(count: int, two_terms: tuple[bytes, Graph]) -> None:
    windows = np.concatenate([windows_of(12, seed=seed) for seed in range(2)])[:count]
    nothing = np.zeros((count, 0), np.float32)
    one, *others = (
        ScoringGraph(*two_terms, terms=2, channels=CHANNELS, threads=threads).score(windows, nothing)[0]
        for threads in (0, 1, 3)
    )
    assert one.score.shape == (count,)
    for several in others:
        np.testing.assert_allclose(several.score, one.score, rtol=1e-6)
        np.testing.assert_allclose(several.parts, one.parts, rtol=1e-5, atol=1e-9)


def test_a_graph_that_takes_one_window_alone_is_shared_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, models, _ = made(("window.nll",))
    # As graphs were joined before, and as they are where an operator holds them to one window.
    monkeypatch.setattr(joining, "_leave_batch_open", lambda _: None)
    model, graph = one_graph(bundle.manifest, models, bundle.reference)
    with pytest.raises(InferenceError, match="refuses the model"):
        TFLiteRuntime(model, outputs=graph.outputs, batch=BATCH)
    windows, nothing = windows_of(12), np.zeros((COUNT, 0), np.float32)
    one, several = (
        ScoringGraph(model, graph, terms=1, channels=CHANNELS, threads=threads).score(windows, nothing)[0]
        for threads in (0, 2)
    )
    np.testing.assert_array_equal(several.score, one.score)


def test_an_output_that_stays_one_for_a_whole_batch_is_refused() -> None:
    model = _converted(lambda window: [window * 2.0, tf.zeros((1, 4))], [(1, 12, CHANNELS)])
    outputs = dict(zip(("doubled", "constant"), ends(model).output_names, strict=True))
    TFLiteRuntime(model, outputs=outputs)
    with pytest.raises(InferenceError, match="8 windows at once: expected 8 of each output, received another number"):
        TFLiteRuntime(model, outputs=outputs, batch=BATCH)
