"""The bundle: one file with all that the device needs, and the figures that say how good it is.

A ZIP with entries in a fixed order and with fixed times, compressed by LZMA, whose comment is the SHA-256 of all that
is before it. Reading compares: a file with one changed bit anywhere is refused. No path is ever taken from inside the
archive.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.alarm import AlarmRules
from edge_vae.errors import BundleError
from edge_vae.explain import Explanation
from edge_vae.features import feature_names
from edge_vae.graph import SUMMARY, Graph
from edge_vae.sample import FloatArray
from edge_vae.scale import Scaler
from edge_vae.score import Term, needs_model, view_of
from edge_vae.threshold import Threshold
from edge_vae.view import RECONSTRUCTION, Rows, View

__all__ = [
    "FOREIGN",
    "FORMAT",
    "GRAPH",
    "MAX_BYTES",
    "PCA_VIEW",
    "Bundle",
    "Channel",
    "Fit",
    "Manifest",
    "Modes",
    "ParityRow",
    "Training",
    "WindowShape",
    "arrays_to_npz",
    "npz_to_arrays",
]

FORMAT = 6
"""Version of the bundle's layout. A reader takes its own version only."""

MAX_BYTES = 16 << 20
"""A larger file is not read at all, and no content that unpacks to more: a model has some tens of kilobytes."""

_MANIFEST, _GOLDEN, _REFERENCE = "manifest.json", "golden.npz", "reference.npz"
_MODEL_SUFFIX = ".tflite"

GRAPH = "scoring"
"""Name of the graph's file, where one graph holds all models."""

FOREIGN = "foreign"
"""The family of a model that was made elsewhere."""

PCA_VIEW = "pca"
"""The view whose model is no TFLite file, but arrays of the bundle's reference, or part of the graph."""
_FLOAT32_ROUNDING = 2.0**-24
"""Part of a number by which it changes at most when a float32 holds it."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first time a ZIP can tell."""
_UNREADABLE = (struct.error, RuntimeError, ValueError, EOFError, OSError, MemoryError)
"""What zipfile raises besides its own errors, for a file that its own hash vouches for: cut headers, an encrypted entry
or a method that it lacks, a damaged stream, and a size that no memory holds."""
_HASH_BYTES = 64
"""Of a SHA-256 in hexadecimal."""


class Channel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One channel: its name, and what normal data says of it, in sensor units.

    Attributes:
        name: As in the data.
        centre: What the model takes for its centre.
        scale: And for its spread.
        least: The lowest reading; None where that is not known.
        most: The highest reading.
        rest: The longest run of equal readings, in samples; None where that is not known, or where there are at most
            two different readings: a switch may rest.
    """

    name: str
    centre: float
    scale: float
    least: float | None = None
    most: float | None = None
    rest: int | None = None

    def __post_init__(self) -> None:
        if not self.scale > 0:
            msg = f"expected a scale above zero for channel {self.name!r}, received {self.scale}"
            raise ValueError(msg)
        if (self.least is None) != (self.most is None) or (self.rest is not None and self.rest < 1):
            msg = f"expected both ends of the readings of channel {self.name!r}, and a run of at least 1"
            raise ValueError(msg)


class WindowShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Samples in a window, and samples from one window to the next."""

    length: int
    stride: int

    def __post_init__(self) -> None:
        if not (1 <= self.length <= 65_536 and 1 <= self.stride <= 65_536):
            msg = f"expected a window length and stride from 1 to 65536, received {self.length} and {self.stride}"
            raise ValueError(msg)


