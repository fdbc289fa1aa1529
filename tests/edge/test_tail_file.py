"""What a threshold has learned survives a restart, and nothing about its file can stop the agent."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from edge_vae.adapt import TailState
from edge_vae.tail_file import SAVE_EVERY_S, TailFile

TAIL = TailState(days=3.5, peaks=40.0, whole=38.0, excess=61.25)
BUNDLE = "0" * 64


def tail_file(folder: Path, *, asset: str = "pump-3", bundle: str = BUNDLE) -> TailFile:
    return TailFile(folder, asset=asset, bundle=bundle)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    tail_file(tmp_path).save(TAIL, 0.0)
    assert tail_file(tmp_path).load() == TAIL


def test_nothing_is_loaded_where_nothing_was_saved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert tail_file(tmp_path / "absent").load() is None
    assert caplog.text == ""


def test_what_another_bundle_has_taught_is_not_loaded(tmp_path: Path) -> None:
    tail_file(tmp_path).save(TAIL, 0.0)
    assert tail_file(tmp_path, bundle="1" * 64).load() is None


@pytest.mark.parametrize("asset", ["pump-3", "..", "ü" * 127, "a b"])
def test_each_asset_has_a_file_of_its_own_in_the_folder(tmp_path: Path, asset: str) -> None:
    tail_file(tmp_path, asset="other").save(TailState(days=1.0), 0.0)
    tail_file(tmp_path, asset=asset).save(TAIL, 0.0)
    assert tail_file(tmp_path, asset=asset).load() == TAIL
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "\0" * len(text),
        lambda text: text.replace("61.25", "-1"),
        lambda text: text.replace("61.25", "1e999"),
        lambda text: text.replace("61.25", '"much"'),
        lambda text: text.replace('"days"', '"weeks"'),
        lambda text: text + "x" * 10_000,
        lambda text: "[" * 4000,
    ],
)
def test_damaged_file_is_ignored_and_told(tmp_path: Path, damage: object, caplog: pytest.LogCaptureFixture) -> None:
    file = tail_file(tmp_path)
    file.save(TAIL, 0.0)
    assert callable(damage)
    file.path.write_text(damage(file.path.read_text()))
    assert tail_file(tmp_path).load() is None
    assert f"learned threshold not read, beginning anew asset=pump-3 file={file.path}" in caplog.text


def test_file_is_written_once_a_minute_at_most_and_at_the_end(tmp_path: Path) -> None:
    file = tail_file(tmp_path)
    later = [TailState(days=float(day)) for day in range(4)]
    file.save(later[0], 100.0)
    file.save(later[1], 100.0 + SAVE_EVERY_S - 1)
    assert tail_file(tmp_path).load() == later[0]
    file.save(later[2], 100.0 + SAVE_EVERY_S)
    assert tail_file(tmp_path).load() == later[2]
    file.save(later[3], 101.0 + SAVE_EVERY_S, force=True)
    assert tail_file(tmp_path).load() == later[3]


def test_what_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    file = tail_file(tmp_path)
    file.save(TAIL, 0.0)
    file.path.unlink()
    file.save(TAIL, 1e6, force=True)
    assert not file.path.exists()


def test_file_is_replaced_whole_and_says_whose_it_is(tmp_path: Path) -> None:
    file = tail_file(tmp_path)
    (tmp_path / f"{file.path.name}.part").write_text("torn by a power cut")
    file.save(TAIL, 0.0)
    assert [path.name for path in tmp_path.iterdir()] == [file.path.name]
    kept = json.loads(file.path.read_text())
    assert (kept["asset"], kept["bundle"], kept["tail"]["peaks"]) == ("pump-3", BUNDLE, 40.0)


def test_disk_that_does_not_take_it_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    file = tail_file(tmp_path / "absent")
    file.save(TAIL, 0.0, force=True)
    file.save(TAIL, 1.0, force=True)
    assert caplog.text.count("learned threshold not kept asset=pump-3") == 1
    (tmp_path / "absent").mkdir()
    file.save(TAIL, 2.0, force=True)
    assert tail_file(tmp_path / "absent").load() == TAIL
