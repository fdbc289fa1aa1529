"""A bundle to C99 for a microcontroller: models, numbers, the rules that score, golden windows and a self-test.

The rules stand in `c/` as they are, the same for every bundle; what is made here are the numbers that they read.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

import numpy as np

from edge_vae.bundle import Bundle, Manifest
from edge_vae.errors import GateError
from edge_vae.view import OUTPUTS
from edge_vae_converters.c_golden import define, golden
from edge_vae_converters.c_header import ALIGNMENT, arena_part, header, sizes
from edge_vae_converters.c_source import Definitions, text
from edge_vae_converters.c_tables import tables
from edge_vae_converters.flatbuffer import Graph, read
from edge_vae_converters.microcontroller import arena_bytes, expect_runnable, scratch_bytes

__all__ = ["MOST_DELAY", "c_array"]

MOST_DELAY = 32
"""Windows that the alarm in C remembers: bits of a word."""

_STATE_BYTES, _DOUBLE = 28, 8
"""Of a machine's state beside its arrays, where pointers have 32 bits; and what all of it is aligned to."""

_README = """\
A model of edge-vae for a microcontroller, in C99.

  edge_vae.h, edge_vae.c            samples to scores, decisions and alarms; begin with edge_vae.h
  edge_vae_model.h, edge_vae_model.c, edge_vae_tables.h
                                    the numbers of this model
  edge_vae_flatbuffers.h, .c        its TensorFlow Lite models as arrays
  edge_vae_tflm.h, .cc              runs them on TensorFlow Lite Micro (C++)
  edge_vae_self_test.h, .c, edge_vae_golden.h, .c
                                    golden windows, and whether this build scores them as the workstation did
  main.c                            the self-test on a workstation, without TensorFlow Lite Micro

Into the firmware go all but main.c; once the self-test has passed there, edge_vae_self_test and edge_vae_golden can be
left out. Code (4 to 6 KB), stack and the interpreter come on top of this memory:
"""


def c_array(bundle: Bundle) -> dict[str, bytes]:
    """Files of a firmware project that scores as the bundle does, by name; equal for equal bundles.

    Raises:
        GateError: A microcontroller cannot run the bundle: a model of another precision or with other operators than
            TensorFlow Lite Micro has, or an alarm that remembers too much.
    """
    manifest = bundle.manifest
    if manifest.graph:
        raise GateError(
            "a bundle of one graph cannot be written as C",
            expected="separate int8 models",
            received="one graph with float operators",
            action="Convert the run with --to c-array, or with --io int8.",
        )
    for view in manifest.views:
        expect_runnable(view)
    _expect_short_delays(manifest)
    _expect_modes_of_floats(manifest)
    graphs = {name: read(model) for name, model in bundle.models.items()}
    found = golden(bundle)
    flatbuffers, numbers = _flatbuffers(bundle, graphs), tables(bundle, graphs)
    head = [f"/* Made by edge-vae from the bundle {_said(manifest.name)}, sha256", f" * {bundle.sha256}. */"]
    files = {name.name: name.read_bytes() for name in resources.files(__package__).joinpath("c").iterdir()}
    files |= {
        "edge_vae_model.h": header(bundle, graphs, len(found.score)).file(head),
        "edge_vae_model.c": numbers.file([*head, '#include "edge_vae.h"', '#include "edge_vae_tables.h"', ""]),
        "edge_vae_flatbuffers.c": flatbuffers.file([*head, '#include "edge_vae_flatbuffers.h"', ""]),
        "edge_vae_golden.c": define(bundle, found, graphs).file([*head, '#include "edge_vae_golden.h"', ""]),
        "README.txt": _readme(bundle, graphs, numbers.size_bytes),
    }
    return dict(sorted(files.items()))


def _expect_short_delays(manifest: Manifest) -> None:
    longest = max(manifest.alarm.on_delay[1], manifest.alarm.off_delay[1])
    if longest > MOST_DELAY:
        raise GateError(
            "the alarm remembers more windows than a microcontroller's does",
            expected=f"delays of at most {MOST_DELAY} windows",
            received=str(longest),
            action="Train again with a shorter on_delay and off_delay.",
        )


def _expect_modes_of_floats(manifest: Manifest) -> None:
    if manifest.modes is None:
        return
    values = np.array(manifest.modes.values)
    with np.errstate(over="ignore"):
        held = np.unique(values.astype(np.float32), axis=0)
    if len(held) < len(values):
        raise GateError(
            "operating modes that a microcontroller cannot tell apart",
            expected=f"values of {', '.join(manifest.modes.columns)} that differ as float32",
            received=f"{len(values)} modes that are {len(held)}",
            action="Number the modes from 0, and train again.",
        )


def _flatbuffers(bundle: Bundle, graphs: Mapping[str, Graph]) -> Definitions:
    c = Definitions()
    c.add(
        "#if defined(__GNUC__) || defined(__ICCARM__)",
        f"#define ALIGNED __attribute__((aligned({ALIGNMENT})))",
        "#elif defined(_MSC_VER)",
        f"#define ALIGNED __declspec(align({ALIGNMENT}))",
        "#else",
        f'#error "Define ALIGNED as what aligns an array to {ALIGNMENT} bytes in this compiler."',
        "#endif",
        "",
    )
    rows = []
    for name, graph in graphs.items():
        model, outputs = bundle.models[name], _outputs(bundle, name)
        array = c.array(
            "unsigned char", f"model_{name}", np.frombuffer(model, np.uint8), qualifier="static ALIGNED const "
        )
        condition = -1 if graph.condition is None else graph.condition
        places = [graph.window, condition, *(graph.output(outputs[one]) for one in OUTPUTS)]
        rows.append(f"  {{{array}, {len(model)}u, {arena_part(model)}u, {', '.join(map(str, places))}}},")
    empty = "  {0, 0u, 0u, -1, -1, -1, -1, -1},"
    c.add("const edge_vae_flatbuffer edge_vae_flatbuffers[] = {", *(rows or [empty]), "};")
    return c


def _outputs(bundle: Bundle, view: str) -> dict[str, str]:
    return next(one.model.outputs for one in bundle.manifest.views if one.name == view and one.model)


def _readme(bundle: Bundle, graphs: Mapping[str, Graph], table_bytes: int) -> bytes:
    """What the files are, and the memory that they take."""
    size = sizes(bundle, graphs, 0)
    cells = size["LENGTH"] * size["CHANNELS"] + size["FEATURE_CELLS"] + size["WORK_CELLS"] + size["BASELINE_CELLS"]
    rows = [("flash: numbers", table_bytes)]
    rows += [(f"flash: model {name}", len(model)) for name, model in bundle.models.items()]
    state = _STATE_BYTES + 4 * cells + 2 * _DOUBLE * size["CHANNELS"]
    rows += [("RAM: state of each machine", -(-state // _DOUBLE) * _DOUBLE)]
    for name, model in bundle.models.items():
        rows += [(f"RAM: arena {name}, TensorFlow Lite Micro's own kernels", arena_bytes(model))]
        rows += [(f"RAM: arena {name}, kernels of CMSIS-NN on top", scratch_bytes(model))]
    memory = "\n".join(f"  {what:<56}{count:>9} bytes" for what, count in rows)
    return f"""{_README}\n{memory}\n""".encode()


def _said(name: str) -> str:
    """A name as a C comment can hold it."""
    return text(name).replace("*/", "* /")