class Modes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The operating modes that a machine was seen in: recipe, load, material.

    Attributes:
        columns: Columns of the data that name the mode.
        values: (modes, columns) the known modes.
        centre: (modes, channels) of each mode's own scaler.
        scale: (modes, channels) of each mode's own scaler.
    """

    columns: tuple[str, ...]
    values: Rows
    centre: Rows
    scale: Rows

    def __post_init__(self) -> None:
        if not self.columns or not len(self.values) == len(self.centre) == len(self.scale) > 0:
            msg = "expected at least one mode column, and values, centre and scale of each mode"
            raise ValueError(msg)
        if any(len(row) != len(self.columns) for row in self.values) or not np.all(np.array(self.scale) > 0):
            msg = "expected a value for each mode column, and scales above zero"
            raise ValueError(msg)

    def find(self, values: FloatArray) -> NDArray[np.intp]:
        """Number of the mode of each sample (samples, columns), -1 where it is none of the known ones.

        Whole numbers are codes, and equal or not. Fractions are set points, and may have passed through a float32, as
        a PLC's REAL is one: 0.1 and 0.100000001 are the same, unless both are known.
        """
        given, known = values[:, None, :], np.array(self.values)[None]
        exact = given == known
        with np.errstate(invalid="ignore"):  # an infinite reading less an infinite one
            rounded = np.abs(given - known) <= _FLOAT32_ROUNDING * np.abs(known)
        same = exact | (rounded & (np.floor(given) != given) & (np.floor(known) != known))
        # An exact match counts twice, so that it comes before one by rounding.
        matches = same.all(axis=2) * (1 + exact.all(axis=2))
        return np.where(matches.any(axis=1), matches.argmax(axis=1), -1)

    def scaler(self, mode: int) -> Scaler:
        """The scaler of a mode."""
        return Scaler(np.array(self.centre[mode]), np.array(self.scale[mode]))

    @property
    def conditions(self) -> NDArray[np.float32]:
        """(modes, conditions) what the models are told of each mode: one 1 for each column, among its values."""
        found = [np.unique(column, return_inverse=True) for column in np.array(self.values).T]
        return np.concatenate([np.eye(len(levels), dtype=np.float32)[which] for levels, which in found], axis=1)


class ParityRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the comparison with the trained float model: `passed` is None where nothing is demanded."""

    measure: str
    value: float
    limit: str
    passed: bool | None


