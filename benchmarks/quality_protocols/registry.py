"""The protocols by name, in the order of the table."""

from __future__ import annotations

from quality_protocols.ceiling_fan import CEILING_FAN
from quality_protocols.milling import MILLING_HONEST, MILLING_PUBLISHED
from quality_protocols.skab import SKAB
from quality_protocols.task import Benchmark
from quality_protocols.telemetry import MSL, SMAP
from quality_protocols.tep import TEP

__all__ = ["BENCHMARKS"]

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark for benchmark in (SKAB, MILLING_PUBLISHED, MILLING_HONEST, CEILING_FAN, TEP, SMAP, MSL)
}
