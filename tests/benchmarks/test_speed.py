"""`benchmarks/speed.py` and `profile_path.py`: whole tables of tiny runs, and the arithmetic behind them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import profile_path
from edge_vae.errors import EdgeVaeError
from speed_peers import environment, figures, registry, worker
from speed_peers.bundles import CHANNELS, LENGTH, STRIDE, Bundles, made
from speed_peers.ceiling import best, ceilings
from speed_peers.environment import installed_mib, python_of
from speed_peers.figures import PATH, Times, agreement, ratio, rows, wishes
from speed_peers.loaded import Files, Loaded, statistic
from speed_peers.models import WINDOWS, exported, up_to_date
from speed_peers.process import PeerProcess
from speed_peers.table import row_lines, wish_lines

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(900)  # the first test makes two bundles and has TensorFlow started three times


def ran(script: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


# The whole command


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """Both bundles, trained for two epochs."""
    return made(tmp_path_factory.mktemp("speed") / "models")


@pytest.fixture(scope="module")
def report(bundles: Bundles) -> Any:
    """The document of a tiny run with what is in this environment."""
    tiny = ("--here", "--only", "tensorflow", "pyod", "--turns", 2, "--seconds", 0.02)
    run = ran("speed.py", *tiny, "--models", bundles.folder, "--json")
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.keras
def test_every_chosen_peer_has_its_rows_in_order(report: Any) -> None:
    expected = [row for peer in registry.chosen(["tensorflow", "pyod"]) for row in peer.rows]
    assert [row["name"] for row in report["rows"]] == expected
    assert "PyTorch" not in expected
    for row in report["rows"]:
        if row["p50_us"] is not None:
            assert 0 < row["p50_us"] <= row["p99_us"]
            assert row["per_second"] > 0
            assert row["per_path"] > 0
        measured = row["p50_us"] is not None or row["bulk_per_second"] is not None
        assert measured == (not row["reason"])


@pytest.mark.keras
def test_what_is_not_installed_is_told_with_the_reason_and_the_rest_is_measured(report: Any) -> None:
    by_name = {row["name"]: row for row in report["rows"]}
    assert by_name["PyOD VAE"]["reason"].startswith("pyod is not in this environment: expected the module pyod")
    for name in (PATH, "our path, default score", "bare invoke, int8", "LiteRT loop, float32", "Keras predict"):
        assert by_name[name]["reason"] == ""
        assert by_name[name]["peak_mib"] > 20
        assert by_name[name]["import_s"] > 0
    assert by_name[PATH]["per_path"] == 1.0
    assert by_name["bare invoke, int8"]["per_invoke"] == 1.0


@pytest.mark.keras
def test_peers_with_our_weights_rank_windows_as_our_path_does(report: Any) -> None:
    found = {row["name"]: row["agreement"] for row in report["rows"] if row["agreement"] is not None}
    assert set(found) >= {PATH, "LiteRT loop, int8", "LiteRT loop, float32", "tf.function", "Keras predict"}
    assert all(value > 0.99 for value in found.values()), found  # int8 against float32


@pytest.mark.keras
def test_every_ratio_stands_beside_its_wish(report: Any) -> None:
    assert len(report["wishes"]) == 13
    for wish in report["wishes"]:
        assert (wish["ratio"] is None) == (wish["met"] is None)
        sign, limit = wish["limit"].split()
        if wish["ratio"] is not None:
            assert wish["met"] == (wish["ratio"] <= float(limit) if sign == "<=" else wish["ratio"] >= float(limit))
    torch = next(wish for wish in report["wishes"] if wish["what"].startswith("PyTorch"))
    assert torch["ratio"] is None


@pytest.mark.keras
def test_multiply_accumulates_are_those_of_the_layers(bundles: Bundles) -> None:
    width, latent, channels = 64, 8, len(CHANNELS)
    half, quarter = LENGTH // 2, LENGTH // 4
    encoder = half * 5 * channels * 32 + quarter * 5 * 32 * width + quarter * 3 * width * 32
    dense = 3 * quarter * 32 * latent
    decoder = quarter * 3 * 32 * 2 * width + half * 3 * width * 2 * 32 + LENGTH * 3 * 32 * channels
    assert exported(bundles).window == encoder + dense + decoder


@pytest.mark.keras
def test_peers_get_raw_windows_and_the_numbers_to_scale_them(bundles: Bundles) -> None:
    exported(bundles)
    files = Files(bundles.folder)
    assert files.windows.shape == (WINDOWS, LENGTH, len(CHANNELS))
    assert WINDOWS == worker.PASS
    np.testing.assert_array_equal(files.windows[1:, :-STRIDE], files.windows[:-1, STRIDE:])
    scaled = files.scaled(files.windows)
    assert scaled.dtype == np.float32
    assert np.abs(scaled).max() <= files.numbers["clip"]
    assert 0.5 < scaled.std() < 2.0  # normal data in sigmas


@pytest.mark.keras
@pytest.mark.parametrize(("option", "value"), [("--turns", "0"), ("--seconds", "nan"), ("--only", "nonsense")])
def test_wrong_options_are_told_with_status_2(option: str, value: str) -> None:
    run = ran("speed.py", option, value)
    assert run.returncode == 2
    assert option in run.stderr.splitlines()[-1]
    assert run.stdout == ""


@pytest.mark.parametrize("script", ["speed.py", "profile_path.py"])
def test_a_folder_that_cannot_be_made_is_told_in_one_line(script: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = ran(script, "--models", tmp_path / "file" / "models")
    assert run.returncode == 1
    assert str(tmp_path / "file") in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr
    assert run.stdout == ""


def test_a_file_that_is_no_bundle_has_no_profile(tmp_path: Path) -> None:
    (tmp_path / "no.evb").write_bytes(b"nothing")
    run = ran("profile_path.py", tmp_path / "no.evb")
    assert run.returncode == 1
    assert run.stderr.startswith(f"{tmp_path / 'no.evb'}: not a whole bundle")
    assert len(run.stderr.splitlines()) == 1


def test_what_is_older_than_its_source_is_made_again(tmp_path: Path) -> None:
    source, made_of_it = tmp_path / "source", tmp_path / "made"
    for file, seconds in ((source, 100), (made_of_it, 200)):
        file.write_text("")
        os.utime(file, (seconds, seconds))
    assert up_to_date([made_of_it], source)
    assert not up_to_date([made_of_it, tmp_path / "missing"], source)
    os.utime(source, (300, 300))
    assert not up_to_date([made_of_it], source)


@pytest.mark.keras
def test_the_profile_times_every_step_of_a_bundle(bundles: Bundles) -> None:
    run = ran("profile_path.py", bundles.parts(bundles.default), "--seconds", 0.02, "--json")
    assert run.returncode == 0, run.stderr
    steps = {step["name"].strip(): step for step in json.loads(run.stdout)}
    assert steps["window to decision"]["part"] == 1.0
    for name in ("scale", "window: bare invoke", "features: target", "pca: runtime", "term window.max: statistic"):
        assert 0 < steps[name]["part"] < 1
    table = ran("profile_path.py", bundles.parts(bundles.window), "--seconds", 0.02).stdout.splitlines()
    assert table[0].split() == ["p50,", "us", "of", "the", "path"]
    assert not any("pca" in line for line in table)


def test_a_rest_is_what_the_steps_of_a_part_leave_over() -> None:
    timed = {
        profile_path.WHOLE: 100.0, profile_path.SCALE: 5.0, profile_path.VIEWS: 60.0, "  window: target": 10.0,
        "  window: runtime": 30.0, "  window: bare invoke": 20.0, profile_path.FUSED: 25.0, "  term a: statistic": 15.0,
        "  term a: tail": 5.0,
    }  # fmt: skip
    found = profile_path.with_rests({name: np.array([value]) for name, value in timed.items()})
    assert list(found).index("  rest of the views") == list(found).index(profile_path.FUSED) - 1
    rests = {name.strip(): float(turns[0]) for name, turns in found.items() if "rest of" in name}
    assert rests == {"rest of the views": 20.0, "rest of fusing": 5.0, "rest of the path": 10.0}


# Figures


def times(*p50_us: float, bulk: tuple[float, ...] = ()) -> Times:
    return Times(one=[(p50, 2 * p50, p50) for p50 in p50_us], bulk=list(bulk))


def test_a_ratio_is_taken_within_each_turn() -> None:
    # The second turn had a busy machine for both; the quotient of the medians would be 3 / 2.
    assert ratio([2.0, 30.0, 3.0], [1.0, 10.0, 2.0]) == 2.0
    assert ratio([], [1.0]) is None


def test_rows_hold_medians_and_both_ratios() -> None:
    measured = {PATH: times(20.0, 40.0, 30.0), figures.INVOKE: times(10.0, 10.0, 10.0, bulk=(5.0, 7.0, 6.0))}
    path, invoke = rows(measured)
    assert (path.p50_us, path.p99_us, path.per_second) == (30.0, 60.0, pytest.approx(1e6 / 30))
    assert (path.per_invoke, path.per_path, path.bulk_per_second) == (3.0, 1.0, None)
    assert (invoke.per_invoke, invoke.per_path, invoke.bulk_per_second) == (1.0, pytest.approx(1 / 3), 6.0)


def test_wishes_are_met_missed_or_not_measured() -> None:
    measured = {
        PATH: times(12.0, bulk=(95.0,)),
        figures.INVOKE: times(10.0, bulk=(80.0,)),
        figures.BATCHES: times(bulk=(100.0,)),
        "PyTorch": times(120.0),
    }
    found = {wish.what: wish for wish in wishes(measured, floor_us=5.0)}
    assert found["our path, VAE of the window / bare invoke"].met is True
    assert found["bare invoke / what it takes at the ceiling"].ratio == 2.0
    assert found["bulk, VAE of the window / bare invokes in bulk"].ratio == pytest.approx(0.95)
    assert found[f"PyTorch / {PATH}"].met is False
    assert found[f"tf.function / {PATH}"].met is None
    assert {wish.what: wish for wish in wishes(measured, floor_us=None)}[
        "bare invoke / what it takes at the ceiling"
    ].met is None


def test_figures_and_registry_call_rows_by_the_same_names() -> None:
    known = {row for peer in registry.PEERS for row in peer.rows}
    assert sum(len(peer.rows) for peer in registry.PEERS) == len(known)
    names = {name: times(1.0, bulk=(1.0,)) for name in known}
    assert all(wish.ratio is not None for wish in wishes(names, floor_us=1.0))


def test_agreement_is_that_of_ranks() -> None:
    scores = np.arange(10.0)
    assert agreement(scores.tolist(), np.exp(scores).tolist()) == pytest.approx(1.0)
    assert agreement(scores.tolist(), (-scores).tolist()) == pytest.approx(-1.0)


def test_the_statistic_is_the_error_over_the_variance() -> None:
    scaled, reconstruction = np.full((2, 3, 2), 2.0), np.zeros((2, 3, 2))
    np.testing.assert_array_equal(statistic(scaled, reconstruction, np.array([[4.0, 1.0]])), [2.5, 2.5])


def test_lines_are_as_wide_as_their_header_or_tell_a_reason() -> None:
    measured = {PATH: times(20.0, bulk=(1.0,)), "PyTorch": Times(reason="no room on the disk")}
    header, path, torch = row_lines(rows(measured))
    assert len(path) == len(header)
    assert path.startswith(PATH)
    assert torch.split("not measured: ")[1] == "no room on the disk"
    lines = list(wish_lines(wishes(measured, floor_us=1.0)))
    assert len(lines) == 1 + 13
    assert all(line.endswith(("met", "missed", "not measured")) for line in lines[1:])


# One turn of a peer


def test_a_turn_times_calls_and_takes_the_fastest_pass() -> None:
    naps = iter([0.05, 0.01, 0.05])

    def bulk(windows: Any) -> Any:
        time.sleep(next(naps, 0.05))
        return windows

    class Given:
        windows = np.zeros((2 * worker.PASS, 4, 2))

    found = worker.turn(Loaded({"call": lambda i: i}, {"bulk": bulk}), Given, seconds=0.1, calls=50)
    median, p99, mean, count = found["calls"]["call"]
    assert 0 < median <= p99
    assert mean > 0
    assert count == 50
    assert worker.PASS / 0.05 < found["bulk"]["bulk"] <= worker.PASS / 0.01


def test_a_peer_that_dies_tells_its_last_words() -> None:
    task = {
        "module": "speed_peers.peers.nobody", "argument": "", "folder": ".", "versions": [],
        "cores": [min(os.sched_getaffinity(0))],
    }  # fmt: skip
    with pytest.raises(EdgeVaeError, match=r"nobody died: expected an answer, received status 1: ModuleNotFoundError"):
        PeerProcess(Path(sys.executable), task, {})


# The core's ceiling


def test_a_core_does_billions_of_multiply_accumulates_a_second() -> None:
    found = ceilings(min(os.sched_getaffinity(0)))
    assert {row.type for row in found} == {"int8", "float32"}
    assert all(row.macs_per_s > 1e9 for row in found)
    fastest = best(found, "int8")
    assert fastest is not None
    assert fastest.macs_per_s == max(row.macs_per_s for row in found if row.type == "int8")
    assert set(asdict(fastest)) == {"instructions", "type", "macs_per_s"}


def test_without_a_compiler_there_is_no_ceiling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EdgeVaeError, match=r"expected the program gcc, received none\. Install it with"):
        ceilings(0)


# Environments


def wheel(folder: Path, version: str) -> Path:
    """A package of one module, as pip installs it without any download."""
    info, path = f"tiny-{version}.dist-info", folder / f"tiny-{version}-py3-none-any.whl"
    contents = {
        "tiny.py": f"SIZE = {'1' * 5000}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*contents, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**contents, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    return path


def test_an_environment_is_made_once_and_again_for_other_requirements(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(environment, "FOLDER", tmp_path / "peers")
    said: list[str] = []
    first, second = wheel(tmp_path, "1.0"), wheel(tmp_path, "2.0")
    asked = "import importlib.metadata as m; print(m.version('tiny'))"
    for requirement, version in ((first, "1.0"), (first, "1.0"), (second, "2.0")):
        python = python_of("tiny", (str(requirement),), say=said.append)
        told = subprocess.run([str(python), "-c", asked], capture_output=True, text=True, check=True)
        assert told.stdout.strip() == version
    assert len(said) == 2
    assert 5000 / 2**20 < installed_mib(python) < 0.1  # without pip, which takes 10 MiB
    assert installed_mib(python, further=[first.parent]) > installed_mib(python)


def test_what_cannot_be_installed_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "FOLDER", tmp_path / "peers")
    with pytest.raises(EdgeVaeError, match=r"^gone cannot be installed here: .*received ERROR: .*none\.whl") as caught:
        python_of("gone", (str(tmp_path / "none.whl"),), say=len)
    assert "\n" not in str(caught.value)
