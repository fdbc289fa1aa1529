"""What an engineer should take from an evaluation, in plain words, each with the figures that it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from scipy import stats

__all__ = ["CHANCE_MARGIN", "ENOUGH", "MIN_EXPECTED", "Figures", "Finding", "verdict"]

ENOUGH = 0.01
"""A simple method that is this close in ROC-AUC, or better, makes the model unnecessary on this data."""
CHANCE_MARGIN = 0.05
"""ROC-AUC this close to one half is that of a coin."""
MIN_EXPECTED = 10.0
"""False alarms that the wish must lead one to expect before a promise is judged: fewer are a matter of luck."""
KEPT = 3.0
"""A promise is kept when alarms are at most this many times the wish, and at least its inverse."""
_F1_LOST = 0.05
_FEW_EVENTS = 5
_UNLIKELY = 1e-3

Kind = Literal["good", "bad", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a verdict rests on. None where the data leaves a figure undefined.

    Attributes:
        roc_auc: Of the score.
        average_precision: Of the score.
        positive_share: Share of windows that are labelled: the average precision of a coin.
        simple: ROC-AUC of each method without a trained network, by its name for people.
        terms: ROC-AUC of each term of the score alone that has one.
        events: Labelled events.
        found: Events with an alarm.
        threshold: The one in force, which no label has touched.
        f1: With it.
        far: False alarm rate with it.
        mar: Missed alarm rate with it.
        best_f1: With the threshold that these labels would choose.
        best_threshold: That threshold.
        false_alarms: Alarms raised without a label.
        normal_days: Days in which they could have been.
        wished_per_day: False alarms a day that the threshold was set for.
        silent_views: Views whose model has no active latent unit.
    """

    roc_auc: float | None
    average_precision: float | None
    positive_share: float | None
    simple: Mapping[str, float]
    terms: Mapping[str, float]
    events: int
    found: int
    threshold: float
    f1: float | None
    far: float | None
    mar: float | None
    best_f1: float | None
    best_threshold: float | None
    false_alarms: int
    normal_days: float
    wished_per_day: float
    silent_views: tuple[str, ...] = field(default=())

    @property
    def expected(self) -> float:
        """False alarms that the wish leads one to expect here."""
        return self.wished_per_day * self.normal_days


@dataclass(frozen=True, slots=True)
class Finding:
    """One statement, whether it is good news, and its reasons."""

    kind: Kind
    title: str
    text: str


def verdict(figures: Figures) -> tuple[Finding, ...]:
    """The findings, the most important one first."""
    return (*_ranking(figures), *_need_of_a_model(figures), *_threshold(figures), *_promise(figures), *_doubts(figures))


def _ranking(f: Figures) -> Iterator[Finding]:
    if f.roc_auc is None:
        text = "All scored windows are of one class, so nothing says whether anomalous ones score higher."
        yield Finding("open", "The ranking cannot be judged", text)
        return
    figures = f"ROC-AUC is {f.roc_auc:.3f}, where a coin has 0.500"
    if f.average_precision is not None and f.positive_share is not None:
        figures += f"; average precision is {f.average_precision:.3f}, where a coin has {f.positive_share:.3f}"
    if f.roc_auc < 0.5 - CHANCE_MARGIN:
        text = f"{figures}. Labelled windows score lower than normal ones. Are the labels the right way round?"
        yield Finding("bad", "Worse than chance", text)
    elif f.roc_auc <= 0.5 + CHANCE_MARGIN:
        text = f"{figures}. Labelled windows do not score higher than normal ones: alarms here mean nothing."
        yield Finding("bad", "No better than chance", text)
    else:
        text = (
            f"{figures}. Of a labelled and a normal window drawn at random, "
            f"the labelled one scores higher {f.roc_auc:.0%} of the time."
        )
        yield Finding("good", "Anomalous windows score higher than normal ones", text)


