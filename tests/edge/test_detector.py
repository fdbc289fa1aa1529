"""A bundle that scores here as it did where it was made, or is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import keras
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_vae.bundle import Bundle, Manifest, Modes, WindowShape
from edge_vae.detector import GOLDEN_TOLERANCE, Detector, load
from edge_vae.errors import BundleError, InferenceError
from edge_vae.explain import Explanation
from edge_vae.features import feature_names, features
from edge_vae.probe import MODEL
from edge_vae.runtime import Outputs, TFLiteRuntime
from edge_vae.sample import FloatArray
from edge_vae.score import Scores, Term, fit_terms, fuse, view_of
from edge_vae.view import LIMIT_SIGMA, Model, View, see
from edge_vae_converters.tflite import convert
from edge_vae_train.models import Architecture, build, scoring_graph


@pytest.fixture(scope="module")
def bundle(parts_path: Path) -> Bundle:
    return Bundle.read(parts_path)


def changed(bundle: Bundle, **changes: object) -> Bundle:
    parts = {name: getattr(bundle, name) for name in ("manifest", "models", "golden", "reference")}
    return Bundle(**{**parts, **changes})  # type: ignore[arg-type]  # parts of a bundle by their names


def no_modes(windows: FloatArray) -> NDArray[np.float32]:
    return np.zeros((len(windows), 0), np.float32)


def score(detector: Detector, windows: FloatArray) -> Scores:
    return detector(windows, no_modes(windows))[0]


def test_a_loaded_bundle_gives_its_golden_scores(bundle: Bundle) -> None:
    windows = bundle.golden["windows"].astype(np.float64)
    scores, expected = load(bundle, path="rig.evb")(windows, bundle.golden["conditions"])
    assert expected.shape == (len(windows), windows.shape[2])
    assert scores.terms.shape == (len(windows), len(bundle.manifest.score))
    # The very runtime that made them; float32 in the bundle.
    np.testing.assert_allclose(scores.score, bundle.golden["score"], rtol=1e-6)


def test_the_bundle_under_test_has_a_model_of_the_window_and_one_of_its_features(bundle: Bundle) -> None:
    inputs = {view.name: view.input for view in bundle.manifest.views}
    assert (inputs["window"], inputs["features"]) == ("window", "features")
    assert {"window", "features"} <= set(bundle.models)


def test_golden_windows_are_normal_and_faulty_ones(bundle: Bundle) -> None:
    above = bundle.golden["score"] > bundle.manifest.threshold.value
    assert above.any()
    assert not above.all()


def test_the_models_see_clipped_windows_and_the_score_unclipped_ones(bundle: Bundle) -> None:
    detector = load(bundle, path="rig.evb")
    clip = bundle.manifest.clip
    windows = bundle.golden["windows"][:1].astype(np.float64)
    near, far = windows.copy(), windows.copy()
    near[0, :, 0], far[0, :, 0] = clip, 5 * clip
    seen_near, seen_far = (detector.see(w, no_modes(w)) for w in (near, far))
    np.testing.assert_array_equal(seen_near["window"].reconstruction, seen_far["window"].reconstruction)
    np.testing.assert_array_equal(seen_far["window"].target, far)
    assert score(detector, far).score[0] > score(detector, near).score[0]
    np.testing.assert_array_equal(score(detector, far).score, fuse(bundle.manifest.score, far, seen_far).score)


def test_infinite_readings_give_finite_scores(bundle: Bundle) -> None:
    detector = load(bundle, path="rig.evb")
    windows = bundle.golden["windows"][:2].astype(np.float64)
    windows[1, 3, 0] = np.inf
    scores, expected = detector(windows, no_modes(windows))
    assert np.isfinite(scores.score).all()
    assert np.isfinite(scores.terms).all()
    assert np.isfinite(scores.shares).all()
    assert np.isfinite(expected).all()
    windows[1, 3, 0] = LIMIT_SIGMA
    assert score(detector, windows).score[1] == scores.score[1]


def test_no_windows_have_no_scores(bundle: Bundle) -> None:
    windows = bundle.golden["windows"][:0].astype(np.float64)
    scores, expected = load(bundle, path="rig.evb")(windows, no_modes(windows))
    assert scores.score.shape == (0,)
    assert scores.terms.shape == (0, len(bundle.manifest.score))
    assert scores.shares.shape == expected.shape == (0, windows.shape[2])


@pytest.mark.parametrize(
    "change", [lambda score: score * 1.5 + 1, lambda score: score[::-1].copy(), lambda score: score * 0]
)
def test_a_model_that_scores_otherwise_here_is_refused(
    bundle: Bundle, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    golden = {**bundle.golden, "score": change(bundle.golden["score"])}
    with pytest.raises(
        BundleError, match=r"rig\.evb: .*expected golden scores within 5%, received a difference of \d+%"
    ):
        load(changed(bundle, golden=golden), path="rig.evb")


def test_scores_that_differ_as_kernels_do_are_accepted(bundle: Bundle) -> None:
    golden = {**bundle.golden, "score": bundle.golden["score"] * np.float32(1 + GOLDEN_TOLERANCE / 2)}
    load(changed(bundle, golden=golden), path="rig.evb")


@pytest.mark.parametrize("view", ["window", "features"])
def test_another_models_bytes_are_refused(bundle: Bundle, view: str) -> None:
    with pytest.raises(InferenceError, match="the model's inputs and outputs are not those of a scoring graph"):
        load(changed(bundle, models={**bundle.models, view: MODEL.read_bytes()}), path="rig.evb")


def test_a_model_for_other_windows_is_refused(bundle: Bundle) -> None:
    manifest = msgspec.structs.replace(bundle.manifest, window=WindowShape(48, 4))
    with pytest.raises(
        BundleError,
        match=r"rig\.evb: .*expected \(48, 7\) in view window, and 0 conditions, "
        r"received a model of \(32, 7\) and 0 conditions",
    ):
        load(changed(bundle, manifest=manifest), path="rig.evb")


def test_a_model_of_the_features_is_not_taken_for_one_of_the_window(bundle: Bundle) -> None:
    window = next(view for view in bundle.manifest.views if view.name == "window")
    views = tuple(
        msgspec.structs.replace(view, model=window.model) if view.name == "features" else view
        for view in bundle.manifest.views
    )
    manifest = msgspec.structs.replace(bundle.manifest, views=views)
    models = {**bundle.models, "features": bundle.models["window"]}
    with pytest.raises(BundleError, match=r"expected \(13, 7\) in view features, .* received a model of \(32, 7\)"):
        load(changed(bundle, manifest=manifest, models=models), path="rig.evb")


def test_a_model_that_knows_no_modes_is_refused_where_there_are_modes(bundle: Bundle) -> None:
    channels = len(bundle.manifest.channels)
    modes = Modes(("load",), ((1.0,), (2.0,)), ((0.0,) * channels,) * 2, ((1.0,) * channels,) * 2)
    manifest = msgspec.structs.replace(bundle.manifest, modes=modes)
    with pytest.raises(BundleError, match=r"and 2 conditions, received a model of .* and 0 conditions"):
        load(changed(bundle, manifest=manifest), path="rig.evb")


# What was expected: with models whose answers are plain to see.

WINDOWS = np.random.default_rng(0).normal(0, 1, (4, 32, 7))


class Half:
    """A model that expects half of what it sees."""

    def __call__(self, windows: NDArray[np.float32], conditions: NDArray[np.float32]) -> Outputs:
        latent = np.zeros((len(windows), 2), np.float32)
        return {"reconstruction": windows / 2, "posterior_mean": latent, "posterior_log_variance": latent}


def scored_by(manifest: Manifest, terms: tuple[str, ...]) -> Manifest:
    """The manifest with these terms alone, and the views that they need in their order."""
    by_name = {view.name: view for view in manifest.views}
    return msgspec.structs.replace(
        manifest,
        score=tuple(Term(name) for name in terms),
        views=tuple(by_name[str(view_of(name))] for name in terms if view_of(name)),
        explanation=Explanation("share", (), (), {}),
    )


def expected_by(manifest: Manifest, terms: tuple[str, ...]) -> FloatArray:
    detector = Detector(scored_by(manifest, terms), {"window": Half(), "features": Half()})
    return detector(WINDOWS, no_modes(WINDOWS))[1]


def test_expected_is_the_mean_of_the_windows_reconstruction(bundle: Bundle) -> None:
    # float32 inside the model: seven digits of numbers of size 1.
    expected = WINDOWS.mean(axis=1) / 2
    np.testing.assert_allclose(expected_by(bundle.manifest, ("window.nll",)), expected, atol=1e-6)
    np.testing.assert_allclose(expected_by(bundle.manifest, ("features.nll", "window.nll")), expected, atol=1e-6)


def test_expected_of_a_model_of_the_features_is_the_mean_that_it_expected(bundle: Bundle) -> None:
    view = next(view for view in bundle.manifest.views if view.name == "features")
    centre, scale = np.array(view.centre), np.array(view.scale)
    found = expected_by(bundle.manifest, ("features.nll",))
    clip, means = bundle.manifest.clip, features(WINDOWS)[:, 0]
    assert feature_names(32)[0] == "mean"
    for w, c in np.ndindex(found.shape):
        shown = min(max((means[w, c] - centre[0, c]) / scale[0, c], -clip), clip)
        assert found[w, c] == pytest.approx(shown / 2 * scale[0, c] + centre[0, c], abs=1e-5)
    assert not np.allclose(found, 0.0, atol=1e-3)


def test_expected_of_the_features_is_measured_from_the_centre_of_the_mode(bundle: Bundle) -> None:
    manifest = scored_by(bundle.manifest, ("features.nll",))
    (view,), steps = manifest.views, len(feature_names(32))
    moved = tuple(tuple(number + 3.0 for number in row) for row in view.centre)
    both = msgspec.structs.replace(
        view, centre=view.centre + moved, scale=view.scale * 2, conditions=((1.0, 0.0), (0.0, 1.0))
    )
    assert len(both.centre) == 2 * steps
    modes = Modes(("load",), ((1.0,), (2.0,)), ((0.0,) * 7,) * 2, ((1.0,) * 7,) * 2)
    detector = Detector(msgspec.structs.replace(manifest, views=(both,), modes=modes), {"features": Half()})
    conditions = modes.conditions[[0, 1, 1, 0]]
    seen, (_, found) = detector.see(WINDOWS, conditions)["features"], detector(WINDOWS, conditions)
    for w, c in np.ndindex(found.shape):
        centre = view.centre[0][c] + (3.0 if w in {1, 2} else 0.0)
        assert found[w, c] == pytest.approx(seen.reconstruction[w, 0, c] * view.scale[0][c] + centre, abs=1e-9)


def test_expected_without_a_model_is_the_centre(bundle: Bundle) -> None:
    found = expected_by(bundle.manifest, ("z",))
    np.testing.assert_array_equal(found, np.zeros((4, 7)))


# Operating modes.

MODES = Modes(("recipe",), ((1.0,), (2.0,), (5.0,)), ((0.0, 0.0),) * 3, ((1.0, 1.0),) * 3)
LENGTH, CHANNELS, CLIP = 12, 2, 8.0


@pytest.fixture(scope="module")
def of_modes(bundle: Bundle) -> Bundle:
    """A bundle of untrained int8 models that are told one of three modes, with what they need to score."""
    keras.utils.set_random_seed(0)
    windows = np.random.default_rng(0).normal(0, 1, (120, LENGTH, CHANNELS)).astype(np.float32).astype(np.float64)
    conditions = MODES.conditions[np.arange(120) % 3]
    steps = len(feature_names(LENGTH))
    raw = features(windows)
    centre, scale = (tuple(map(tuple, t.tolist())) for t in (raw.mean(axis=0), raw.std(axis=0)))
    views, models = [], {}
    for view in (
        View("window", "window", (), (), ((1.0,) * CHANNELS,), 0, (), None),
        View("features", "features", centre, scale, ((1.0,) * CHANNELS,) * steps, 0, (), None),
    ):
        size = LENGTH if view.name == "window" else steps
        graph = scoring_graph(build(Architecture(size, CHANNELS, family="dense", latent=3, width=8, modes=3)))
        given = np.clip(view.target(windows, conditions), -CLIP, CLIP).astype(np.float32)
        converted = convert(graph, precision="int8", representative=[given, conditions])
        model = Model(hashlib.sha256(converted.model).hexdigest(), "int8", converted.outputs, converted.operators)
        models[view.name] = converted.model
        views.append(msgspec.structs.replace(view, model=model))
    runtimes = {v.name: TFLiteRuntime(models[v.name], outputs=v.model.outputs) for v in views if v.model}
    seen = see(views, runtimes, windows, clip=CLIP, conditions=conditions)
    drafts = [Term(name) for name in ("window.nll", "features.nll", "features.t2")]
    terms, scores = fit_terms(drafts, windows, seen, known={}, overlap=3.0)
    golden = {
        "windows": windows[:6].astype(np.float32),
        "conditions": conditions[:6],
        "score": scores[:6].astype(np.float32),
    }
    manifest = msgspec.structs.replace(
        bundle.manifest, channels=bundle.manifest.channels[:CHANNELS], window=WindowShape(LENGTH, 4), clip=CLIP,
        modes=MODES, views=tuple(views), score=terms, explanation=Explanation("share", (), (), {}),
        threshold=msgspec.structs.replace(bundle.manifest.threshold, value=2.0),
    )  # fmt: skip
    return Bundle(manifest, models, golden, {})


@pytest.mark.keras
def test_a_bundle_with_modes_gives_its_golden_scores_and_comes_back_whole(of_modes: Bundle) -> None:
    back = Bundle.unpack(of_modes.pack(), path="modes.evb")
    windows = back.golden["windows"].astype(np.float64)
    scores, _ = load(back, path="modes.evb")(windows, back.golden["conditions"])
    # The very runtime that made them; float32 in the bundle.
    np.testing.assert_allclose(scores.score, back.golden["score"], rtol=1e-6)


@pytest.mark.keras
def test_the_mode_is_part_of_the_score(of_modes: Bundle) -> None:
    detector = load(of_modes, path="modes.evb")
    windows = np.repeat(of_modes.golden["windows"][:1].astype(np.float64), 3, axis=0)
    scores, expected = detector(windows, MODES.conditions)
    assert len(set(scores.score.tolist())) == 3
    assert len({tuple(row) for row in expected.tolist()}) == 3
    for view in detector.see(windows, MODES.conditions).values():
        np.testing.assert_array_equal(view.target[0], view.target[1])
        assert (view.reconstruction[0] != view.reconstruction[1]).any()


@pytest.mark.keras
def test_golden_scores_of_other_modes_are_refused(of_modes: Bundle) -> None:
    golden = {**of_modes.golden, "conditions": np.roll(of_modes.golden["conditions"], 1, axis=1)}
    with pytest.raises(BundleError, match="expected golden scores within 5%"):
        load(changed(of_modes, golden=golden), path="modes.evb")


@pytest.mark.keras
@pytest.mark.parametrize("modes", [None, msgspec.structs.replace(MODES, values=((1.0,), (2.0,), (2.0,)))])
def test_a_model_for_other_modes_is_refused(of_modes: Bundle, modes: Modes | None) -> None:
    manifest = msgspec.structs.replace(of_modes.manifest, modes=modes)
    known = manifest.conditions
    with pytest.raises(BundleError, match=rf"and {known} conditions, received a model of \(12, 2\) and 3 conditions"):
        load(changed(of_modes, manifest=manifest), path="modes.evb")
