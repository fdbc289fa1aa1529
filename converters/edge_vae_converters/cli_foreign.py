"""What `convert` and `pack` ask of a model that was made elsewhere: the data it is to know, and how it sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_vae_train.cli import column_options

if TYPE_CHECKING:
    from edge_vae_train.data import Recording
    from edge_vae_train.run_folder import Run
    from edge_vae_train.settings import Settings

__all__ = ["code_options", "data_options", "expect_none", "keras_run", "recording_of", "settings_of", "tell"]


def _names(_ctx: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(name.strip() for name in value.split(",") if name.strip())


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what normal data is, and how the model sees it."""
    for option in (
        click.option(
            "--data", multiple=True, type=click.Path(path_type=Path),
            help="Normal data for a model that was made elsewhere: a file or folder; can be given again.",
        ),
        click.option(
            "--window", "length", type=click.IntRange(4, 65_536), metavar="N",
            help="Samples in a window. [default: what the model's input says, where it is not flat]",
        ),
        click.option(
            "--stride", type=click.IntRange(1, 65_536), metavar="N", help="Samples between windows. [default: 8]"
        ),
        click.option(
            "--baseline", type=click.IntRange(0), metavar="N", help="Re-centre each session on its first N samples."
        ),
        click.option(
            "--scaling", type=click.Choice(["standard", "robust", "minmax", "none"]),
            help="What the model was trained on: (value - mean) / deviation, the same by median and MAD, 0 to 1, or the"
            " values as they are. [default: standard, and an error where another one is plainly right]",
        ),
        click.option(
            "--score", "terms", callback=_names, metavar="TERMS",
            help="Terms of the score, with commas between. [default: window.max, below four channels window.nll]",
        ),
        click.option("--channels", callback=_names, metavar="NAMES", help="Columns to use, in the model's order."),
        column_options,
    ):  # fmt: skip
        command = option(command)
    return command


def code_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that let code run which came with a model."""
    for option in (
        click.option(
            "--module", type=click.Path(path_type=Path), metavar="FILE.py",
            help="Python code that defines the model's own layers; it is run.",
        ),
        click.option(
            "--unsafe-lambda", is_flag=True,
            help="Run the code that Lambda layers carry in the model file: only where you trust its maker.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def expect_none(options: Mapping[str, Any], *, given: str, needs: str) -> None:
    """Raise UsageError when one of the options is given that `given` has no use for."""
    for name, value in options.items():
        if value not in (None, False, ()):
            flag = {"length": "window", "terms": "score", "rate_hz": "rate"}.get(name, name.replace("_", "-"))
            msg = f"--{flag} is for {needs}; {given} says it by itself."
            raise click.UsageError(msg)


def recording_of(options: Mapping[str, Any]) -> Recording:
    """The normal data, its notes told."""
    if not options["data"]:
        msg = "Missing option '--data': normal data, from which a model that was made elsewhere gets its threshold."
        raise click.UsageError(msg)
    from edge_vae_train import data as recorded
    from edge_vae_train.data import Columns

    columns = Columns(
        time=options["time"],
        label=options["label"],
        channels=options["channels"] or (),
        ignore=options["ignore"] or (),
        rate_hz=options["rate_hz"],
    )
    recording = recorded.read(options["data"], columns)
    tell(recording.notes)
    return recording


def settings_of(options: Mapping[str, Any], recording: Recording, *, length: int) -> Settings:
    """The settings that training would have had.

    Raises:
        UsageError: A term of the score is none.
    """
    import msgspec

    from edge_vae_converters.foreign import default_terms
    from edge_vae_train.settings import Settings

    score = options["terms"] or default_terms(len(recording.channels))
    document = {
        "data": {
            "time": options["time"],
            "label": options["label"],
            "channels": options["channels"] or (),
            "ignore": options["ignore"] or (),
            "rate_hz": options["rate_hz"],
            "scaling": "robust" if options["scaling"] == "robust" else "standard",
        },
        "window": {"length": length, "stride": options["stride"] or 8},
        "baseline": {"samples": options["baseline"] or 0},
        "calibration": {"score": score},
    }
    try:
        return msgspec.convert(document, Settings)
    except msgspec.ValidationError as error:
        from edge_vae.score import TERMS

        wrong = [name for name in score if name not in TERMS]
        msg = f"--score: expected terms out of {', '.join(TERMS)}, received {', '.join(wrong)}" if wrong else str(error)
        raise click.UsageError(msg) from error


def keras_run(path: Path, options: Mapping[str, Any], *, precision: str, folder: Path) -> Run:
    """The run of a `.keras` file and the normal data of the options; what is to be known of it is told."""
    from edge_vae_converters import keras_file, keras_model, known_layers

    recording = recording_of(options)
    model = keras_file.load(path, module=options["module"], unsafe_lambda=options["unsafe_lambda"])
    known_layers.expect_convertible(str(path), model, precision)
    length = keras_model.window_length(str(path), model, channels=len(recording.channels), given=options["length"])
    run = keras_model.run_of(
        str(path),
        model,
        recording,
        settings_of(options, recording, length=length),
        scaling=options["scaling"],
        folder=folder,
    )
    tell(run.record.notes[len(recording.notes) :])
    return run


def tell(notes: tuple[str, ...]) -> None:
    """Notes, on standard error."""
    for note in notes:
        click.echo(note, err=True)
