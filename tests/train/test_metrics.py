from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from edge_vae.alarm import AlarmRules
from edge_vae_train.metrics import Metrics, ScoredSession, alarm_states, alarms, measure
from edge_vae_train.vus import vus_pr

AT_ONCE = AlarmRules(on_delay=(1, 1), off_delay=(1, 1), deadband=0.0)
LENGTH, STRIDE, PERIOD_S = 4, 2, 0.5


def session(
    scores: list[float], *, run: tuple[int, int] = (0, 0), first_row: int = LENGTH - 1, breaks: tuple[int, ...] = (0,)
) -> ScoredSession:
    """Windows of 4 rows every 2 rows; rows run[0] up to and without run[1] are labelled."""
    rows = first_row + STRIDE * np.arange(len(scores))
    labels = np.zeros((rows[-1] if len(rows) else first_row) + 1, np.bool_)
    labels[slice(*run)] = True
    after_break = np.isin(np.arange(len(scores)), breaks)
    return ScoredSession(rows=rows, score=np.array(scores, np.float64), labels=labels, after_break=after_break)


def figures(*sessions: ScoredSession, rules: AlarmRules = AT_ONCE) -> Metrics:
    return measure(sessions, threshold=1.0, rules=rules, window_length=LENGTH, period_s=PERIOD_S, stride=STRIDE)


# Last rows 3, 5, ... 19. Labelled: rows 8 to 11, so the windows that end at 9 and 11; the one at 13 overlaps too.
WORKED = session([0.2, 1.5, 0.5, 0.8, 2.0, 1.2, 0.4, 0.3, 0.1], run=(8, 12))


def test_windows_are_judged_one_by_one_by_the_label_of_their_last_row() -> None:
    worked = figures(WORKED)
    # Above the threshold: 1.5 and 1.2 (normal), 2.0 (anomalous); 0.8 is missed.
    assert worked.windows == 9
    assert worked.positive_share == pytest.approx(2 / 9)
    assert worked.precision == pytest.approx(1 / 3)
    assert worked.recall == pytest.approx(1 / 2)
    assert worked.mar == pytest.approx(1 / 2)
    assert worked.far == pytest.approx(2 / 7)
    assert worked.f1 == pytest.approx(2 * 1 / (3 + 2))


