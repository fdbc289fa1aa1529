"""Figures against values counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from quality_protocols.figures import decisions, limit, mean, period, recall_at, volume
from quality_protocols.task import Points


def test_a_limit_is_exceeded_by_at_most_the_wished_share() -> None:
    scores = np.arange(100.0)
    assert limit(scores, rate=0.05) == 94
    assert (scores > limit(scores, rate=0.05)).sum() == 5


def test_a_limit_of_few_scores_rather_alarms_too_rarely() -> None:
    assert limit(np.arange(10.0), rate=0.19) == 8


def test_ties_at_the_limit_do_not_count_as_above_it() -> None:
    assert (np.ones(50) > limit(np.ones(50), rate=0.1)).sum() == 0


def test_recall_is_counted_above_the_limit_of_the_normal_points() -> None:
    labels = np.repeat([False, True], [20, 4])
    scores = np.r_[np.arange(20.0), 18.5, 19.5, 17.0, 30.0]
    assert recall_at(labels, scores, far=0.05) == 0.75


def test_each_series_is_decided_by_its_own_threshold() -> None:
    labels = [np.array([False, True, True, False]), np.array([False, True])]
    scores = [np.array([0.0, 2.0, 0.5, 3.0]), np.array([20.0, 40.0])]
    points = Points.joined(labels, scores, [1.0, 30.0])
    assert points.joints == (4,)
    assert decisions(points) == {"f1": pytest.approx(4 / 6), "far": pytest.approx(1 / 3), "mar": pytest.approx(1 / 3)}


def test_without_a_threshold_there_is_no_decision() -> None:
    points = Points.joined([np.array([False, True])] * 2, [np.arange(2.0)] * 2, [1.0, None])
    assert decisions(points) == {"f1": None, "far": None, "mar": None}


def test_buffers_do_not_reach_from_one_series_into_the_next() -> None:
    labels, scores = np.repeat([False, True], 20), np.repeat([0.0, 1.0], 20)
    scores[18:20] = 1.0  # a false alarm right before the second series, which is anomalous from its first row
    apart = Points.joined([labels[:20], labels[20:]], [scores[:20], scores[20:]], [None, None])
    whole = Points.joined([labels], [scores], [None])
    assert volume(apart, max_buffer=8)["vus_pr"] < volume(whole, max_buffer=8)["vus_pr"]  # type: ignore[operator]  # both are numbers


def test_means_leave_out_what_is_undefined() -> None:
    assert mean([{"a": 1.0, "b": None}, {"a": 3.0, "b": 5.0}, {"c": None}]) == {"a": 2.0, "b": 5.0, "c": None}


@pytest.mark.parametrize(("series", "expected"), [
    (np.sin(2 * np.pi * np.arange(2000) / 50), 50),
    (np.zeros(500), 125),
    (np.arange(1000.0), 125),
])  # fmt: skip
def test_period_of_a_series(series: np.ndarray, expected: int) -> None:
    assert period(series) == expected
