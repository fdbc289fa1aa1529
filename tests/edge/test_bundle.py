"""The bundle: equal content gives equal bytes, and nothing but a whole and unchanged bundle is ever accepted."""

from __future__ import annotations

import hashlib
import io
import json
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
    MAX_BYTES,
    Bundle,
    Channel,
    Manifest,
    Model,
    ParityRow,
    Training,
    WindowShape,
    arrays_to_npz,
    npz_to_arrays,
)
from edge_vae.errors import EX_CONFIG, BundleError
from edge_vae.score import Tail, Term
from edge_vae.threshold import Threshold

LENGTH, CHANNELS = 6, 2
MODEL = bytes(range(256)) * 4
Contents = dict[str, bytes]


def manifest() -> Manifest:
    return Manifest(
        format=1,
        name="pump",
        version=1_600_000_000,
        created="2020-09-13T12:26:40Z",
        channels=(Channel("flow", 10.0, 2.0), Channel("Druck [bar] \u03bb", 1.0, 0.1)),
        rate_hz=10.0,
        window=WindowShape(LENGTH, 2),
        clip=8.0,
        baseline=0,
        models=(
            Model("window", hashlib.sha256(MODEL).hexdigest(), "int8", {"reconstruction": "out:0"}, {"CONV_2D": 3}),
        ),
        score=(Term("z", (1.0, 1.0), Tail((0.0, 0.5, 1.0), 0.3)),),
        threshold=Threshold(3.0, "pareto", 0.5, 2.0, 0.1, 0.4, 9.0, 40, 4.4, 5, 2.8, 3.3),
        alarm=AlarmRules(),
        training=Training("conv", 8, 1.0, 7, 100, 3, 7_200, 1_400, 330, 0.06, 0.08),
        calibration="stress",
        parity=(
            ParityRow("score Spearman", 0.9999, ">= 0.999", passed=True),
            ParityRow("bytes", 1024.0, "", passed=None),
        ),
    )


def bundle() -> Bundle:
    numbers = np.random.default_rng(0).normal(size=(3, LENGTH, CHANNELS)).astype(np.float32)
    cells = LENGTH * CHANNELS
    reference = {
        "mean": np.zeros(cells, np.float32),
        "components": np.eye(4, cells, dtype=np.float32),
        "variance": np.ones(4, np.float32),
        "q": np.ones(1, np.float32),
        "t2": np.ones(1, np.float32),
        "z_threshold": np.ones(1, np.float32),
    }
    return Bundle(manifest(), MODEL, {"windows": numbers, "score": numbers[:, 0, 0]}, reference)


PACKED = bundle().pack()


