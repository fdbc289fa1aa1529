"""What a pipeline has learned survives a restart, and nothing about its file can stop the agent."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from edge_vae.adapt import TailState
from edge_vae.drift import Drifted, DriftState
from edge_vae.learned_file import MAX_BYTES, SAVE_EVERY_S, LearnedFile
from edge_vae.pipeline import Learned

DRIFTED = Drifted(12, 3.25, (0.75, 0.25), (1.9, 1 / 3), (2.6, 0.1), None, 1.7e9)
LEARNED = Learned(
    TailState(days=3.5, peaks=40.0, whole=38.0, excess=61.25), DriftState(active=False, sum=7.35, drifted=DRIFTED)
)
BUNDLE = "0" * 64


def learned_file(folder: Path, *, asset: str = "pump-3", bundle: str = BUNDLE, channels: int = 2) -> LearnedFile:
    return LearnedFile(folder, asset=asset, bundle=bundle, channels=channels)


def after(days: float) -> Learned:
    return Learned(TailState(days=days))


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    learned_file(tmp_path).save(LEARNED, 0.0)
    assert learned_file(tmp_path).load() == LEARNED


def test_nothing_is_loaded_where_nothing_was_saved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert learned_file(tmp_path / "absent").load() == Learned()
    assert caplog.text == ""


def test_what_another_bundle_has_taught_is_not_loaded(tmp_path: Path) -> None:
    learned_file(tmp_path).save(LEARNED, 0.0)
    assert learned_file(tmp_path, bundle="1" * 64).load() == Learned()


@pytest.mark.parametrize("asset", ["pump-3", "..", "ü" * 127, "a b"])
def test_each_asset_has_a_file_of_its_own_in_the_folder(tmp_path: Path, asset: str) -> None:
    learned_file(tmp_path, asset="other").save(after(1.0), 0.0)
    learned_file(tmp_path, asset=asset).save(LEARNED, 0.0)
    assert learned_file(tmp_path, asset=asset).load() == LEARNED
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
        lambda text: text.replace("7.35", "-7.35"),
        lambda text: text.replace("7.35", "null"),
        lambda text: text.replace('"windows":12', '"windows":0'),
        lambda text: text.replace("[0.75,0.25]", "[0.75]"),
        lambda text: text + "x" * 2 * MAX_BYTES,
        lambda text: "[" * 4000,
    ],
)
def test_damaged_file_is_ignored_and_told(tmp_path: Path, damage: object, caplog: pytest.LogCaptureFixture) -> None:
    file = learned_file(tmp_path)
    file.save(LEARNED, 0.0)
    assert callable(damage)
    whole = file.path.read_text()
    file.path.write_text(damage(whole))
    assert file.path.read_text() != whole
    assert learned_file(tmp_path).load() == Learned()
    assert caplog.text.count("beginning anew") == 1
    assert f"what was learned is not read, beginning anew asset=pump-3 file={file.path}" in caplog.text


def test_no_changed_byte_raises_or_gives_means_of_other_channels(tmp_path: Path) -> None:
    file = learned_file(tmp_path)
    file.save(LEARNED, 0.0)
    whole = file.path.read_bytes()
    for at in range(len(whole)):
        for bits in (1, 0x10, 0x80):
            file.path.write_bytes(whole[:at] + bytes([whole[at] ^ bits]) + whole[at + 1 :])
            learned_file(tmp_path).load().expect_channels(2)


def test_means_of_another_number_of_channels_are_not_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    learned_file(tmp_path).save(LEARNED, 0.0)
    assert learned_file(tmp_path, channels=3).load() == Learned()
    assert "expected means of 3 channels, received 2" in caplog.text


def test_nothing_learned_is_nothing_to_write(tmp_path: Path) -> None:
    learned_file(tmp_path).save(Learned(), 0.0, force=True)
    assert list(tmp_path.iterdir()) == []


def test_what_was_loaded_is_not_written_again(tmp_path: Path) -> None:
    learned_file(tmp_path).save(LEARNED, 0.0)
    again = learned_file(tmp_path)
    again.load()
    again.path.unlink()
    again.save(LEARNED, 1e6, force=True)
    assert not again.path.exists()


def test_file_is_written_once_a_minute_at_most_and_at_the_end(tmp_path: Path) -> None:
    file = learned_file(tmp_path)
    later = [after(float(day)) for day in range(1, 5)]
    file.save(later[0], 100.0)
    file.save(later[1], 100.0 + SAVE_EVERY_S - 1)
    assert learned_file(tmp_path).load() == later[0]
    file.save(later[2], 100.0 + SAVE_EVERY_S)
    assert learned_file(tmp_path).load() == later[2]
    file.save(later[3], 101.0 + SAVE_EVERY_S, force=True)
    assert learned_file(tmp_path).load() == later[3]


def test_what_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    file = learned_file(tmp_path)
    file.save(LEARNED, 0.0)
    file.path.unlink()
    file.save(LEARNED, 1e6, force=True)
    assert not file.path.exists()


def test_file_is_replaced_whole_and_says_whose_it_is(tmp_path: Path) -> None:
    file = learned_file(tmp_path)
    (tmp_path / f"{file.path.name}.part").write_text("torn by a power cut")
    file.save(LEARNED, 0.0)
    assert [path.name for path in tmp_path.iterdir()] == [file.path.name]
    kept = json.loads(file.path.read_text())
    assert (kept["asset"], kept["bundle"], kept["learned"]["tail"]["peaks"]) == ("pump-3", BUNDLE, 40.0)


def test_disk_that_does_not_take_it_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    file = learned_file(tmp_path / "absent")
    file.save(LEARNED, 0.0, force=True)
    file.save(LEARNED, 1.0, force=True)
    assert caplog.text.count("what was learned is not kept asset=pump-3") == 1
    (tmp_path / "absent").mkdir()
    file.save(LEARNED, 2.0, force=True)
    assert learned_file(tmp_path / "absent").load() == LEARNED
