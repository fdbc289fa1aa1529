"""Run to ONNX: the trained float models, one a view, with all that scoring needs beside them, for other runtimes.

Keras's own exporter writes the models, through tf2onnx; ONNX Runtime then has to give the scores that Keras gives.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_vae.bundle import Bundle, ParityRow, arrays_to_npz
from edge_vae.detector import Detector
from edge_vae.errors import MissingExtraError, TrainingError
from edge_vae.runtime import Outputs, Runtime
from edge_vae.view import Model, Seen
from edge_vae_converters.conversion import stress_windows
from edge_vae_converters.parity import failures, rank_correlation, refusal
from edge_vae_train.interrupt import answer, held
from edge_vae_train.judge import Judge, judge, keras_runtimes, manifest, principal_runtime, seen_by
from edge_vae_train.prepare import WindowSet
from edge_vae_train.run_folder import Run

__all__ = ["OnnxRuntime", "compare", "need_onnx_extra", "onnx_files", "onnx_model"]

SUFFIX = ".onnx"
SCORING, GOLDEN, REFERENCE = "scoring.json", "golden.npz", "reference.npz"
"""The manifest of a bundle with these models in it; windows with their scores; the PCA of the term `pca`."""

MAX_DIFFERENCE = 1e-3
"""Of a reconstruction, in sigmas. Both compute in float32, in another order: 1e-6 to 1e-5 is usual."""
MIN_SPEARMAN = 0.9999
_BATCH = "windows"
_SHOWN = 300


class OnnxRuntime:
    """An ONNX model in ONNX Runtime, behind the device's contract.

    Args:
        model: The file's bytes.
    """

    def __init__(self, model: bytes) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._inputs = [given.name for given in self._session.get_inputs()]
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, windows: NDArray[np.float32], conditions: NDArray[np.float32]) -> Outputs:
        """Outputs for what a view sees of windows (windows, steps, channels), clipped."""
        found = self._session.run(self._names, dict(zip(self._inputs, (windows, conditions), strict=False)))
        return dict(zip(self._names, found, strict=True))


def need_onnx_extra() -> None:
    """Raise MissingExtraError when the exporter or ONNX Runtime is not installed."""
    for module in ("onnx", "tf2onnx", "onnxruntime"):
        if importlib.util.find_spec(module) is None:
            what = "edge-vae convert --to onnx"
            raise MissingExtraError(what, module=module, extra="onnx")


@held()
def onnx_files(run: Run, bundle: Bundle) -> dict[str, bytes]:
    """The files of an ONNX export, by name: a model for each view, and `scoring.json`, `golden.npz`, `reference.npz`.

    What judges, terms and threshold, is fitted on the float models' own outputs, for the wish of the bundle.

    Args:
        run: The run that the bundle was converted from.
        bundle: Whose name, wish and explanation are taken over.

    Raises:
        MissingExtraError: The exporter or ONNX Runtime is not installed.
        TrainingError: Keras cannot export a model.
        GateError: ONNX Runtime does not give the scores that Keras gives.
    """
    need_onnx_extra()
    trained, wished = keras_runtimes(run), bundle.manifest.threshold.false_alarms_per_day
    models = {view: onnx_model(view, runtime.graph) for view, runtime in trained.items()}
    judged = judge(run, seen_by(run, trained, WindowSet.joined(run.held_out)), wished)
    rows = compare(run, trained, models, judged)
    if refused := failures(rows):
        what = f"{bundle.manifest.name}: ONNX Runtime does not score as Keras does"
        raise refusal(what, refused, action="Try another version of tf2onnx or onnxruntime.")
    described = {view: _described(model) for view, model in models.items()}
    scoring = msgspec.structs.replace(
        manifest(run, judged, name=bundle.manifest.name),
        views=tuple(msgspec.structs.replace(v, model=described.get(v.name)) for v in run.record.views),
        explanation=bundle.manifest.explanation,
        parity=rows,
    )
    runtimes = {view: OnnxRuntime(model) for view, model in models.items()}
    reference = {**bundle.reference, **run.reference}  # the trained PCA, where the bundle has it in int8
    golden = _golden(Detector(scoring, {**runtimes, **principal_runtime(run)}), bundle)
    return {
        **{view + SUFFIX: model for view, model in models.items()},
        SCORING: msgspec.json.format(msgspec.json.encode(scoring), indent=1),
        GOLDEN: arrays_to_npz(golden),
        REFERENCE: arrays_to_npz({name: array for name, array in reference.items() if name != "lag_steps"}),
    }


def onnx_model(view: str, graph: Any) -> bytes:
    """A scoring graph as an ONNX model for any number of windows at once.

    Raises:
        TrainingError: Keras cannot export it.
    """
    import onnx

    answer()
    inputs = [np.zeros((1, *given.shape[1:]), np.float32) for given in graph.inputs]
    graph(inputs if len(inputs) > 1 else inputs[0])  # Keras exports what was called once
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter asks numpy for names that it gave up
        logging.getLogger("tf2onnx").setLevel(logging.ERROR)
        path = Path(folder) / f"{view}{SUFFIX}"
        try:
            graph.export(path, format="onnx", verbose=False)
            model = onnx.load(path)
        except Exception as error:  # Keras, TensorFlow and tf2onnx raise errors of many types
            received = " ".join(str(error).split())[:_SHOWN]
            what = f"view {view}: no ONNX model"
            raise TrainingError(what, expected="a graph", received=received) from error
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = _BATCH
    _rename(model.graph)
    return bytes(model.SerializeToString(deterministic=True))


def _rename(graph: Any) -> None:
    """Name nodes and tensors by their order: the names that tf2onnx makes up differ from one export to the next."""
    kept = [tensor.name for tensor in (*graph.input, *graph.output)]
    names = dict(zip(kept, kept, strict=True))
    graph.doc_string = ""  # a path of the exporter's
    constants = {tensor.name: tensor for tensor in graph.initializer}
    used = dict.fromkeys(name for node in graph.node for name in node.input if name in constants)
    names |= {name: f"constant_{i}" for i, name in enumerate(used)}
    for i, node in enumerate(graph.node):
        node.name = f"{re.sub(r'__[0-9]+', '', node.name)}.{i}"
        node.input[:] = [names.get(name, name) for name in node.input]
        names |= {name: f"{node.name}:{j}" for j, name in enumerate(node.output) if name not in names}
        node.output[:] = [names[name] for name in node.output]
    del graph.initializer[:], graph.value_info[:]
    for name in used:
        constants[name].name = names[name]
        graph.initializer.append(constants[name])


def compare(
    run: Run, trained: Mapping[str, Runtime], models: Mapping[str, bytes], judged: Judge
) -> tuple[ParityRow, ...]:
    """What ONNX Runtime and Keras make of the same held-out normal and stress windows.

    Args:
        run: The run.
        trained: Its models in Keras, by view.
        models: The same as ONNX, by view.
        judged: Terms and threshold, fitted on the outputs of Keras.
    """
    runtimes = {view: OnnxRuntime(model) for view, model in models.items()}
    sets = (WindowSet.joined(run.held_out), stress_windows(run))
    before, after = ([seen_by(run, side, windows) for windows in sets] for side in (trained, runtimes))
    scores = [
        np.concatenate([judged.score(windows.windows, seen) for windows, seen in zip(sets, side, strict=True)])
        for side in (before, after)
    ]
    threshold = judged.threshold.value
    spearman = rank_correlation(*scores)
    agreement = float(np.mean((scores[0] > threshold) == (scores[1] > threshold)))
    limit = f">= {MIN_SPEARMAN:g}"
    return (
        ParityRow("score Spearman, stress and normal windows", spearman, limit, spearman >= MIN_SPEARMAN),
        ParityRow("decisions that agree", agreement, "", None),
        ParityRow("largest difference of a score", float(np.abs(scores[0] - scores[1]).max()), "", None),
        *(row for view in models for row in _view_rows(view, before, after, len(models[view]))),
    )


def _view_rows(
    view: str, before: list[dict[str, Seen]], after: list[dict[str, Seen]], size: int
) -> tuple[ParityRow, ...]:
    worst = max(
        float(np.abs(a[view].reconstruction - b[view].reconstruction).max()) for a, b in zip(before, after, strict=True)
    )
    limit = f"<= {MAX_DIFFERENCE:g}"
    return (
        ParityRow(f"{view}: largest difference, sigmas", worst, limit, worst <= MAX_DIFFERENCE),
        ParityRow(f"{view}: model, bytes", float(size), "", None),
    )


def _described(model: bytes) -> Model:
    import onnx

    graph = onnx.load_from_string(model).graph
    operators = dict(sorted(Counter(node.op_type for node in graph.node).items()))
    return Model(hashlib.sha256(model).hexdigest(), "float32", {o.name: o.name for o in graph.output}, operators)


def _golden(detector: Detector, bundle: Bundle) -> dict[str, NDArray[np.float32]]:
    """The golden windows of a bundle, with the scores that these models give them."""
    windows, conditions = bundle.golden["windows"], bundle.golden["conditions"]
    scores = detector(windows.astype(np.float64), conditions)[0].score
    return {"windows": windows, "conditions": conditions, "score": scores.astype(np.float32)}
