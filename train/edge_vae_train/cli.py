"""The workstation's commands: train, score, evaluate. Parse, one library call, print."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from edge_vae.errors import MissingExtraError
from edge_vae_train.cli_progress import shown
from edge_vae_train.interrupt import held

if TYPE_CHECKING:
    from edge_vae_train.data import Columns
    from edge_vae_train.finetune import Origin
    from edge_vae_train.settings import Settings

__all__ = ["evaluate", "score", "train"]

DATA = click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
_RATE_TOLERANCE = 0.1


def _names(_ctx: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(name.strip() for name in value.split(",") if name.strip())


def column_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which columns of DATA mean what."""
    for option in (
        click.option("--time", metavar="NAME", help="The time column. [default: time, timestamp, datetime or date]"),
        click.option("--label", metavar="NAME", help="The 0/1 column that marks anomalous rows; never a channel."),
        click.option("--ignore", metavar="NAMES", callback=_names, help="Columns to leave out, with commas between."),
        click.option(
            "--rate", "rate_hz", type=click.FloatRange(min=0, min_open=True), metavar="HZ", help="Samples a second."
        ),
    ):
        command = option(command)
    return command


def need_training_extra(command: str) -> None:
    """Raise MissingExtraError when the libraries of the training side are not installed."""
    import importlib.util

    for module in ("pandas", "scipy", "sklearn", "matplotlib"):
        if importlib.util.find_spec(module) is None:
            what = f"edge-vae {command}"
            raise MissingExtraError(what, module=module, extra="train")