def contents() -> Contents:
    with zipfile.ZipFile(io.BytesIO(PACKED)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(entries: Contents, *, compression: int = zipfile.ZIP_STORED) -> bytes:
    """Packed as the bundle itself is, so that only the content is to blame."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr, entry.compress_type = 3, 0o644 << 16, compression
            archive.writestr(entry, content)
    return file.getvalue()


def with_manifest(change: Callable[[dict[str, Any]], object]) -> bytes:
    """A bundle that is whole, but whose manifest says something else."""
    entries = contents()
    document = json.loads(entries["manifest.json"])
    change(document)
    return zipped(entries | {"manifest.json": json.dumps(document).encode()})


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
    assert back.model == MODEL
    assert back.golden.keys() == {"windows", "score"}
    np.testing.assert_array_equal(back.golden["windows"], bundle().golden["windows"])
    np.testing.assert_array_equal(back.reference["components"], bundle().reference["components"])
    assert back.pack() == PACKED
    assert back.sha256 == hashlib.sha256(PACKED).hexdigest()


def test_the_test_packs_as_the_bundle_does() -> None:
    assert zipped(contents()) == PACKED


def test_equal_content_gives_equal_bytes_whatever_the_order_of_its_arrays() -> None:
    original = bundle()
    turned = Bundle(original.manifest, original.model, dict(reversed(original.golden.items())), original.reference)
    assert turned.pack() == PACKED


def test_a_written_bundle_is_read_back_and_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "pump.evb"
    path.write_bytes(b"an older one")
    bundle().write(path)
    assert path.read_bytes() == PACKED
    assert Bundle.read(path).manifest == manifest()
    assert [file.name for file in tmp_path.iterdir()] == ["pump.evb"]


def test_a_bundle_without_a_pca_is_a_bundle() -> None:
    small = Bundle(manifest(), MODEL, bundle().golden, {"z_threshold": np.ones(1, np.float32)})
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
    for at in generator.integers(0, len(packed), 150).tolist():
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
    ],
    ids=["empty", "another", "one more", "one less", "other order", "paths"],
)
def test_a_zip_with_other_entries_is_refused(entries: Contents) -> None:
    refusal(zipped(entries))


def test_a_compressed_bundle_is_refused() -> None:
    assert "other entries" in refusal(zipped(contents(), compression=zipfile.ZIP_DEFLATED))


def test_a_bundle_with_other_file_times_is_refused() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents().items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content)
    assert "changed after it was written" in refusal(file.getvalue())


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


def test_a_model_that_is_not_the_manifests_is_refused() -> None:
    assert "hash" in refusal(zipped(contents() | {"window.tflite": MODEL[:-1] + b"\0"}))
    assert "hash" in refusal(with_manifest(lambda d: d.update(models=[])))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(extra=1),
        lambda d: d["window"].update(lenght=3),
        lambda d: d.pop("clip"),
        lambda d: d.update(format=2),
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
        lambda d: d["score"][0].update(variance=[1.0]),
        lambda d: d["score"][0].update(variance=[1.0, 0.0]),
        lambda d: d["score"][0]["tail"].update(quantiles=[]),
        lambda d: d["score"][0]["tail"].update(quantiles=[1.0, 0.0]),
        lambda d: d["score"][0]["tail"].update(scale=0.0),
        lambda d: d["threshold"].update(value=0.0),
        lambda d: d["alarm"].update(on_delay=[3, 2]),
        lambda d: d["models"][0].update(outputs={}),
    ],
)
def test_a_manifest_that_says_what_it_must_not_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    refusal(with_manifest(change))


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


def compressed() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **bundle().golden)  # type: ignore[arg-type]  # a mapping of arrays
    return file.getvalue()


def huge() -> bytes:
    """Some hundred bytes that claim to be an array of tens of terabytes."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**13,)})
    return zipped({"windows.npy": file.getvalue()})


@pytest.mark.parametrize(
    "golden",
    [
        b"",
        b"no zip",
        one_array(np.zeros(3, np.float32)),
        npz(),
        npz(windows=np.zeros((3, LENGTH, CHANNELS), np.float32)),
        npz(windows=np.zeros((3, LENGTH, 9), np.float32), score=np.zeros(3, np.float32)),
        npz(windows=np.zeros((0, LENGTH, CHANNELS), np.float32), score=np.zeros(0, np.float32)),
        npz(windows=np.zeros((3, LENGTH, CHANNELS), np.float32), score=np.zeros(2, np.float32)),
        npz(windows=np.zeros((3, LENGTH, CHANNELS)), score=np.zeros(3)),
        npz(windows=np.full((3, LENGTH, CHANNELS), np.nan, np.float32), score=np.zeros(3, np.float32)),
        npz(windows=np.array([{"a": 1}], dtype=object)),
        compressed(),
        zipped({"windows.npy": b"\x93NUMPY\x01\x00\x08\x00{(((((((\n"}),
        huge(),
    ],
    ids=["empty", "no zip", "npy", "nothing", "no score", "channels", "none", "counts", "doubles", "nan", "objects",
         "compressed", "header", "huge"],
)  # fmt: skip
def test_golden_arrays_that_are_not_what_they_must_be_are_refused(golden: bytes) -> None:
    refusal(zipped(contents() | {"golden.npz": golden}))


@pytest.mark.parametrize("name", ["mean", "components", "variance", "q", "t2"])
def test_a_pca_with_a_part_missing_or_of_another_shape_is_refused(name: str) -> None:
    reference = dict(bundle().reference)
    refusal(zipped(contents() | {"reference.npz": arrays_to_npz({k: v for k, v in reference.items() if k != name})}))
    odd = reference | {name: np.zeros((2, 3, 4), np.float32)}
    refusal(zipped(contents() | {"reference.npz": arrays_to_npz(odd)}))


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


def test_no_part_of_a_manifest_can_be_changed() -> None:
    with pytest.raises(AttributeError):
        manifest().clip = 9.0  # type: ignore[misc]  # that is the point
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": "x", "centre": 0.0, "scale": -1.0}, Channel)
