from __future__ import annotations

import re
import sqlite3
from importlib.metadata import version
from pathlib import Path

import pytest

from edge_vae.clock import time_quality
from edge_vae.doctor import Check, examine

NAMES = [
    "python", "runtime", "numpy", "paho-mqtt", "outbox", "state_dir", "disk", "clock", "board", "processors", "memory",
]  # fmt: skip


def examined(state_dir: Path, bundle: Path | None = None) -> dict[str, Check]:
    return {check.name: check for check in examine(state_dir=state_dir, bundle=bundle)}


@pytest.fixture(scope="module")
def checks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Check]:
    state_dir = tmp_path_factory.mktemp("state")
    state_dir.chmod(0o700)
    return examined(state_dir)


def test_everything_is_examined_in_a_fixed_order(checks: dict[str, Check]) -> None:
    extras = [name for name in checks if name.startswith("extra ")]
    assert list(checks) == NAMES + extras
    assert extras == [f"extra {name}" for name in ("demo", "modbus", "onnx", "opcua", "parquet", "serial", "train")]


def test_a_machine_where_tests_pass_is_well(checks: dict[str, Check]) -> None:
    assert [check for check in checks.values() if check.ok is False] == []
    assert all(
        checks[f"extra {name}"] == Check(f"extra {name}", ok=True, found="installed") for name in ("demo", "train")
    )


def test_what_is_not_well_comes_with_advice_and_the_rest_without(checks: dict[str, Check]) -> None:
    assert all(bool(check.advice) == (check.ok is not True) and check.found for check in checks.values())


@pytest.mark.parametrize("package", ["numpy", "paho-mqtt"])
def test_versions_are_those_that_are_installed(checks: dict[str, Check], package: str) -> None:
    assert checks[package].found == version(package)


def test_clock_is_judged_as_events_judge_it(checks: dict[str, Check]) -> None:
    assert checks["clock"].found == time_quality()
    assert checks["clock"].ok is (True if time_quality() == "synchronised" else None)


def test_figures_of_the_machine_are_there(checks: dict[str, Check]) -> None:
    assert re.fullmatch(r"\d+ MiB available of \d+ MiB", checks["memory"].found)
    assert re.fullmatch(r"[1-9]\d* of [1-9]\d* usable", checks["processors"].found)
    assert sqlite3.sqlite_version in checks["outbox"].found


def test_examination_leaves_nothing_behind(tmp_path: Path) -> None:
    examine(state_dir=tmp_path / "not" / "yet")
    assert list(tmp_path.iterdir()) == []


def test_state_dir_that_can_be_made_is_well(tmp_path: Path) -> None:
    found = examined(tmp_path / "not" / "yet")
    assert found["state_dir"].ok
    assert found["outbox"].ok
    assert "does not exist yet" in found["state_dir"].found


def test_state_dir_that_everybody_can_read_is_pointed_out(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    check = examined(tmp_path)["state_dir"]
    assert check.ok is None
    assert check.advice.endswith(f"chmod o= {tmp_path}")


def test_state_dir_below_a_file_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = examined(tmp_path / "file" / "state")
    assert (found["state_dir"].ok, found["outbox"].ok) == (False, False)
    assert "set state_dir under [node]" in found["state_dir"].advice


def test_state_dir_without_space_cannot_be_used() -> None:
    found = examined(Path("/proc/edge-vae"))  # a file system that holds nothing of ours, for root too
    assert (found["disk"].ok, found["outbox"].ok) == (False, False)
    assert found["disk"].found == "0 MiB free in /proc"


def test_bundle_is_tried_where_one_is_given(bundle_path: Path, tmp_path: Path) -> None:
    check = examined(tmp_path, bundle_path)["runtime"]
    assert check.ok
    assert str(bundle_path) in check.found


def test_bundle_that_cannot_be_used_fails_the_runtime(tmp_path: Path) -> None:
    check = examined(tmp_path, tmp_path / "none.evb")["runtime"]
    assert check.ok is False
    assert "none.evb: cannot be read" in check.found
