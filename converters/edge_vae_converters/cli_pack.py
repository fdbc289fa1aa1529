"""`edge-vae pack`: parse, one library call, print what the model is, a status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec

from edge_vae_converters.cli import promise, rows_of
from edge_vae_converters.cli_foreign import data_options, recording_of, settings_of, tell

__all__ = ["pack"]


@click.command()
@click.argument("model", metavar="MODEL.tflite", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The bundle to write, NAME.evb.")
@click.option(
    "--false-alarms", type=click.FloatRange(min=0, min_open=True), metavar="N", default=0.5, show_default=True,
    help="Wished false alarms a day, for the threshold.",
)  # fmt: skip
@data_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def pack(
    model: Path,
    output: Path,
    false_alarms: float,
    as_json: bool,  # noqa: FBT001 (click passes options by keyword)
    **options: Any,
) -> None:
    """Make a bundle around an autoencoder MODEL.tflite that somebody else built, float or int8.

    Its input is one window, (1, window, channels) or (1, window * channels), and one of its outputs the reconstruction.
    It gets its threshold from --data; there is no trained model to compare it with.
    Example: edge-vae pack theirs.tflite --data healthy/ --window 64 -o pump.evb
    """
    from edge_vae_train.cli import need_training_extra, quiet_tensorflow
    from edge_vae_train.interrupt import held

    need_training_extra("pack")
    recording = recording_of(options)
    with held():
        quiet_tensorflow()
        from edge_vae_converters import pack as packing
        from edge_vae_converters import tflite_window

    given = tflite_window.read(model)
    length = tflite_window.expect_window(given, options["length"], len(recording.channels))
    packed = packing.pack(
        given,
        recording,
        settings_of(options, recording, length=length),
        name=output.stem,
        scaling=options["scaling"],
        false_alarms_per_day=false_alarms,
    )
    tell(packed.notes)
    output.parent.mkdir(parents=True, exist_ok=True)
    packed.bundle.write(output)
    manifest, size = packed.bundle.manifest, output.stat().st_size
    if as_json:
        document = {"bundle": str(output), "bytes": size, "parity": msgspec.to_builtins(manifest.parity)}
        click.echo(json.dumps(document | {"threshold": msgspec.to_builtins(manifest.threshold)}, indent=1))
        return
    click.echo(f"{rows_of(manifest.parity)}\n{promise(manifest.threshold)}\nwrote {output} ({size} bytes)")
