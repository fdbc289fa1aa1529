"""VUS-PR: how well scores find labelled ranges, over all thresholds and over all widths of a soft border of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_vae.sample import FloatArray

__all__ = ["THRESHOLDS", "runs", "vus_pr"]

THRESHOLDS = 250
"""Thresholds along the sorted scores, whatever their number: the reference and its published tables use this many."""


def runs(labels: NDArray[np.bool_], *, breaks: Sequence[int] = ()) -> NDArray[np.int64]:
    """(runs, 2) first index and index after the last one of each stretch of labelled points.

    Args:
        labels: (points,) True where labelled.
        breaks: Indices of points that never continue the run of the point before them.
    """
    begins = _begins(len(labels), breaks)
    starts = labels & (begins[:-1] | ~np.roll(labels, 1))
    lasts = labels & (begins[1:] | ~np.roll(labels, -1))
    return np.column_stack([np.flatnonzero(starts), np.flatnonzero(lasts) + 1]).astype(np.int64)


def vus_pr(labels: NDArray[np.bool_], scores: FloatArray, *, max_buffer: int, joints: Sequence[int] = ()) -> float:
    """The volume under the precision-recall surface, 0 to 1: the mean area over buffers of length 0 to `max_buffer`.

    Paparrizos et al., "Volume Under the Surface", PVLDB 15(11), 2022. A buffer of length l gives the points at a
    distance d of 1 to l // 2 from a labelled range the weight sqrt(1 - d / l); labelled points weigh 1, and where
    buffers overlap their sum is capped at 1. At a threshold, precision is the weight found over the number of points
    found; recall is the weight found over the positive weight P, times the share of ranges of which a point is found
    (with their buffers, and merged where those overlap).

    Two things follow the authors' present implementation (packages `vus` 0.0.6 and `TSB-AD` 1.5) where it has moved on
    from 2022, because today's published tables come from it; results agree to rounding. P is the labelled points plus
    half the weight *found* in the buffers, so that finding exactly the labelled ranges is full recall; in 2022 P took
    half the weight of the whole buffers. And the area is a sum of steps, as in average precision; in 2022 it was one of
    trapezoids.

    Args:
        labels: (points,) True where anomalous.
        scores: (points,) higher is more anomalous.
        max_buffer: Length of the longest buffer, in points, half of it on each side.
        joints: Index of the first point of each further series when several stand one after another: one ranking of all
            scores, and neither a range nor a buffer crosses from one series into the next.

    Raises:
        ValueError: Lengths differ, `max_buffer` is negative, or no point is labelled.
    """
    _check(labels, scores, max_buffer)
    order = np.argsort(-scores, kind="stable")
    negated = -scores[order]
    thresholds = negated[np.linspace(0, len(scores) - 1, THRESHOLDS).astype(np.int64)]
    found = np.searchsorted(negated, thresholds, side="right")
    ranges, bounds = runs(labels, breaks=joints), _bounds(len(labels), joints)
    bounds = bounds[np.searchsorted(bounds[:, 0], ranges[:, 0], side="right") - 1]
    core, positives = np.cumsum(labels[order])[found - 1], labels.sum()
    areas = []
    for length in range(max_buffer + 1):
        border = np.cumsum(_buffer(labels, ranges, bounds, length)[order])[found - 1]
        recall = np.minimum((core + border) / (positives + border / 2), 1.0)
        recall *= _existence(scores, ranges, bounds, length // 2, thresholds)
        areas.append(np.sum(np.diff(recall, prepend=0.0) * (core + border) / found))
    return float(np.mean(areas))


def _check(labels: NDArray[np.bool_], scores: FloatArray, max_buffer: int) -> None:
    if labels.shape != scores.shape or labels.ndim != 1:
        msg = f"expected labels and scores (points,) of one length, received {labels.shape} and {scores.shape}"
        raise ValueError(msg)
    if max_buffer < 0:
        msg = f"expected a buffer of at least 0 points, received {max_buffer}"
        raise ValueError(msg)
    if not labels.any():
        raise ValueError("expected at least one labelled point, received none; the volume is undefined without one")


def _begins(points: int, joints: Sequence[int]) -> NDArray[np.bool_]:
    """(points + 1,) True where a series begins, and at the end."""
    begins = np.zeros(points + 1, np.bool_)
    begins[[0, points, *joints]] = True
    return begins


def _bounds(points: int, joints: Sequence[int]) -> NDArray[np.int64]:
    """(series, 2) first index and index after the last one of each series."""
    edges = np.flatnonzero(_begins(points, joints))
    return np.column_stack([edges[:-1], edges[1:]])


def _buffer(labels: NDArray[np.bool_], ranges: NDArray[np.int64], bounds: NDArray[np.int64], length: int) -> FloatArray:
    """(points,) weights beside the labelled ranges, 0 on them."""
    weights = np.zeros(len(labels))
    distance = np.arange(1, length // 2 + 1)
    if not len(distance):
        return weights
    weight = np.broadcast_to(np.sqrt(1.0 - distance / length), (len(ranges), len(distance)))
    before, after = ranges[:, :1] - distance, ranges[:, 1:] - 1 + distance
    inside = before >= bounds[:, :1]
    np.add.at(weights, before[inside], weight[inside])
    inside = after < bounds[:, 1:]
    np.add.at(weights, after[inside], weight[inside])
    return np.where(labels, 0.0, np.minimum(weights, 1.0))


def _existence(
    scores: FloatArray, ranges: NDArray[np.int64], bounds: NDArray[np.int64], reach: int, thresholds: FloatArray
) -> FloatArray:
    """(thresholds,) share of ranges, widened by `reach` points and merged where they overlap, that hold a point found.

    Thresholds are negated: ascending, and a point is found where its negated score is at most the threshold.
    """
    first = np.maximum(ranges[:, 0] - reach, bounds[:, 0])
    stop = np.minimum(ranges[:, 1] + reach, bounds[:, 1])
    apart = first[1:] >= stop[:-1]
    first, stop = first[np.append(True, apart)], stop[np.append(apart, True)]
    # The maximum is also taken between the ranges, and dropped; the last range may end where the scores do.
    highest = np.maximum.reduceat(np.append(scores, -np.inf), np.column_stack([first, stop]).ravel())[::2]
    return np.asarray(np.searchsorted(np.sort(-highest), thresholds, side="right") / len(first), dtype=np.float64)
