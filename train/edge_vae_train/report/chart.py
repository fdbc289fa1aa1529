"""Charts as inline SVG that stretches with the page, and labels as HTML that does not: readable on a phone too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_vae.sample import FloatArray
from edge_vae_train.report.markup import Html, element, join

__all__ = ["Chart", "legend", "spark", "thinned"]

_SIDE = 1000.0
"""Units of an SVG's width and height; strokes do not scale with it."""
_MOST_POINTS = 400


class Chart:
    """A plot with two axes; marks are drawn in the order in which they are added.

    Args:
        x: Lowest and highest value of the horizontal axis.
        y: Of the vertical one.
        x_label: What the horizontal axis counts.
        y_label: What the vertical axis counts.
        size: Name of the CSS class that gives the height.
    """

    def __init__(
        self, x: tuple[float, float], y: tuple[float, float], *, x_label: str, y_label: str, size: str = "tall"
    ) -> None:
        self._x, self._y = _widened(x), _widened(y)
        self._x_label, self._y_label, self._size = x_label, y_label, size
        self._marks: list[Html] = []

    def line(self, x: FloatArray, y: FloatArray, kind: str) -> None:
        """A line through points; parts outside the axes are cut off."""
        self._path(" ".join(f"{a:.1f},{b:.1f}" for a, b in zip(*self._place(x, y), strict=True)), f"line {kind}")

    def dots(self, x: FloatArray, y: FloatArray, kind: str) -> None:
        """A dot at each point."""
        at = zip(*self._place(x, y), strict=True)
        # A line of no length has round ends of its stroke's width: a dot that stretching does not squash.
        self._path(" ".join(f"M{a:.1f},{b:.1f}h.01" for a, b in at), f"dots {kind}", moves=True)

    def band(self, first: float, last: float, kind: str, *, height: float = 1.0) -> None:
        """A coloured stretch of the horizontal axis, over a part of the height from below."""
        left, right = self._across(np.array([first, last]))
        self._rectangle(left, (1 - height) * _SIDE, right - left, height * _SIDE, kind)

    def bars(self, edges: FloatArray, heights: FloatArray, kind: str) -> None:
        """A histogram: heights between edges, of which there is one more."""
        across, top = self._across(edges), self._up(heights)
        for left, right, at in zip(across[:-1], across[1:], top, strict=True):
            if at < _SIDE:
                self._rectangle(float(left), float(at), float(right - left), _SIDE - float(at), kind)

    def level(self, y: float, kind: str) -> None:
        """A line across the whole width."""
        at = float(self._up(np.array([y]))[0])
        self._path(f"0,{at:.1f} {_SIDE:.0f},{at:.1f}", f"line {kind}")

    def html(self, title: str = "") -> Html:
        """The chart, with a title above."""
        svg = element(
            "svg", *self._marks, viewBox=f"0 0 {_SIDE:.0f} {_SIDE:.0f}", preserveAspectRatio="none", role="img",
            aria_label=title or f"{self._y_label} over {self._x_label}",
        )  # fmt: skip
        grid = [
            element("span", _tick(self._y[0]), class_="low"),
            element("span", self._y_label, class_="name"),
            element("span", _tick(self._y[1]), class_="high"),
        ]
        below = [
            element("span", _tick(self._x[0])), element("span", self._x_label, class_="name"),
            element("span", _tick(self._x[1])),
        ]  # fmt: skip
        plot = element("div", svg, class_=f"plot {self._size}")
        parts = [
            element("div", *reversed(grid), class_="up"),
            plot,
            element("div", class_="corner"),
            element("div", *below, class_="across"),
        ]
        return element(
            "figure", *([element("figcaption", title)] if title else []), element("div", *parts, class_="chart")
        )

    def _across(self, x: FloatArray) -> FloatArray:
        low, high = self._x
        return np.asarray(np.clip((x - low) / (high - low), 0, 1) * _SIDE)

    def _up(self, y: FloatArray) -> FloatArray:
        low, high = self._y
        return np.asarray((1 - np.clip((y - low) / (high - low), 0, 1)) * _SIDE)

    def _place(self, x: FloatArray, y: FloatArray) -> tuple[list[float], list[float]]:
        return self._across(x).tolist(), self._up(y).tolist()

    def _path(self, points: str, kind: str, *, moves: bool = False) -> None:
        self._marks.append(
            element("path", d=points, class_=kind) if moves else element("polyline", points=points, class_=kind)
        )

    def _rectangle(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        numbers = {"x": x, "y": y, "width": width, "height": height}
        self._marks.append(element("rect", **{n: f"{v:.1f}" for n, v in numbers.items()}, class_=f"area {kind}"))


def spark(lines: FloatArray, limits: tuple[float, float], *, label: str) -> Html:
    """Small lines (lines, points) without axes, from the first colour to the last."""
    low, high = _widened(limits)
    x = np.linspace(0, _SIDE, lines.shape[1])
    y = (1 - np.clip((lines - low) / (high - low), 0, 1)) * _SIDE
    drawn = [
        element(
            "polyline", points=" ".join(f"{a:.0f},{b:.0f}" for a, b in zip(x, row, strict=True)), class_=f"line s{i}"
        )
        for i, row in enumerate(y)
    ]
    box = {"viewBox": f"0 0 {_SIDE:.0f} {_SIDE:.0f}", "preserveAspectRatio": "none"}
    return element("svg", *drawn, **box, role="img", aria_label=label, class_="spark")


def legend(*entries: tuple[str, str]) -> Html:
    """What the colours mean: pairs of CSS class and text."""
    return element(
        "p",
        join(element("span", element("i", class_=f"key {kind}"), text) for kind, text in entries),
        class_="legend",
    )


def thinned(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A long line by the lowest and highest of equal stretches, so that no peak is lost."""
    if len(x) <= _MOST_POINTS:
        return x, y
    stretches: Sequence[NDArray[np.intp]] = np.array_split(np.arange(len(x)), _MOST_POINTS // 2)
    kept = np.unique([at[i] for at in stretches for i in (int(y[at].argmin()), int(y[at].argmax()))])
    return x[kept], y[kept]


def _widened(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _tick(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
