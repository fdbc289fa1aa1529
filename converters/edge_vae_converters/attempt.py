"""Which precision each view's model gets: the wished one, or float32 where the gate or the runtime refuses that."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from edge_vae.bundle import ParityRow
from edge_vae.errors import InferenceError
from edge_vae.runtime import Runtime, TFLiteRuntime
from edge_vae.view import Model
from edge_vae_converters.parity import Side, table, unfit
from edge_vae_converters.tflite import Converted
from edge_vae_train.interrupt import answer
from edge_vae_train.judge import judge, seen_by
from edge_vae_train.prepare import WindowSet
from edge_vae_train.run_folder import Run

__all__ = ["Attempt", "Attempts"]

_LAST = "float32"


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
    """Converted models, and what they are tried on.

    Attributes:
        run: The run that they were converted from.
        trained: Its trained models, by view.
        models: Converted models by precision, then view; float32 is among them.
        normal: Held-out normal windows.
        stress: Faulty windows.
        false_alarms_per_day: The wish that thresholds are fitted for.
    """

    run: Run
    trained: Mapping[str, Runtime]
    models: Mapping[str, Mapping[str, Converted]]
    normal: WindowSet
    stress: WindowSet
    false_alarms_per_day: float

    def settle(self, precision: str, *, fall_back: bool) -> tuple[Attempt, tuple[str, ...]]:
        """The last attempt, which float32 could not mend any further, and a line for each view that needed it.

        Without `fall_back` the first one, whatever is wrong with it.

        Raises:
            InferenceError: The runtime refuses a model, and there is none to fall back to.
        """
        trained = self._side(self.trained)
        precisions = dict.fromkeys(self.trained, precision)
        fallbacks: list[str] = []
        wrong = self._refused(precision) if fall_back else {}
        while True:
            wrong = {view: why for view, why in wrong.items() if precisions[view] != _LAST}
            fallbacks += [f"view {view}: {_LAST} instead of {precision}, {why}" for view, why in wrong.items()]
            precisions |= dict.fromkeys(wrong, _LAST)
            attempt = self._attempt(precisions, trained)
            wrong = unfit(attempt.rows, list(precisions))
            if not fall_back or all(precisions[view] == _LAST for view in wrong):
                return attempt, tuple(fallbacks)

    def _attempt(self, precisions: Mapping[str, str], trained: Side) -> Attempt:
        answer()
        converted = {view: self.models[precision][view] for view, precision in precisions.items()}
        runtimes = {view: TFLiteRuntime(one.model, outputs=one.outputs) for view, one in converted.items()}
        side = self._side(runtimes)
        rows = table(
            converted,
            normal=self.normal.windows,
            stress=self.stress.windows,
            trained=trained,
            candidate=side,
            precisions=precisions,
        )
        return Attempt(dict(precisions), converted, runtimes, side, rows)

    def _side(self, runtimes: Mapping[str, Runtime]) -> Side:
        seen = seen_by(self.run, runtimes, self.normal)
        judged = judge(self.run, seen, self.false_alarms_per_day)
        return Side(judged, seen, seen_by(self.run, runtimes, self.stress))

    def _refused(self, precision: str) -> dict[str, str]:
        """The views whose model the runtime refuses, and what it says."""
        said = {view: _refusal(one) for view, one in self.models[precision].items()}
        return {view: why for view, why in said.items() if why}


def _refusal(converted: Converted) -> str:
    """What the runtime says against a model; empty where it takes it."""
    try:
        TFLiteRuntime(converted.model, outputs=converted.outputs)
    except InferenceError as error:
        return error.what
    return ""
