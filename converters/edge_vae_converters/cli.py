"""`edge-vae convert`: parse, one library call, print the parity table, a status."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from edge_vae_converters.cli_foreign import code_options, data_options, expect_none, keras_run

if TYPE_CHECKING:
    from edge_vae.bundle import ParityRow
    from edge_vae.threshold import Threshold
    from edge_vae_train.run_folder import Run

__all__ = ["convert", "promise", "rows_of"]

EXPECTED_TO_JUDGE = 10
"""A promise is judged only where at least so many false alarms are expected."""


@click.command()
@click.argument("run", metavar="RUN_OR_KERAS", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path),
    help="What to write: a bundle NAME.evb, or a folder for other targets.",
)  # fmt: skip
@click.option(
    "--to", "target", type=click.Choice(["tflite", "c-array", "onnx"]), default="tflite", show_default=True,
    help="A bundle for the agent, C99 for TensorFlow Lite Micro on a microcontroller, or the float models as ONNX.",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(["int8", "int16x8", "dynamic", "float16", "float32"]),
    help="What the models compute with on the device. [default: int8; of onnx float32]",
)  # fmt: skip
@click.option(
    "--calibration", type=click.Choice(["stress", "normal"]), default="stress", show_default=True,
    help="What the quantizer sees: normal and faulty windows, or normal ones alone.",
)  # fmt: skip
@click.option(
    "--io", type=click.Choice(["float", "int8"]), default="float", show_default=True,
    help="One graph from window to score, or, for accelerators, the views' models alone.",
)  # fmt: skip
@click.option(
    "--false-alarms", type=click.FloatRange(min=0, min_open=True), metavar="N",
    help="Wished false alarms a day, for the threshold. [default: what the run was trained with, 0.5]",
)  # fmt: skip
@click.option(
    "--strict", is_flag=True, help="Refuse, with status 1, what the gate refuses; no model in another precision."
)
@click.option("--no-gate", is_flag=True, help="Take the converted models even when the gate refuses them.")
@data_options
@code_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def convert(
    run: Path,
    output: Path,
    target: str,
    precision: str | None,
    calibration: str,
    io: str,
    false_alarms: float | None,
    strict: bool,  # noqa: FBT001 (click passes options by keyword)
    no_gate: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
    **options: Any,
) -> None:
    r"""Convert a RUN folder to what a device runs, and compare it with the trained model.

    A view whose int8 model fails the comparison gets one in dynamic range, or else in float32, and a line says why.
    Exit status 1, and nothing written, when float32 fails too, or with --strict. A .keras file of an autoencoder that
    was made elsewhere gets its threshold from --data.

    \b
    Example: edge-vae convert run -o pump.evb
             edge-vae convert run --to c-array -o firmware/pump
             edge-vae convert theirs.keras --data healthy/ --window 64 -o pump.evb
    """
    if strict and no_gate:
        msg = "--strict refuses what the gate refuses, and --no-gate takes it: give one of them."
        raise click.UsageError(msg)
    from edge_vae_train.cli import need_training_extra, quiet_tensorflow
    from edge_vae_train.interrupt import held

    need_training_extra("convert")
    brought = _is_brought(run, options)
    trained = None if brought else _read(run)
    with held():
        quiet_tensorflow()
        from edge_vae_converters import conversion, parity
        from edge_vae_converters.targets import TARGETS

    aim = TARGETS[target]
    precision = precision or aim.precisions[0]
    if precision not in aim.precisions:
        msg = f"--to {target} takes --precision {' or '.join(aim.precisions)}, received {precision}."
        raise click.UsageError(msg)
    if trained is None:
        trained = keras_run(run, options, precision=precision, folder=output.parent)
    result = conversion.convert(
        trained,
        name=output.stem,
        precision=precision,
        calibration=calibration,
        false_alarms_per_day=false_alarms,
        io="int8" if aim.separate else io,
        simpler={} if strict or no_gate else aim.simpler,
    )
    refused = parity.failures(result.parity)
    taken = no_gate or not refused
    written = aim.write(result, output, trained) if taken else []
    threshold = result.bundle.manifest.threshold
    if as_json:
        rows = msgspec.to_builtins(result.parity)
        size = len(result.bundle.pack()) if not taken else _size(written[0])
        document = {"bundle": str(output) if taken else None, "bytes": size, "passed": not refused, "parity": rows}
        document |= {"fallbacks": result.fallbacks, "threshold": msgspec.to_builtins(threshold)}
        click.echo(json.dumps(document, indent=1))
    else:
        click.echo(rows_of(result.parity))
        for line in result.fallbacks:
            click.echo(line)
        click.echo(promise(threshold))
    if not taken:
        what = f"{run}: the gate refuses the {precision} model"
        raise parity.refusal(what, refused, action=_remedy(precision, calibration))
    if not as_json:
        inside = written[0].is_dir()
        others = ", ".join(path.name if inside else str(path) for path in written[1:])
        beside = f"; {'in it' if inside else 'beside it'} {others}" if others else ""
        click.echo(f"wrote {written[0]} ({_size(written[0])} bytes){beside}")


def _size(path: Path) -> int:
    """Bytes of a file, or of the files in a folder."""
    return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size


def _is_brought(path: Path, options: dict[str, Any]) -> bool:
    """Whether this is a model that was made elsewhere, and no run folder."""
    if (path.is_dir() and not (path / "saved_model.pb").exists()) or (not path.suffix and not path.exists()):
        expect_none(options, given="a run folder", needs="a .keras file")
        return False
    return True


def _read(folder: Path) -> Run:
    from edge_vae_train.run_folder import Run

    return Run.read(folder)


def _remedy(precision: str, calibration: str) -> str:
    if precision == "float32":
        return "--no-gate takes it as it is."
    other = "" if calibration == "stress" else "use --calibration stress, "
    return f"Leave out --strict, {other}or train again with another --window; --no-gate takes it as it is."


def rows_of(rows: Sequence[ParityRow]) -> str:
    """The comparison as a table."""
    width = max(len(row.measure) for row in rows)
    verdicts = {None: "", True: "ok", False: "REFUSED"}
    return "\n".join(
        f"{r.measure:<{width}}  {r.value:>10.5g}  {r.limit:<9}  {verdicts[r.passed]}".rstrip() for r in rows
    )


def promise(threshold: Threshold) -> str:
    """What the threshold is, and what the held-out data can and cannot promise, in plain words."""
    t = threshold
    expected = t.false_alarms_per_day * t.observed_days
    source = "single held-out blocks give" if t.kind == "blocks" else "leaving out one held-out block gives"
    support = (
        f"{t.blocks} held-out blocks of normal data span {t.observed_days:.3g} days and hold {t.peaks} separate peaks"
    )
    if t.kind == "blocks":
        support += (
            "; too few to fit a tail, so an exponential one was taken, drawn to what is usual: the promise may be off"
            " by several times, give more normal data"
        )
    elif expected < EXPECTED_TO_JUDGE:
        support += f"; {expected:.2g} false alarms are expected in them, too few to check the promise"
    spread = f"{source} {t.low:.3f} to {t.high:.3f}"
    return f"threshold {t.value:.3f} for {t.false_alarms_per_day:g} false alarms a day ({spread}); {support}"
