from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_vae.sample import FloatArray
from edge_vae_train.vus import THRESHOLDS, runs, vus_pr

Labelled = tuple[NDArray[np.bool_], FloatArray]


def series(seed: int, points: int, ranges: Sequence[tuple[int, int]], decimals: int) -> Labelled:
    """Labels, and scores that lean towards them; few decimals make ties."""
    random = np.random.default_rng(seed)
    labels = np.zeros(points, np.bool_)
    for first, stop in ranges:
        labels[first:stop] = True
    scores = np.round(random.random(points) + 0.5 * labels * random.random(points), decimals)
    return labels, scores


# From `RangeAUC_volume_opt` of the packages vus 0.0.6 and TSB-AD 1.5, which give the same numbers, on `series(...)`.
GOLDEN = {
    "inside, one a single point": ((1, 2000, [(300, 340), (900, 1000), (1500, 1501)], 12), 16, 0.31186133074207995),
    "at both edges": ((2, 2000, [(0, 25), (700, 730), (1960, 2000)], 12), 32, 0.3151452371330037),
    "buffers overlap, many ties": ((3, 1000, [(100, 120), (126, 140), (500, 560)], 1), 20, 0.3170379809647653),
    "fewer points than thresholds": ((4, 150, [(40, 60)], 2), 9, 0.5152505649928908),
    "single points, two distinct scores": (
        (5, 600, [(0, 1), (10, 11), (20, 21), (31, 32), (599, 600)], 0), 21, 0.05574259024978146,
    ),
    "many ranges, some ties": ((6, 5000, [(i, i + 7) for i in range(50, 5000, 190)], 3), 40, 0.420203569117656),
    "buffers longer than what is beside them": ((8, 700, [(5, 8), (12, 16), (695, 697)], 4), 64, 0.258592249602313),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_agrees_with_the_reference_implementation(name: str) -> None:
    recipe, max_buffer, expected = GOLDEN[name]
    labels, scores = series(*recipe)
    assert vus_pr(labels, scores, max_buffer=max_buffer) == pytest.approx(expected, abs=1e-12)


def plain(labels: Sequence[NDArray[np.bool_]], scores: Sequence[FloatArray], max_buffer: int) -> float:
    """The same, point by point from the definition, for series that only share their thresholds."""
    ranked = np.sort(np.concatenate(scores))[::-1]
    thresholds = ranked[np.linspace(0, len(ranked) - 1, THRESHOLDS).astype(int)]
    areas = []
    for length in range(max_buffer + 1):
        weights = [plain_weights(one, length) for one in labels]
        area = recall_before = 0.0
        for threshold in thresholds:
            found = core = border = 0.0
            ranges: list[bool] = []
            for one, weight, score in zip(labels, weights, scores, strict=True):
                above = score >= threshold
                found += above.sum()
                core += (one & above).sum()
                border += weight[~one & above].sum()
                ranges += [bool(above[first:stop].any()) for first, stop in plain_ranges(one, length // 2)]
            recall = min((core + border) / (sum(one.sum() for one in labels) + border / 2), 1.0) * np.mean(ranges)
            area += (recall - recall_before) * (core + border) / found
            recall_before = recall
        areas.append(area)
    return float(np.mean(areas))


def plain_weights(labels: NDArray[np.bool_], length: int) -> FloatArray:
    """Each point's nearness to the next labelled point on either side."""
    weights = labels.astype(np.float64)
    for i in np.flatnonzero(~labels):
        for side in (labels[i::-1], labels[i:]):
            distance = int(np.argmax(side)) if side.any() else len(labels)
            weights[i] += np.sqrt(1 - distance / length) if distance <= length // 2 else 0.0
    return np.minimum(weights, 1.0)


def plain_ranges(labels: NDArray[np.bool_], reach: int) -> list[tuple[int, int]]:
    """First index and index after the last one of each range with its buffer, overlapping ones as one."""
    merged: list[tuple[int, int]] = []
    for first, stop in runs(labels).tolist():
        wide = (max(first - reach, 0), min(stop + reach, len(labels)))
        if merged and wide[0] < merged[-1][1]:
            wide = (merged.pop()[0], wide[1])
        merged.append(wide)
    return merged


def test_series_joined_end_to_end_share_thresholds_but_neither_ranges_nor_buffers() -> None:
    first = series(11, 60, [(20, 24), (56, 58)], 2)
    second = series(12, 40, [(3, 6), (38, 40)], 2)
    third = series(13, 50, [], 2)
    first[1][58:] = third[1][:2] = 2.0  # found first, and beside a labelled range of the next or the previous series
    labels, scores = [first[0], second[0], third[0]], [first[1], second[1], third[1]]
    joined = vus_pr(np.concatenate(labels), np.concatenate(scores), max_buffer=12, joints=[60, 100])
    assert joined == pytest.approx(plain(labels, scores, 12), abs=1e-12)
    assert joined != pytest.approx(vus_pr(np.concatenate(labels), np.concatenate(scores), max_buffer=12), abs=1e-3)


def test_agrees_with_the_plain_twin_on_one_series() -> None:
    labels, scores = series(14, 90, [(10, 14), (19, 20), (60, 70)], 1)
    assert vus_pr(labels, scores, max_buffer=15) == pytest.approx(plain([labels], [scores], 15), abs=1e-12)


def test_without_a_buffer_is_step_precision_times_the_share_of_ranges_found() -> None:
    labels = np.array([1, 0, 0, 1, 0], np.bool_)
    scores = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    # First point: recall 1/2 of the weight times 1/2 of the ranges, precision 1. Fourth: recall 1, precision 2/4.
    assert vus_pr(labels, scores, max_buffer=0) == pytest.approx(0.25 * 1 + 0.75 * 0.5)


@pytest.mark.parametrize("max_buffer", [0, 20])
def test_finding_exactly_the_labelled_ranges_gives_one_whatever_the_buffer(max_buffer: int) -> None:
    labels, _ = series(0, 400, [(100, 110), (300, 305)], 3)
    assert vus_pr(labels, labels.astype(np.float64), max_buffer=max_buffer) == 1.0


def test_a_score_that_is_late_by_two_points_gains_with_the_buffer() -> None:
    labels, _ = series(0, 400, [(100, 110)], 3)
    late = np.roll(labels, 2).astype(np.float64)
    assert vus_pr(labels, late, max_buffer=10) > vus_pr(labels, late, max_buffer=0) + 0.05


@pytest.mark.parametrize(
    ("labels", "scores", "max_buffer", "named"),
    [
        ([True, False], [1.0], 2, "one length"),
        ([True, False], [1.0, 0.0], -1, "at least 0 points"),
        ([False, False], [1.0, 0.0], 2, "at least one labelled point"),
    ],
)
def test_wrong_arguments_are_named(labels: list[bool], scores: list[float], max_buffer: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        vus_pr(np.array(labels), np.array(scores), max_buffer=max_buffer)


@pytest.mark.parametrize(
    ("labels", "breaks", "expected"),
    [
        ("", [], []),
        ("000", [], []),
        ("111", [], [(0, 3)]),
        ("1011", [], [(0, 1), (2, 4)]),
        ("0110", [1], [(1, 3)]),
        ("0110", [2], [(1, 2), (2, 3)]),
        ("1111", [0, 2], [(0, 2), (2, 4)]),
    ],
)
def test_runs_end_at_unlabelled_points_and_breaks(
    labels: str, breaks: list[int], expected: list[tuple[int, int]]
) -> None:
    found = runs(np.array([c == "1" for c in labels], np.bool_), breaks=breaks)
    assert [tuple(run) for run in found.tolist()] == expected