class Fit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the model of one view was trained: `retries` counts trainings whose latent units all fell silent.

    Of a model that was made elsewhere, family `FOREIGN`, the losses are mean squared errors in squared sigmas.
    """

    family: str
    latent: int
    active_units: int
    beta: float
    retries: int
    epochs: int
    loss: float
    held_out_loss: float


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the models were trained on, and how each view's was."""

    seed: int
    sessions: int
    samples: int
    windows: int
    held_out_windows: int
    fits: dict[str, Fit]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a bundle says in plain numbers.

    With a `graph` it holds the models of all views, which tell of what it was made, and the centre and the precision of
    each score term; without, each model is a file.
    """

    format: int
    name: str
    version: int
    created: str
    channels: tuple[Channel, ...]
    rate_hz: float
    window: WindowShape
    clip: float
    baseline: int
    modes: Modes | None
    views: tuple[View, ...]
    graph: Graph | None
    score: tuple[Term, ...]
    threshold: Threshold
    explanation: Explanation
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
        wanted = {view_of(term.name) for term in self.score} - {None}
        if not self.score or sorted(map(str, wanted)) != sorted(view.name for view in self.views):
            msg = f"expected score terms, and the views that they look at: {', '.join(sorted(map(str, wanted)))}"
            raise ValueError(msg)
        self._expect_fitting_views()
        self._expect_fitting_tables()
        self._expect_fitting_terms()
        if self.graph and set(self.graph.outputs) != {SUMMARY, *self._given_by_models()}:
            msg = f"expected a graph with the outputs {SUMMARY} and {', '.join(self._given_by_models())}"
            raise ValueError(msg)

    def _given_by_models(self) -> list[str]:
        """What the graph puts out beside the summary."""
        given = [f"{view.name}.{output}" for view in self.views if view.model for output in view.model.outputs]
        return given + [f"{view.name}.{RECONSTRUCTION}" for view in self.views if view.name == PCA_VIEW]

    def _expect_fitting_views(self) -> None:
        if not {view.name for view in self.views if view.model} <= set(self.training.fits):
            msg = f"expected a fit for each model, received those of {', '.join(self.training.fits)}"
            raise ValueError(msg)
        for view in self.views:
            steps, modes = view.steps(self.window.length), max(1, len(view.conditions))
            if len(view.variance) not in (1, steps) or (view.centre and len(view.centre) != steps * modes):
                msg = f"expected tables of {steps} steps in view {view.name!r}"
                raise ValueError(msg)
            if view.lag > self.window.length:
                msg = f"expected a lag of at most the window's {self.window.length} samples in view {view.name!r}"
                raise ValueError(msg)
            if any(len(row) != self.conditions for row in view.conditions):
                msg = f"expected {self.conditions} conditions in view {view.name!r}"
                raise ValueError(msg)
        if self.explanation.method == "surprise" and len(self.score) != len(self.explanation.centre):
            msg = f"expected a row for each of {len(self.score)} score terms to explain by"
            raise ValueError(msg)

    def _expect_fitting_tables(self) -> None:
        tables = [table for view in self.views for table in (view.centre, view.scale, view.variance)]
        tables += [self.modes.centre, self.modes.scale] if self.modes else []
        explanation = self.explanation
        tables += [explanation.centre, explanation.spread, explanation.means, explanation.precision]
        if any(len(row) != len(self.channels) for table in tables for row in table):
            msg = f"expected tables with a column for each of the {len(self.channels)} channels"
            raise ValueError(msg)

    def _expect_fitting_terms(self) -> None:
        no_latent = {view.name for view in self.views if view.model and len(view.model.outputs) == 1}
        for term in self.score:
            if term.name.endswith((".kl", ".t2")) and view_of(term.name) in no_latent:
                msg = f"expected a model with a latent for term {term.name!r}"
                raise ValueError(msg)
        channels, features = len(self.channels), len(feature_names(self.window.length))
        if self.graph and any(term.centre or term.precision for term in self.score):
            msg = "expected score terms without a centre and a precision, which stand in the graph"
            raise ValueError(msg)
        for term in self.score if not self.graph else ():
            latent = max(1, len(term.precision))
            shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
                "level": ((1, channels), (channels, channels)),
                "logm": ((1, channels), (channels, channels)),
                "mahalanobis": ((features, channels), (channels * features, features)),
                "max": ((1, channels), (0,)),
                "t2": ((1, latent), (latent, latent)),
            }
            expected = shapes.get(term.name.partition(".")[2], ((0,), (0,)))
            if (received := (np.shape(term.centre), np.shape(term.precision))) != expected:
                msg = (
                    f"expected a centre and a precision of the shapes {expected} in term {term.name!r}, not {received}"
                )
                raise ValueError(msg)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the channels, in the order of the model."""
        return tuple(channel.name for channel in self.channels)

    @property
    def source_columns(self) -> tuple[str, ...]:
        """What a source must deliver, in this order: the channels, then the columns that name the mode."""
        return self.channel_names + (self.modes.columns if self.modes else ())

    @property
    def conditions(self) -> int:
        """Length of what the models are told of the operating mode; 0 without modes."""
        return self.modes.conditions.shape[1] if self.modes else 0

    @property
    def precision(self) -> str:
        """What the models compute in; empty without a model."""
        return ", ".join(sorted({view.model.precision for view in self.views if view.model}))

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
    """A manifest, the models, golden windows, and the PCA that evaluations show beside the model.

    Attributes:
        manifest: All numbers.
        models: The TFLite flatbuffer of each view that has one, by its name; or that of the graph alone, as `GRAPH`.
        golden: `windows` (windows, length, channels), scaled and unclipped, in float16, their `conditions` (windows,
            conditions), and the expected `score` (windows,).
        reference: Of the term `pca`, where the score has it and no graph holds it: `lag_mean` (lag * channels,) and
            `lag_components` (components, lag * channels), in float16, or in int8 with `lag_steps` (components,). Of the
            PCA that evaluations show beside the model: `mean` (length * channels,) and `components` (components, length
            * channels) in float16, `variance` (components,), and `q` and `t2`, the means of both statistics on held-out
            normals; left out where the window is too large to carry them.
    """

    manifest: Manifest
    models: Mapping[str, bytes]
    golden: Mapping[str, NDArray[Any]]
    reference: Mapping[str, NDArray[Any]]
    _read: bytes = field(default=b"", init=False, repr=False, compare=False)

    @property
    def sha256(self) -> str:
        """Hash of the packed file, in hexadecimal."""
        return hashlib.sha256(self.pack()).hexdigest()

    def pack(self) -> bytes:
        """The bytes of the file.

        Of a bundle that was read, the very bytes it was read from: versions of LZMA compress in different ways.
        """
        if self._read:
            return self._read
        manifest = msgspec.json.encode(self.manifest)
        contents = {_MANIFEST: manifest}
        contents |= {name + _MODEL_SUFFIX: self.models[name] for name in _hashes(self.manifest)}
        contents |= {_GOLDEN: arrays_to_npz(self.golden), _REFERENCE: arrays_to_npz(self.reference)}
        return _zipped(contents)

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
            _expect_format(contents[_MANIFEST])
            manifest = msgspec.json.decode(contents[_MANIFEST], type=Manifest)
            golden, reference = npz_to_arrays(contents[_GOLDEN]), npz_to_arrays(contents[_REFERENCE])
            _expect_fitting(manifest, golden, reference)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise _refused(path, f"a content that cannot be read ({error})") from error
        models = {name.removesuffix(_MODEL_SUFFIX): c for name, c in contents.items() if name.endswith(_MODEL_SUFFIX)}
        hashes = _hashes(manifest)
        if list(hashes) != list(models):
            raise _refused(path, f"the models {', '.join(models)}, which are not the manifest's")
        modelled = {view.name for view in manifest.views if view.model}
        if {view_of(term.name) for term in manifest.score if needs_model(term.name)} != modelled:
            raise _refused(path, "a score with terms of other models")
        for name, sha256 in hashes.items():
            if sha256 != hashlib.sha256(models[name]).hexdigest():
                raise _refused(path, "a model whose hash is not the manifest's")
        bundle = cls(manifest, models, golden, reference)
        object.__setattr__(bundle, "_read", packed)
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


