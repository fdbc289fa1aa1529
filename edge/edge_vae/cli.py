"""The `edge-vae` command: parse, one library call, print, a status.

Commands of the upper layers (train, convert, ...) are found through the entry point group `edge_vae.commands`, so that
the device never imports upwards. Heavy imports happen inside a command.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click

from edge_vae import __version__
from edge_vae.cli_install import install_service
from edge_vae.cli_outbox import outbox
from edge_vae.errors import EX_CONFIG, ConfigError, EdgeVaeError, MissingExtraError
from edge_vae.log_line import log_to_stderr

__all__ = ["commands", "main"]

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as shells report it."""


class Commands(click.Group):
    """The commands of this package and those that upper layers registered as entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, sorted."""
        from importlib.metadata import entry_points

        registered = {point.name for point in entry_points(group="edge_vae.commands")}
        return sorted(registered | set(super().list_commands(ctx)))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command itself, imported when first asked for."""
        if (own := super().get_command(ctx, cmd_name)) is not None:
            return own
        from importlib.metadata import entry_points

        for point in entry_points(group="edge_vae.commands", name=cmd_name):
            command: click.Command = point.load()
            return command
        return None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-vae")
@click.option("--debug", is_flag=True, help="Show the traceback of an error, and debug logs.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", help="Of the log. [text]")
def commands(debug: bool, log_format: Literal["text", "json"]) -> None:  # noqa: FBT001 (click passes options by keyword)
    """Learn what a healthy machine looks like, and watch it on the machine itself."""
    log_to_stderr(log_format, debug=debug)


CONFIG_FILE = click.Path(path_type=Path, dir_okay=False)
commands.add_command(install_service)
commands.add_command(outbox)


@commands.command("run")
@click.option("--config", "file", required=True, type=CONFIG_FILE, help="agent.toml")
@click.option("--once", is_flag=True, help="End when every finite source is exhausted and the outbox is empty.")
def run_agent(file: Path, once: bool) -> int:  # noqa: FBT001 (click passes options by keyword)
    """Run the agent: read sensors, score, publish alarms.

    Example: edge-vae run --config agent.toml
    """
    from edge_vae import agent

    return agent.run(file, once=once)


@commands.command("check-config")
@click.argument("file", type=CONFIG_FILE)
@click.option("--online", is_flag=True, help="Also load the bundles, open the sources and reach the broker.")
def check_config(file: Path, online: bool) -> int:  # noqa: FBT001 (click passes options by keyword)
    """Validate agent.toml without starting: every problem with its line.

    Example: edge-vae check-config agent.toml --online
    """
    from edge_vae.config import missing_files, read_config

    try:
        config = read_config(file)
        problems = missing_files(config, file)
    except ConfigError as error:
        problems = list(error.problems)
    for problem in problems:
        click.echo(f"{file}:{problem.line}: {problem.key}: {problem.message}")
    if problems:
        return EX_CONFIG
    if online:
        from edge_vae.online import try_online

        for line in try_online(config):
            click.echo(line)
    click.echo(f"{file}: {len(config.pipelines)} pipelines, no problem found")
    return 0


@commands.group("config")
def config_group() -> None:
    """Show what is in force, or a JSON Schema for editors."""


@config_group.command("show")
@click.argument("file", type=CONFIG_FILE)
@click.option("--effective", is_flag=True, help="With every default filled in; without it, the file as it is.")
def config_show(file: Path, effective: bool) -> None:  # noqa: FBT001 (click passes options by keyword)
    """Print agent.toml after a check.

    Example: edge-vae config show --effective agent.toml
    """
    from edge_vae import config

    checked = config.read_config(file)
    click.echo(config.effective(checked) if effective else file.read_text("utf-8"), nl=False)


@config_group.command("schema")
def config_schema() -> None:
    """Print a JSON Schema of agent.toml.

    Example: edge-vae config schema > agent.schema.json
    """
    from edge_vae import config

    click.echo(json.dumps(config.schema(), indent=1))


@commands.command()
@click.argument("bundle", type=CONFIG_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def inspect(bundle: Path, as_json: bool) -> None:  # noqa: FBT001 (click passes options by keyword)
    """Say what a BUNDLE is: channels, window, operators, sizes, threshold, parity.

    Example: edge-vae inspect pump.evb
    """
    from edge_vae import describe
    from edge_vae.bundle import Bundle

    read = Bundle.read(bundle)
    click.echo(json.dumps(describe.document(read), indent=1) if as_json else describe.text(read))


@commands.command()
@click.option(
    "--config", "file", type=CONFIG_FILE, help="agent.toml: all that it names is tried: broker, port, bundles, sources."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def doctor(file: Path | None, as_json: bool) -> int:  # noqa: FBT001 (click passes options by keyword)
    """Examine this machine: runtime, interpreter really built, clock, disk, permissions, and what the agent needs.

    Example: edge-vae doctor --config agent.toml
    """
    from edge_vae.config import default_state_dir, read_config
    from edge_vae.doctor import examine, examine_configured

    checks = examine_configured(read_config(file)) if file else examine(state_dir=default_state_dir())
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(check) for check in checks], indent=1))
    else:
        marks = {True: "ok", None: "note", False: "FAILED"}
        for check in checks:
            advice = f". {check.advice}" if check.advice else ""
            click.echo(f"{marks[check.ok]:<7}{check.name:<14} {check.found}{advice}")
    return 1 if any(check.ok is False for check in checks) else 0


@commands.command()
@click.argument("bundle", type=CONFIG_FILE)
@click.option("--windows", type=click.IntRange(min=1), default=2000, help="Time at most so many of each call. [2000]")
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), default=2.0, help="Each call for at most so long. [2]"
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    help="Interpreters that share windows in bulk, as for recorded data. [1]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def bench(bundle: Path, windows: int, seconds: float, threads: int, as_json: bool) -> None:  # noqa: FBT001
    """Measure a BUNDLE on this very device: latency, windows a second, import and load time, memory.

    Example: edge-vae bench pump.evb --seconds 5
    """
    from edge_vae import bench as benchmarking

    measured = benchmarking.measure(bundle, windows=windows, seconds=seconds, threads=threads)
    if as_json:
        click.echo(json.dumps(benchmarking.document(measured), indent=1))
    else:
        click.echo(benchmarking.text(measured))


@commands.command()
@click.option("--config", "file", type=CONFIG_FILE, help="agent.toml, for the broker and the base topic.")
@click.option("--host", help="The broker. [default: what the file says, else 127.0.0.1]")
@click.option("--port", type=click.IntRange(1, 65_535), help="Its port. [default: what the file says, else 1883]")
@click.option("--base-topic", help="First level of every topic. [default: what the file says, else edge-vae]")
@click.option("--once", is_flag=True, help="Print the present state of every asset and end.")
def watch(file: Path | None, host: str | None, port: int | None, base_topic: str | None, once: bool) -> None:  # noqa: FBT001
    """Show the state of every asset in the terminal.

    Example: edge-vae watch --host broker.plant
    """
    import msgspec

    from edge_vae import watch as watching
    from edge_vae.broker_config import MqttConfig
    from edge_vae.config import read_config
    from edge_vae.connection import connection

    mqtt = read_config(file).mqtt if file else MqttConfig()
    given = {"host": host, "port": port, "base_topic": base_topic}
    mqtt = msgspec.structs.replace(mqtt, **{name: value for name, value in given.items() if value is not None})
    settings = connection(mqtt, client_id=f"edge-vae-watch-{os.urandom(4).hex()}")
    if once:
        click.echo(watching.snapshot(settings, base_topic=mqtt.base_topic).render())
    else:
        watching.watch(settings, base_topic=mqtt.base_topic, out=sys.stdout)


@commands.group("feedback")
def feedback_group() -> None:
    """Operators' verdicts on alarms."""


@feedback_group.command("export")
@click.option("-o", "folder", required=True, type=click.Path(path_type=Path, file_okay=False), help="Written to.")
@click.option("--config", "file", type=CONFIG_FILE, help="agent.toml, for its state directory.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def feedback_export(folder: Path, file: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Write the samples around alarms with a verdict as a labelled data set, a folder an asset, for train and evaluate.

    Example: edge-vae feedback export -o judged --config agent.toml
    """
    from edge_vae.config import default_state_dir, read_config
    from edge_vae.feedback import LABEL, export

    counts = export(read_config(file).node.state_dir if file else default_state_dir(), folder)
    if as_json:
        click.echo(json.dumps({verdict: counts[verdict] for verdict in ("true", "false", "unknown")}))
        return
    click.echo(
        f"{folder}: {counts['true']} real alarms and {counts['false']} false ones, label column {LABEL}; "
        f"{counts['unknown']} of unknown verdict left out"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit status."""
    status = run(list(sys.argv[1:] if arguments is None else arguments))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done and told: what is left is the end of the interpreter
    sys.exit(status)


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
