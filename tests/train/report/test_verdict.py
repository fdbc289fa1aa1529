"""What an engineer is told, case by case."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edge_vae_train.report.verdict import Figures, verdict


def figures(**changes: Any) -> Figures:
    """A model that is good at everything, on twenty days of normal data."""
    usual: dict[str, Any] = {
        "roc_auc": 0.95, "average_precision": 0.9, "positive_share": 0.3,
        "simple": {"mean|z|": 0.80, "PCA T2 + Q": 0.85}, "terms": {"window.nll": 0.94},
        "events": 10, "found": 9, "threshold": 4.0, "f1": 0.88, "far": 0.01, "mar": 0.1, "best_f1": 0.90,
        "best_threshold": 3.8, "false_alarms": 12, "normal_days": 20.0, "wished_per_day": 0.5,
    }  # fmt: skip
    return Figures(**(usual | changes))


def titles(**changes: Any) -> list[str]:
    return [one.title for one in verdict(figures(**changes))]


RANKS, WORTH = "Anomalous windows score higher than normal ones", "The model earns its place"
FITS, KEPT = "The threshold fits", "The promise on false alarms is kept"


def test_a_good_model_has_good_news_alone() -> None:
    found = verdict(figures())
    assert [one.title for one in found] == [RANKS, WORTH, FITS, KEPT]
    assert {one.kind for one in found} == {"good"}


@pytest.mark.parametrize(
    ("changes", "title", "figure"),
    [
        ({"roc_auc": 0.52}, "No better than chance", "0.520"),
        ({"roc_auc": 0.549, "simple": {}}, "No better than chance", "0.549"),
        ({"roc_auc": 0.30}, "Worse than chance", "0.300"),
        ({"roc_auc": None}, "The ranking cannot be judged", "one class"),
        ({"simple": {"PCA T2 + Q": 0.941}}, "PCA is enough here", "0.941"),
        ({"simple": {"PCA T2 + Q": 0.99}}, "PCA is enough here", "0.990"),
        ({"simple": {"PCA of lag vectors (term pca)": 0.945}}, "PCA is enough here", "0.945"),
        ({"simple": {"mean|z|": 0.96, "PCA T2 + Q": 0.85}}, "mean|z| is enough here", "0.960"),
        ({"terms": {"window.nll": 0.97}}, "One term is better alone", "window.nll"),
        ({"f1": 0.5, "best_threshold": 2.0}, "The threshold is too high for these faults", "0.500"),
        ({"f1": 0.5, "best_threshold": 7.0}, "The threshold is too low for this data", "0.500"),
        ({"false_alarms": 31}, "More false alarms than wished", "3.1 times"),
        ({"false_alarms": 3}, "Fewer false alarms than wished", "0.30 times"),
        ({"normal_days": 19.9}, "The promise on false alarms cannot be judged", "20 normal days"),
        ({"events": 4}, "Few events", "rest on: 4."),
        ({"silent_views": ("window",)}, "A model that has learned nothing", "window"),
    ],
)
def test_each_case_is_named_with_the_figure_it_rests_on(changes: dict[str, Any], title: str, figure: str) -> None:
    named = {one.title: one.text for one in verdict(figures(**changes))}
    assert title in named
    assert figure in named[title]


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({"roc_auc": 0.56}, "No better than chance"),
        ({"simple": {"PCA T2 + Q": 0.939}}, "PCA is enough here"),
        ({"simple": {"PCA T2 + Q": 0.51}, "roc_auc": 0.51}, "PCA is enough here"),
        ({"simple": {"PCA T2 + Q": 0.51}, "roc_auc": 0.51}, WORTH),
        ({"terms": {"window.nll": 0.955}}, "One term is better alone"),
        ({"f1": 0.86, "best_threshold": 2.0}, "The threshold is too high for these faults"),
        ({"false_alarms": 29}, "More false alarms than wished"),
        ({"false_alarms": 4}, "Fewer false alarms than wished"),
        ({"normal_days": 20.0}, "The promise on false alarms cannot be judged"),
        ({"f1": None}, FITS),
        ({"events": 5}, "Few events"),
        ({"events": 0}, "Few events"),
    ],
)
def test_a_case_that_is_not_given_is_not_named(changes: dict[str, Any], title: str) -> None:
    assert title not in titles(**changes)


def test_the_best_simple_method_is_named_and_others_beside_it() -> None:
    found = verdict(figures(simple={"mean|z|": 0.945, "PCA T2 + Q": 0.948}))
    text = next(one.text for one in found if one.title == "PCA is enough here")
    assert "PCA T2 + Q alone has ROC-AUC 0.948, the score 0.950: within 0.01 of it" in text
    assert "Others come as close: mean|z| 0.945" in text


def test_a_threshold_under_which_no_event_is_found_is_told_so() -> None:
    found = verdict(figures(f1=0.0, found=0, best_threshold=1.0))
    assert any(one.text.startswith("None of 10 labelled events raises an alarm") for one in found)


@pytest.mark.parametrize(("false_alarms", "told"), [(0, False), (1, False), (7, True)])
def test_too_many_false_alarms_for_luck_are_told_before_a_promise_can_be_judged(false_alarms: int, told: bool) -> None:
    found = verdict(figures(false_alarms=false_alarms, normal_days=1.0))
    text = next(one.text for one in found if "cannot be judged" in one.title)
    assert ("more than luck" in text) is told


def test_a_finding_is_plain_data() -> None:
    assert msgspec.to_builtins(verdict(figures())[0])["kind"] == "good"
