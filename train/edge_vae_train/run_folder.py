"""The run folder: all that training leaves behind, and all that conversion and evaluation need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import Channel, Modes, Training, arrays_to_npz, npz_to_arrays
from edge_vae.errors import DataError
from edge_vae.score import TERMS, Term, view_of
from edge_vae.view import View
from edge_vae_train.plots import LOSS_PICTURE
from edge_vae_train.prepare import WindowSet
from edge_vae_train.settings import Settings

__all__ = ["FORMAT", "Run", "RunRecord"]

FORMAT = 3

_RECORD, _HELD_OUT, _CALIBRATION, _KNOWN, _REFERENCE = (
    "run.json", "held_out.npz", "calibration.npz", "known.npz", "reference.npz",
)  # fmt: skip
_WINDOWS, _CONDITIONS = "windows", "conditions"


class RunRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands in `run.json`.

    Attributes:
        format: Version of this layout.
        created: When training ended, RFC 3339 in UTC.
        settings: All settings in force.
        channels: Their names, and what normal data says of them.
        rate_hz: Samples a second.
        clip: Scaled samples are clipped to plus and minus this before the model sees them.
        modes: The operating modes; None without mode columns.
        views: What each model sees, with the variance that it learned.
        terms: Terms of the score, with what training fitted of them; their tails are fitted when a model is judged.
        training: Counts and losses.
        shift: Spread of the session medians over the spread within sessions, by channel.
        notes: What was told while reading and training.
    """

    format: int
    created: str
    settings: Settings
    channels: tuple[Channel, ...]
    rate_hz: float
    clip: float
    modes: Modes | None
    views: tuple[View, ...]
    terms: tuple[Term, ...]
    training: Training
    shift: dict[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """Trained models on disk.

    Attributes:
        folder: The run folder.
        record: `run.json`.
        held_out: Blocks of consecutive held-out windows.
        calibration: Training windows for the representative data set.
        known: Statistics (windows,) of all held-out windows by the name of a term, for the terms that were fitted on
            all normal windows in the end: what a fit without the held-out ones said of them.
        reference: The PCA that evaluations show beside the model; see `edge_vae.bundle.Bundle`.
        graphs: Scoring graphs, by view, that are in memory and in no file of the folder.
    """

    folder: Path
    record: RunRecord
    held_out: tuple[WindowSet, ...]
    calibration: WindowSet
    known: dict[str, NDArray[np.float32]]
    reference: dict[str, NDArray[Any]]
    graphs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Run:
        """The run in a folder.

        Raises:
            DataError: It is not a run folder, or one of its files cannot be read.
        """
        try:
            record = msgspec.json.decode((folder / _RECORD).read_bytes(), type=RunRecord)
            held_out = npz_to_arrays((folder / _HELD_OUT).read_bytes())
            calibration = npz_to_arrays((folder / _CALIBRATION).read_bytes())
            known = npz_to_arrays((folder / _KNOWN).read_bytes())
            reference = npz_to_arrays((folder / _REFERENCE).read_bytes())
            blocks = tuple(_window_set(held_out, f"_{i:05d}") for i in range(len(held_out) // 2))
            run = cls(folder, record, blocks, _window_set(calibration, ""), known, reference)
        except (OSError, ValueError, KeyError, msgspec.MsgspecError) as error:
            raise _no_run(folder, str(error)) from error
        if record.format != FORMAT or not blocks:
            found = f"format {record.format} with {len(blocks)} held-out blocks"
            raise _no_run(folder, found)
        return run

    def graph(self, view: str) -> Any:
        """The scoring graph of a view, a Keras model.

        Raises:
            DataError: Its file is missing or damaged.
        """
        import keras

        if view in self.graphs:
            return self.graphs[view]
        try:
            return keras.models.load_model(self.folder / _graph_file(view), compile=False)
        except Exception as error:  # Keras answers damaged files with exceptions of many types
            raise _no_run(self.folder, f"{_graph_file(view)}: {error}") from error

    def write(self, graphs: Mapping[str, Any]) -> None:
        """Write every file of the run, the views' graphs too; `run.json` last, so a folder without it is no run.

        Graphs, converted models and the picture of an earlier training in the folder are removed: they are not of this
        run. Other files stay.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _RECORD).unlink(missing_ok=True)
        for stale in _models_and_picture(self.folder):
            stale.unlink()
        for view, graph in graphs.items():
            graph.save(self.folder / _graph_file(view))
        blocks = [_arrays(block, f"_{i:05d}") for i, block in enumerate(self.held_out)]
        (self.folder / _HELD_OUT).write_bytes(arrays_to_npz({k: v for block in blocks for k, v in block.items()}))
        (self.folder / _CALIBRATION).write_bytes(arrays_to_npz(_arrays(self.calibration, "")))
        (self.folder / _KNOWN).write_bytes(arrays_to_npz(self.known))
        (self.folder / _REFERENCE).write_bytes(arrays_to_npz(self.reference))
        (self.folder / _RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(self.record), indent=1))


def _graph_file(view: str) -> str:
    return f"{view}.keras"


def _models_and_picture(folder: Path) -> list[Path]:
    """What training and conversion may have left in the folder beside the arrays and the record."""
    views = sorted({view for term in TERMS if (view := view_of(term)) is not None})
    patterns = [pattern for view in views for pattern in (_graph_file(view), f"{view}.*.tflite")]
    return [file for pattern in (*patterns, LOSS_PICTURE) for file in folder.glob(pattern)]


def _arrays(windows: WindowSet, suffix: str) -> dict[str, NDArray[np.float32]]:
    return {_WINDOWS + suffix: windows.windows, _CONDITIONS + suffix: windows.conditions}


def _window_set(arrays: Mapping[str, NDArray[np.float32]], suffix: str) -> WindowSet:
    return WindowSet(arrays[_WINDOWS + suffix], arrays[_CONDITIONS + suffix])


def _no_run(folder: Path, received: str) -> DataError:
    return DataError(
        "not a run folder",
        file=str(folder),
        expected=f"the whole output of edge-vae train, format {FORMAT}",
        received=received,
        action="Train again with: edge-vae train DATA -o RUN",
    )
