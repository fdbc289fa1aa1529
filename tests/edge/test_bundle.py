"""The bundle: equal content gives equal bytes, and nothing but a whole and unchanged bundle is ever accepted."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vae.alarm import AlarmRules
from edge_vae.bundle import (
    FORMAT,
    MAX_BYTES,
    Bundle,
    Channel,
    Fit,
    Manifest,
    Modes,
    ParityRow,
    Training,
    WindowShape,
    arrays_to_npz,
    npz_to_arrays,
)
from edge_vae.detector import load
from edge_vae.errors import EX_CONFIG, BundleError
from edge_vae.explain import Explanation
from edge_vae.features import feature_names, features
from edge_vae.score import Tail, Term
from edge_vae.threshold import Threshold
from edge_vae.view import OUTPUTS, Model, Rows, View

LENGTH, CHANNELS = 6, 2
STEPS = len(feature_names(LENGTH))
MODELS = {"window": bytes(range(256)) * 4, "features": b"another model" * 40}
Contents = dict[str, bytes]
NAN = float("nan")


def table(rows: int, number: float = 1.0) -> Rows:
    return ((number,) * CHANNELS,) * rows


def model(name: str) -> Model:
    outputs = {output: f"{output}:0" for output in OUTPUTS}
    return Model(hashlib.sha256(MODELS[name]).hexdigest(), "int8", outputs, {"CONV_2D": 3})


VIEWS = (
    View("window", "window", (), (), table(1), 0, (), model("window")),
    View("features", "features", table(STEPS, 0.5), table(STEPS, 2.0), table(STEPS), 0, (), model("features")),
)
MODES = Modes(
    columns=("recipe", "load"),
    values=((1.0, 0.5), (2.0, 0.5), (2.0, 7.25)),
    centre=((10.0, 1.0), (20.0, 2.0), (30.0, 3.0)),
    scale=((2.0, 0.1), (3.0, 0.2), (4.0, 0.3)),
)
FIT = Fit("conv", 8, 7, 1.0, 0, 330, 0.06, 0.08)
TAIL = Tail(0.0, 0.3)


def manifest(*, modes: Modes | None = None) -> Manifest:
    distance = (((0.1, 0.2),), ((2.0, 0.5), (0.5, 1.0)))
    return Manifest(
        format=FORMAT,
        name="pump",
        version=1_600_000_000,
        created="2020-09-13T12:26:40Z",
        channels=(Channel("flow", 10.0, 2.0), Channel("Druck [bar] \u03bb", 1.0, 0.1)),
        rate_hz=10.0,
        window=WindowShape(LENGTH, 2),
        clip=8.0,
        baseline=0,
        modes=modes,
        views=VIEWS,
        graph=None,
        score=(Term("z", TAIL), Term("window.nll", TAIL), Term("features.logm", TAIL, *distance)),
        threshold=Threshold(3.0, "pareto", 0.5, 2.0, 0.1, 0.4, 9.0, 40, 4.4, 5, 2.8, 3.3),
        explanation=Explanation(
            "surprise", table(3, 0.1), table(3), {"surprise": 0.9}, {"surprise": 1.0}, table(1, 0.0), table(2)
        ),
        alarm=AlarmRules(),
        training=Training(7, 3, 7_200, 1_400, 330, {"window": FIT, "features": FIT}),
        calibration="stress",
        parity=(
            ParityRow("score Spearman", 0.9999, ">= 0.999", passed=True),
            ParityRow("bytes", 1024.0, "", passed=None),
        ),
    )


def golden(*, conditions: int = 0) -> dict[str, np.ndarray]:
    numbers = np.random.default_rng(0).normal(size=(3, LENGTH, CHANNELS)).astype(np.float32)
    return {"windows": numbers, "conditions": np.zeros((3, conditions), np.float32), "score": numbers[:, 0, 0]}


def bundle(*, modes: Modes | None = None) -> Bundle:
    cells = LENGTH * CHANNELS
    reference = {
        "mean": np.zeros(cells, np.float32),
        "components": np.eye(4, cells, dtype=np.float32),
        "variance": np.ones(4, np.float32),
        "q": np.ones(1, np.float32),
        "t2": np.ones(1, np.float32),
        "z_threshold": np.ones(1, np.float32),
    }
    described = manifest(modes=modes)
    return Bundle(described, MODELS, golden(conditions=described.conditions), reference)


PACKED, PACKED_WITH_MODES = bundle().pack(), bundle(modes=MODES).pack()


def contents(packed: bytes = PACKED) -> Contents:
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(entries: Contents) -> bytes:
    """Packed as the bundle itself is, so that only the content is to blame."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_LZMA)
        archive.comment = b"." * 64
    return hashed(file.getvalue()[:-64])


