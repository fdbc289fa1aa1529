"""edge-vae convert: the table, the gate and its status, and what a threshold promises."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edge_vae.bundle import Bundle
from edge_vae.cli import run
from edge_vae.threshold import Threshold
from edge_vae_converters import parity
from edge_vae_converters.cli import promise


@pytest.fixture
def copied(run_folder: Path, tmp_path: Path) -> Path:
    """The run of the test run, without the models that its conversion left there."""
    ignored = shutil.ignore_patterns("*.tflite")
    return Path(shutil.copytree(run_folder, tmp_path / "run", ignore=ignored))


@pytest.mark.keras
def test_a_model_that_the_gate_refuses_is_not_written_if_strict_unless_it_is_wanted(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "MAX_NOISE", 1e-9)  # a limit that no int8 model keeps
    output = tmp_path / "rig.evb"
    files = sorted(copied.iterdir())
    assert run(["convert", str(copied), "-o", str(output), "--strict"]) == 1
    out, err = capsys.readouterr()
    noise = [line for line in out.splitlines() if ": quantization noise / normal error" in line]
    assert [line.partition(":")[0] for line in noise] == ["window", "features"]
    assert all(line.endswith("<= 1e-09   REFUSED") for line in noise)
    *_, line = err.splitlines()
    assert line.startswith(f"edge-vae: {copied}: the gate refuses the int8 model: ")
    demands = [f"{view}: quantization noise / normal error <= 1e-09" for view in ("window", "features")]
    assert f"expected {', '.join(demands)}, received 0.0" in line
    assert "Leave out --strict" in line
    assert "--no-gate takes it as it is" in line
    assert not output.exists()
    assert sorted(copied.iterdir()) == files

    assert run(["convert", str(copied), "-o", str(output), "--no-gate", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["passed"] is False
    assert document["bundle"] == str(output)
    assert document["fallbacks"] == []
    found = [row.measure for row in Bundle.read(output).manifest.parity if row.passed is False]
    assert found == [f"{view}: quantization noise / normal error" for view in ("window", "features")]


@pytest.mark.keras
def test_a_model_that_the_gate_refuses_becomes_float32_with_a_line_that_says_why(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "MAX_NOISE", 1e-9)
    output = tmp_path / "rig.evb"
    assert run(["convert", str(copied), "-o", str(output)]) == 0
    out = capsys.readouterr().out
    told = [line for line in out.splitlines() if line.startswith("view ")]
    assert [line.partition(",")[0] for line in told] == [
        "view window: dynamic instead of int8", "view features: dynamic instead of int8",
        "view window: float32 instead of dynamic", "view features: float32 instead of dynamic",
    ]  # fmt: skip
    assert Bundle.read(output).manifest.precision == "float32"
    assert f"wrote {output}" in out


@pytest.mark.keras
def test_the_table_the_promise_and_what_was_written_fit_a_terminal(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "rig.evb"
    assert run(["convert", str(copied), "-o", str(output)]) == 0
    *table, told, written = capsys.readouterr().out.splitlines()
    assert max(map(len, table)) <= 100
    assert all(line.endswith(" ok") or line[-1].isdigit() for line in table)
    assert told == promise(Bundle.read(output).manifest.threshold)
    assert written.startswith(f"wrote {output} ({output.stat().st_size} bytes); beside it ")
    for view in ("window", "features"):
        for precision in ("int8", "float32"):
            assert (beside := copied / f"{view}.{precision}.tflite").exists()
            assert str(beside) in written
    assert run(["inspect", str(output)]) == 0
    inspected = capsys.readouterr().out
    assert all(line.split("  ")[0] in inspected for line in table)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-o", "x.evb"],
        ["run"],
        ["run", "-o", "x.evb", "--precision", "int3"],
        ["run", "-o", "x.evb", "--false-alarms", "0"],
        ["run", "-o", "x.evb", "--strict", "--no-gate"],
    ],
)
def test_wrong_usage_ends_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", *arguments]) == 2
    assert "Usage: edge-vae convert" in capsys.readouterr().err


def threshold(kind: str, *, wish: float = 0.5, days: float = 2.0) -> Threshold:
    return Threshold(5.25, kind, wish, 2.0, 0.0, 1.0, 20.0, 40, days, 6, 4.5, 6.125)


def test_a_promise_that_the_data_can_check_is_told_with_its_spread() -> None:
    line = promise(threshold("pareto", wish=10.0))
    assert line.startswith(
        "threshold 5.250 for 10 false alarms a day (leaving out one held-out block gives 4.500 to 6.125)"
    )
    assert line.endswith("6 held-out blocks of normal data span 2 days and hold 40 separate peaks")


def test_a_promise_that_the_data_cannot_check_says_so() -> None:
    assert promise(threshold("pareto")).endswith("; 1 false alarms are expected in them, too few to check the promise")


def test_a_threshold_of_single_blocks_asks_for_more_data() -> None:
    line = promise(threshold("blocks"))
    assert "single held-out blocks give 4.500 to 6.125" in line
    assert line.endswith(
        "too few to fit a tail, so an exponential one was taken, drawn to what is usual: the promise may be off by"
        " several times, give more normal data"
    )


@pytest.mark.keras
def test_onnx_is_written_into_a_folder_beside_what_scoring_needs(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "onnx"
    assert run(["convert", str(copied), "--to", "onnx", "-o", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"wrote {folder} (")
    names = {"window.onnx", "features.onnx", "scoring.json", "golden.npz", "reference.npz"}
    assert {file.name for file in folder.iterdir()} == names


@pytest.mark.keras
def test_c_for_a_microcontroller_is_written_into_a_folder(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "firmware" / "pump"
    assert run(["convert", str(copied), "--to", "c-array", "-o", str(folder)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert any(line.startswith("window: TensorFlow Lite Micro arena, bytes ") for line in out)
    assert out[-1].startswith(f"wrote {folder} (")
    assert "edge_vae.h" in out[-1]
    assert {"edge_vae.c", "edge_vae_model.c", "main.c", "README.txt"} <= {file.name for file in folder.iterdir()}
    assert run(["convert", str(copied), "--to", "c-array", "--precision", "dynamic", "-o", str(folder)]) == 2
    assert "--to c-array takes --precision int8 or float32, received dynamic." in capsys.readouterr().err
