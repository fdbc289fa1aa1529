"""The run folder: all that training leaves behind, and all that conversion and evaluation need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import Channel, Training, arrays_to_npz, npz_to_arrays
from edge_vae.errors import DataError
from edge_vae_train.settings import Settings

__all__ = ["FORMAT", "Run", "RunRecord"]

FORMAT = 1

_RECORD, _GRAPH, _HELD_OUT, _CALIBRATION, _REFERENCE = (
    "run.json", "scoring_graph.keras", "held_out.npz", "calibration.npz", "reference.npz",
)  # fmt: skip


class RunRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands in `run.json`.

    Attributes:
        format: Version of this layout.
        created: When training ended, RFC 3339 in UTC.
        settings: All settings in force.
        channels: Names, centres and spreads.
        rate_hz: Samples a second.
        clip: Scaled samples are clipped to plus and minus this before the model sees them.
        variance: Learned decoder variance of each channel, in squared sigmas.
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
    variance: tuple[float, ...]
    training: Training
    shift: dict[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """A trained model on disk.

    Attributes:
        folder: The run folder.
        record: `run.json`.
        held_out: Blocks of consecutive held-out windows, each (windows, length, channels), scaled and unclipped.
        calibration: Training windows (windows, length, channels) for the representative data set.
        reference: The PCA that evaluations show beside the model; see `edge_vae.bundle.Bundle`.
    """

    folder: Path
    record: RunRecord
    held_out: tuple[NDArray[np.float32], ...]
    calibration: NDArray[np.float32]
    reference: dict[str, NDArray[np.float32]]

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
            reference = npz_to_arrays((folder / _REFERENCE).read_bytes())
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise _no_run(folder, str(error)) from error
        if record.format != FORMAT or "windows" not in calibration or not held_out:
            found = f"format {record.format} with {len(held_out)} held-out blocks"
            raise _no_run(folder, found)
        blocks = tuple(held_out[name] for name in sorted(held_out))
        return cls(folder, record, blocks, calibration["windows"], reference)

    def graph(self) -> Any:
        """The scoring graph, a Keras model.

        Raises:
            DataError: Its file is missing or damaged.
        """
        import keras

        try:
            return keras.models.load_model(self.folder / _GRAPH, compile=False)
        except Exception as error:  # Keras answers damaged files with exceptions of many types
            raise _no_run(self.folder, f"{_GRAPH}: {error}") from error

    def write(self, graph: Any) -> None:
        """Write every file of the run; `run.json` last, so a folder without it is no run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _RECORD).unlink(missing_ok=True)
        graph.save(self.folder / _GRAPH)
        blocks = {f"block{i:05d}": block for i, block in enumerate(self.held_out)}
        (self.folder / _HELD_OUT).write_bytes(arrays_to_npz(blocks))
        (self.folder / _CALIBRATION).write_bytes(arrays_to_npz({"windows": self.calibration}))
        (self.folder / _REFERENCE).write_bytes(arrays_to_npz(self.reference))
        (self.folder / _RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(self.record), indent=1))


def _no_run(folder: Path, received: str) -> DataError:
    return DataError(
        "not a run folder",
        file=str(folder),
        expected=f"the whole output of edge-vae train, format {FORMAT}",
        received=received,
        action="Train again with: edge-vae train DATA -o RUN",
    )