def hashed(before: bytes) -> bytes:
    return before + hashlib.sha256(before).hexdigest().encode()


def with_manifest(change: Callable[[dict[str, Any]], object], packed: bytes = PACKED) -> bytes:
    """A bundle that is whole, but whose manifest says something else."""
    entries = contents(packed)
    document = json.loads(entries["manifest.json"])
    change(document)
    return zipped(entries | {"manifest.json": json.dumps(document).encode()})


def with_modes(change: Callable[[dict[str, Any]], object]) -> bytes:
    """A bundle that is whole, but whose operating modes are others."""
    return with_manifest(lambda d: change(d["modes"]), PACKED_WITH_MODES)


def refusal(packed: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.unpack(packed, path="pump.evb")
    assert caught.value.exit_status == EX_CONFIG
    line = str(caught.value)
    assert line.startswith("pump.evb: ")
    assert "expected " in line
    assert "received " in line
    assert "\n" not in line
    return line


def test_a_bundle_comes_back_with_everything_and_packs_to_the_same_bytes() -> None:
    back = Bundle.unpack(PACKED, path="pump.evb")
    assert back.manifest == manifest()
    assert back.models == MODELS
    assert back.golden.keys() == {"windows", "conditions", "score"}
    np.testing.assert_array_equal(back.golden["windows"], bundle().golden["windows"])
    np.testing.assert_array_equal(back.reference["components"], bundle().reference["components"])
    assert back.pack() == PACKED
    assert back.sha256 == hashlib.sha256(PACKED).hexdigest()


def test_the_test_packs_as_the_bundle_does() -> None:
    assert zipped(contents()) == PACKED


def test_equal_content_gives_equal_bytes_whatever_the_order_of_its_parts() -> None:
    original = bundle()
    models, golden = (dict(reversed(parts.items())) for parts in (original.models, original.golden))
    turned = Bundle(original.manifest, models, golden, original.reference)
    assert turned.pack() == PACKED


def test_a_written_bundle_is_read_back_and_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "pump.evb"
    path.write_bytes(b"an older one")
    bundle().write(path)
    assert path.read_bytes() == PACKED
    assert Bundle.read(path).manifest == manifest()
    assert [file.name for file in tmp_path.iterdir()] == ["pump.evb"]


def test_a_bundle_holds_the_manifest_the_models_in_the_order_of_their_views_and_the_arrays() -> None:
    assert list(contents()) == ["manifest.json", "window.tflite", "features.tflite", "golden.npz", "reference.npz"]
    turned = msgspec.structs.replace(manifest(), views=VIEWS[::-1])
    back = Bundle.unpack(Bundle(turned, MODELS, golden(), {}).pack(), path="pump.evb")
    assert list(back.models) == [view.name for view in back.manifest.views] == ["features", "window"]


def without_models() -> Bundle:
    """A bundle that scores |z| alone."""
    described = msgspec.structs.replace(
        manifest(),
        views=(),
        score=(Term("z", TAIL),),
        explanation=Explanation("share", (), (), {}),
        training=Training(7, 3, 7_200, 1_400, 330, {}),
    )
    windows = golden()["windows"]
    # log(1 - log p) of the mean |z|, whose logarithm is logistic with the median 0 and the scale 0.3.
    logs = np.log(np.abs(windows).mean(axis=(1, 2), dtype=np.float64))
    score = np.log1p(np.log1p(np.exp(logs / 0.3))).astype(np.float32)
    return Bundle(described, {}, golden() | {"score": score}, {})


def test_a_bundle_without_a_model_is_a_bundle_and_scores() -> None:
    packed = without_models().pack()
    back = Bundle.unpack(packed, path="pump.evb")
    assert (back.models, back.manifest.precision) == ({}, "")
    windows = back.golden["windows"].astype(np.float64) * np.array([1.0, 4.0, 16.0])[:, None, None]
    scores, expected = load(back, path="pump.evb")(windows, back.golden["conditions"])
    assert (np.diff(scores.score) > 0).all()
    assert expected.tolist() == [[0.0] * CHANNELS] * 3
    wrong = back.golden["score"] + 1
    with pytest.raises(BundleError, match="expected golden scores within 5%"):
        load(Bundle(back.manifest, {}, {**back.golden, "score": wrong}, {}), path="pump.evb")


def test_a_view_without_a_model_has_no_file_and_scores() -> None:
    view = msgspec.structs.replace(VIEWS[1], model=None)
    whitened = tuple(tuple(row) for row in np.tile(np.eye(STEPS) / STEPS, (CHANNELS, 1)).tolist())
    distance = Term("features.mahalanobis", TAIL, table(STEPS, 0.0), whitened)
    small = without_models()
    described = msgspec.structs.replace(small.manifest, views=(view,), score=(distance,))
    windows = small.golden["windows"]
    found = (features(windows.astype(np.float64)) - 0.5) / 2.0
    largest = np.log(np.square(found).mean(axis=1).max(axis=1))
    score = np.log1p(np.log1p(np.exp(largest / 0.3))).astype(np.float32)
    packed = Bundle(described, {}, {**small.golden, "score": score}, {}).pack()
    assert b"features.tflite" not in packed
    back = Bundle.unpack(packed, path="pump.evb")
    assert (back.models, back.manifest.precision) == ({}, "")
    _, expected = load(back, path="pump.evb")(windows.astype(np.float64), small.golden["conditions"])
    assert expected.tolist() == [[0.5] * CHANNELS] * 3  # the centre of the feature that is the mean


def test_a_bundle_without_a_pca_is_a_bundle() -> None:
    small = Bundle(manifest(), MODELS, bundle().golden, {"z_threshold": np.ones(1, np.float32)})
    assert set(Bundle.unpack(small.pack(), path="pump.evb").reference) == {"z_threshold"}


def test_a_bundle_truncated_anywhere_is_refused() -> None:
    for length in range(len(PACKED)):
        refusal(PACKED[:length])


@pytest.mark.parametrize("bit", [0, 3, 7])
def test_a_bundle_with_one_flipped_bit_anywhere_is_refused(bit: int) -> None:
    for at in range(len(PACKED)):
        flipped = bytearray(PACKED)
        flipped[at] ^= 1 << bit
        refusal(bytes(flipped))


def test_a_real_bundle_truncated_or_flipped_at_many_places_is_refused(bundle_path: Path) -> None:
    packed = bundle_path.read_bytes()
    generator = np.random.default_rng(0)
    for at in generator.integers(0, len(packed), 40).tolist():
        refusal(packed[:at])
        flipped = bytearray(packed)
        flipped[at] ^= 1 << int(generator.integers(8))
        refusal(bytes(flipped))


@given(st.data())
def test_a_bundle_with_any_bytes_replaced_is_refused(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(PACKED) - 1))
    piece = data.draw(st.binary(max_size=40))
    cut = data.draw(st.integers(0, 40))
    changed = PACKED[:at] + piece + PACKED[at + cut :]
    if changed != PACKED:
        refusal(changed)


