"""`edge-vae outbox`: what waits for the broker, whether its file is sound, and what can be saved of one that is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = ["outbox"]

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def outbox() -> None:
    """The store of undelivered messages: list, check, repair, export."""


def _where(command: F) -> F:
    """Options that say which outbox is meant."""
    command = click.option("--state-dir", type=_FOLDER, help="Its folder. [default: what the file says, else as run]")(
        command
    )
    return click.option("--config", "file", type=_FILE, help="agent.toml, for the state directory.")(command)


@outbox.command("ls")
@_where
@click.option("--limit", type=click.IntRange(min=0), default=20, help="List at most so many messages. [20]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def ls(file: Path | None, state_dir: Path | None, limit: int, as_json: bool) -> None:  # noqa: FBT001 (click's keywords)
    """What waits, oldest first, and what was set aside; also while the agent runs.

    Example: edge-vae outbox ls --config agent.toml
    """
    from edge_vae import outbox_view

    with outbox_view.opened(_folder(file, state_dir)) as db:
        document = outbox_view.document(db, limit=limit)
    click.echo(json.dumps(document, indent=1) if as_json else outbox_view.text(document))


@outbox.command("check")
@_where
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(file: Path | None, state_dir: Path | None, as_json: bool) -> int:  # noqa: FBT001 (click's keywords)
    """Whether the file is sound: every page, every value, every message's checksum; status 1 if not.

    Example: edge-vae outbox check --state-dir /var/lib/edge-vae
    """
    from edge_vae import outbox_view

    folder = _folder(file, state_dir)
    wrong = outbox_view.fault(folder)
    if as_json:
        click.echo(json.dumps({"file": str(folder / "outbox.db"), "sound": wrong is None, "fault": wrong}, indent=1))
    elif wrong is None:
        click.echo(f"{folder / 'outbox.db'}: sound")
    else:
        advice = "Save what is whole with: edge-vae outbox repair; the agent does so itself when it starts."
        click.echo(f"{folder / 'outbox.db'}: damaged: {wrong}. {advice}")
    return 0 if wrong is None else 1


@outbox.command("repair")
@_where
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def repair(file: Path | None, state_dir: Path | None, as_json: bool) -> None:  # noqa: FBT001 (click's keywords)
    """Move a damaged file aside and save its whole messages into a new one; refused while the agent runs.

    Example: edge-vae outbox repair --config agent.toml
    """
    from edge_vae import outbox_repair
    from edge_vae.config import read_config

    config = read_config(file) if file else None
    done = outbox_repair.repair(_folder(file, state_dir), config)
    if as_json:
        click.echo(json.dumps(done, indent=1))
    elif done["moved_to"] is None:
        click.echo(f"sound, nothing to repair: {done['messages']} messages wait")
    else:
        click.echo(f"salvaged {done['salvaged']} messages; the damaged file is kept as {done['moved_to']}")


@outbox.command("export")
@_where
@click.option(
    "-o", "--output", type=click.File("w", encoding="utf-8", lazy=False), default="-", help="[standard output]"
)
def export(file: Path | None, state_dir: Path | None, output: Any) -> None:
    """Every message as one line of JSON, those set aside too; also while the agent runs.

    Example: edge-vae outbox export --config agent.toml -o messages.jsonl
    """
    from edge_vae import outbox_view

    with outbox_view.opened(_folder(file, state_dir)) as db:
        for line in outbox_view.lines(db):
            click.echo(json.dumps(line), file=output)


def _folder(file: Path | None, state_dir: Path | None) -> Path:
    from edge_vae.config import default_state_dir, read_config

    if state_dir is not None:
        return state_dir
    return read_config(file).node.state_dir if file else default_state_dir()
