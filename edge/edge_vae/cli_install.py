"""The command `edge-vae install-service`."""

from __future__ import annotations

import os
import sys
from pathlib import Path, PurePosixPath

import click

from edge_vae.errors import InstallError
from edge_vae.service import AGENT_TOML, BOARDS, KINDS, Wish, board_of

__all__ = ["install_service"]

MODEL = Path("/proc/device-tree/model")
NONE, DETECT = "none", "detect"
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command("install-service")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The agent.toml whose sources and secrets decide. [/etc/edge-vae/agent.toml, if it is there]",
)
@click.option(
    "--source",
    "kinds",
    multiple=True,
    type=click.Choice(sorted(KINDS)),
    help="Prepare for this kind of source too; serial is also for Modbus RTU. Others need nothing.",
)
@click.option(
    "--board",
    type=click.Choice([DETECT, NONE, *BOARDS]),
    default=DETECT,
    help="Whose profile. [detect; none with --root]",
)
@click.option("--root", type=FOLDER, default=Path("/"), help="Install into an image that is mounted here. [/]")
@click.option("--prefix", help="Folder of the environment with edge-vae, on the gateway. [this one's]")
@click.option("--local-only", is_flag=True, help="Let the agent reach nothing but this machine.")
@click.option("--read-only-root", is_flag=True, help="State on a partition of its own, the journal in memory.")
@click.option("--force", is_flag=True, help="Overwrite files that were changed.")
@click.option("--uninstall", is_flag=True, help="Remove what was installed, but neither configuration nor state.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
def install_service(
    config: Path | None,
    kinds: tuple[str, ...],
    board: str,
    root: Path,
    prefix: str | None,
    local_only: bool,  # noqa: FBT001 (click passes options by keyword)
    read_only_root: bool,  # noqa: FBT001
    force: bool,  # noqa: FBT001
    uninstall: bool,  # noqa: FBT001
    dry_run: bool,  # noqa: FBT001
) -> None:
    """Make the agent a service: unit, groups, device rules, the board's profile, an example configuration.

    What was changed after it was installed is not overwritten without --force. Run it again when a new kind of source
    or a secret has come into agent.toml.

    Example: edge-vae install-service --source serial --board raspberry-pi-4
    """
    from edge_vae import service
    from edge_vae.toml_file import values

    os.umask(0o022)  # the agent's user, which is not root, reads the configuration
    if uninstall:
        _uninstall(root, dry_run=dry_run)
        return
    there = config or root / AGENT_TOML.relative_to("/")
    raw = values(there) if config or there.is_file() else {}
    wish = Wish(
        program=PurePosixPath(prefix or sys.prefix, "bin", "edge-vae"),
        kinds=service.kinds_of(raw) | set(kinds),
        board=_board(board, root),
        credentials=service.credentials_of(raw),
        local_only=local_only,
        read_only_root=read_only_root,
    )
    _install(wish, root, force=force, dry_run=dry_run)


def _install(wish: Wish, root: Path, *, force: bool, dry_run: bool) -> None:
    from edge_vae import install, service

    ships = service.share()
    click.echo(f"board    {wish.board or 'none with a profile'}")
    compared = install.compare(service.plan(ships, wish), root)
    for comparison in compared:
        click.echo(f"{comparison.state:<8} {comparison.file.under(root)}")
    wanted = {comparison.file.path for comparison in compared}
    for place in install.present((path for path in service.everything(ships) if path not in wanted), root):
        click.echo(f"left     {place} of another choice: delete it if that no longer holds")
    changed = [comparison for comparison in compared if comparison.state == "differs"]
    for comparison in changed:
        click.echo(install.difference(comparison, root))
    if changed and not force:
        raise InstallError(
            ", ".join(str(comparison.file.under(root)) for comparison in changed),
            expected="what would be written",
            received="something else, shown above",
            action="Nothing was written. Put changes into a drop-in of your own, or overwrite them with --force.",
        )
    if dry_run:
        click.echo("nothing was written: --dry-run")
        return
    install.write(compared, root)
    for step in service.next_steps(wish, root):
        click.echo(f"next:    {step}")


def _uninstall(root: Path, *, dry_run: bool) -> None:
    from edge_vae import install, service

    paths = service.everything(service.share())
    for place in install.present(paths, root) if dry_run else install.remove(paths, root):
        click.echo(f"removed  {place}")
    if dry_run:
        click.echo("nothing was removed: --dry-run")
    elif root == Path("/"):
        click.echo("next:    systemctl disable --now edge-vae-agent; systemctl daemon-reload; udevadm control --reload")


def _board(asked: str, root: Path) -> str | None:
    """The name of a profile: the one that was asked for, or this machine's own unless an image is made."""
    if asked != DETECT:
        return None if asked == NONE else asked
    if root != Path("/"):
        return None
    try:
        return board_of(MODEL.read_text(errors="replace"))
    except OSError:
        return None
