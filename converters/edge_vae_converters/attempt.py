"""Which precision each view's model gets: the wished one, or a simpler one where the gate or the runtime refuses it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edge_vae.bundle import ParityRow
from edge_vae.errors import InferenceError
from edge_vae.runtime import Runtime, TFLiteRuntime
from edge_vae.view import Model
from edge_vae_converters.parity import Side, arenas, table, unfit
from edge_vae_converters.tflite import Converted
from edge_vae_train.interrupt import answer
from edge_vae_train.judge import judge, seen_by
from edge_vae_train.prepare import WindowSet
from edge_vae_train.run_folder import Run

__all__ = ["Attempt", "Attempts", "Candidates"]


class Candidates:
    """The model of each view in each precision, converted and started when it is first asked for.

    Args:
        convert: (view, precision) -> its model.
    """

    def __init__(self, convert: Callable[[str, str], Converted]) -> None:
        self._convert = convert
        self._converted: dict[tuple[str, str], Converted] = {}
        self._runtimes: dict[tuple[str, str], TFLiteRuntime] = {}

    def converted(self, view: str, precision: str) -> Converted:
        """The model of a view."""
        key = view, precision
        if key not in self._converted:
            self._converted[key] = self._convert(view, precision)
        return self._converted[key]

    def runtime(self, view: str, precision: str) -> TFLiteRuntime:
        """The same, running.

        Raises:
            InferenceError: The runtime refuses it.
        """
        key = view, precision
        if key not in self._runtimes:
            converted = self.converted(view, precision)
            self._runtimes[key] = TFLiteRuntime(converted.model, outputs=converted.outputs)
        return self._runtimes[key]

    def refusal(self, view: str, precision: str) -> str:
        """What the runtime says against a model; empty where it takes it."""
        try:
            self.runtime(view, precision)
        except InferenceError as error:
            return error.what
        return ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Models of all views, and how they compare with the trained ones.

    Attributes:
        precisions: What the model of each view computes in.
        converted: The models, by view.
        runtimes: The same, running.
        side: What they make of normal and stress windows.
        rows: The comparison.
    """

    precisions: Mapping[str, str]
    converted: Mapping[str, Converted]
    runtimes: Mapping[str, Runtime]
    side: Side
    rows: tuple[ParityRow, ...]

    def model(self, view: str) -> Model:
        """What a manifest says of the model of a view."""
        converted = self.converted[view]
        sha256 = hashlib.sha256(converted.model).hexdigest()
        return Model(sha256, self.precisions[view], converted.outputs, converted.operators)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """Models to choose from, and what they are tried on.

    Attributes:
        run: The run that they are converted from.
        stored: The same as a bundle stores it: with the PCA that will run beside the converted models.
        trained: Its trained models, by view.
        candidates: Their converted forms.
        normal: Held-out normal windows.
        stress: Faulty windows.
        false_alarms_per_day: The wish that thresholds are fitted for.
    """

    run: Run
    stored: Run
    trained: Mapping[str, Runtime]
    candidates: Candidates
    normal: WindowSet
    stress: WindowSet
    false_alarms_per_day: float

    def settle(self, precision: str, *, simpler: Mapping[str, str]) -> tuple[Attempt, tuple[str, ...]]:
        """The first attempt that the gate accepts or that cannot be mended, and a line for each change on the way.

        Args:
            precision: What all views are tried in first.
            simpler: What is tried after a precision that is refused; one that is not here is the last of its row.

        Raises:
            InferenceError: The runtime refuses a model, and nothing is left to try.
        """
        trained = self._side(self.run, self.trained)
        precisions = dict.fromkeys(self.trained, precision)
        lines: list[str] = []
        while True:
            wrong = self._refused_by_runtime(precisions, simpler)
            if not wrong:
                attempt = self._attempt(precisions, trained)
                unfitting = unfit(attempt.rows, list(precisions))
                wrong = {view: why for view, why in unfitting.items() if precisions[view] in simpler}
                if not wrong:
                    return attempt, tuple(lines)
            for view, why in wrong.items():
                refused = precisions[view]
                precisions[view] = simpler[refused]
                lines.append(f"view {view}: {precisions[view]} instead of {refused}, {why}")

    def _attempt(self, precisions: Mapping[str, str], trained: Side) -> Attempt:
        answer()
        converted = {view: self.candidates.converted(view, precision) for view, precision in precisions.items()}
        runtimes = {view: self.candidates.runtime(view, precision) for view, precision in precisions.items()}
        side = self._side(self.stored, runtimes)
        rows = table(
            converted,
            normal=self.normal.windows,
            stress=self.stress.windows,
            trained=trained,
            candidate=side,
            precisions=precisions,
        )
        rows += arenas(converted, precisions)
        return Attempt(dict(precisions), converted, runtimes, side, rows)

    def _side(self, run: Run, runtimes: Mapping[str, Runtime]) -> Side:
        seen = seen_by(run, runtimes, self.normal)
        judged = judge(run, seen, self.false_alarms_per_day)
        return Side(judged, seen, seen_by(run, runtimes, self.stress))

    def _refused_by_runtime(self, precisions: Mapping[str, str], simpler: Mapping[str, str]) -> dict[str, str]:
        """The views whose model the runtime refuses and that have another one, and what it says."""
        said = {
            view: self.candidates.refusal(view, precision)
            for view, precision in precisions.items()
            if precision in simpler
        }
        return {view: why for view, why in said.items() if why}