@click.command()
@DATA
@click.option(
    "-o", "--output", "folder", required=True, type=click.Path(path_type=Path), help="The run folder to write."
)
@click.option(
    "--config", "config", type=click.Path(path_type=Path), help="edge-vae.toml; options override what it says."
)
@click.option(
    "--from", "origin", type=click.Path(path_type=Path), metavar="RUN_OR_BUNDLE",
    help="Fine-tune this model to the machine of DATA: minutes are enough. It says window, channels, modes and terms.",
)  # fmt: skip
@click.option(
    "--window", "length", type=click.IntRange(4, 65_536), metavar="N", help="Samples in a window. [default: 64]"
)
@click.option("--stride", type=click.IntRange(1, 65_536), metavar="N", help="Samples between windows. [default: 8]")
@click.option("--baseline", type=click.IntRange(0), metavar="N", help="Re-centre each session on its first N samples.")
@click.option(
    "--model", "family", type=click.Choice(["conv", "dense", "linear", "tcn"]),
    help="Family of the window's model. [default: conv]",
)  # fmt: skip
@click.option("--latent", type=click.IntRange(1, 256), metavar="N", help="Latent dimensions. [default: 8]")
@click.option(
    "--beta", type=click.FloatRange(min=0, min_open=True), help="Weight of the KL term. [default: 1, with --modes 4]"
)
@click.option(
    "--modes", callback=_names, metavar="NAMES", help="Columns that name the operating mode: recipe, load, material."
)
@click.option("--epochs", type=click.IntRange(1, 100_000), help="At most so many, for each view. [default: 100]")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Everything random follows from it. [default: 7]")
@click.option(
    "--scaling",
    type=click.Choice(["robust", "standard"]),
    help="By median and MAD, which faulty rows do not move, or mean and standard deviation. [default: standard]",
)
@click.option(
    "--clean",
    type=click.FloatRange(0.0, 0.3),
    metavar="SHARE",
    help="Leave out this share of the training windows, the worst. [default: 0]",
)
@click.option(
    "--clean-by",
    type=click.Choice(["forest", "model"]),
    help="What tells the worst: an isolation forest, or a first short training. [default: model]",
)
@click.option(
    "--masked", type=click.FloatRange(0.0, 0.9), metavar="SHARE",
    help="Hide this share of the points in each step of training. [default: 0]",
)  # fmt: skip
@click.option("--channels", callback=_names, metavar="NAMES", help="Columns to use as channels, with commas between.")
@column_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def train(
    data: tuple[Path, ...],
    folder: Path,
    config: Path | None,
    origin: Path | None,
    as_json: bool,  # noqa: FBT001 (click passes options by keyword)
    **options: Any,
) -> None:
    """Train a model on normal DATA: files and folders of CSV, Parquet or npz.

    Rows that --label marks are left out. Example: edge-vae train healthy/ --window 64 -o run
    """
    need_training_extra("train")
    start = None if origin is None else _origin(origin, config)
    settings = _settings(config, options) if start is None else _tuned_settings(start, options)
    from edge_vae_train import data as recorded

    recording = recorded.read(data, columns_of(settings), model_rate_hz=start.rate_hz if start else None)
    for note in recording.notes:
        _say(note)
    counts = f"{len(recording.sessions)} sessions, {recording.samples} rows, {len(recording.channels)} channels"
    _say(f"{counts}, {recording.rate_hz:.4g} Hz")
    with held():
        quiet_tensorflow()
        from edge_vae_train.training import train as run_training
    with shown() as progress:
        run, shift = run_training(recording, settings, folder, progress=progress, origin=start)
    for note in run.record.notes[len(recording.notes) :]:
        _say(note)
    _say(shift.advice(baseline=settings.baseline.samples))
    summary = run.record.training
    if as_json:
        click.echo(json.dumps({"run": str(folder), "training": msgspec.to_builtins(summary), "shift": shift.ratios}))
        return
    click.echo(
        f"trained on {summary.windows} windows of {summary.samples} normal rows, held out {summary.held_out_windows}\n"
        + "".join(
            f"{name}: {fit.family}, {fit.epochs} epochs, held-out loss {fit.held_out_loss:.4f}, "
            f"{fit.active_units} of {fit.latent} latent units active\n"
            for name, fit in summary.fits.items()
        )
        + f"wrote {folder}: next, edge-vae convert {folder} -o {folder.absolute().name}.evb"
    )


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@DATA
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The CSV file to write.")
@click.option(
    "--stride", type=click.IntRange(1, 65_536), metavar="N", help="Samples between windows. [default: the bundle's]"
)
@column_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def score(
    bundle: Path,
    data: tuple[Path, ...],
    output: Path,
    stride: int | None,
    as_json: bool,  # noqa: FBT001 (click passes options by keyword)
    **options: Any,
) -> None:
    """Score recorded DATA with the very code path of the agent.

    Example: edge-vae score pump.evb new-data/ -o scores.csv
    """
    need_training_extra("score")
    from edge_vae_train import scoring

    if bundle.is_dir():
        quiet_tensorflow()
    summary = scoring.score_to_csv(bundle, data, _columns(options), output, stride=stride)
    for note in summary.notes:
        _say(note)
    if as_json:
        click.echo(json.dumps(summary.document()))
    else:
        click.echo(summary.line())


@click.command()
@click.argument("model", metavar="RUN_OR_BUNDLE", type=click.Path(path_type=Path))
@DATA
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder for the pictures. [default: beside the model]"
)
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE.html", help="Write a page for people, all in one file."
)
@click.option(
    "--stride", type=click.IntRange(1, 65_536), metavar="N", help="Samples between windows. [default: the model's]"
)
@column_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def evaluate(
    model: Path,
    data: tuple[Path, ...],
    output: Path | None,
    report: Path | None,
    stride: int | None,
    as_json: bool,  # noqa: FBT001 (click passes options by keyword)
    **options: Any,
) -> None:
    """Measure a run or bundle on labelled DATA, with trivial baselines beside it.

    Example: edge-vae evaluate pump.evb labelled/ --label anomaly
    """
    need_training_extra("evaluate")
    if not options["label"]:
        msg = "Missing option '--label': an evaluation needs a 0/1 column that marks the anomalous rows."
        raise click.UsageError(msg)
    from edge_vae_train import evaluation, scoring

    if model.is_dir():
        quiet_tensorflow()
    subject = scoring.subject(model)
    result = evaluation.evaluate(subject, data, _columns(options), stride=stride)
    named = model.resolve() if model.name in ("", "..") else model
    pictures = evaluation.draw(result, output or named.with_name(f"{named.name.removesuffix('.evb')}.evaluation"))
    for note in result.notes:
        _say(note)
    if report is not None:
        from edge_vae_train import report as page

        _say(f"report: {page.write(result, report)}")
    if as_json:
        click.echo(json.dumps(result.document(), indent=1))
        return
    click.echo(result.table())
    click.echo("pictures: " + ", ".join(map(str, pictures)))