@given(st.binary(max_size=2_000))
def test_bytes_that_are_something_else_are_refused(packed: bytes) -> None:
    refusal(packed)


def test_a_python_without_lzma_says_what_it_lacks(tmp_path: Path) -> None:
    bundle().write(tmp_path / "pump.evb")
    program = "import sys; sys.modules['_lzma'] = None; from edge_vae.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", program, "inspect", tmp_path / "pump.evb"], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == EX_CONFIG
    assert "pump.evb: cannot be unpacked: expected a Python with its lzma module" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_further_bytes_at_the_end_are_refused() -> None:
    refusal(PACKED + b"\0")
    refusal(PACKED + PACKED)


@pytest.mark.parametrize(
    "entries",
    [
        {},
        {"readme.txt": b"hello"},
        contents() | {"further.txt": b""},
        {name: content for name, content in contents().items() if name != "golden.npz"},
        dict(reversed(contents().items())),
        {"../" + name: content for name, content in contents().items()},
        {name: contents()[name] for name in sorted(contents())},
        {"manifest.json": contents()["manifest.json"], "deep/window.tflite": b"", **contents()},
    ],
    ids=["empty", "another", "one more", "one less", "other order", "paths", "models last", "a path of a model"],
)
def test_a_zip_with_other_entries_is_refused(entries: Contents) -> None:
    refusal(zipped(entries))


def test_a_bundle_that_was_packed_by_a_zip_program_is_refused() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents().items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content)
    assert "changed" in refusal(file.getvalue())


