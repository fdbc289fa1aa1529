"""`edge-vae demo`: the whole way on one machine in one command."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from edge_vae_train.cli import column_options, need_training_extra, quiet_tensorflow
from edge_vae_train.cli_progress import shown
from edge_vae_train.interrupt import held

if TYPE_CHECKING:
    from edge_vae_converters.demo.plan import Plan

__all__ = ["demo"]


@click.command()
@click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Labelled files or folders of your own; may be repeated. The last quarter of the files is watched.",
)
@click.option("--simulated", is_flag=True, help="The simulated pump rig, even where recorded data is on this machine.")
@column_options
@click.option(
    "--window", type=click.IntRange(4, 65_536), metavar="N", help="Samples in a window of --data. [default: 64]"
)
@click.option("--stride", type=click.IntRange(1, 65_536), metavar="N", help="Samples between windows. [default: 8]")
@click.option(
    "--baseline", type=click.IntRange(0), metavar="N", help="Re-centre each file of --data on its first N rows."
)
@click.option(
    "-o",
    "--output",
    "folder",
    default="demo",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for everything that is written; that of an earlier demo is used again.",
)
@click.option("--port", type=click.IntRange(1, 65_535), help="Port of the demo's broker. [default: a free one]")
@click.option("--epochs", type=click.IntRange(1, 100_000), help="Train at most so many epochs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document; all else goes to stderr.")
def demo(
    data: tuple[Path, ...],
    simulated: bool,  # noqa: FBT001 (click passes options by keyword)
    folder: Path,
    port: int | None,
    epochs: int | None,
    as_json: bool,  # noqa: FBT001 (click passes options by keyword)
    **about_data: Any,
) -> None:
    """Walk the whole way: data, training, int8, broker, agent, alarms.

    Learns from SKAB's recorded pump rig where it is on this machine (EDGE_VAE_DATA, or edge-vae data get skab), else
    from a simulated one, and watches recordings it has never seen. Example: edge-vae demo
    """
    began_s = time.monotonic()
    _check_usage(data, about_data, simulated=simulated)
    need_training_extra("demo")
    from edge_vae_converters.demo import broker
    from edge_vae_converters.demo.folder import claim

    kind = broker.installed()
    if port is not None:
        broker.check_port(port)

    def say(line: str) -> None:
        click.echo(line, err=as_json)

    say("The whole way: data, training, int8, broker, agent, alarms. This takes one to three minutes.")
    with _ends_its_children():
        claim(folder)
        plan = _plan(data, folder, epochs, about_data, say=say, simulated=simulated)
        say(f"data: {plan.what}\n{plan.rule}")
        with held():
            quiet_tensorflow()
            from edge_vae_converters.demo import walk

        screen = walk.Screen(say, shown)
        summary = walk.walk(plan, folder, kind=kind, port=port, screen=screen, began_s=began_s)
    if as_json:
        click.echo(json.dumps(summary.document(), indent=1))
        return
    click.echo(f"\n{summary.table()}\n")
    for what, path in summary.files.items():
        click.echo(f"{what:<8}  {path}")


def _check_usage(data: tuple[Path, ...], about_data: dict[str, Any], *, simulated: bool) -> None:
    if data and simulated:
        msg = "--data names recordings and --simulated asks for none: give one of the two"
        raise click.UsageError(msg)
    if data and not about_data["label"]:
        msg = "Missing option '--label': alarms on --data are held against a 0/1 column that marks the anomalous rows."
        raise click.UsageError(msg)
    given = [name for name, value in about_data.items() if value is not None]
    if given and not data:
        msg = f"--{given[0].removesuffix('_hz')} says something about --data, which is missing"
        raise click.UsageError(msg)


def _plan(
    data: tuple[Path, ...],
    folder: Path,
    epochs: int | None,
    about_data: dict[str, Any],
    *,
    say: Callable[[str], None],
    simulated: bool,
) -> Plan:
    from edge_vae_converters.demo import plan

    if data:
        return _own(data, epochs, **about_data)
    if not simulated:
        recorded = plan.skab(epochs=epochs)
        if recorded is not None:
            return recorded
        say("SKAB's recorded pump rig is not on this machine (edge-vae data get skab): simulating one")
    return plan.rig(folder / "rig", epochs=epochs)


def _own(
    data: tuple[Path, ...],
    epochs: int | None,
    *,
    window: int | None,
    stride: int | None,
    baseline: int | None,
    ignore: tuple[str, ...] | None,
    **columns: Any,
) -> Plan:
    from edge_vae_converters.demo import plan
    from edge_vae_train.data import Columns
    from edge_vae_train.settings import WindowSettings

    given = {name: value for name, value in (("length", window), ("stride", stride)) if value is not None}
    return plan.own(
        data,
        Columns(ignore=ignore or (), **columns),
        window=WindowSettings(**given),
        baseline=baseline or 0,
        epochs=epochs,
    )


@contextmanager
def _ends_its_children() -> Iterator[None]:
    """SIGTERM and SIGHUP leave through every `finally`, as Ctrl-C does, so that broker and agent end with the demo."""

    def leave(number: int, _frame: object) -> NoReturn:
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
