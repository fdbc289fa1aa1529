"""How good the detector is: `python benchmarks/quality.py --data FOLDER [--only NAME ...] [--seeds N] [--json]`.

Every protocol of the labelled data sets, for every baseline, each term of our score alone, and the fused score as float
run and as int8 bundle through the agent's own scoring path. Labels are only compared with. Each result is kept as soon
as it is there: the same command goes on where an interrupted one stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from edge_vae.errors import EdgeVaeError
from quality_protocols.cache import Cache, configuration
from quality_protocols.checks import checks
from quality_protocols.names import METHODS
from quality_protocols.registry import BENCHMARKS, DATA_HELP, data_folder, task_names
from quality_protocols.summary import summarise
from quality_protocols.table import table
from quality_protocols.work import Unit, run, single_threaded

CACHE = Path.home() / ".cache" / "edge-vae"
INTERRUPTED = 130


def main() -> int:
    """Exit status: 0 done, 1 a method failed somewhere or the data is missing, 130 interrupted."""
    single_threaded()
    options = parser().parse_args()
    try:
        return report(options)
    except KeyboardInterrupt:
        say("interrupted; what is done is kept, and the same command goes on from there")
        return INTERRUPTED
    except EdgeVaeError as error:
        say(str(error))
        return 1


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(description=__doc__)
    found.add_argument("--data", type=Path, default=data_folder(), help=DATA_HELP)
    sets, rows = list(BENCHMARKS), list(METHODS)
    found.add_argument("--only", nargs="+", choices=sets, metavar="NAME", default=sets, help=_choice("sets", sets))
    found.add_argument("--methods", nargs="+", choices=rows, metavar="NAME", default=rows, help=_choice("rows", rows))
    found.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds, and splits where one is random [1]")
    found.add_argument("--tasks", type=int, metavar="N", help="only the first N tasks of each set: a look, no result")
    found.add_argument(
        "--resume",
        type=Path,
        metavar="FOLDER",
        help="folder of results [default: one for these very sources, below EDGE_VAE_CACHE or ~/.cache/edge-vae]",
    )
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


def _choice(what: str, names: Sequence[str]) -> str:
    return f"{what}: {', '.join(names)} [default: all]".replace("%", "%%")


def report(options: argparse.Namespace) -> int:
    """Run what is missing and print the summary."""
    settings = configuration()
    cache = Path(os.environ.get("EDGE_VAE_CACHE") or CACHE)
    kept = Cache(options.resume or cache / "quality" / settings["hash"], settings)
    chosen = units(options)
    failures = run(chosen, options.data, kept, say=say)
    summary = summarise(chosen, kept)
    if options.json:
        document = {
            "configuration": settings, "seeds": options.seeds, "tasks": options.tasks,
            "sets": {name: [asdict(row) for row in rows] for name, rows in summary.rows.items()},
            "means": {figure: summary.means(figure) for figure in ("roc_auc", "ap")},
            "checks": [asdict(check) for check in checks(summary)],
            "failures": [failure.line() for failure in failures],
        }  # fmt: skip
        print(json.dumps(document))
    else:
        part = f", only the first {options.tasks} tasks of each set" if options.tasks else ""
        heading = f"edge-vae {settings['version']}, sources {settings['hash']}, {options.seeds} seeds{part}"
        print(table(summary, heading=heading))
    return 1 if failures else 0


def units(options: argparse.Namespace) -> list[Unit]:
    """The tasks of the chosen sets and seeds.

    Raises:
        DataError: A set is not in the data folder.
    """
    found = []
    for seed in range(options.seeds):
        for name in options.only:
            tasks = task_names(options.data, name)
            found += [Unit(name, task, seed, tuple(options.methods)) for task in tasks[: options.tasks]]
    return found


def say(line: str) -> None:
    """To people, beside the one document."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