def test_a_zip_program_can_look_into_a_bundle() -> None:
    with zipfile.ZipFile(io.BytesIO(PACKED)) as archive:
        assert archive.testzip() is None
        assert archive.comment.decode() == hashlib.sha256(PACKED[:-64]).hexdigest()
        assert json.loads(archive.read("manifest.json"))["name"] == "pump"


@pytest.mark.parametrize("packed", [hashed(b""), hashed(PACKED), hashed(PACKED[:40]), hashed(b"\0" * 100)])
def test_something_else_with_its_hash_is_refused(packed: bytes) -> None:
    refusal(packed)


def test_a_damaged_stream_in_a_whole_file_is_refused() -> None:
    at = PACKED.index(b"manifest.json") + len("manifest.json")
    for bit in range(8):
        damaged = bytearray(PACKED[:-64])
        damaged[at + 20] ^= 1 << bit
        refusal(hashed(bytes(damaged)))


def test_a_small_file_that_unpacks_to_more_than_any_bundle_is_refused() -> None:
    packed = zipped(contents() | {"golden.npz": bytes(MAX_BYTES)})
    assert len(packed) < MAX_BYTES // 100
    assert f"a content of more than {MAX_BYTES} bytes" in refusal(packed)


def test_a_bundle_that_was_compressed_in_another_way_keeps_its_bytes_and_its_hash() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in contents().items():
            archive.writestr(name, content)
        archive.comment = bytes(64)
    packed = hashed(file.getvalue()[:-64])
    assert packed != PACKED
    back = Bundle.unpack(packed, path="pump.evb")
    assert (back.pack(), back.sha256) == (packed, hashlib.sha256(packed).hexdigest())
    assert Bundle(back.manifest, back.models, back.golden, back.reference).pack() == PACKED


def test_a_larger_file_than_any_bundle_is_refused_without_reading_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "huge.evb"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES * 100)
    with pytest.raises(BundleError, match=f"more than {MAX_BYTES} bytes"):
        Bundle.read(path)


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_path_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path if kind == "folder" else tmp_path / "none.evb"
    with pytest.raises(BundleError, match=r"cannot be read.*expected a bundle made by edge-vae convert"):
        Bundle.read(path)


def with_models(models: Contents) -> bytes:
    """A bundle that is whole, but whose models are these."""
    entries = contents()
    arrays = {name: entries.pop(name) for name in ("golden.npz", "reference.npz")}
    return zipped(
        {"manifest.json": entries["manifest.json"]} | {f"{n}.tflite": content for n, content in models.items()} | arrays
    )


def test_the_test_puts_the_models_where_the_bundle_does() -> None:
    assert with_models(MODELS) == PACKED


@pytest.mark.parametrize(
    "models",
    [
        {},
        {"window": MODELS["window"]},
        {"features": MODELS["features"]},
        MODELS | {"pca": MODELS["window"]},
        dict(reversed(MODELS.items())),
        {"window": MODELS["window"], "Features": MODELS["features"]},
        {"./window": MODELS["window"], "features": MODELS["features"]},
    ],
    ids=["none", "one missing", "the first missing", "one more", "other order", "other name", "a path"],
)
def test_models_that_are_not_the_manifests_are_refused(models: Contents) -> None:
    assert f"the models {', '.join(models)}, which are not the manifest's" in refusal(with_models(models))


@pytest.mark.parametrize(
    "models",
    [
        MODELS | {"window": MODELS["window"][:-1] + b"\0"},
        MODELS | {"features": b""},
        {"window": MODELS["features"], "features": MODELS["window"]},
    ],
    ids=["changed", "empty", "swapped"],
)
def test_a_model_of_another_hash_is_refused(models: Contents) -> None:
    assert "a model whose hash is not the manifest's" in refusal(with_models(models))


