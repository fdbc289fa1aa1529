"""A bundle that scores here as it did where it was made, or is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_vae.bundle import Bundle, WindowShape
from edge_vae.detector import GOLDEN_TOLERANCE, load
from edge_vae.errors import BundleError, InferenceError
from edge_vae.probe import MODEL, OUTPUT
from edge_vae.score import LIMIT_SIGMA, fuse


@pytest.fixture(scope="module")
def bundle(bundle_path: Path) -> Bundle:
    return Bundle.read(bundle_path)


def changed(bundle: Bundle, **changes: object) -> Bundle:
    parts = {name: getattr(bundle, name) for name in ("manifest", "model", "golden", "reference")}
    return Bundle(**{**parts, **changes})  # type: ignore[arg-type]  # parts of a bundle by their names


def test_a_loaded_bundle_gives_its_golden_scores(bundle: Bundle) -> None:
    scores, reconstruction = load(bundle, path="rig.evb")(bundle.golden["windows"].astype(np.float64))
    assert reconstruction.shape == bundle.golden["windows"].shape
    # The very runtime that made them; float32 in the bundle.
    np.testing.assert_allclose(scores.score, bundle.golden["score"], rtol=1e-6)


def test_golden_windows_are_normal_and_faulty_ones(bundle: Bundle) -> None:
    above = bundle.golden["score"] > bundle.manifest.threshold.value
    assert above.any()
    assert not above.all()


def test_the_model_sees_clipped_windows_and_the_score_unclipped_ones(bundle: Bundle) -> None:
    detector = load(bundle, path="rig.evb")
    clip = bundle.manifest.clip
    windows = bundle.golden["windows"][:1].astype(np.float64)
    near, far = windows.copy(), windows.copy()
    near[0, :, 0], far[0, :, 0] = clip, 5 * clip
    np.testing.assert_array_equal(detector.reconstruct(near), detector.reconstruct(far))
    assert detector(far)[0].score[0] > detector(near)[0].score[0]
    np.testing.assert_array_equal(
        detector(far)[0].score, fuse(bundle.manifest.score, far, detector.reconstruct(far)).score
    )


def test_infinite_readings_give_finite_scores(bundle: Bundle) -> None:
    windows = bundle.golden["windows"][:2].astype(np.float64)
    windows[1, 3, 0] = np.inf
    scores, reconstruction = load(bundle, path="rig.evb")(windows)
    assert np.isfinite(scores.score).all()
    assert np.isfinite(reconstruction).all()
    windows[1, 3, 0] = LIMIT_SIGMA
    assert load(bundle, path="rig.evb")(windows)[0].score[1] == scores.score[1]


def test_no_windows_have_no_scores(bundle: Bundle) -> None:
    scores, reconstruction = load(bundle, path="rig.evb")(bundle.golden["windows"][:0].astype(np.float64))
    assert scores.score.shape == (0,)
    assert reconstruction.shape == bundle.golden["windows"][:0].shape


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


def test_another_models_bytes_are_refused(bundle: Bundle) -> None:
    with pytest.raises(InferenceError, match="the model's inputs and outputs are not those of a scoring graph"):
        load(changed(bundle, model=MODEL.read_bytes()), path="rig.evb")


def test_a_model_for_other_windows_is_refused(bundle: Bundle) -> None:
    model = MODEL.read_bytes()
    described = msgspec.structs.replace(
        bundle.manifest.models[0], outputs={"reconstruction": OUTPUT}, sha256=hashlib.sha256(model).hexdigest()
    )
    manifest = msgspec.structs.replace(bundle.manifest, models=(described,), window=WindowShape(16, 4))
    with pytest.raises(BundleError, match=r"rig\.evb: .*expected windows of \(16, 7\), received a model of \(3,\)"):
        load(changed(bundle, model=model, manifest=manifest), path="rig.evb")
