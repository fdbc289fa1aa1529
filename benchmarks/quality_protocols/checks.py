"""What must hold of the fused score in int8, and whether it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quality_protocols.goals import GOALS, INT8_FLOOR, MOST_LOSS, Goal
from quality_protocols.names import FUSED_INT8
from quality_protocols.summary import Summary

__all__ = ["Check", "checks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One demand.

    Attributes:
        what: The figure, in words.
        value: What was reached; None where a row that it needs is missing.
        bound: What must be reached.
        holds: Whether it is; None where that is unknown.
        beat: What others reached.
        goal: What is aimed at.
        goal_reached: Whether that is reached.
        against: What decides: the set, or the row that it is compared with.
    """

    what: str
    value: float | None
    bound: float | None
    holds: bool | None
    beat: float | None = None
    goal: float | None = None
    goal_reached: bool | None = None
    against: str | None = None


def checks(summary: Summary) -> list[Check]:
    """Floors and goals of each set, and the comparisons over all sets."""
    goals = [_reached(summary, benchmark, goal) for benchmark in summary.rows for goal in GOALS[benchmark]]
    means = [_mean(summary, figure) for figure in ("roc_auc", "ap")]
    return [*goals, *means, _worst_loss(summary), _worst_change(summary)]


def _reached(summary: Summary, benchmark: str, goal: Goal) -> Check:
    value = summary.figure(benchmark, FUSED_INT8, goal.figure)
    return Check(
        what=f"{benchmark} {goal.figure}{', at most' if goal.most else ''}",
        value=value,
        bound=goal.floor,
        holds=None if value is None else goal.reached(value, goal.floor),
        beat=goal.beat,
        goal=goal.goal,
        goal_reached=None if value is None else goal.reached(value, goal.goal),
    )


def _mean(summary: Summary, figure: str) -> Check:
    leads = summary.leads(figure)
    closest = min(leads, key=lambda name: leads[name], default=None)
    value = leads[closest] if closest is not None else None
    return Check(
        what=f"mean {figure} above every single view and every baseline, over the sets that it has, by at least",
        value=value,
        bound=0.0,
        holds=value >= 0.0 if value is not None else None,
        against=closest,
    )


def _worst_loss(summary: Summary) -> Check:
    losses = summary.losses()
    worst = _largest(list(losses), [loss for loss, _ in losses.values()])
    value, best = losses[worst] if worst else (None, None)
    return Check(
        what="ROC-AUC below the best baseline of a set, at most",
        value=value,
        bound=MOST_LOSS,
        holds=value <= MOST_LOSS if value is not None else None,
        against=f"{worst}: {best}" if worst else None,
    )


def _worst_change(summary: Summary) -> Check:
    changes = summary.int8_changes()
    worst = _largest(list(changes), [abs(change) for change in changes.values()])
    return Check(
        what="ROC-AUC by which int8 differs from float on a set, at most",
        value=changes[worst] if worst else None,
        bound=INT8_FLOOR,
        holds=abs(changes[worst]) <= INT8_FLOOR if worst else None,
        against=worst,
    )


def _largest(names: Sequence[str], values: Sequence[float]) -> str | None:
    return max(zip(values, names, strict=True))[1] if names else None
