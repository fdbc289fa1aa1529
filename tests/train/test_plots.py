"""Pictures are written, show what they should, and are the same bytes for the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from edge_vae_train import plots

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved, kept so that a test can look at what is in them."""
    figures: list[Figure] = []
    save = Figure.savefig

    def saving(figure: Figure, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", saving)
    return figures


def legend(axes: Any) -> set[str]:
    return {text.get_text() for text in axes.get_legend().get_texts()}


def session(name: str = "a.csv", *, windows: int = 50, score: float = 1.0) -> tuple[Any, ...]:
    rows = np.arange(31, 31 + 4 * windows, 4)
    labels = (np.arange(windows) > 20) & (np.arange(windows) < 30)
    return name, rows, np.full(windows, score) + labels, labels, labels


def test_the_loss_shows_both_curves_and_the_kept_epoch(tmp_path: Path, drawn: list[Figure]) -> None:
    file = plots.loss({"window": ([(3.0, 3.1), (2.0, 2.2), (1.0, 2.5)], 2)}, tmp_path)
    assert file == tmp_path / "loss.png"
    assert file.read_bytes().startswith(PNG)
    (axes,) = drawn[0].axes
    assert [line.get_ydata().tolist() for line in axes.lines[:2]] == [[3.0, 2.0, 1.0], [3.1, 2.2, 2.5]]
    assert "weights kept: epoch 2" in legend(axes)


def test_the_loss_has_a_picture_for_each_view_and_none_for_one_that_was_solved(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    history = [(2.0, 2.1), (1.0, 1.5)]
    views = {"window": (history, 2), "features": (history[::-1], 1), "pca": ([(0.5, 0.6)], 1)}
    assert plots.loss(views, tmp_path) == tmp_path / "loss.png"
    window, features = drawn[0].axes
    assert [axes.get_title() for axes in (window, features)] == ["Training, view window", "Training, view features"]
    assert [axes.lines[0].get_ydata().tolist() for axes in (window, features)] == [[2.0, 1.0], [1.0, 2.0]]
    assert "weights kept: epoch 1" in legend(features)


@pytest.mark.parametrize("views", [{}, {"pca": ([(0.5, 0.6)], 1)}])
def test_without_an_epoch_there_is_no_picture_of_the_loss(tmp_path: Path, views: dict[str, Any]) -> None:
    assert plots.loss(views, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_curves_name_each_method_with_its_figures_and_mark_the_threshold(tmp_path: Path, drawn: list[Figure]) -> None:
    labels = np.array([False] * 6 + [True] * 4)
    scores = {"int8": np.arange(10.0), "chance": np.array([1.0, 0] * 5)}
    file = plots.curves(labels, scores, scores["int8"] > 4.5, tmp_path / "new" / "folder")
    assert file.read_bytes().startswith(PNG)
    left, right = drawn[0].axes
    assert {"int8 (AP 1.000)", "at the threshold", "no skill"} <= legend(left)
    assert {"int8 (AUC 1.000)", "chance (AUC 0.500)", "at the threshold"} <= legend(right)
    (point,) = (line for line in right.lines if line.get_label() == "at the threshold")
    assert (point.get_xdata(), point.get_ydata()) == (pytest.approx([1 / 6]), pytest.approx([1.0]))


def test_curves_without_a_single_alarm_are_drawn(tmp_path: Path) -> None:
    labels = np.array([False, True])
    assert plots.curves(labels, {"int8": np.array([0.0, 1.0])}, np.array([False, False]), tmp_path).exists()


def test_scores_over_time_show_each_session_its_threshold_and_its_labels(tmp_path: Path, drawn: list[Figure]) -> None:
    file = plots.scores_over_time([session("a.csv"), session("b/c.csv")], 1.5, tmp_path)
    assert file.name == "scores.png"
    first, second = drawn[0].axes
    assert (first.get_title(loc="left"), second.get_title(loc="left")) == ("a.csv", "b/c.csv")
    assert legend(first) == {"labelled anomalous", "score", "threshold", "alarm"}
    assert first.get_ylim()[1] > 1.5


def test_more_sessions_than_fit_are_said(tmp_path: Path, drawn: list[Figure]) -> None:
    plots.scores_over_time([session(f"{i}.csv") for i in range(11)], 1.5, tmp_path)
    assert len(drawn[0].axes) == 8
    assert drawn[0].get_suptitle() == "Score over time (the first 8 of 11 sessions)"


def test_a_session_without_windows_and_huge_scores_are_drawn(tmp_path: Path) -> None:
    assert plots.scores_over_time([session("short.csv", windows=0), session(score=1e9)], 1.5, tmp_path).exists()


def test_the_same_numbers_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        plots.loss({"window": ([(2.0, 2.0), (1.0, 1.5)], 2)}, tmp_path / name)
    assert (tmp_path / "a" / "loss.png").read_bytes() == (tmp_path / "b" / "loss.png").read_bytes()
