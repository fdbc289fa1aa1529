"""The commands that bring data: `edge-vae simulate` and `edge-vae data`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from edge_vae_train.datasets import SETS, checksums, fetch, find
from edge_vae_train.recording import FAULTS, RATES_HZ
from edge_vae_train.simulate import simulate as write

__all__ = ["data", "simulate"]

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
CACHE = click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of downloads; by default EDGE_VAE_CACHE, or this user's cache folder.",
)


@click.command()
@click.option(
    "-o",
    "--output",
    "folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write to.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same bytes.")
@click.option("--healthy", type=click.IntRange(min=0), default=3, show_default=True, help="Number of healthy runs.")
@click.option(
    "--faulty", type=click.IntRange(min=0), help="Number of faulty runs, one fault after the other; default: each once."
)
@click.option(
    "--fault", "faults", multiple=True, type=click.Choice(list(FAULTS)), help="A fault to simulate; may be repeated."
)
@click.option("--minutes", type=click.FloatRange(min=1.0), default=20.0, show_default=True, help="Length of each run.")
@click.option(
    "--rate",
    "rate_hz",
    type=click.FloatRange(*RATES_HZ),
    default=10.0,
    show_default=True,
    help="Rows a second. Vibration is sampled at 4 kHz inside and written as the root mean square of each row.",
)
@click.option("--force", is_flag=True, help="Replace an earlier simulation in the folder.")
@AS_JSON
def simulate(
    folder: Path,
    seed: int,
    healthy: int,
    faulty: int | None,
    faults: tuple[str, ...],
    minutes: float,
    rate_hz: float,
    force: bool,  # noqa: FBT001 (click passes options by keyword)
    as_json: bool,  # noqa: FBT001 (click passes options by keyword)
) -> None:
    """Simulate a pump rig: healthy recordings, and one with each fault, labelled row by row.

    A physical model of motor, pump, pipe and bearing writes current, speed, two axes of vibration, pressure, flow and
    temperature to DIR/healthy/*.csv and DIR/faulty/NAME.csv, and describes the rig and its faults in DIR/rig.json.

    Example: edge-vae simulate -o rig
    """
    chosen = _chosen(faulty, faults)
    if minutes * 60.0 * rate_hz < 100.0:
        msg = f"--minutes {minutes:g} at --rate {rate_hz:g} gives fewer than 100 rows a run; make one of them larger"
        raise click.UsageError(msg)
    with _progress(healthy + len(chosen), "simulating") as advance:
        done = write(
            folder,
            seed=seed,
            healthy=healthy,
            faults=chosen,
            minutes=minutes,
            rate_hz=rate_hz,
            force=force,
            advance=advance,
        )
    following = f"edge-vae train {shlex.quote(str(folder / 'healthy'))} -o run" if healthy else ""
    if as_json:
        click.echo(json.dumps({"folder": str(folder), **done.document, "next": following}, indent=2))
        return
    for entry in done.document["runs"]:
        click.echo(f"{entry['file']}: {_told(entry['fault'], done.document['rows'])}")
    click.echo(
        f"rig.json: the rig's parameters, causes and rows of the faults, seeds ({done.size_bytes / 1e6:.1f} MB in all)"
    )
    if following:
        click.echo(f"next: {following}")


@click.group()
def data() -> None:
    """List public data sets and download them, with checksums verified."""


@data.command("list")
@CACHE
@AS_JSON
def list_sets(cache: Path | None, as_json: bool) -> None:  # noqa: FBT001 (click passes options by keyword)
    """List the public data sets: what they are, their licence, and whether they are on this machine.

    Example: edge-vae data list
    """
    rows = [_row(name, cache) for name in SETS]
    if as_json:
        click.echo(json.dumps({"sets": rows}, indent=2))
        return
    for row in rows:
        here = f"in {row['folder']}" if row["folder"] else "not on this machine"
        get = f"edge-vae data get {row['name']}" if row["download"] else f"by hand from {row['source']}"
        click.echo(
            f"{row['name']}: {row['what']}\n  licence {row['licence']}; {row['source']}\n  protocol: {row['protocol']}"
        )
        click.echo(f"  {here}" + ("" if row["folder"] else f"; get it: {get}"))


@data.command()
@click.argument("name", type=click.Choice(list(SETS)))
@CACHE
@click.option(
    "--mirror", metavar="URL", help="Download from this address, laid out as the source; checksums hold all the same."
)
@AS_JSON
def get(name: str, cache: Path | None, mirror: str | None, as_json: bool) -> None:  # noqa: FBT001 (click passes options by keyword)
    """Download the data set NAME, unless it is on this machine already, and print the folder it lies in.

    Example: edge-vae data get skab
    """
    there = find(name, cache=cache)
    if there is None:
        with _progress(len(checksums(name)), f"downloading {name}") as advance:
            fetch(name, mirror, cache=cache, advance=advance)
    row = {**_row(name, cache), "downloaded": there is None}
    if as_json:
        click.echo(json.dumps(row, indent=2))
        return
    done = (
        "downloaded and verified" if there is None else f"already on this machine ({row['place']}), nothing downloaded"
    )
    click.echo(f"{name}: {done}: {row['folder']}\nlicence {row['licence']}; {row['source']}")


def _chosen(faulty: int | None, faults: tuple[str, ...]) -> tuple[str, ...]:
    """The faults to simulate, in order."""
    if faults and faulty is not None:
        msg = "--faulty counts runs and --fault names them: give one of the two"
        raise click.UsageError(msg)
    if faults:
        return faults
    names = tuple(FAULTS)
    return tuple(names[number % len(names)] for number in range(len(names) if faulty is None else faulty))


def _told(fault: dict[str, Any] | None, rows: int) -> str:
    if fault is None:
        return f"{rows} rows, healthy"
    return f"{rows} rows, anomaly from row {fault['start_row']} to {fault['stop_row'] - 1}: {fault['cause']}"


def _row(name: str, cache: Path | None) -> dict[str, Any]:
    data_set, place = SETS[name], find(name, cache=cache)
    return {
        "name": name,
        "what": data_set.what,
        "licence": data_set.licence,
        "source": data_set.source,
        "protocol": data_set.protocol,
        "download": bool(data_set.base_url),
        "place": place.kind if place else None,
        "folder": str(place.folder) if place else None,
    }


@contextmanager
def _progress(length: int, label: str) -> Iterator[Callable[[str], object] | None]:
    """A function that moves a bar on stderr by one step; None when no person is watching."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield lambda _: bar.update(1)
