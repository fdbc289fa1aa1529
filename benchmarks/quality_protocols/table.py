"""The summary for people: a block for each set, and what must hold below."""

from __future__ import annotations

from collections.abc import Sequence

from quality_protocols.checks import Check, checks
from quality_protocols.goals import GOALS, Goal
from quality_protocols.policy import POLICIES
from quality_protocols.registry import BENCHMARKS
from quality_protocols.summary import Row, Spread, Summary

__all__ = ["table"]

_TITLES = {
    "recall at FAR 5 %": "recall@FAR 5%",
    "roc_auc": "ROC-AUC",
    "ap": "AP",
    "vus_pr": "VUS-PR",
    "f1": "F1",
    "far": "FAR",
    "mar": "MAR",
}
_NAME = 32
_CELL = 17
_FEWEST_COLUMNS = 8
_SECONDS = "s/task"


def table(summary: Summary, *, heading: str) -> str:
    """The whole table."""
    blocks = [_block(name, rows) for name, rows in summary.rows.items()]
    return "\n\n".join([heading, *blocks, _means(summary), _checks(checks(summary))])


def _block(name: str, rows: Sequence[Row]) -> str:
    policy = POLICIES[name]
    columns = list(dict.fromkeys(figure for row in rows for figure in row.figures))
    modes = f", modes {', '.join(policy.modes)}" if policy.modes else ""
    scored = "" if policy.stride == policy.score_stride else f" (scored with {policy.score_stride})"
    lines = [
        BENCHMARKS[name].title,
        f"window {policy.length}, stride {policy.stride}{scored}, {policy.rate_hz:.4g} Hz{modes}: {policy.reason}",
        _line("", [_TITLES.get(column, column) for column in columns], _SECONDS),
    ]
    lines += [_bounds(text, name, columns, which) for which, text in _BOUNDS.items()]
    return "\n".join([*lines, *(_row(row, columns) for row in rows)])


_BOUNDS = {"beat": "(to beat)", "floor": "(floor)", "goal": "(goal)"}


def _bounds(text: str, name: str, columns: Sequence[str], which: str) -> str:
    bounds = {goal.figure: _bound(goal, which) for goal in GOALS[name]}
    return _line(text, [_number(bounds.get(column)) for column in columns], "")


def _bound(goal: Goal, which: str) -> float | None:
    return {"beat": goal.beat, "floor": goal.floor, "goal": goal.goal}[which]


def _row(row: Row, columns: Sequence[str]) -> str:
    name = row.name + (f" ({row.fell_back} fell back)" if row.fell_back else "")
    name += "" if row.complete else " (some failed)"
    return _line(name, [_spread(row.figures.get(column)) for column in columns], f"{row.seconds_per_task:.1f}")


def _line(name: str, cells: Sequence[str], last: str) -> str:
    return f"{name:<{_NAME}}" + "".join(f"{cell:>{_CELL}}" for cell in cells) + f"{last:>{_FEWEST_COLUMNS}}"


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    return _number(spread.mean) + ("" if spread.std is None else f" +-{spread.std:.3f}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _means(summary: Summary) -> str:
    roc, precision = summary.means("roc_auc"), summary.means("ap")
    rows = [_line(name, [_number(value), _number(precision[name])], "") for name, value in roc.items()]
    return "\n".join([f"mean over the {len(summary.rows)} sets", _line("", ["ROC-AUC", "AP"], ""), *rows])


def _checks(found: Sequence[Check]) -> str:
    return "\n".join(["must hold, for the fused score in int8", *map(_check, found)])


_HOLDS = {True: "holds", False: "MISSED", None: "unknown"}


def _check(check: Check) -> str:
    value, bound = _number(check.value) or "-", _number(check.bound) or "-"
    against = f" ({check.against})" if check.against else ""
    goal = (
        "" if check.goal_reached is None else f", goal {check.goal:.3f} {'reached' if check.goal_reached else 'missed'}"
    )
    return f"{_HOLDS[check.holds]:<8} {check.what}: {value} against {bound}{against}{goal}"