def _need_of_a_model(f: Figures) -> Iterator[Finding]:
    if f.roc_auc is None or not f.simple:
        return
    name, best = max(f.simple.items(), key=lambda item: item[1])
    figures = f"{name} alone has ROC-AUC {best:.3f}, the score {f.roc_auc:.3f}"
    if best <= 0.5 + CHANCE_MARGIN:
        if f.roc_auc > best + ENOUGH:
            yield Finding("good", "The model earns its place", f"{figures}.")
    elif best >= f.roc_auc - ENOUGH:
        others = [
            f"{other} {auc:.3f}" for other, auc in f.simple.items() if other != name and auc >= f.roc_auc - ENOUGH
        ]
        also = f" Others come as close: {', '.join(others)}." if others else ""
        close = "better" if best >= f.roc_auc else f"within {ENOUGH:g} of it"
        figures += f": {close}, and it needs no trained network"
        text = f"{figures}.{also} On this data the score adds nothing to it."
        yield Finding("bad", f"{'PCA' if name.startswith('PCA') else name} is enough here", text)
    else:
        yield Finding("good", "The model earns its place", f"{figures}: the best without a trained network is worse.")
    alone = {name: auc for name, auc in f.terms.items() if auc > f.roc_auc + ENOUGH}
    if alone:
        name, auc = max(alone.items(), key=lambda item: item[1])
        text = (
            f"Term {name} alone has ROC-AUC {auc:.3f}, the sum {f.roc_auc:.3f}. One data set is no reason to drop the "
            "others: the sum is chosen because it is good on machines that nobody has seen."
        )
        yield Finding("open", "One term is better alone", text)


def _threshold(f: Figures) -> Iterator[Finding]:
    if f.f1 is None or f.best_f1 is None or f.best_threshold is None or f.far is None or f.mar is None:
        return
    figures = (
        f"At {f.threshold:.3g} F1 is {f.f1:.3f}, with {f.far:.1%} of normal windows above it and {f.mar:.1%} of "
        f"labelled ones below. In hindsight {f.best_threshold:.3g} would have given {f.best_f1:.3f}"
    )
    if f.best_f1 - f.f1 <= _F1_LOST:
        yield Finding("good", "The threshold fits", f"{figures}: hardly more, and no label has set it.")
    elif f.best_threshold < f.threshold:
        text = f"{figures}. Wish for more false alarms a day than {f.wished_per_day:g} if missed faults cost more."
        if f.events and not f.found:
            text = f"None of {f.events} labelled events raises an alarm. {text}"
        yield Finding("bad", "The threshold is too high for these faults", text)
    else:
        text = f"{figures}. Normal rows here score higher than those it was fitted on: look at the session shift."
        yield Finding("bad", "The threshold is too low for this data", text)


def _promise(f: Figures) -> Iterator[Finding]:
    counted = (
        f"{f.false_alarms} false alarms in {f.normal_days:.3g} normal days, where {f.wished_per_day:g} a day were "
        f"wished and so {f.expected:.2g} expected"
    )
    if f.expected >= MIN_EXPECTED:
        ratio = f.false_alarms / f.expected
        if ratio > KEPT:
            text = f"{counted}: {ratio:.1f} times the wish. The threshold is too low for what was promised."
            yield Finding("bad", "More false alarms than wished", text)
        elif ratio < 1 / KEPT:
            text = f"{counted}: {ratio:.2f} times the wish. The threshold is higher than the promise needs."
            yield Finding("bad", "Fewer false alarms than wished", text)
        else:
            yield Finding("good", "The promise on false alarms is kept", f"{counted}: {ratio:.2f} times the wish.")
        return
    needed = MIN_EXPECTED / f.wished_per_day
    text = f"{counted}. It is judged from {MIN_EXPECTED:g} expected ones on: that takes {needed:.3g} normal days."
    if f.false_alarms and stats.poisson.sf(f.false_alarms - 1, f.expected) < _UNLIKELY:
        text += (
            " So many are more than luck explains all the same: normal rows here are not like those of training, or "
            "labels begin too late and end too early."
        )
    yield Finding("open", "The promise on false alarms cannot be judged", text)


def _doubts(f: Figures) -> Iterator[Finding]:
    if 0 < f.events < _FEW_EVENTS:
        text = f"Labelled events that all figures rest on: {f.events}. Another recording may give others."
        yield Finding("open", "Few events", text)
    if f.silent_views:
        text = f"View {', '.join(f.silent_views)}: no latent unit carries information, so its model is only a mean."
        yield Finding("bad", "A model that has learned nothing", text)
