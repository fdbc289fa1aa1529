"""Files of simulated recordings, to try everything on without a machine: `edge-vae simulate`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_vae.errors import EdgeVaeError
from edge_vae_train.recording import CHANNELS, FAULTS, Run, run
from edge_vae_train.rig import Rig
from edge_vae_train.vibration import INNER_RATE_HZ, bpfo_hz

__all__ = ["LABEL", "Simulation", "simulate"]

LABEL = "anomaly"
FIRST_DAY = np.datetime64("2024-01-01T00:00:00", "ms")
DAYS_APART = 28
"""Between the first recordings of two kinds; the runs of one kind follow day by day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What `simulate` wrote: the folder, the document in its `rig.json`, and the size of all files together."""

    folder: Path
    document: dict[str, Any]
    size_bytes: int


def simulate(
    folder: Path,
    *,
    seed: int = 0,
    healthy: int = 3,
    faults: Sequence[str] = tuple(FAULTS),
    minutes: float = 20.0,
    rate_hz: float = 10.0,
    force: bool = False,
    advance: Callable[[str], object] | None = None,
) -> Simulation:
    """Recordings below `folder`: `healthy/run-N.csv`, `faulty/NAME.csv`, and `rig.json`, which describes them.

    Args:
        folder: Where to write; made when missing.
        seed: Same seed, same bytes. A run depends on the seed and its own name only, not on what else is written.
        healthy: Number of healthy runs.
        faults: Names from `FAULTS`, one faulty run each; the n-th run of one name is written to `NAME-n.csv`.
        minutes: Length of each run.
        rate_hz: Rows a second, within `RATES_HZ`.
        force: Replace what an earlier simulation wrote there.
        advance: Called with the name of each file once it is written.

    Raises:
        EdgeVaeError: The folder holds files and `force` is not given.
        ValueError: A rate outside `RATES_HZ`, an unknown fault, or a run of fewer than 100 rows.
    """
    _make_room(folder, force=force)
    rig, rows = Rig(), round(minutes * 60.0 * rate_hz)
    document = _describe(rig, seed=seed, rows=rows, rate_hz=rate_hz)
    for file, name, key in _plan(healthy, faults, seed):
        recorded = run(rig, rows=rows, rate_hz=rate_hz, seed=key, fault=name)
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_csv(recorded, rate_hz=rate_hz, day=DAYS_APART * key[1] + key[2] - 1), encoding="ascii")
        acting = asdict(recorded.acting) if recorded.acting else None
        document["runs"].append({"file": file, "seed": key, "fault": acting})
        if advance:
            advance(file)
    (folder / "rig.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    size = sum((folder / entry["file"]).stat().st_size for entry in document["runs"])
    return Simulation(folder=folder, document=document, size_bytes=size)


def _plan(healthy: int, faults: Sequence[str], seed: int) -> list[tuple[str, str, list[int]]]:
    """File, fault and seed of each run."""
    runs = [(f"healthy/run-{number}.csv", "", [seed, 0, number]) for number in range(1, healthy + 1)]
    seen: dict[str, int] = {}
    for name in faults:
        copy = seen[name] = seen.get(name, 0) + 1
        file = f"faulty/{name}.csv" if copy == 1 else f"faulty/{name}-{copy}.csv"
        runs.append((file, name, [seed, 1 + list(FAULTS).index(name), copy]))
    return runs


def _describe(rig: Rig, *, seed: int, rows: int, rate_hz: float) -> dict[str, Any]:
    full_speed_hz = rig.supply_hz / rig.pole_pairs * (1.0 - rig.rated_slip)
    return {
        "what": "simulated pump rig; rows of a fault run from start_row up to and without stop_row, counted from 0",
        "seed": seed,
        "rate_hz": rate_hz,
        "rows": rows,
        "inner_rate_hz": max(round(INNER_RATE_HZ / rate_hz), 1) * rate_hz,
        "label": LABEL,
        "channels": [asdict(channel) for channel in CHANNELS],
        "bpfo_hz_at_rated_speed": round(bpfo_hz(rig.bearing, full_speed_hz), 3),
        "rig": asdict(rig),
        "runs": [],
    }


def _csv(recorded: Run, *, rate_hz: float, day: int) -> str:
    """The run as text, on its own day: times in ISO 8601 UTC, and the label column where there is a fault."""
    since_ms = np.round(np.arange(len(recorded.label)) * 1000.0 / rate_hz).astype("timedelta64[ms]")
    times = np.datetime_as_string(FIRST_DAY + np.timedelta64(day, "D") + since_ms, unit="ms")
    names = [channel.name for channel in CHANNELS]
    form = ",".join(["%sZ", *(f"%.{channel.decimals}f" for channel in CHANNELS)])
    columns = [times.tolist(), *recorded.values.T.tolist()]
    if recorded.acting:
        names, form = [*names, LABEL], form + ",%d"
        columns.append(recorded.label.tolist())
    lines = [form % row for row in zip(*columns, strict=True)]
    return "\n".join([",".join(["time", *names]), *lines, ""])


def _make_room(folder: Path, *, force: bool) -> None:
    """Refuse a folder that holds files, or remove what the simulation before this one wrote there."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not force:
        raise EdgeVaeError(
            str(folder),
            expected="an empty or a new folder",
            received="one that already holds files",
            action="Choose another folder, or replace an earlier simulation with --force.",
        )
    for part in ("healthy", "faulty"):
        for name in _written(folder / "rig.json"):
            path = folder / part / Path(name).name
            if name == f"{part}/{path.name}":
                path.unlink(missing_ok=True)


def _written(record: Path) -> list[str]:
    """Files an earlier simulation says it wrote; none when there is no such record."""
    try:
        return [str(entry["file"]) for entry in json.loads(record.read_text(encoding="utf-8"))["runs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
