"""What the demo found, as a table for people and as one document for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_vae_converters.demo.plan import Plan
from edge_vae_converters.demo.verdict import Verdict
from edge_vae_train.evaluation import Evaluation

__all__ = ["Summary"]

KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Everything that the demo ends with.

    Attributes:
        plan: What was learned from and watched.
        broker: Which one carried the events.
        evaluation: Of the bundle on the watched files.
        verdicts: One an asset.
        lost: Events that were sent and never arrived, by their sequence numbers.
        checked: Whether every event was validated against the JSON Schema.
        speed: How many recorded seconds were replayed in one.
        microseconds: Time of the agent's scoring path for one window, one window at a time.
        bundle_bytes: Size of the bundle.
        training_s: Time of reading and training.
        total_s: Time of everything.
        files: What was written, by what it is.
    """

    plan: Plan
    broker: str
    evaluation: Evaluation
    verdicts: Sequence[Verdict]
    lost: int
    checked: bool
    speed: float
    microseconds: float
    bundle_bytes: int
    training_s: float
    total_s: float
    files: dict[str, Path]

    def document(self) -> dict[str, object]:
        """The same for programs, in plain numbers."""
        latency = self._latency_ms()
        return {
            "data": self.plan.what,
            "rule": self.plan.rule,
            "broker": self.broker,
            "windows": self._windows,
            "labelled_events": self._sum("labelled"),
            "alarms_received": sum(len(verdict.raised) for verdict in self.verdicts),
            "cleared_received": sum(len(verdict.cleared) for verdict in self.verdicts),
            "missed_events": self._sum("missed"),
            "false_alarms": self._sum("false_alarms"),
            "lost_events": self.lost,
            "schema_checked": self.checked,
            "replay_speed": round(self.speed, 1),
            "latency_ms": None if latency is None else {"median": latency[0], "max": latency[1]},
            "bundle_bytes": self.bundle_bytes,
            "microseconds_per_window": round(self.microseconds, 1),
            "training_s": round(self.training_s, 1),
            "total_s": round(self.total_s, 1),
            "assets": [_asset(verdict) for verdict in self.verdicts],
            "evaluation": self.evaluation.document(),
            "files": {what: str(path) for what, path in self.files.items()},
        }

    def table(self) -> str:
        """The same for people."""
        rows = [
            ("windows", f"{self._windows} in recordings of {len(self.verdicts)} assets"),
            ("labelled events", str(self._sum("labelled"))),
            ("alarms received", self._alarms()),
            ("missed", f"{self._sum('missed')} (labelled events in which no alarm began, even if one was active)"),
            ("false", f"{self._sum('false_alarms')} (alarms whose window holds no labelled row)"),
            ("latency", self._latency()),
            ("bundle", f"{self.bundle_bytes / KIB:.0f} KiB"),
            ("scoring", f"{self.microseconds:.0f} microseconds a window, one at a time, from samples to alarm"),
            ("time", f"{self.total_s:.0f} s in all, {self.training_s:.0f} s of them training"),
        ]
        width = max(len(what) for what, _ in rows)
        return "\n".join([*self._assets(), "", *(f"{what:<{width}}  {told}" for what, told in rows)])

    @property
    def _windows(self) -> int:
        return sum(len(verdict.watched.rows) for verdict in self.verdicts)

    def _sum(self, what: str) -> int:
        return sum(getattr(verdict, what) for verdict in self.verdicts)

    def _latency_ms(self) -> tuple[float, float] | None:
        """Median and maximum."""
        all_ms = [received.latency_ms for v in self.verdicts for _, received in (*v.raised, *v.cleared)]
        return (round(float(np.median(all_ms)), 2), round(max(all_ms), 2)) if all_ms else None

    def _latency(self) -> str:
        found = self._latency_ms()
        if found is None:
            return "no event to measure it on"
        return (
            f"{found[0]:.1f} ms (median; at most {found[1]:.1f} ms) from a window's last sample to the subscriber: "
            f"scoring, outbox on disk, broker"
        )

    def _alarms(self) -> str:
        raised = sum(len(verdict.raised) for verdict in self.verdicts)
        cleared = sum(len(verdict.cleared) for verdict in self.verdicts)
        checked = ", each valid against the JSON Schema" if self.checked and raised else ""
        return f"{raised} raised, {cleared} cleared, {self.lost} lost on the way{checked}"

    def _assets(self) -> list[str]:
        header = ("asset", "windows", "labelled", "raised", "missed", "false", "delay s")
        lines = [header, *(tuple(_cells(_asset(verdict))) for verdict in self.verdicts)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
        return [
            "  ".join(
                [
                    line[0].ljust(widths[0]),
                    *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
                ]
            )
            for line in lines
        ]


def _asset(verdict: Verdict) -> dict[str, object]:
    delay_s = round(float(np.mean(verdict.delays_s)), 1) if verdict.delays_s else None
    return {
        "asset": verdict.watched.asset,
        "windows": len(verdict.watched.rows),
        "labelled_events": verdict.labelled,
        "alarms_received": len(verdict.raised),
        "missed_events": verdict.missed,
        "false_alarms": verdict.false_alarms,
        "mean_delay_s": delay_s,
    }


def _cells(asset: dict[str, object]) -> list[str]:
    return [
        "-" if value is None else f"{value:.0f}" if isinstance(value, float) else str(value) for value in asset.values()
    ]
