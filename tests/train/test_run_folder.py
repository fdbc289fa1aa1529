"""The run folder: what training leaves behind comes back whole, or is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_vae.bundle import Modes
from edge_vae.cli import run
from edge_vae.errors import DataError
from edge_vae_train.prepare import WindowSet
from edge_vae_train.run_folder import Run

ARRAYS = ["held_out.npz", "calibration.npz", "known.npz", "reference.npz", "run.json"]
GRAPHS = ["window.keras", "features.keras"]
FILES = [*ARRAYS, *GRAPHS, "loss.png"]


@pytest.fixture
def copied(run_folder: Path, tmp_path: Path) -> Path:
    """A copy of the run of the test run, to be damaged."""
    return Path(shutil.copytree(run_folder, tmp_path / "run"))


def refused(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        Run.read(folder)
    line = str(caught.value)
    assert line.startswith(f"{folder}: not a run folder: expected the whole output of edge-vae train")
    assert "Train again with: edge-vae train" in line
    return line


def test_a_run_holds_what_conversion_and_evaluation_need(run_folder: Path) -> None:
    assert set(FILES) <= {file.name for file in run_folder.iterdir()}
    read = Run.read(run_folder)
    record = read.record
    assert record.settings.window.length == 32
    assert len(record.channels) == len(record.shift) == 7
    assert record.rate_hz == pytest.approx(10.0)
    terms = ["window.max", "features.nll", "features.level", "pca", "features.mahalanobis"]
    assert [term.name for term in record.terms] == terms
    assert [view.name for view in record.views] == ["window", "features", "pca"]
    assert list(record.training.fits) == ["window", "features"]
    assert [np.shape(view.variance) for view in record.views] == [(1, 7), (13, 7), (1, 7)]
    assert [view.lag for view in record.views] == [0, 0, 32]
    assert {fit.family for fit in record.training.fits.values()} == {"conv", "dense"}
    assert all(0 < fit.epochs <= record.settings.training.epochs == 12 for fit in record.training.fits.values())
    assert record.modes is None
    assert sum(map(len, read.held_out)) == record.training.held_out_windows
    assert all(block.windows.shape == (len(block), 32, 7) for block in read.held_out)
    assert all(block.windows.dtype == block.conditions.dtype == np.float32 for block in read.held_out)
    assert all(block.conditions.shape == (len(block), 0) for block in (*read.held_out, read.calibration))
    assert read.calibration.windows.shape == (min(400, record.training.windows), 32, 7)
    assert read.known.keys() == {"features.level", "features.mahalanobis", "pca"}
    assert {statistic.shape for statistic in read.known.values()} == {(record.training.held_out_windows,)}
    assert {"components", "lag_mean", "lag_components"} <= read.reference.keys()


def test_held_out_windows_are_kept_unclipped_and_normal_ones_are_about_one_sigma(run_folder: Path) -> None:
    windows = WindowSet.joined(Run.read(run_folder).held_out).windows
    assert 0.3 < windows.std() < 3.0


class Nothing:
    """A graph without weights: the arrays and the record are what is compared."""

    def save(self, file: Path) -> None:
        file.write_bytes(b"")


def test_a_run_written_again_is_the_same_run(run_folder: Path, tmp_path: Path) -> None:
    first = Run.read(run_folder)
    second = dataclasses.replace(first, folder=tmp_path / "deep" / "run")
    second.write(dict.fromkeys(("window", "features"), Nothing()))
    again = Run.read(tmp_path / "deep" / "run")
    assert again.record == first.record
    assert {file.name for file in again.folder.iterdir()} == {*ARRAYS, *GRAPHS}
    for name in ARRAYS:
        assert (again.folder / name).read_bytes() == (run_folder / name).read_bytes()


def numbered(number: int, *, windows: int = 1) -> WindowSet:
    """Windows that hold their number, in the mode of that number."""
    filled = np.full((windows, 32, 7), number, np.float32)
    return WindowSet(filled, np.tile(np.eye(3, dtype=np.float32)[number % 3], (windows, 1)))


def test_windows_come_back_with_their_conditions_and_more_than_ten_blocks_in_order(
    run_folder: Path, tmp_path: Path
) -> None:
    first = Run.read(run_folder)
    blocks = tuple(numbered(i, windows=1 + i % 2) for i in range(12))
    values = ((1.0,), (2.0,), (3.0,))
    modes = Modes(("recipe",), values, ((0.0,) * 7,) * 3, ((1.0,) * 7,) * 3)
    record = msgspec.structs.replace(first.record, modes=modes)
    known = {"pca": np.arange(18, dtype=np.float32)}
    written = Run(tmp_path / "run", record, blocks, WindowSet.joined(blocks[:5]), known, first.reference)
    written.write({})
    again = Run.read(tmp_path / "run")
    assert again.record.modes == modes
    assert again.known["pca"].tolist() == list(range(18))
    assert [float(block.windows[0, 0, 0]) for block in again.held_out] == list(range(12))
    for kept, block in zip((*again.held_out, again.calibration), (*blocks, written.calibration), strict=True):
        np.testing.assert_array_equal(kept.windows, block.windows)
        np.testing.assert_array_equal(kept.conditions, block.conditions)


def test_writing_into_a_folder_removes_models_and_picture_of_an_earlier_training_alone(copied: Path) -> None:
    stale = ["features.int8.tflite", "features.float32.tflite", "window.dynamic.tflite", "pca.keras"]
    for name in stale:
        (copied / name).write_bytes(b"of an earlier training")
    kept = ["notes.txt", "rig.evb", "other.keras", "other.tflite"]
    for name in kept:
        (copied / name).write_bytes(b"somebody's")
    Run.read(copied).write({"window": Nothing()})
    assert {file.name for file in copied.iterdir()} == {*ARRAYS, *kept, "window.keras"}
    assert (copied / "window.keras").read_bytes() == b""


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda _: b"", None], ids=["half", "empty", "missing"])
def test_a_run_with_a_damaged_file_is_refused(copied: Path, name: str, damage: Callable[[bytes], bytes] | None) -> None:
    file = copied / name
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes()))
    refused(copied)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(format=1), "received format 1"),
        (lambda d: d.update(extra=1), "extra"),
        (lambda d: d["settings"]["window"].update(lenght=1), "lenght"),
        (lambda d: d["training"]["fits"]["window"].pop("loss"), "loss"),
        (lambda d: d["views"][0].update(input="spectrum"), "spectrum"),
    ],
)
def test_a_record_of_another_version_is_refused(
    copied: Path, change: Callable[[dict[str, object]], None], says: str
) -> None:
    document = json.loads((copied / "run.json").read_text())
    change(document)
    (copied / "run.json").write_text(json.dumps(document))
    assert says in refused(copied)


def test_a_folder_that_is_no_run_and_a_path_that_is_not_there_are_refused(tmp_path: Path) -> None:
    refused(tmp_path)
    refused(tmp_path / "none")


@pytest.mark.parametrize("command", ["convert", "evaluate"])
def test_commands_refuse_what_is_no_run_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    rest = ["-o", str(tmp_path / "x.evb")] if command == "convert" else [str(tmp_path), "--label", "y"]
    assert run([command, str(tmp_path), *rest]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"edge-vae: {tmp_path}: not a run folder: ")
    assert len(err.splitlines()) == 1


@pytest.mark.keras
@pytest.mark.parametrize("view", ["window", "features"])
def test_a_damaged_graph_is_refused_by_the_name_of_its_view(copied: Path, view: str) -> None:
    graph = copied / f"{view}.keras"
    graph.write_bytes(graph.read_bytes()[:5_000])
    with pytest.raises(DataError, match=rf"not a run folder: .*received {view}\.keras: "):
        Run.read(copied).graph(view)


@pytest.mark.keras
def test_a_missing_graph_is_refused(copied: Path) -> None:
    (copied / "features.keras").unlink()
    with pytest.raises(DataError, match=r"not a run folder: .*received features\.keras: "):
        Run.read(copied).graph("features")
