"""The bundle: one file with all that the device needs, and the figures that say how good it is.

A ZIP with stored entries in a fixed order and with fixed times, so that equal content gives equal bytes. Reading packs
the content again and compares: a file with one changed bit anywhere is refused. No path is ever taken from inside the
archive.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.alarm import AlarmRules
from edge_vae.errors import BundleError
from edge_vae.scale import Scaler
from edge_vae.score import STATISTICS, Term
from edge_vae.threshold import Threshold

__all__ = [
    "FORMAT",
    "MAX_BYTES",
    "Bundle",
    "Channel",
    "Manifest",
    "Model",
    "ParityRow",
    "Training",
    "WindowShape",
    "arrays_to_npz",
    "npz_to_arrays",
]

FORMAT = 1
"""Version of the bundle's layout. A reader takes its own version only."""

MAX_BYTES = 16 << 20
"""A larger file is not read at all: a window model has some tens of kilobytes."""

_MANIFEST, _MODEL, _GOLDEN, _REFERENCE = "manifest.json", "window.tflite", "golden.npz", "reference.npz"
_ENTRIES = (_MANIFEST, _MODEL, _GOLDEN, _REFERENCE)
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first time a ZIP can tell."""


class Channel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One channel: its name, and what the model calls its centre and its spread, in sensor units."""

    name: str
    centre: float
    scale: float

    def __post_init__(self) -> None:
        if not self.scale > 0:
            msg = f"expected a scale above zero for channel {self.name!r}, received {self.scale}"
            raise ValueError(msg)


class WindowShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Samples in a window, and samples from one window to the next."""

    length: int
    stride: int

    def __post_init__(self) -> None:
        if not (1 <= self.length <= 65_536 and 1 <= self.stride <= 65_536):
            msg = f"expected a window length and stride from 1 to 65536, received {self.length} and {self.stride}"
            raise ValueError(msg)


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model: what it is, its hash, its outputs (name to tensor name), its operators and their counts."""

    name: str
    sha256: str
    precision: str
    outputs: dict[str, str]
    operators: dict[str, int]


class ParityRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the comparison with the trained float model: `passed` is None where nothing is demanded."""

    measure: str
    value: float
    limit: str
    passed: bool | None


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model was trained on, and how."""

    family: str
    latent: int
    beta: float
    seed: int
    epochs: int
    sessions: int
    samples: int
    windows: int
    held_out_windows: int
    loss: float
    held_out_loss: float


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a bundle says in plain numbers."""

    format: int
    name: str
    version: int
    created: str
    channels: tuple[Channel, ...]
    rate_hz: float
    window: WindowShape
    clip: float
    baseline: int
    models: tuple[Model, ...]
    score: tuple[Term, ...]
    threshold: Threshold
    alarm: AlarmRules
    training: Training
    calibration: str
    parity: tuple[ParityRow, ...]

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            msg = f"expected bundle format {FORMAT}, received {self.format}"
            raise ValueError(msg)
        if not self.channels or self.rate_hz <= 0 or self.clip <= 0 or self.baseline < 0:
            msg = "expected channels, a positive rate and clip, and a baseline of at least 0"
            raise ValueError(msg)
        unknown = [term.name for term in self.score if term.name not in STATISTICS]
        if unknown or not self.score or any(len(term.variance) != len(self.channels) for term in self.score):
            msg = f"expected score terms out of {', '.join(sorted(STATISTICS))}, with a variance for each channel"
            raise ValueError(msg)
        if any("reconstruction" not in model.outputs for model in self.models):
            msg = "expected a model with the output reconstruction"
            raise ValueError(msg)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the channels, in the order of the model."""
        return tuple(channel.name for channel in self.channels)

    @property
    def period_s(self) -> float:
        """Seconds from one sample to the next."""
        return 1.0 / self.rate_hz

    @property
    def scaler(self) -> Scaler:
        """The model's scaler."""
        return Scaler(np.array([c.centre for c in self.channels]), np.array([c.scale for c in self.channels]))


