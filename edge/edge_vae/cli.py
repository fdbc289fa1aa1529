"""The `edge-vae` command: parse, one library call, print, a status.

Commands of the upper layers (train, convert, ...) are found through the entry point group `edge_vae.commands`, so that the device
never imports upwards. Heavy imports happen inside a command.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import entry_points

import click

from edge_vae import __version__
from edge_vae.errors import EdgeVaeError, MissingExtraError

__all__ = ["commands", "main"]

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as shells report it."""


class Commands(click.Group):
    """The commands of this package and those that upper layers registered as entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, sorted."""
        registered = {point.name for point in entry_points(group="edge_vae.commands")}
        return sorted(registered | set(super().list_commands(ctx)))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command itself, imported when first asked for."""
        if (own := super().get_command(ctx, cmd_name)) is not None:
            return own
        for point in entry_points(group="edge_vae.commands", name=cmd_name):
            command: click.Command = point.load()
            return command
        return None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-vae")
@click.option("--debug", is_flag=True, help="Show the traceback of an error, and debug logs.")
def commands(debug: bool) -> None:  # noqa: FBT001 (click passes options by keyword)
    """Learn what a healthy machine looks like, and watch it on the machine itself."""
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit status."""
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """Exit status of one command: 0 done, 1 failed, 2 wrong usage, 78 wrong configuration or bundle."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in options
    if debug:
        arguments = ["--debug", *(word for word in options if word != "--debug"), *arguments[len(options) :]]
    try:
        status = commands.main(args=arguments, prog_name="edge-vae", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except EdgeVaeError as error:
        return _failed(error, status=error.exit_status, debug=debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        missing = MissingExtraError("edge-vae " + " ".join(arguments[:1]), module=str(error.name), extra="all")
        return _failed(missing, status=1, debug=debug)
    except OSError as error:
        return _failed(error, status=1, debug=debug)
    return status if isinstance(status, int) else 0


def _failed(error: Exception, *, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    print(f"edge-vae: {error}", file=sys.stderr)
    return status
