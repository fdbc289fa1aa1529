"""The figures to beat, to reach, and to aim at."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GOALS", "INT8_FLOOR", "MOST_LOSS", "Goal"]

INT8_FLOOR = 0.005
"""Most that int8 may differ from float, in ROC-AUC of the fused score."""

MOST_LOSS = 0.03
"""Most that the fused score may be below the best baseline of any set, in ROC-AUC."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure of one set.

    Attributes:
        figure: Its name.
        beat: What others reached.
        floor: What must be reached.
        goal: What is aimed at.
        most: True where less is better, and both are upper bounds.
    """

    figure: str
    beat: float
    floor: float
    goal: float
    most: bool = False

    def reached(self, value: float, bound: float) -> bool:
        """Whether a value is on the right side of a bound."""
        return value <= bound if self.most else value >= bound


GOALS: dict[str, tuple[Goal, ...]] = {
    "skab": (
        Goal("roc_auc", 0.854, 0.870, 0.90),
        Goal("ap", 0.875, 0.885, 0.92),
        Goal("f1", 0.78, 0.80, 0.84),
        Goal("far", 0.136, 0.136, 0.10, most=True),
    ),
    "milling-published": (Goal("ap", 0.450, 0.70, 0.85), Goal("roc_auc", 0.883, 0.94, 0.97)),
    "milling-honest": (Goal("ap", 0.32, 0.50, 0.70), Goal("roc_auc", 0.79, 0.88, 0.94)),
    "fan": (Goal("roc_auc", 0.973, 0.98, 0.995), Goal("recall at FAR 5 %", 0.881, 0.93, 0.98)),
    "tep": (Goal("FDR 21", 0.794, 0.79, 0.82), Goal("FDR 18", 0.917, 0.91, 0.94)),
    "smap": (Goal("vus_pr", 0.380, 0.183, 0.380),),
    "msl": (Goal("vus_pr", 0.435, 0.300, 0.435),),
}
