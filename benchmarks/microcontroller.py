"""A bundle on the kernels of TensorFlow Lite Micro beside LiteRT's: outputs, scores, decisions, arena, code.

`python benchmarks/microcontroller.py [BUNDLE RUN]`; without arguments both are made from the simulated pump rig first,
which takes about a minute. The kernels run in an environment of their own, which `make runtimes` makes.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import PCA_VIEW, Bundle
from edge_vae.detector import Detector
from edge_vae.principal import PrincipalRuntime
from edge_vae.runtime import Outputs, Runtime, TFLiteRuntime
from edge_vae.sample import FloatArray
from edge_vae_converters.flatbuffer import read
from edge_vae_converters.microcontroller import arena_bytes
from edge_vae_converters.representative import faulty
from edge_vae_train.prepare import WindowSet
from edge_vae_train.run_folder import Run

PYTHON = Path(__file__).parents[1] / ".venv-tflm" / "bin" / "python"
PROGRAM = """
import sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime

model, given, made, arena, outputs = sys.argv[1:]
inputs = np.load(given)
interpreter = runtime.Interpreter.from_file(model, arena_size=int(arena))
collected = [[] for _ in range(int(outputs))]
for i in range(len(inputs["0"])):
    for name in inputs:
        interpreter.set_input(inputs[name][i : i + 1], int(name))
    interpreter.invoke()
    for k, pieces in enumerate(collected):
        pieces.append(np.array(interpreter.get_output(k)))
interpreter.print_allocations()
np.savez(made, **{str(k): np.concatenate(pieces) for k, pieces in enumerate(collected)})
"""
STRESS_WINDOWS = 1000
NEAR_THRESHOLD = 0.01
"""Part of the threshold: a decision nearer to it may be either."""
EDGE_VAE = [sys.executable, "-c", "from edge_vae.cli import main; main()"]
TOTAL = re.compile(r"Arena allocation total (\d+) bytes")


@dataclass(frozen=True, slots=True)
class MicroRuntime:
    """A model on the kernels of TensorFlow Lite Micro, behind the device's own contract.

    Attributes:
        model: The flatbuffer.
        outputs: Name of each output to the name of its tensor.
        folder: For what goes to the other process and comes back.
    """

    model: bytes
    outputs: dict[str, str]
    folder: Path

    def stored(self, windows: NDArray[np.float32], conditions: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Outputs for clipped windows as the model holds them."""
        graph = read(self.model)
        real = {graph.window: windows} | ({} if graph.condition is None else {graph.condition: conditions})
        given = {i: graph.tensors[graph.inputs[i]].stored(values) for i, values in real.items()}
        made = invoked(self.model, given, self.folder)
        return {name: made[graph.output(tensor)] for name, tensor in self.outputs.items()}

    def __call__(self, windows: NDArray[np.float32], conditions: NDArray[np.float32]) -> Outputs:
        """The same in real numbers."""
        graph = read(self.model)
        tensors = {name: graph.tensors[graph.outputs[graph.output(tensor)]] for name, tensor in self.outputs.items()}
        return {
            name: (stored.astype(np.float32) - np.float32(tensors[name].zero_point)) * np.float32(tensors[name].step)
            if tensors[name].step
            else stored
            for name, stored in self.stored(windows, conditions).items()
        }


def invoked(model: bytes, given: dict[int, NDArray[Any]], folder: Path) -> list[NDArray[Any]]:
    """Outputs (windows, ...) of a model for its inputs (windows, ...), in an arena of exactly the computed size."""
    done = _run(model, given, folder, arena_bytes(model))
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    made = np.load(folder / "made.npz")
    return [made[str(i)] for i in range(len(made.files))]


def refused(model: bytes, given: dict[int, NDArray[Any]], folder: Path, *, arena: int) -> bool:
    """Whether an arena of so many bytes is too small."""
    return _run(model, given, folder, arena).returncode != 0


def allocated_bytes(model: bytes, folder: Path) -> int:
    """What the interpreter says that it keeps of its arena; while it plans it can need more."""
    graph = read(model)
    inputs = [graph.tensors[number] for number in graph.inputs]
    given = {i: tensor.stored(np.zeros(tensor.shape, np.float32)) for i, tensor in enumerate(inputs)}
    found = TOTAL.search(_run(model, given, folder, arena_bytes(model)).stderr)
    if found is None:
        raise RuntimeError("expected the interpreter to tell its allocations")
    return int(found[1])


def _run(model: bytes, given: dict[int, NDArray[Any]], folder: Path, arena: int) -> subprocess.CompletedProcess[str]:
    path, inputs, outputs = folder / "model.tflite", folder / "given.npz", folder / "made.npz"
    path.write_bytes(model)
    np.savez(inputs, **{str(i): values for i, values in given.items()})  # type: ignore[arg-type]
    outputs.unlink(missing_ok=True)
    words = [PYTHON, "-c", PROGRAM, path, inputs, outputs, arena, len(read(model).outputs)]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(word) for word in words], env=kept, capture_output=True, text=True, timeout=120, check=False
    )