@dataclass(frozen=True, slots=True)
class Bundle:
    """A manifest, the model, golden windows, and the PCA that evaluations show beside the model.

    Attributes:
        manifest: All numbers.
        model: The TFLite flatbuffer.
        golden: `windows` (windows, length, channels), scaled and unclipped, and the expected `score` (windows,).
        reference: `mean` (length * channels,), `components` (components, length * channels), `variance` (components,),
            and `q` and `t2`, the means of both statistics on held-out normals; empty when the window is too large to
            carry them.
    """

    manifest: Manifest
    model: bytes
    golden: Mapping[str, NDArray[np.float32]]
    reference: Mapping[str, NDArray[np.float32]]

    @property
    def sha256(self) -> str:
        """Hash of the packed file, in hexadecimal."""
        return hashlib.sha256(self.pack()).hexdigest()

    def pack(self) -> bytes:
        """The bytes of the file."""
        manifest = msgspec.json.format(msgspec.json.encode(self.manifest), indent=1)
        return _zipped([manifest, self.model, arrays_to_npz(self.golden), arrays_to_npz(self.reference)])

    @classmethod
    def unpack(cls, packed: bytes, *, path: str) -> Bundle:
        """The bundle in these bytes.

        Raises:
            BundleError: They are truncated, changed, of another format, or not a bundle; `path` is named.
        """
        if len(packed) > MAX_BYTES:
            raise _refused(path, f"more than {MAX_BYTES} bytes")
        contents = _unzipped(packed, path)
        try:
            manifest = msgspec.json.decode(contents[_MANIFEST], type=Manifest)
            golden, reference = npz_to_arrays(contents[_GOLDEN]), npz_to_arrays(contents[_REFERENCE])
            _expect_fitting(manifest, golden, reference)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise _refused(path, f"a content that cannot be read ({error})") from error
        bundle = cls(manifest, contents[_MODEL], golden, reference)
        if [m.sha256 for m in manifest.models] != [hashlib.sha256(bundle.model).hexdigest()]:
            raise _refused(path, "a model whose hash is not the manifest's")
        return bundle

    @classmethod
    def read(cls, path: Path) -> Bundle:
        """The bundle in a file.

        Raises:
            BundleError: The file cannot be read, or is not a whole and unchanged bundle.
        """
        try:
            with path.open("rb") as file:
                packed = file.read(MAX_BYTES + 1)
        except OSError as error:
            what = f"{path}: cannot be read"
            received = error.strerror or str(error)
            raise BundleError(what, expected="a bundle made by edge-vae convert", received=received) from error
        return cls.unpack(packed, path=str(path))

    def write(self, path: Path) -> None:
        """Write the file whole or not at all."""
        partial = path.with_name(path.name + ".part")
        partial.write_bytes(self.pack())
        partial.replace(path)


def arrays_to_npz(arrays: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Arrays as the bytes of an `.npz` file, equal for equal arrays."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            array = io.BytesIO()
            np.lib.format.write_array(array, np.ascontiguousarray(arrays[name]), version=(1, 0), allow_pickle=False)
            archive.writestr(_entry(name + ".npy"), array.getvalue())
    return file.getvalue()


def npz_to_arrays(packed: bytes) -> dict[str, NDArray[np.float32]]:
    """The float32 arrays of an `.npz` file.

    Raises:
        ValueError: It is damaged, or holds an array of another type, or a number that is not finite.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            arrays = {name.removesuffix(".npy"): _array(archive, name) for name in archive.namelist()}
    except Exception as error:  # zipfile and numpy answer damaged files with exceptions of many types
        msg = f"expected an npz file, received something else ({error})"
        raise ValueError(msg) from error
    for name, array in arrays.items():
        if array.dtype != np.float32 or not np.all(np.isfinite(array)):
            msg = f"expected finite float32 numbers in {name}, received {array.dtype}"
            raise ValueError(msg)
    return arrays


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[np.float32]:
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        msg = f"expected {name} to be stored, received it compressed"
        raise ValueError(msg)  # a small file could ask for any amount of memory
    with archive.open(name) as file:
        array: NDArray[np.float32] = np.lib.format.read_array(file, allow_pickle=False)
        return array


def _expect_fitting(
    manifest: Manifest, golden: Mapping[str, NDArray[np.float32]], reference: Mapping[str, NDArray[np.float32]]
) -> None:
    """Raise ValueError unless the arrays have the shapes that the manifest's window gives them."""
    length, channels = manifest.window.length, len(manifest.channels)
    count = len(golden.get("windows", ()))
    expected: dict[str, tuple[int, ...]] = {"windows": (count, length, channels), "score": (count,)}
    received = {name: array.shape for name, array in golden.items()}
    if "components" in reference:
        components, cells = len(reference["components"]), length * channels
        expected |= {"mean": (cells,), "components": (components, cells), "variance": (components,)}
        expected |= {"t2": (1,), "q": (1,)}
    received |= {name: array.shape for name, array in reference.items() if not name.endswith("_threshold")}
    if not count or expected != received:
        msg = f"expected arrays of the shapes {expected}, received {received}"
        raise ValueError(msg)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system, entry.external_attr = 3, 0o644 << 16
    return entry


def _zipped(contents: list[bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in zip(_ENTRIES, contents, strict=True):
            archive.writestr(_entry(name), content)
    return file.getvalue()


def _unzipped(packed: bytes, path: str) -> dict[str, bytes]:
    """Contents of the entries, after a check that packing them gives the very same bytes."""
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            entries = archive.infolist()
            if [e.filename for e in entries] != list(_ENTRIES) or any(e.compress_type for e in entries):
                raise _refused(path, "a ZIP with other entries")
            contents = {name: archive.read(name) for name in _ENTRIES}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, OSError) as error:
        raise _refused(path, f"{len(packed)} bytes that are truncated, changed or something else ({error})") from error
    if _zipped(list(contents.values())) != packed:
        raise _refused(path, "a file that was changed after it was written")
    return contents


def _refused(path: str, received: str) -> BundleError:
    return BundleError(
        f"{path}: not a whole bundle",
        expected="the unchanged output of edge-vae convert",
        received=received,
        action="Copy the file again, or convert the run again.",
    )