def test_a_manifest_that_describes_no_model_or_other_models_is_refused() -> None:
    assert "the manifest's" in refusal(with_manifest(lambda d: d["views"][0].update(model=None)))
    assert "hash" in refusal(with_manifest(lambda d: d["views"][1]["model"].update(sha256="0" * 64)))
    assert "score terms" in refusal(with_manifest(lambda d: d.update(views=[])))
    assert "the manifest's" in refusal(with_manifest(lambda d: d["views"].reverse()))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(extra=1),
        lambda d: d["window"].update(lenght=3),
        lambda d: d.pop("clip"),
        lambda d: d.update(format=FORMAT - 1),
        lambda d: d.update(format=FORMAT + 1),
        lambda d: d.update(rate_hz=0),
        lambda d: d.update(rate_hz="10"),
        lambda d: d.update(clip=-8),
        lambda d: d.update(baseline=-1),
        lambda d: d.update(channels=[]),
        lambda d: d["channels"].pop(),
        lambda d: d["channels"][0].update(scale=0),
        lambda d: d["window"].update(length=0),
        lambda d: d["window"].update(length=10**9),
        lambda d: d["window"].update(length=LENGTH + 1),
        lambda d: d.update(score=[]),
        lambda d: d["score"][0].update(name="window.entropy"),
        lambda d: d["score"].pop(),
        lambda d: d["score"][1].update(name="pca"),
        lambda d: d["score"][2].update(centre=[], precision=[]),
        lambda d: d["score"][2].update(centre=[[0.1]], precision=[[2.0]]),
        lambda d: d["score"][2]["precision"].pop(),
        lambda d: d["views"].pop(),
        lambda d: d["views"].append(d["views"][0]),
        lambda d: d["views"].append(d["views"][0] | {"name": "pca"}),
        lambda d: d["views"][0].update(name="hidden"),
        lambda d: d["views"][0].update(input="features"),
        lambda d: d["views"][1].update(input="spectrum"),
        lambda d: d["views"][0].update(variance=[]),
        lambda d: d["views"][0].update(variance=[[1.0]]),
        lambda d: d["views"][0].update(variance=[[1.0, 0.0]]),
        lambda d: d["views"][0].update(variance=[[1.0, 1.0]] * (LENGTH + 1)),
        lambda d: d["views"][1].update(variance=[[1.0, 1.0]] * (STEPS - 1)),
        lambda d: d["views"][1].update(centre=[[0.0] * 3] * STEPS, scale=[[1.0] * 3] * STEPS),
        lambda d: d["views"][1].update(centre=[[0.0] * 2], scale=[[1.0] * 2]),
        lambda d: d["views"][1].update(centre=[[0.0] * 2] * (STEPS + 1), scale=[[1.0] * 2] * (STEPS + 1)),
        lambda d: d["views"][1]["scale"][3].__setitem__(0, 0.0),
        lambda d: d["views"][1]["scale"][3].pop(),
        lambda d: d["explanation"].update(method="guess"),
        lambda d: d["explanation"].update(centre=[], spread=[]),
        lambda d: d["explanation"].update(centre=[[0.0] * 2], spread=[[1.0] * 2]),
        lambda d: d["explanation"]["centre"][1].pop(),
        lambda d: d["explanation"]["spread"].pop(),
        lambda d: d["explanation"].update(centre=[[0.0] * 2] * 2, spread=[[1.0] * 2] * 2),
        lambda d: d["explanation"].update(means=[]),
        lambda d: d["explanation"]["means"][0].pop(),
        lambda d: d["explanation"].update(precision=[]),
        lambda d: d["explanation"]["precision"].pop(),
        lambda d: d["explanation"].update(means=[[0.0] * 3], precision=[[1.0] * 3] * 3),
        lambda d: d["explanation"]["spread"][1].__setitem__(0, 0.0),
        lambda d: d["views"][0].update(lag=-1),
        lambda d: d["views"][1].update(lag=2),
        lambda d: d["views"][1].update(conditions=[[1.0]]),
        lambda d: d["views"][1].update(conditions=[[], []]),
        lambda d: d["training"].update(fits={}),
        lambda d: d["training"]["fits"].pop("features"),
        lambda d: d["score"][0]["tail"].pop("median"),
        lambda d: d["score"][0]["tail"].update(median=None),
        lambda d: d["score"][0]["tail"].update(scale=-1.0),
        lambda d: d["score"][0].update(centre=[[0.0, 0.0]]),
        lambda d: d["score"][1].update(centre=[[0.0, 0.0]], precision=[[1.0, 0.0], [0.0, 1.0]]),
        lambda d: d["score"][2].update(name="features.t2", centre=[[0.0] * 3]),
        lambda d: d["score"][2].update(name="features.t2", centre=[], precision=[]),
        lambda d: d["score"][2].update(name="features.max"),
        lambda d: d["score"][2].update(name="features.mahalanobis"),
        lambda d: d["score"][2].update(name="features.mahalanobis", centre=[[0.0] * 2] * STEPS),
        lambda d: d["score"][0]["tail"].update(scale=0.0),
        lambda d: d["threshold"].update(value=0.0),
        lambda d: d["alarm"].update(on_delay=[3, 2]),
        lambda d: d["views"][0]["model"].update(outputs={}),
        lambda d: d["views"][1]["model"]["outputs"].pop("posterior_mean"),
        lambda d: [
            d["views"][1]["model"].update(outputs={"reconstruction": "reconstruction:0"}),
            d["score"][2].update(name="features.kl", centre=[], precision=[]),  # which asks for a latent
        ],
    ],
)
def test_a_manifest_that_says_what_it_must_not_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    refusal(with_manifest(change))


