"""Damaged bundles and models: none crashes or hangs a command or the agent, and none is taken for a sound one."""

from __future__ import annotations

import itertools
import random
import struct
from pathlib import Path

import numpy as np
import pytest

from agent_process import pipeline, replay, write_config
from broker import free_port
from damage import BUNDLE_DAMAGES, DAMAGES, contents, with_model, zipped
from edge_vae import cli
from edge_vae.bundle import Bundle
from edge_vae.detector import GOLDEN_TOLERANCE, load
from edge_vae.errors import EX_CONFIG, BundleError
from edge_vae.faults import stress
from edge_vae.probe import expect_sound

EACH = 125
"""Bundles with each of eight damages: a thousand."""


@pytest.fixture(scope="module")
def bundle(bundle_path: Path) -> Bundle:
    return Bundle.read(bundle_path)


def refused(words: list[object], told: pytest.CaptureFixture[str]) -> str:
    """The one line by which a command refuses a bundle."""
    status = cli.run([str(word) for word in words])
    out, err = told.readouterr()
    assert (status, out) == (EX_CONFIG, ""), err
    (line,) = err.splitlines()
    assert line.startswith("edge-vae: ")
    assert ": expected " in line
    assert ", received " in line
    return line


@pytest.mark.parametrize("damage", BUNDLE_DAMAGES)
def test_no_damaged_bundle_is_accepted(
    damage: str, bundle_path: Path, rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound, chance, file = bundle_path.read_bytes(), random.Random(damage), tmp_path / "damaged.evb"
    recording = rig / "faulty" / "leak.csv"
    config = write_config(tmp_path, free_port(), pipeline("pump", file, replay(recording)))
    others = [["score", file, recording, "-o", tmp_path / "s.csv"], ["run", "--config", config]]
    for i in range(EACH):
        while (damaged := BUNDLE_DAMAGES[damage](sound, chance)) == sound:
            pass
        file.write_bytes(damaged)
        with pytest.raises(BundleError):
            Bundle.unpack(damaged, path="damaged.evb")
        for words in [["inspect", file], *(others if i % 25 == 0 else [])]:
            assert str(file) in refused(words, capsys)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_in_a_whole_zip_is_refused_or_read_as_what_it_is(damage: str, bundle_path: Path) -> None:
    sound, chance = contents(bundle_path.read_bytes()), random.Random(damage)
    for _ in range(EACH // 5):
        for name in ("manifest.json", "golden.npz", "reference.npz"):
            packed = zipped(sound | {name: DAMAGES[damage](sound[name], chance)})
            try:
                read = Bundle.unpack(packed, path="damaged.evb")
            except BundleError:
                continue
            made = Bundle(read.manifest, read.models, read.golden, read.reference)
            again = Bundle.unpack(made.pack(), path="again.evb")
            assert again.manifest == read.manifest
            for before, after in ((read.golden, again.golden), (read.reference, again.reference)):
                assert before.keys() == after.keys()
                assert all(np.array_equal(before[key], after[key]) for key in before)


def with_right_hash(bundle: Bundle, name: str, model: bytes, folder: Path) -> tuple[Bundle, Path]:
    damaged, path = with_model(bundle, name, model), folder / "damaged.evb"
    damaged.write(path)
    return damaged, path


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_with_the_right_hash_is_refused_or_scores_as_the_sound_one(
    damage: str, bundle: Bundle, tmp_path: Path
) -> None:
    chance, clip, sound = random.Random(damage), bundle.manifest.clip, load(bundle, path="rig.evb")
    normal = np.tile(bundle.golden["windows"], (8, 1, 1))
    windows = stress(normal, severity=clip, clip=clip, generator=np.random.default_rng(1)).astype(np.float64)
    conditions = np.zeros((len(windows), 0), np.float32)
    expected = sound(windows, conditions)[0].score
    for name in itertools.islice(itertools.cycle(bundle.models), 6):
        damaged, path = with_right_hash(bundle, name, DAMAGES[damage](bundle.models[name], chance), tmp_path)
        try:
            expect_sound(damaged, path)
        except BundleError:
            continue
        received = load(damaged, path=str(path))(windows, conditions)[0].score
        largest = np.maximum(expected, bundle.manifest.threshold.value)
        # Eight golden windows were within the tolerance; of 64 others the worst is a little further off.
        assert float(np.max(np.abs(received - expected) / largest)) <= 4 * GOLDEN_TOLERANCE


def test_a_model_that_wants_gigabytes_is_refused_and_gets_none_of_them(
    bundle: Bundle, rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # One flipped bit in the shape of an activation: from 1 row of 64 numbers to 67,108,865 rows. A process without a
    # bound takes 4 GiB and 13 seconds, and then gets the right golden scores.
    name, shape = min(bundle.models), struct.pack("<3I", 2, 1, 64)
    model = bundle.models[name]
    rows = struct.pack("<3I", 2, 1 | 1 << 26, 64)
    at = model.index(shape)
    _, path = with_right_hash(bundle, name, model[:at] + rows + model[at + len(rows) :], tmp_path)
    config = write_config(tmp_path, free_port(), pipeline("pump", path, replay(rig / "faulty" / "leak.csv")))
    for words in (["run", "--config", config], ["score", path, rig / "faulty", "-o", tmp_path / "s.csv"]):
        assert str(path) in refused(words, capsys)
