"""How a command shows a training: a bar on a terminal, a line now and then otherwise; both on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edge_vae_train.training import Progress

__all__ = ["shown"]

_PLAIN_REPORTS = 10
"""Lines about the training of a view where there is no terminal for a bar."""


@contextmanager
def shown() -> Iterator[Progress]:
    """A function that shows an epoch: its view, number, training loss and held-out loss."""
    if not sys.stderr.isatty():
        yield _tell_some
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(view: str, epoch: int, epochs: int, loss: float, held_out_loss: float) -> None:
            line = _line(view, epoch, epochs, loss, held_out_loss)
            bar.update(task, completed=epoch, total=epochs, description=line)

        yield show


def _tell_some(view: str, epoch: int, epochs: int, loss: float, held_out_loss: float) -> None:
    if epoch == 1 or epoch % max(1, epochs // _PLAIN_REPORTS) == 0:
        click.echo(_line(view, epoch, epochs, loss, held_out_loss), err=True)


def _line(view: str, epoch: int, epochs: int, loss: float, held_out_loss: float) -> str:
    return f"{view}: epoch {epoch}/{epochs} loss {loss:.4f} held out {held_out_loss:.4f}"