def test_the_test_changes_nothing_else_in_a_manifest() -> None:
    def nothing(document: dict[str, Any]) -> None:
        """Leave it as it is."""

    assert Bundle.unpack(with_manifest(nothing), path="pump.evb").manifest == manifest()
    assert Bundle.unpack(with_modes(nothing), path="pump.evb").manifest == manifest(modes=MODES)


@pytest.mark.parametrize(
    "text", [b"", b"null", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"format": 1e999}'], ids=lambda text: repr(text[:9])
)
def test_a_manifest_that_is_no_manifest_is_refused(text: bytes) -> None:
    refusal(zipped(contents() | {"manifest.json": text}))


def one_array(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # anything that a stranger may put there
    return file.getvalue()


def stored(array: bytes) -> bytes:
    """An npz of this one file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("windows.npy", array)
    return file.getvalue()


def compressed() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **golden())  # type: ignore[arg-type]  # a mapping of arrays
    return file.getvalue()


def huge() -> bytes:
    """Some hundred bytes that claim to be an array of tens of terabytes."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**13,)})
    return stored(file.getvalue())


def golden_with(**changes: object) -> bytes:
    """Golden arrays of which some are others, or absent."""
    return npz(**{name: array for name, array in (golden() | changes).items() if array is not None})


@pytest.mark.parametrize(
    "arrays",
    [
        b"",
        b"no zip",
        one_array(np.zeros(3, np.float32)),
        npz(),
        golden_with(score=None),
        golden_with(conditions=None),
        golden_with(windows=None),
        golden_with(windows=np.zeros((3, LENGTH, 9), np.float32)),
        golden_with(conditions=np.zeros((3, 1), np.float32)),
        golden_with(conditions=np.zeros((2, 0), np.float32)),
        golden_with(
            windows=np.zeros((0, LENGTH, CHANNELS), np.float32), conditions=np.zeros((0, 0), np.float32),
            score=np.zeros(0, np.float32),
        ),
        golden_with(score=np.zeros(2, np.float32)),
        golden_with(score=np.zeros(3)),
        golden_with(windows=np.zeros((3, LENGTH, CHANNELS))),
        golden_with(windows=np.full((3, LENGTH, CHANNELS), np.nan, np.float32)),
        golden_with(windows=np.array([{"a": 1}], dtype=object)),
        golden_with(further=np.zeros(3, np.float32)),
        compressed(),
        stored(b"\x93NUMPY\x01\x00\x08\x00{(((((((\n"),
        huge(),
    ],
    ids=["empty", "no zip", "npy", "nothing", "no score", "no conditions", "no windows", "channels", "modes",
         "conditions", "none", "counts", "double score", "double windows", "nan", "objects", "one more", "compressed",
         "header", "huge"],
)  # fmt: skip
def test_golden_arrays_that_are_not_what_they_must_be_are_refused(arrays: bytes) -> None:
    refusal(zipped(contents() | {"golden.npz": arrays}))


def test_the_test_writes_golden_arrays_that_are_accepted() -> None:
    packed = zipped(contents() | {"golden.npz": golden_with()})
    assert Bundle.unpack(packed, path="pump.evb").golden.keys() == golden().keys()


@pytest.mark.parametrize("name", ["mean", "components", "variance", "q", "t2"])
def test_a_pca_with_a_part_missing_or_of_another_shape_is_refused(name: str) -> None:
    reference = dict(bundle().reference)
    refusal(zipped(contents() | {"reference.npz": arrays_to_npz({k: v for k, v in reference.items() if k != name})}))
    odd = reference | {name: np.zeros((2, 3, 4), np.float32)}
    refusal(zipped(contents() | {"reference.npz": arrays_to_npz(odd)}))


def with_a_pca_of_lag_vectors() -> Bundle:
    """A bundle that scores the residual of one component in int8."""
    cells = 2 * CHANNELS
    view = View("pca", "window", (), (), table(1), 2, (), None)
    described = msgspec.structs.replace(without_models().manifest, views=(view,), score=(Term("pca", TAIL),))
    reference = {
        "lag_mean": np.zeros(cells, np.float32),
        "lag_components": np.full((1, cells), 127, np.int8),
        "lag_steps": np.array([0.5 / 127], np.float32),
    }
    return Bundle(described, {}, golden(), reference)


def test_a_pca_of_lag_vectors_in_int8_is_accepted() -> None:
    whole = with_a_pca_of_lag_vectors()
    assert Bundle.unpack(whole.pack(), path="pump.evb").reference.keys() == whole.reference.keys()


@pytest.mark.parametrize("name", ["lag_mean", "lag_components", "lag_steps"])
def test_a_pca_of_lag_vectors_with_a_part_missing_or_of_another_shape_is_refused(name: str) -> None:
    whole = with_a_pca_of_lag_vectors()
    rest = {key: array for key, array in whole.reference.items() if key != name}
    for reference in (rest, rest | {name: np.zeros((2, 3, 4), np.float32)}):
        refusal(Bundle(whole.manifest, {}, whole.golden, reference).pack())


def test_steps_of_components_that_are_not_int8_are_refused() -> None:
    whole = with_a_pca_of_lag_vectors()
    real = whole.reference["lag_components"].astype(np.float16)
    refusal(Bundle(whole.manifest, {}, whole.golden, {**whole.reference, "lag_components": real}).pack())


def test_arrays_come_back_from_npz_and_numpy_reads_them_too() -> None:
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3).T, "a": np.empty((0, 4), np.float32)}
    packed = arrays_to_npz(arrays)
    back = npz_to_arrays(packed)
    with np.load(io.BytesIO(packed)) as loaded:
        for name, array in arrays.items():
            np.testing.assert_array_equal(back[name], array)
            np.testing.assert_array_equal(loaded[name], array)


