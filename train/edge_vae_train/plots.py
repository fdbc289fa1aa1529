"""Pictures of a training and of an evaluation, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_vae.sample import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["LOSS_PICTURE", "curves", "loss", "scores_over_time"]

LOSS_PICTURE = "loss.png"

_DPI = 120
_MAX_ROWS = 8
"""Sessions that are drawn one below the other; more would be too small to read."""


def _figure(width: float, height: float) -> Figure:
    """A figure that needs no display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=_DPI)


def loss(histories: Mapping[str, tuple[Sequence[tuple[float, float]], int]], folder: Path) -> Path | None:
    """`loss.png`: losses of each view's epochs, and the epoch whose weights were kept, counted from 1.

    Views without epochs are left out; without any there is no picture.
    """
    drawn = {name: view for name, view in histories.items() if len(view[0]) > 1}
    if not drawn:
        return None
    figure = _figure(6.4 * len(drawn), 4)
    for axes, (name, (history, kept_epoch)) in zip(
        figure.subplots(1, len(drawn), squeeze=False)[0], drawn.items(), strict=True
    ):
        epochs = np.arange(1, len(history) + 1)
        losses = np.array(history)
        axes.plot(epochs, losses[:, 0], label="training (KL warming up)")
        axes.plot(epochs, losses[:, 1], label="held-out blocks (full KL)")
        axes.axvline(kept_epoch, color="0.6", linestyle=":", label=f"weights kept: epoch {kept_epoch}")
        axes.set(xlabel="epoch", ylabel="negative ELBO, nats a sample and channel", title=f"Training, view {name}")
        axes.legend()
    return _saved(figure, folder / LOSS_PICTURE)


def curves(
    labels: NDArray[np.bool_], scores: dict[str, FloatArray], decisions: NDArray[np.bool_], folder: Path
) -> Path:
    """`curves.png`: precision-recall and ROC of each score by name, and where `decisions` put the first."""
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

    figure = _figure(10, 4.6)
    left, right = figure.subplots(1, 2)
    for i, (name, score) in enumerate(scores.items()):
        precision, recall, _ = precision_recall_curve(labels, score)
        false, true, _ = roc_curve(labels, score)
        width = 2.0 if i == 0 else 1.0
        left.plot(recall, precision, linewidth=width, label=f"{name} (AP {average_precision_score(labels, score):.3f})")
        right.plot(false, true, linewidth=width, label=f"{name} (AUC {roc_auc_score(labels, score):.3f})")
    hits = (decisions & labels).sum()
    recall_here, false_here = hits / labels.sum(), (decisions & ~labels).sum() / (~labels).sum()
    if decisions.any():
        left.plot(recall_here, hits / decisions.sum(), "ko", label="at the threshold")
    right.plot(false_here, recall_here, "ko", label="at the threshold")
    left.axhline(labels.mean(), color="0.7", linestyle=":", label="no skill")
    right.plot([0, 1], [0, 1], color="0.7", linestyle=":", label="no skill")
    left.set(xlabel="recall", ylabel="precision", title="Precision and recall", ylim=(0, 1.02))
    right.set(xlabel="false alarm rate", ylabel="recall", title="ROC", ylim=(0, 1.02))
    for axes in (left, right):
        axes.legend(fontsize="small", loc="lower left" if axes is left else "lower right")
    return _saved(figure, folder / "curves.png")


def scores_over_time(
    sessions: Sequence[tuple[str, NDArray[np.int64], FloatArray, NDArray[np.bool_], NDArray[np.bool_]]],
    threshold: float,
    folder: Path,
) -> Path:
    """`scores.png`: score, threshold, labelled rows and alarms of up to eight sessions.

    Args:
        sessions: Name, rows (windows,), scores, alarms, and labels of each window's last row.
        threshold: The score above which a window is anomalous.
        folder: Where the picture goes.
    """
    shown = sessions[:_MAX_ROWS]
    figure = _figure(10, 1.2 + 1.7 * len(shown))
    all_axes = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for axes, (name, rows, score, alarm, labels) in zip(all_axes, shown, strict=True):
        _score_over_time(axes, rows, score, alarm, labels, threshold)
        axes.set_title(name, fontsize="small", loc="left")
    all_axes[0].legend(fontsize="small", loc="upper right", ncols=4)
    all_axes[-1].set_xlabel("row of the window's last sample")
    hidden = len(sessions) - len(shown)
    figure.suptitle("Score over time" + (f" (the first {len(shown)} of {len(sessions)} sessions)" if hidden else ""))
    return _saved(figure, folder / "scores.png")


def _score_over_time(
    axes: Axes,
    rows: NDArray[np.int64],
    score: FloatArray,
    alarm: NDArray[np.bool_],
    labels: NDArray[np.bool_],
    threshold: float,
) -> None:
    top = max(2.0 * threshold, float(np.quantile(score, 0.99)) if len(score) else 0.0) * 1.1
    axes.fill_between(
        rows, 0, top, where=labels.tolist(), color="tab:red", alpha=0.18, step="mid", label="labelled anomalous"
    )
    axes.plot(rows, np.minimum(score, top), linewidth=0.9, label="score")
    axes.axhline(threshold, color="k", linestyle="--", linewidth=0.8, label="threshold")
    axes.fill_between(rows, 0, top * 0.04, where=alarm.tolist(), color="tab:orange", step="mid", label="alarm")
    axes.set(ylim=(0, top), ylabel="score")
    if len(rows):
        axes.set_xlim(0, int(rows[-1]))


def _saved(figure: Figure, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    # Without its version a picture is the same bytes for the same numbers.
    figure.savefig(file, metadata={"Software": None})
    return file
