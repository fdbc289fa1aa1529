"""How fast our path is beside its peers: `python benchmarks/speed.py [--only NAME ...] [--json]`.

One table of one run: the same windows (64 samples, 6 channels, of the simulated rig, in sensor units) through our path,
the bare invoke, a LiteRT loop as a user writes it, ONNX Runtime, PyTorch, TensorFlow, PyOD and alibi-detect. Each is a
process of its own on one core, all of them the same one, with one thread; they measure in turns, and every ratio is a
median over the turns. LiteRT, ONNX Runtime, PyTorch and Keras run the VAE of the window with its weights (`agrees` is
the rank correlation of their scores with ours); PyOD has dense layers of its own, alibi-detect our layers, untrained.

Each peer gets a virtual environment in .venv-peers, made on its first use and kept: 10 GB and some minutes for all. A
peer that cannot be installed stands in the table with the reason. PyTorch's default wheel on x86-64 brings several GB
for graphics cards that nothing here uses: set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU wheels, as its "get
started" page names it, or install `torch` from there into .venv-peers/torch by hand.

`--here` makes no environment: peers whose packages are in the running one run in it, the others are told.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge_vae.errors import EdgeVaeError
from speed_peers.arguments import at_least_one, positive
from speed_peers.bundles import made
from speed_peers.ceiling import Ceiling, best, ceilings
from speed_peers.figures import Row, Wish, rows, wishes
from speed_peers.measuring import Measuring
from speed_peers.models import Macs, exported
from speed_peers.registry import chosen, names
from speed_peers.table import row_lines, wish_lines

INTERRUPTED = 130


@dataclass(frozen=True)
class Report:
    """One run: the machine, the models' multiply-accumulates, ceilings of the core, versions, rows and ratios."""

    machine: str
    load: tuple[float, float]
    macs: Macs
    ceilings: list[Ceiling]
    ceiling_reason: str
    versions: dict[str, dict[str, str]]
    rows: list[Row]
    wishes: list[Wish]


def main() -> int:
    """Exit status: 0 done, also where a peer could not be installed; 1 nothing could be measured; 130 interrupted."""
    given = parser().parse_args()
    try:
        report = reported(given)
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except (EdgeVaeError, OSError) as error:
        say(str(error))
        return 1
    print(json.dumps(document(report), indent=1) if given.json else text(report))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument(
        "--only", nargs="*", choices=names(), default=names(), metavar="NAME",
        help=f"peers to measure beside ours: {', '.join(names())} [default: all]",
    )  # fmt: skip
    found.add_argument("--turns", type=at_least_one, default=5, help="turns that ratios are medians over [default: 5]")
    found.add_argument("--seconds", type=positive, default=0.5, help="of each call in a turn [default: 0.5]")
    found.add_argument(
        "--models", type=Path, metavar="FOLDER", help="keep the bundles and models there [default: made anew]"
    )
    found.add_argument("--here", action="store_true", help="make no environment; measure what is installed in this one")
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


def say(line: str) -> None:
    """Progress, apart from the one document."""
    print(line, file=sys.stderr)


def reported(given: argparse.Namespace) -> Report:
    """What one run measured."""
    before = os.getloadavg()[0]
    cores = sorted(os.sched_getaffinity(0), reverse=True)
    found: list[Ceiling] = []
    reason = ""
    with tempfile.TemporaryDirectory(prefix="edge-vae-bench-") as name:
        say("making the bundles, and of them what peers take, unless they are there")
        bundles = made(given.models or Path(name))
        macs = exported(bundles)
        with closing(Measuring(bundles.folder, cores, here=given.here, say=say)) as measuring:
            for peer in chosen(given.only):
                measuring.start(peer)
            for i in range(given.turns):
                say(f"turn {i + 1} of {given.turns}")
                try:
                    found += ceilings(cores[0])
                except EdgeVaeError as error:
                    reason = str(error)
                measuring.turn(seconds=given.seconds)
    fastest = [row for kind in ("int8", "float32") if (row := best(found, kind))]
    floor_us = macs.window / fastest[0].macs_per_s * 1e6 if fastest else None
    return Report(
        machine=f"{processor()}, Python {platform.python_version()}",
        load=(round(before, 2), round(os.getloadavg()[0], 2)),
        macs=macs,
        ceilings=fastest,
        ceiling_reason=reason,
        versions=measuring.versions,
        rows=rows(measuring.times),
        wishes=wishes(measuring.times, floor_us=floor_us),
    )


def processor() -> str:
    """The name of the processor, and which instructions for int8 it has."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {name.strip(): value.strip() for name, value in facts.items()}
    flags = named.get("flags", "").split()
    has = [flag for flag in ("avx512_vnni", "avx_vnni", "avx512f", "avx2") if flag in flags]
    return f"{named.get('model name', platform.machine())} ({', '.join(has) or 'no vector extension looked for'})"


def document(report: Report) -> dict[str, Any]:
    """The report in plain numbers."""
    return {**vars(report), "macs": msgspec.to_builtins(report.macs)} | {
        name: [asdict(row) for row in getattr(report, name)] for name in ("ceilings", "rows", "wishes")
    }


def text(report: Report) -> str:
    """The report for people."""
    macs = report.macs
    about = [
        f"{'machine':<14}{report.machine}; load {report.load[0]} before, {report.load[1]} after",
        *(f"{name:<14}{', '.join(map(' '.join, found.items()))}" for name, found in report.versions.items()),
        f"{'models':<14}{macs.window} multiply-accumulates in the VAE of the window, {macs.features} in the features'",
        *(
            f"{'ceiling':<14}{row.type} {row.macs_per_s / 1e9:.1f} G a second on one core, with {row.instructions}"
            for row in report.ceilings
        ),
        *([f"{'ceiling':<14}{report.ceiling_reason}"] if report.ceiling_reason else []),
    ]
    return "\n".join([*about, "", *row_lines(report.rows), "", *wish_lines(report.wishes)])


if __name__ == "__main__":
    sys.exit(main())
