"""The run folder: what training leaves behind comes back whole, or is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_vae.bundle import arrays_to_npz
from edge_vae.cli import run
from edge_vae.errors import DataError
from edge_vae_train.run_folder import Run

FILES = ["calibration.npz", "held_out.npz", "loss.png", "reference.npz", "run.json", "scoring_graph.keras"]


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
    assert len(record.channels) == len(record.variance) == len(record.shift) == 7
    assert record.rate_hz == pytest.approx(10.0)
    assert record.training.epochs <= record.settings.training.epochs == 12
    assert sum(map(len, read.held_out)) == record.training.held_out_windows
    assert all(block.shape[1:] == (32, 7) and block.dtype == np.float32 for block in read.held_out)
    assert read.calibration.shape == (min(400, record.training.windows), 32, 7)
    assert "components" in read.reference


def test_held_out_windows_are_kept_unclipped_and_normal_ones_are_about_one_sigma(run_folder: Path) -> None:
    windows = np.concatenate(Run.read(run_folder).held_out)
    assert 0.3 < windows.std() < 3.0


def test_a_run_written_again_is_the_same_run(run_folder: Path, tmp_path: Path) -> None:
    class Nothing:
        """A graph without weights: the arrays and the record are what is compared."""

        def save(self, file: Path) -> None:
            file.write_bytes(b"")

    first = Run.read(run_folder)
    second = Run(tmp_path / "deep" / "run", first.record, first.held_out, first.calibration, first.reference)
    second.write(Nothing())
    again = Run.read(tmp_path / "deep" / "run")
    assert again.record == first.record
    for name in ("held_out.npz", "calibration.npz", "reference.npz", "run.json"):
        assert (again.folder / name).read_bytes() == (run_folder / name).read_bytes()


def test_more_than_ten_blocks_keep_their_order(run_folder: Path, tmp_path: Path) -> None:
    first = Run.read(run_folder)
    blocks = tuple(np.full((1, 32, 7), i, np.float32) for i in range(12))
    (copied := tmp_path / "run").mkdir()
    for name in ("calibration.npz", "reference.npz", "run.json"):
        shutil.copy(run_folder / name, copied)
    (copied / "held_out.npz").write_bytes(arrays_to_npz({f"block{i:05d}": b for i, b in enumerate(blocks)}))
    assert [float(block[0, 0, 0]) for block in Run.read(copied).held_out] == list(range(12))
    assert len(first.held_out) != 12


@pytest.mark.parametrize("name", ["run.json", "held_out.npz", "calibration.npz", "reference.npz"])
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
        (lambda d: d.update(format=2), "received format 2"),
        (lambda d: d.update(extra=1), "extra"),
        (lambda d: d["settings"]["window"].update(lenght=1), "lenght"),
        (lambda d: d["training"].pop("loss"), "loss"),
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
def test_a_damaged_graph_is_refused(copied: Path) -> None:
    graph = copied / "scoring_graph.keras"
    graph.write_bytes(graph.read_bytes()[:5_000])
    with pytest.raises(DataError, match=r"not a run folder: .*received scoring_graph\.keras: "):
        Run.read(copied).graph()
