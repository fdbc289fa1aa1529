"""Results on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_vae.errors import EdgeVaeError
from quality_protocols.cache import Cache, Key, Record, configuration
from quality_protocols.task import Result

KEY = Key("skab", "valve1-0", 2, "PCA Q, 95 % of variance")
SAME = {"hash": "same"}


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    labels, scores = np.array([True, False]), np.array([0.25, 1e-9])
    rows = {
        "a": Result({"roc_auc": 0.5, "f1": None}, 1.5, labels, scores),
        "b": Result({}, None, labels, scores * 2, True),
    }
    Cache(tmp_path, SAME).write(KEY, Record(rows, 3.25))
    found = Cache(tmp_path, SAME).read(KEY)
    assert found is not None
    assert found.seconds == 3.25
    assert list(found.rows) == ["a", "b"]
    assert (found.rows["a"].figures, found.rows["a"].threshold) == ({"roc_auc": 0.5, "f1": None}, 1.5)
    np.testing.assert_array_equal(found.rows["b"].scores, scores * 2)
    np.testing.assert_array_equal(found.rows["b"].labels, labels)


def test_what_was_never_written_is_missing(tmp_path: Path) -> None:
    kept = Cache(tmp_path, SAME)
    kept.write(KEY, Record({"a": Result({"ap": 1.0})}, 0.0))
    assert kept.read(Key(KEY.benchmark, KEY.task, KEY.seed, "PCA T2 + Q")) is None
    assert kept.read(Key(KEY.benchmark, KEY.task, KEY.seed + 1, KEY.method)) is None


def test_a_record_whose_writing_was_interrupted_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Cache(tmp_path, SAME)

    def interrupted(self: Path, target: Path) -> Path:
        if target.suffix == ".json":
            raise KeyboardInterrupt
        return original(self, target)

    original = Path.replace
    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept.write(KEY, Record({"a": Result({"ap": 1.0}, None, np.ones(1, bool), np.ones(1))}, 0.0))
    monkeypatch.undo()
    assert kept.read(KEY) is None


def test_a_folder_of_other_sources_is_refused_with_what_to_do(tmp_path: Path) -> None:
    Cache(tmp_path, SAME)
    with pytest.raises(EdgeVaeError, match="--resume"):
        Cache(tmp_path, {"hash": "other"})


def test_configuration_is_the_same_for_the_same_sources() -> None:
    assert configuration() == configuration()
    assert len(configuration()["hash"]) == 16
