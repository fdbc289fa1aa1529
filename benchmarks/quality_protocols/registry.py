"""The protocols by name, in the order of the table, and where their data is."""

from __future__ import annotations

import os
from pathlib import Path

from edge_vae.errors import DataError
from quality_protocols.ceiling_fan import CEILING_FAN
from quality_protocols.milling import MILLING_HONEST, MILLING_PUBLISHED
from quality_protocols.skab import SKAB
from quality_protocols.task import Benchmark
from quality_protocols.telemetry import MSL, SMAP
from quality_protocols.tep import TEP

__all__ = ["BENCHMARKS", "DATA_HELP", "data_folder", "task_names"]

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark for benchmark in (SKAB, MILLING_PUBLISHED, MILLING_HONEST, CEILING_FAN, TEP, SMAP, MSL)
}

DATA_HELP = "folder of the data sets [default: EDGE_VAE_DATA, or ../shared/data]"


def data_folder() -> Path:
    """The folder of the data sets where none is named."""
    return Path(os.environ.get("EDGE_VAE_DATA") or "../shared/data")


def task_names(data: Path, name: str) -> tuple[str, ...]:
    """Names of the tasks of a set.

    Raises:
        DataError: The set is not in the data folder.
    """
    names = BENCHMARKS[name].tasks(data)
    if not names:
        raise DataError(
            "a data set is missing",
            file=str(data),
            expected=f"the files of {name}",
            received="none of them",
            action="Give the folder that holds them with --data, or leave the set out with --only.",
        )
    return names