def _say(line: str) -> None:
    click.echo(line, err=True)


def _columns(options: dict[str, Any]) -> Columns:
    from edge_vae_train.data import Columns

    return Columns(
        time=options["time"], label=options["label"], ignore=options["ignore"] or (), rate_hz=options["rate_hz"]
    )


def columns_of(settings: Settings) -> Columns:
    """The columns that the settings name."""
    from edge_vae_train.data import Columns

    data = settings.data
    return Columns(data.time, data.label, data.channels, data.ignore, data.modes, data.rate_hz)


_PLACES = {
    "length": ("window", "length"),
    "stride": ("window", "stride"),
    "baseline": ("baseline", "samples"),
    "family": ("model", "family"),
    "latent": ("model", "latent"),
    "beta": ("model", "beta"),
    "modes": ("data", "modes"),
    "epochs": ("training", "epochs"),
    **{name: ("training", name) for name in ("seed", "clean", "clean_by", "masked")},
    **{name: ("data", name) for name in ("time", "label", "ignore", "rate_hz", "channels", "scaling")},
}
"""Where each option stands in edge-vae.toml."""


_GIVEN_BY_ORIGIN = ("length", "stride", "baseline", "family", "latent", "beta", "modes", "channels")
"""Options that a model to start from answers: its weights fit nothing else."""


def _settings(config: Path | None, options: dict[str, Any]) -> Settings:
    from edge_vae import toml_file
    from edge_vae_train.settings import Settings

    return _overridden(toml_file.read(config, Settings) if config is not None else Settings(), options)


def _origin(path: Path, config: Path | None) -> Origin:
    """The model to start from."""
    if config is not None:
        msg = "--from and --config: expected one of them; the model says what a configuration would, options the rest"
        raise click.UsageError(msg)
    with held():
        quiet_tensorflow()
        from edge_vae_train.finetune import Origin

        return Origin.read(path)


def _tuned_settings(origin: Origin, options: dict[str, Any]) -> Settings:
    """The settings of the model to start from, with the options that do not touch what it is."""
    settings = _overridden(origin.settings, options)
    for option in _GIVEN_BY_ORIGIN:
        table, key = _PLACES[option]
        expected, received = (getattr(getattr(s, table), key) for s in (origin.settings, settings))
        if expected != received:
            msg = (
                f"--from {origin.told}: expected {table}.{key} {_value(expected)} as there, received {_value(received)}"
            )
            raise click.UsageError(msg)
    rate_hz = options["rate_hz"]
    if rate_hz is not None and abs(rate_hz - origin.rate_hz) > _RATE_TOLERANCE * origin.rate_hz:
        msg = f"--from {origin.told}: expected --rate {origin.rate_hz:.4g} as there, received {rate_hz:.4g}"
        raise click.UsageError(msg)
    return settings


def _value(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _overridden(settings: Settings, options: dict[str, Any]) -> Settings:
    changes: dict[str, dict[str, Any]] = {}
    for option, value in options.items():
        if value is not None:
            table, key = _PLACES[option]
            changes.setdefault(table, {})[key] = value
    changed = {table: msgspec.structs.replace(getattr(settings, table), **keys) for table, keys in changes.items()}
    try:
        return msgspec.structs.replace(settings, **changed)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


@held()
def quiet_tensorflow() -> None:
    """Import TensorFlow with the lines that its C++ writes at start-up kept off the terminal."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # one order of additions: the same seed gives the same bytes
    kept, quiet = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(quiet, 2)
        import tensorflow as tf  # noqa: F401 (imported for its effect)
    except ModuleNotFoundError as error:
        raise MissingExtraError("edge-vae train and convert", module="tensorflow", extra="train") from error
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(quiet)