def test_a_manifest_names_its_channels_its_period_and_its_scaler() -> None:
    read = manifest()
    assert read.channel_names == ("flow", "Druck [bar] \u03bb")
    assert read.period_s == pytest.approx(0.1)
    np.testing.assert_allclose(read.scaler(np.array([[12.0, 0.9]])), [[1.0, -1.0]])


def test_a_manifest_without_modes_has_no_conditions() -> None:
    assert manifest().conditions == 0
    assert manifest().source_columns == manifest().channel_names
    assert manifest().precision == "int8"


# Operating modes.


def test_a_bundle_with_modes_comes_back_with_them() -> None:
    back = Bundle.unpack(PACKED_WITH_MODES, path="pump.evb")
    assert back.manifest.modes == MODES
    assert back.manifest.source_columns == (*back.manifest.channel_names, "recipe", "load")
    assert back.golden["conditions"].shape == (3, back.manifest.conditions) == (3, 4)
    assert back.pack() == PACKED_WITH_MODES


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(columns=[]),
        lambda d: d.update(columns=["recipe"]),
        lambda d: d.update(values=[], centre=[], scale=[]),
        lambda d: d["values"].pop(),
        lambda d: d["values"][1].pop(),
        lambda d: d["centre"].pop(),
        lambda d: d["centre"][0].append(1.0),
        lambda d: d["scale"].append([1.0, 1.0]),
        lambda d: d["scale"][2].pop(),
        lambda d: d["scale"][2].__setitem__(1, 0.0),
        lambda d: d["scale"][2].__setitem__(1, None),
        lambda d: d.update(centre=[[1.0] * 3] * 3, scale=[[1.0] * 3] * 3),
        lambda d: d.update(columns=["recipe", "load", "third"]),
        lambda d: d.update(further=1),
    ],
)
def test_modes_that_are_not_what_they_must_be_are_refused(change: Callable[[dict[str, Any]], object]) -> None:
    refusal(with_modes(change))


def test_golden_conditions_must_be_those_of_the_modes() -> None:
    entries = contents(PACKED_WITH_MODES)
    Bundle.unpack(zipped(entries | {"golden.npz": arrays_to_npz(golden(conditions=4))}), path="pump.evb")
    refusal(zipped(entries | {"golden.npz": arrays_to_npz(golden(conditions=3))}))
    refusal(zipped(entries | {"golden.npz": arrays_to_npz(golden())}))