class _Formatted(msgspec.Struct):
    """What every manifest says, whatever its format."""

    format: int


def _expect_format(manifest: bytes) -> None:
    """Raise ValueError for another format, before a field that it lacks is missed."""
    if (received := msgspec.json.decode(manifest, type=_Formatted).format) != FORMAT:
        msg = f"expected bundle format {FORMAT}, received {received}"
        raise ValueError(msg)


def _hashes(manifest: Manifest) -> dict[str, str]:
    """The hash of each model file, by its name, in the order of the file."""
    if manifest.graph:
        return {GRAPH: manifest.graph.sha256}
    return {view.name: view.model.sha256 for view in manifest.views if view.model}


def arrays_to_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays as the bytes of an `.npz` file, equal for equal arrays."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            array = io.BytesIO()
            np.lib.format.write_array(array, np.ascontiguousarray(arrays[name]), version=(1, 0), allow_pickle=False)
            archive.writestr(_entry(name + ".npy"), array.getvalue())
    return file.getvalue()


def npz_to_arrays(packed: bytes) -> dict[str, NDArray[Any]]:
    """The int8, float16 and float32 arrays of an `.npz` file.

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
        if array.dtype not in (np.int8, np.float16, np.float32) or not np.all(np.isfinite(array)):
            msg = f"expected int8, or finite float16 or float32 numbers in {name}, received {array.dtype}"
            raise ValueError(msg)
    return arrays


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        msg = f"expected {name} to be stored, received it compressed"
        raise ValueError(msg)  # a small file could ask for any amount of memory
    with archive.open(name) as file:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        return array


def _expect_fitting(
    manifest: Manifest, golden: Mapping[str, NDArray[Any]], reference: Mapping[str, NDArray[Any]]
) -> None:
    """Raise ValueError unless the arrays have the shapes that the manifest's window gives them."""
    length, channels = manifest.window.length, len(manifest.channels)
    count = len(golden.get("windows", ()))
    expected: dict[str, tuple[int, ...]] = {
        "windows": (count, length, channels), "conditions": (count, manifest.conditions), "score": (count,),
    }  # fmt: skip
    received = {name: array.shape for name, array in golden.items()}
    for view in manifest.views:
        if view.name == PCA_VIEW and not manifest.graph:
            stored, cells = reference.get("lag_components", np.empty(0)), view.lag * channels
            expected |= {"lag_mean": (cells,), "lag_components": (len(stored), cells)}
            if stored.dtype == np.int8:
                expected |= {"lag_steps": (len(stored),)}
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


def _zipped(contents: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(_entry(name), content, zipfile.ZIP_LZMA)
        archive.comment = bytes(_HASH_BYTES)
    before = file.getvalue()[:-_HASH_BYTES]
    return before + _hash(before)


def _hash(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _unzipped(packed: bytes, path: str) -> dict[str, bytes]:
    """Contents of the entries, after a check that no bit of the file was changed."""
    try:
        from lzma import LZMAError
    except ImportError as error:
        what = f"{path}: cannot be unpacked"
        raise BundleError(
            what,
            expected="a Python with its lzma module",
            received="one that was built without",
            action="Use the distribution's Python, or build it again beside liblzma (Debian: liblzma-dev).",
        ) from error
    if packed[-_HASH_BYTES:] != _hash(packed[:-_HASH_BYTES]):
        raise _refused(path, f"{len(packed)} bytes that are truncated, changed, of another version or something else")
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            entries = archive.infolist()
            names = [e.filename for e in entries]
            models = [name for name in names if name.endswith(_MODEL_SUFFIX)]
            if names != [_MANIFEST, *models, _GOLDEN, _REFERENCE] or archive.comment != packed[-_HASH_BYTES:]:
                raise _refused(path, "a ZIP with other entries")
            if sum(e.file_size for e in entries) > MAX_BYTES:
                raise _refused(path, f"a content of more than {MAX_BYTES} bytes")
            return {name: archive.read(name) for name in names}
    except (zipfile.BadZipFile, LZMAError, *_UNREADABLE) as error:
        raise _refused(path, f"a ZIP that cannot be read ({error})") from error


def _refused(path: str, received: str) -> BundleError:
    return BundleError(
        f"{path}: not a whole bundle",
        expected="the unchanged output of edge-vae convert",
        received=received,
        action="Copy the file again, or convert the run again.",
    )