def detectors(bundle: Bundle, folder: Path) -> tuple[Detector, Detector]:
    """The bundle on LiteRT, and on TensorFlow Lite Micro."""
    models = {view.name: view.model for view in bundle.manifest.views if view.model}
    lite = {name: TFLiteRuntime(bundle.models[name], outputs=model.outputs) for name, model in models.items()}
    micro = {name: MicroRuntime(bundle.models[name], model.outputs, folder) for name, model in models.items()}
    return _detector(bundle, lite), _detector(bundle, micro)


def _detector(bundle: Bundle, runtimes: Mapping[str, Runtime]) -> Detector:
    has_pca = any(view.name == PCA_VIEW for view in bundle.manifest.views)
    return Detector(
        bundle.manifest, {**runtimes, **({PCA_VIEW: PrincipalRuntime(bundle.reference)} if has_pca else {})}
    )


def scores(detector: Detector, windows: WindowSet) -> FloatArray:
    """Scores (windows,) of scaled windows."""
    return detector(windows.windows.astype(np.float64), windows.conditions)[0].score


def most_steps(bundle: Bundle, windows: WindowSet, both: tuple[Detector, Detector]) -> dict[str, float]:
    """Steps of its quantization by which an output of each int8 model differs at most."""
    seen = [detector.see(windows.windows.astype(np.float64), windows.conditions) for detector in both]
    most = {}
    for view in bundle.manifest.views:
        if view.model is None or view.model.precision != "int8":
            continue
        graph, one, other = read(bundle.models[view.name]), seen[0][view.name], seen[1][view.name]
        for output, a, b in (
            ("reconstruction", one.reconstruction, other.reconstruction),
            ("posterior_mean", one.mean, other.mean),
            ("posterior_log_variance", one.log_variance, other.log_variance),
        ):
            step = graph.tensors[graph.outputs[graph.output(view.model.outputs[output])]].step
            most[f"{view.name} {output}"] = float(np.abs(a - b).max()) / step
    return most


def table(bundle: Bundle, run: Run, folder: Path) -> list[tuple[str, str]]:
    """What was measured, and its figure."""
    normal, clip, threshold = WindowSet.joined(run.held_out), bundle.manifest.clip, bundle.manifest.threshold.value
    stress = faulty(normal, count=STRESS_WINDOWS, severity=clip, clip=clip, seed=4)
    both = detectors(bundle, folder)
    steps = most_steps(bundle, WindowSet.joined([normal, stress]), both)
    (ours, theirs), (ours_stress, theirs_stress) = ([scores(one, w) for one in both] for w in (normal, stress))
    difference = np.abs(theirs - ours) / np.maximum(ours, threshold)
    other = (ours_stress > threshold) != (theirs_stress > threshold)
    clear = np.abs(ours_stress / threshold - 1) > NEAR_THRESHOLD
    rows = [(f"{what}: steps of 255 that differ at most", f"{count:.0f}") for what, count in steps.items()]
    rows += [
        (f"normal scores, difference over the larger of score and threshold: {name}", f"{figure:.2%}")
        for name, figure in (
            ("median", np.median(difference)),
            ("90 % below", np.quantile(difference, 0.9)),
            ("99 % below", np.quantile(difference, 0.99)),
            ("largest", difference.max()),
        )
    ]
    rows += [("mean of normal scores", f"{theirs.mean() / ours.mean() - 1:+.2%}")]
    rows += [(f"other decisions, of {len(stress)} stress windows", f"{other.sum()}")]
    rows += [("the same, farther than 1 % from the threshold", f"{(other & clear).sum()}")]
    for view, model in bundle.models.items():
        rows += [(f"{view}: arena, computed", f"{arena_bytes(model)} bytes")]
        rows += [(f"{view}: arena, kept by the interpreter", f"{allocated_bytes(model, folder)} bytes")]
    return rows


def _from_rig(folder: Path) -> tuple[Path, Path]:
    """A bundle and its run."""
    rig, run, bundle = folder / "rig", folder / "run", folder / "rig.evb"
    for words in (
        ["simulate", "-o", rig, "--healthy", 3, "--minutes", 4, "--rate", 10],
        ["train", rig / "healthy", "--window", 32, "--stride", 4, "--epochs", 12, "-o", run],
        ["convert", run, "-o", bundle],
    ):
        subprocess.run([*EDGE_VAE, *map(str, words)], check=True, stdout=subprocess.DEVNULL)
    return bundle, run


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", type=Path)
    parser.add_argument("run", nargs="?", type=Path)
    given = parser.parse_args()
    if (given.bundle is None) != (given.run is None):
        parser.error("give a bundle and the run that it was converted from, or neither")
    if not PYTHON.exists():
        parser.error(f"expected {PYTHON}, received none. Make it with: make runtimes")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bundle, run = (given.bundle, given.run) if given.bundle else _from_rig(folder)
        for what, figure in table(Bundle.read(bundle), Run.read(run), folder):
            print(f"{what:<84}{figure:>14}")


if __name__ == "__main__":
    main()