def test_ranking_figures_of_the_worked_case() -> None:
    worked = figures(WORKED)
    assert worked.roc_auc == pytest.approx((7 + 5) / (2 * 7))  # 2.0 beats all seven normal windows, 0.8 five of them
    assert worked.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)
    labels = WORKED.labels[WORKED.rows]
    assert worked.vus_pr == vus_pr(labels, WORKED.score, max_buffer=LENGTH // STRIDE)


def test_alarms_of_the_worked_case() -> None:
    worked = figures(WORKED)
    assert alarms(WORKED, threshold=1.0, rules=AT_ONCE) == [(5, 7), (11, 15)]
    assert (worked.events, worked.event_recall) == (1, 1.0)
    assert worked.mean_delay_s == pytest.approx((11 - 8) * PERIOD_S)
    assert worked.first_alarm_inside == 0.0  # the first is raised at row 5 by rows 2 to 5
    assert worked.false_alarms == 1
    assert worked.normal_days == pytest.approx(6 * STRIDE * PERIOD_S / 86_400)  # nine windows, three hold labelled rows
    assert worked.false_alarms_per_day == pytest.approx(1 / (6 * STRIDE * PERIOD_S / 86_400))


def test_a_score_at_the_threshold_is_not_above_it() -> None:
    at = figures(session([1.0, 0.1, 1.0, 0.1], run=(6, 8)))
    assert (at.far, at.recall, at.event_recall) == (0.0, 0.0, 0.0)


def test_no_window_is_point_adjusted() -> None:
    # Ten labelled windows, one of them above the threshold.
    one_hit = figures(session([0.1] * 5 + [2.0] + [0.1] * 9, run=(4, 24)))
    assert one_hit.recall == pytest.approx(0.1)
    assert one_hit.event_recall == 1.0


def test_the_delays_of_the_rules_count() -> None:
    rules = AlarmRules(on_delay=(2, 3), off_delay=(2, 2), deadband=0.1)
    scored = session([2.0, 0.5, 0.5, 2.0, 0.95, 2.0, 0.95, 0.95, 0.5, 0.5, 0.5])
    # Two of three above at index 5; 0.95 lies in the deadband, so it is cleared at index 9.
    assert alarms(scored, threshold=1.0, rules=rules) == [(3 + 2 * 5, 3 + 2 * 9)]
    assert np.flatnonzero(alarm_states(scored, threshold=1.0, rules=rules)).tolist() == [5, 6, 7, 8]


def test_a_break_makes_the_alarm_forget_the_windows_before_it() -> None:
    rules = AlarmRules(on_delay=(2, 2), off_delay=(1, 1), deadband=0.0)
    scores = [0.1, 2.0, 2.0, 0.1]
    assert alarms(session(scores), threshold=1.0, rules=rules) == [(7, 9)]
    assert alarms(session(scores, breaks=(0, 2)), threshold=1.0, rules=rules) == []


def test_an_alarm_that_outlives_the_session_has_no_end_and_does_not_reach_the_next_one() -> None:
    active, quiet = session([0.1, 2.0]), session([0.1, 0.1], run=(0, 2))
    assert alarms(active, threshold=1.0, rules=AT_ONCE) == [(5, None)]
    assert figures(active, quiet).event_recall == 0.0


def test_an_alarm_that_is_already_active_detects_an_event_without_a_delay_of_its_own() -> None:
    found = figures(session([0.1, 2.0, 2.0, 2.0, 2.0, 2.0], run=(8, 10)))
    assert (found.event_recall, found.mean_delay_s) == (1.0, None)
    assert (found.false_alarms, found.first_alarm_inside) == (1, 0.0)


def test_an_alarm_raised_by_the_last_window_that_holds_the_event_is_not_false() -> None:
    late, later = [0.1] * 9, [0.1] * 9
    late[5], later[6] = 2.0, 2.0  # rows 10 to 13 and 12 to 15; the event ends with row 11
    assert (figures(session(late, run=(8, 12))).event_recall, figures(session(late, run=(8, 12))).false_alarms) == (
        1.0,
        0,
    )
    assert (figures(session(later, run=(8, 12))).event_recall, figures(session(later, run=(8, 12))).false_alarms) == (
        0.0,
        1,
    )


def test_a_run_that_no_window_holds_is_no_event() -> None:
    # As with a baseline: the first window holds rows 10 to 13.
    unseen = figures(session([0.1, 2.0, 0.1], run=(2, 10), first_row=13))
    assert (unseen.events, unseen.event_recall, unseen.first_alarm_inside) == (0, None, None)
    seen = figures(session([2.0, 0.1, 0.1], run=(2, 11), first_row=13))
    assert (seen.events, seen.event_recall, seen.mean_delay_s) == (1, 1.0, 11 * PERIOD_S)


def test_a_run_between_two_window_ends_is_an_event() -> None:
    assert figures(session([0.1, 0.1, 2.0, 0.1], run=(6, 7))).event_recall == 1.0


def test_each_run_of_a_session_is_an_event_of_its_own() -> None:
    scored = session([0.1, 0.1, 2.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], run=(6, 8))
    scored.labels[14:16] = True
    two = figures(scored)
    assert (two.events, two.event_recall, two.first_alarm_inside) == (2, 0.5, 1.0)
    assert two.mean_delay_s == pytest.approx(1 * PERIOD_S)


def test_sessions_count_together() -> None:
    quiet = session([0.1, 2.0, 0.1])
    inside = session([0.1, 0.1, 2.0, 0.1], run=(6, 8))
    silent = session([0.1, 0.1, 0.1, 0.1], run=(6, 8))
    together = figures(WORKED, quiet, inside, silent)
    assert together.windows == 9 + 3 + 4 + 4
    assert together.events == 3
    assert together.event_recall == pytest.approx(2 / 3)
    assert together.first_alarm_inside == pytest.approx(1 / 3)  # the quiet session has no event and is not asked
    assert together.false_alarms == 2
    assert together.mean_delay_s == pytest.approx((3 + 1) / 2 * PERIOD_S)
    pooled = [WORKED, quiet, inside, silent]
    labels = np.concatenate([one.window_labels for one in pooled])
    scores = np.concatenate([one.score for one in pooled])
    assert together.roc_auc == pytest.approx(roc_auc_score(labels, scores))
    assert together.vus_pr == vus_pr(labels, scores, max_buffer=2, joints=[9, 12, 16])


def test_buffers_end_where_a_segment_does() -> None:
    random = np.random.default_rng(5)
    scores = random.random(60)
    scores[29] = 2.0  # beside the last labelled window
    whole = session(scores.tolist(), run=(40, 60))
    cut = replace(whole, after_break=np.isin(np.arange(60), [0, 29]))
    labels = whole.window_labels
    assert np.flatnonzero(labels)[-1] == 28
    assert figures(cut).vus_pr == vus_pr(labels, whole.score, max_buffer=2, joints=[29])
    assert figures(cut).vus_pr != figures(whole).vus_pr


def test_normal_data_alone_leaves_only_false_alarms() -> None:
    normal = figures(session([0.1, 2.0, 0.1, 2.0]))
    undefined = ("roc_auc", "average_precision", "vus_pr", "f1", "mar", "precision", "recall", "event_recall")
    assert all(getattr(normal, name) is None for name in (*undefined, "first_alarm_inside", "mean_delay_s"))
    assert (normal.far, normal.false_alarms, normal.events, normal.positive_share) == (0.5, 2, 0, 0.0)


def test_anomalous_data_alone_has_no_false_alarm_rate() -> None:
    anomalous = figures(session([0.1, 2.0], run=(0, 6)))
    undefined = ("roc_auc", "average_precision", "vus_pr", "far", "false_alarms_per_day")
    assert all(getattr(anomalous, name) is None for name in undefined)
    assert (anomalous.recall, anomalous.event_recall, anomalous.normal_days) == (0.5, 1.0, 0.0)


def test_nothing_above_the_threshold_leaves_precision_undefined() -> None:
    none_found = figures(session([0.1, 0.2, 0.3], run=(4, 6)))
    assert (none_found.precision, none_found.recall, none_found.f1, none_found.mar) == (None, 0.0, 0.0, 1.0)


def test_a_session_without_windows_adds_nothing() -> None:
    empty = session([], run=(0, 2))
    assert figures(WORKED, empty) == figures(empty, WORKED) == figures(WORKED)
    assert figures(empty).positive_share is None


@pytest.mark.parametrize(
    ("rows", "scores", "named"),
    [([3, 5], [0.1], "one length"), ([3, 3], [0.1, 0.1], "increasing"), ([9], [0.1], "below")],
)
def test_a_session_whose_arrays_do_not_fit_is_refused(rows: list[int], scores: list[float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ScoredSession(
            rows=np.array(rows),
            score=np.array(scores),
            labels=np.zeros(8, np.bool_),
            after_break=np.zeros(len(rows), np.bool_),
        )
