"""The picture of the demo: what the subscriber received, on the scores that the agent saw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_vae.sample import FloatArray
from edge_vae_converters.demo.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

MAX_SHOWN = 8
"""Assets that are drawn one below the other; more would be too small to read."""
NAMED_APART = 0.12
"""Part of a recording: nearer to the one before, the channel that raised an alarm is not written beside its marker."""
SECONDS_A_MINUTE = 60.0


def draw(verdicts: Sequence[Verdict], *, threshold: float, title: str, file: Path) -> Path:
    """A PNG, a panel an asset: score, threshold, labelled rows, and a marker where each received event was caused."""
    from matplotlib.figure import Figure

    shown = verdicts[:MAX_SHOWN]
    figure = Figure(figsize=(11, 1.4 + 1.75 * len(shown)), layout="constrained", dpi=120)
    panels = figure.subplots(len(shown), 1, squeeze=False, sharex=True)[:, 0]
    for axes, verdict in zip(panels, shown, strict=True):
        _panel(axes, verdict, threshold)
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), fontsize="small")
    longest_min = max(len(v.watched.labels) * v.watched.period_s for v in shown) / SECONDS_A_MINUTE
    panels[-1].set(xlabel="minutes since the recording began", xlim=(0, longest_min))
    more = f" (the first {len(shown)} of {len(verdicts)} assets)" if len(shown) < len(verdicts) else ""
    figure.suptitle(title + more)
    figure.savefig(file, metadata={"Software": None})
    return file


def _panel(axes: Axes, verdict: Verdict, threshold: float) -> None:
    watched = verdict.watched
    minutes = np.arange(len(watched.labels), dtype=np.float64) * (watched.period_s / SECONDS_A_MINUTE)
    top = 1.15 * max(1.5 * threshold, float(watched.score.max(initial=0.0)))
    axes.fill_between(
        minutes,
        0,
        top,
        where=watched.labels.tolist(),
        color="tab:red",
        alpha=0.15,
        linewidth=0,
        label="labelled anomalous",
    )
    if len(watched.rows) and watched.rows[0]:
        axes.axvspan(0, minutes[watched.rows[0]], color="0.92", label="baseline and first window")
    axes.plot(minutes[watched.rows], watched.score, linewidth=1.1, color="tab:blue", label="score")
    axes.axhline(threshold, color="k", linestyle="--", linewidth=0.8, label="threshold")
    _markers(axes, verdict, minutes[watched.rows])
    axes.set(ylim=(0, top), ylabel="score")
    axes.set_title(_headline(verdict), fontsize="small", loc="left")


def _markers(axes: Axes, verdict: Verdict, minutes: FloatArray) -> None:
    score = verdict.watched.score
    for events, marker, colour, label in (
        (verdict.raised, "^", "tab:red", "received: raised"),
        (verdict.cleared, "v", "tab:green", "received: cleared"),
    ):
        windows = [window for window, _ in events]
        if windows:
            axes.plot(
                minutes[windows],
                score[windows],
                marker,
                color=colour,
                markersize=8,
                markeredgecolor="k",
                label=label,
                zorder=3,
                clip_on=False,
            )
    named_min = -np.inf
    for window, received in verdict.raised:
        if minutes[window] - named_min < NAMED_APART * minutes[-1]:
            continue
        named_min = minutes[window]
        first = received.event.channels[0]
        axes.annotate(
            f"{first.name} {first.share or 0.0:.0%}", (minutes[window], score[window]), (-7, 7), ha="right",
            textcoords="offset points", fontsize="x-small", zorder=4,
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.8, "linewidth": 0},
        )  # fmt: skip


def _headline(verdict: Verdict) -> str:
    received = f"{len(verdict.raised)} alarm{'' if len(verdict.raised) == 1 else 's'} received"
    found = f"{verdict.labelled - verdict.missed} of {verdict.labelled} labelled events found"
    return f"{verdict.watched.asset}: {received}, {found}, {verdict.false_alarms} false"