def test_a_mode_is_found_by_its_exact_values_and_no_other_is() -> None:
    known = np.array(MODES.values)
    assert MODES.find(known).tolist() == [0, 1, 2]
    assert MODES.find(known[[2, 0, 0, 1]]).tolist() == [2, 0, 0, 1]
    others = [[1.0, 7.25], [1.5, 0.5], [0.0, 0.0], [2.0, -7.25], [NAN, 0.5], [1.0, NAN], [NAN, NAN], [np.inf, 0.5]]
    assert MODES.find(np.array(others)).tolist() == [-1] * len(others)
    assert MODES.find(np.empty((0, 2))).shape == (0,)


def modes_of(*values: float) -> Modes:
    """Modes of one column."""
    return Modes(("recipe",), tuple((value,) for value in values), ((0.0,),) * len(values), ((1.0,),) * len(values))


@pytest.mark.parametrize("code", [1.0, 1_000_000.0, 1_234_567.0, 2.0**24, 123_456_792.0, 2.0**53 - 1])
def test_whole_codes_beside_each_other_are_modes_of_their_own(code: float) -> None:
    assert modes_of(code, code + 1).find(np.array([[code], [code + 1], [code - 1]])).tolist() == [0, 1, -1]


@pytest.mark.parametrize(
    ("known", "received"),
    [(0.0, 1e-12), (1.0, 1.0 + 1e-12), (0.1, 0.1 + 2e-8), (1e-50, 2e-50), (7.25, 7.250001), (1234567.9, 1234567.8)],
)
def test_a_number_that_is_not_the_known_one_in_a_float32_either_is_another_mode(known: float, received: float) -> None:
    assert modes_of(known).find(np.array([[received]])).tolist() == [-1]
    assert modes_of(received).find(np.array([[known]])).tolist() == [-1]


@pytest.mark.parametrize("fraction", [0.1, 1 / 3, 1234.56, -0.7, 1e-12])
def test_a_fraction_that_went_through_a_float32_is_the_same_mode(fraction: float) -> None:
    rounded = float(np.float32(fraction))
    assert rounded != fraction
    assert modes_of(5.0, fraction).find(np.array([[rounded]])).tolist() == [1]
    assert modes_of(5.0, rounded).find(np.array([[fraction]])).tolist() == [1]
    assert modes_of(rounded, fraction).find(np.array([[fraction], [rounded]])).tolist() == [1, 0]


@given(st.lists(st.sampled_from([1.0, 2.0, 3.0, NAN, 0.5, 7.25]), min_size=2, max_size=40))
def test_modes_are_found_as_their_slow_twin_finds_them(numbers: list[float]) -> None:
    samples = [tuple(numbers[i : i + 2]) for i in range(0, len(numbers) - 1, 2)]
    slow = [MODES.values.index(sample) if sample in MODES.values else -1 for sample in samples]
    assert MODES.find(np.array(samples)).tolist() == slow


def test_conditions_have_a_one_for_each_column_among_its_values() -> None:
    # recipe 1, recipe 2, load 0.5, load 7.25
    assert MODES.conditions.tolist() == [[1, 0, 1, 0], [0, 1, 1, 0], [0, 1, 0, 1]]
    assert MODES.conditions.dtype == np.float32
    assert manifest(modes=MODES).conditions == 4


def test_conditions_of_one_column_and_of_one_mode() -> None:
    one = ((0.0,),)
    assert Modes(("load",), ((5.0,), (-1.0,), (2.0,)), one * 3, ((1.0,),) * 3).conditions.tolist() == [
        [0, 0, 1], [1, 0, 0], [0, 1, 0],
    ]  # fmt: skip
    assert Modes(("load",), ((5.0,),), one, ((1.0,),)).conditions.tolist() == [[1]]


def test_every_mode_has_its_own_scaler() -> None:
    values = np.array([[30.0, 3.0]])
    np.testing.assert_allclose(MODES.scaler(0)(values), [[10.0, 20.0]])
    np.testing.assert_allclose(MODES.scaler(1)(values), [[10 / 3, 5.0]])
    np.testing.assert_allclose(MODES.scaler(2)(values), [[0.0, 0.0]])


def test_no_part_of_a_manifest_can_be_changed() -> None:
    with pytest.raises(AttributeError):
        manifest().clip = 9.0  # type: ignore[misc]  # that is the point
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": "x", "centre": 0.0, "scale": -1.0}, Channel)
