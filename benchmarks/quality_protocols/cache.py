"""Results on disk: one small file for each task, seed and method, so that an interruption loses little."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edge_vae
import edge_vae_converters
import edge_vae_train
import quality_protocols
from edge_vae.errors import EdgeVaeError
from quality_protocols.policy import POLICIES
from quality_protocols.task import Result

__all__ = ["Cache", "Key", "Record", "configuration"]

_PACKAGES: tuple[ModuleType, ...] = (edge_vae, edge_vae_train, edge_vae_converters, quality_protocols)
_CONFIGURATION = "configuration.json"


@dataclass(frozen=True, slots=True)
class Key:
    """What one file holds the result of."""

    benchmark: str
    task: str
    seed: int
    method: str


@dataclass(frozen=True, slots=True)
class Record:
    """A method's rows on one task, and how long they took."""

    rows: Mapping[str, Result]
    seconds: float


def configuration() -> dict[str, Any]:
    """What results depend on beside the data: version, policies, and a hash of them and of all sources."""
    policies = {name: asdict(policy) for name, policy in POLICIES.items()}
    digest = hashlib.sha256(json.dumps([edge_vae.__version__, policies], sort_keys=True).encode())
    for package in _PACKAGES:
        root = Path(str(package.__file__)).parent
        for file in sorted(root.rglob("*.py")):
            digest.update(file.relative_to(root.parent).as_posix().encode() + b"\0" + file.read_bytes())
    return {"version": edge_vae.__version__, "policies": policies, "hash": digest.hexdigest()[:16]}


class Cache:
    """Results of one configuration in a folder. Each file appears whole or not at all.

    Args:
        folder: Where results are kept; made when it does not exist.
        configuration: What `configuration` says.

    Raises:
        EdgeVaeError: The folder holds results of another configuration.
    """

    def __init__(self, folder: Path, configuration: Mapping[str, Any]) -> None:
        self.folder = folder
        path = folder / _CONFIGURATION
        if path.is_file():
            _expect_same(folder, json.loads(path.read_bytes()).get("hash"), configuration["hash"])
        else:
            _write(path, json.dumps(configuration, indent=1).encode())

    def read(self, key: Key) -> Record | None:
        """The record of a key; None when there is none yet."""
        path = self._path(key)
        if not path.is_file():
            return None
        document = json.loads(path.read_bytes())
        points = path.with_suffix(".npz")
        arrays = dict(np.load(points)) if document["points"] else {}
        rows = {
            name: Result(
                row["figures"], row["threshold"], arrays.get("labels"), arrays.get(f"scores{i}"), row["fell_back"]
            )
            for i, (name, row) in enumerate(document["rows"].items())
        }
        return Record(rows, document["seconds"])

    def write(self, key: Key, record: Record) -> None:
        """Keep a record; its JSON file last, because that one says that there is a record."""
        path = self._path(key)
        scores = {f"scores{i}": row.scores for i, row in enumerate(record.rows.values())}
        arrays: dict[str, NDArray[Any]] = {name: values for name, values in scores.items() if values is not None}
        if arrays:
            arrays["labels"] = np.asarray(next(row.labels for row in record.rows.values()))
            packed = io.BytesIO()
            np.savez_compressed(packed, allow_pickle=False, **arrays)
            _write(path.with_suffix(".npz"), packed.getvalue())
        rows = {
            name: {"figures": row.figures, "threshold": row.threshold, "fell_back": row.fell_back}
            for name, row in record.rows.items()
        }
        document = {"seconds": record.seconds, "points": bool(arrays), "rows": rows}
        _write(path, json.dumps(document, indent=1).encode())

    def _path(self, key: Key) -> Path:
        name = "".join(c if c.isalnum() else "_" for c in key.method)
        return self.folder / key.benchmark / key.task / f"seed{key.seed}" / f"{name}.json"


def _expect_same(folder: Path, received: object, expected: object) -> None:
    if received != expected:
        what = f"{folder} holds results of other sources or policies"
        raise EdgeVaeError(
            what,
            expected=f"configuration {expected}",
            received=f"configuration {received}",
            action="Give another folder with --resume, or check out the sources that its results were made with.",
        )


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)
