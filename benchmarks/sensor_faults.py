"""Sensor faults in real recordings: `python benchmarks/sensor_faults.py [--data FOLDER] [--only NAME ...]`.

The rules are the agent's own, with what the normal data of each task says of its channels. The recordings hold faults
of machines and not of sensors, so each line that is printed has to be a true statement about the data.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_vae.scale import Scaler
from edge_vae.sensor_config import SensorConfig
from edge_vae.sensor_rules import sensor_rules
from edge_vae.sensor_watch import SensorWatch
from edge_vae_train.data import Columns, Recording, Session, read
from edge_vae_train.described import described
from quality_protocols.registry import BENCHMARKS, DATA_HELP, data_folder
from quality_protocols.skab import SKAB
from quality_protocols.task import Task

BLOCK = 256


def main() -> None:
    """Print every fault of every recording, and a line of counts for each set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=data_folder(), help=DATA_HELP)
    parser.add_argument("--only", nargs="*", choices=[*BENCHMARKS], default=[*BENCHMARKS], help="sets to look at")
    options = parser.parse_args()
    for name in options.only:
        recordings = rows = begun = 0
        for task in _tasks(options.data, name):
            for session in task.tests:
                found = list(_faults(task, session))
                recordings, rows, begun = recordings + 1, rows + len(session.values), begun + len(found)
                for line in found:
                    print(f"{name:18} {session.name:14} {line}")
        print(f"{name}: {recordings} recordings, {rows} rows, {begun} faults", flush=True)


def _tasks(data: Path, name: str) -> Iterator[Task]:
    benchmark = BENCHMARKS[name]
    for task_name in benchmark.tasks(data):
        task = benchmark.load(data, task_name, 0)
        yield replace(task, tests=tuple(_timed(data, s) for s in task.tests)) if benchmark is SKAB else task


def _timed(data: Path, session: Session) -> Session:
    """A session of SKAB with the times of its file, which the protocol has no use for."""
    file = data / "skab" / (session.name.replace("-", "/") + ".csv")
    return replace(session, times=read([file], Columns(label="anomaly", ignore=("changepoint",))).sessions[0].times)


def _faults(task: Task, session: Session) -> Iterator[str]:
    channels, policy = described(task.training, _scaler(task.training)), task.policy
    names = task.training.channels
    watch = SensorWatch(
        sensor_rules(SensorConfig(), channels, columns=names, rate_hz=policy.rate_hz, length=policy.length)
    )
    for at in range(0, len(session.values), BLOCK):
        rows = slice(at, at + BLOCK)
        for fault in watch.push(session.values[rows], session.times[rows], 0.0):
            if fault.begins:
                who = fault.channel or (f"{len(fault.together)} channels" if fault.together else "")
                yield f"row {at + fault.sample:6} {fault.kind:12} {who} value {fault.value:.4g} limit {fault.limit:.4g}"


def _scaler(recording: Recording) -> Scaler:
    rows = np.concatenate([session.values for session in recording.sessions])
    return Scaler(np.nanmean(rows, axis=0), np.maximum(np.nanstd(rows, axis=0), 1e-9))


if __name__ == "__main__":
    main()
