"""The parts of the report on data, training, ranking, score and alarms."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence

import numpy as np
from sklearn.metrics import precision_recall_curve

from edge_vae.bundle import Channel
from edge_vae.sample import FloatArray
from edge_vae_train import shift
from edge_vae_train.evaluation import Evaluation
from edge_vae_train.metrics import alarm_states
from edge_vae_train.plots import LOSS_PICTURE
from edge_vae_train.report.chart import Chart, legend, thinned
from edge_vae_train.report.figures import Alone, labels_of, scores_of
from edge_vae_train.report.insight import Insight
from edge_vae_train.report.markup import Html, bar, bullets, element, join, paragraph, table
from edge_vae_train.report.verdict import MIN_EXPECTED, Figures, Finding
from edge_vae_train.run_folder import Run
from edge_vae_train.vus import runs

__all__ = [
    "alarms",
    "curves",
    "data_quality",
    "false_alarms",
    "findings",
    "methods",
    "scores",
    "session_shift",
    "terms",
    "training",
]

MAX_SESSIONS = 40
MAX_NOTES = 30
_TOP_CHANNELS = 3
_KINDS = ("a strong", "b", "c", "d")
_CONSTANT_SPREAD = 1e-9
_WORDS = {"good": "good", "bad": "look here", "open": "open"}


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def findings(found: Iterable[Finding]) -> Html:
    """The verdict."""
    boxes = (
        element(
            "div", element("em", _WORDS[one.kind]), element("strong", one.title), paragraph(one.text),
            class_=f"finding {one.kind}",
        )
        for one in found
    )  # fmt: skip
    return element("div", *boxes, class_="findings")


def data_quality(evaluation: Evaluation, run: Run | None) -> Html:
    """Sessions, rows, what was removed, notes, channels."""
    recording, metrics = evaluation.recording, evaluation.rows[0].metrics
    values = np.concatenate([session.values for session in recording.sessions])
    missing = int((~np.isfinite(values).all(axis=1)).sum())
    labelled = sum(int(s.labels.sum()) for s in recording.sessions if s.labels is not None)
    segments = sum(int(scored.after_break.sum()) for scored in evaluation.scored)
    unscored = sum(not len(scored.rows) for scored in evaluation.scored)
    counts = [
        ("Sessions", f"{len(recording.sessions)}"),
        ("of them too short to be scored", f"{unscored}"),
        ("Segments (stretches without a gap)", f"{segments}"),
        ("Rows", f"{len(values)}"),
        ("of them removed for a missing reading", f"{missing}"),
        ("of them labelled anomalous", f"{labelled}"),
        ("Windows scored", f"{metrics.windows}"),
        ("Rate", f"{recording.rate_hz:.4g} Hz"),
    ]
    parts = [table(("What", "Here"), counts), element("h3", "Channels"), _channels(evaluation)]
    parts += [element("h3", "Notes on this data"), _notes(evaluation.notes)]
    if run is not None:
        parts += [element("h3", "Notes from training"), _notes(run.record.notes)]
    else:
        parts.append(paragraph("A bundle does not carry the notes of its training.", class_="soft"))
    return join(parts)


def _notes(notes: Sequence[str]) -> Html:
    return bullets(notes, most=MAX_NOTES) if notes else paragraph("None.")


def _channels(evaluation: Evaluation) -> Html:
    sessions = evaluation.recording.sessions
    pooled = np.concatenate([session.values for session in sessions])
    rows = []
    for i, channel in enumerate(evaluation.subject.detector.manifest.channels):
        column = pooled[:, i]
        usable = column[np.isfinite(column)]
        low, middle, high = np.quantile(usable, (0, 0.5, 1)) if len(usable) else (np.nan,) * 3
        flat = sum(_constant(session.values[:, i]) for session in sessions)
        rows.append((
            channel.name, f"{channel.centre:.4g} ± {channel.scale:.3g}", f"{low:.4g}", f"{middle:.4g}", f"{high:.4g}",
            f"{len(column) - len(usable)}", "yes" if _was_constant(channel) else "no", f"{flat} of {len(sessions)}",
        ))  # fmt: skip
    titles = ("Channel", "Normal in training", "Lowest", "Median", "Highest", "Missing", "Constant in training",
              "Constant here")  # fmt: skip
    return table(titles, rows)


def _constant(values: FloatArray) -> bool:
    usable = values[np.isfinite(values)]
    return len(usable) > 0 and float(np.ptp(usable)) <= _CONSTANT_SPREAD * max(1.0, float(np.abs(usable).max()))


def _was_constant(channel: Channel) -> bool:
    """Whether training found no spread in it, and so gave it the floor: see `prepare`."""
    return bool(np.isclose(channel.scale, max(abs(channel.centre), 1.0) * 1e-3, rtol=1e-5))


def session_shift(evaluation: Evaluation, insight: Insight, run: Run | None) -> Html:
    """How far sessions lie apart: those of training, and the normal parts of these."""
    manifest = evaluation.subject.detector.manifest
    parts: list[Html] = []
    if run is None:
        parts.append(
            paragraph("A bundle does not carry the shift between the sessions of its training.", class_="soft")
        )
    else:
        trained = shift.Shift(run.record.shift, run.record.training.sessions)
        parts += [element("h3", "Sessions of training"), *_shift(trained, manifest.baseline)]
    normal = [
        last[~session.window_labels] for last, session in zip(insight.last, evaluation.rows[0].sessions, strict=True)
    ]
    normal = [rows for rows in normal if len(rows)]
    if normal:
        here = shift.measure(normal, manifest.channel_names)
        parts += [element("h3", "Normal parts of this data"), *_shift(here, manifest.baseline)]
    return join(parts)


def _shift(found: shift.Shift, baseline: int) -> list[Html]:
    most = max([shift.NOTABLE_SHIFT, *found.ratios.values()])
    rows = [
        (name, bar(ratio / most, f"{ratio:.2f}", kind="warn" if ratio > shift.NOTABLE_SHIFT else ""))
        for name, ratio in sorted(found.ratios.items(), key=lambda item: -item[1])
    ]
    advice = found.advice(baseline=baseline)
    titles = ("Channel", "Spread of session levels, over the spread within one")
    return [paragraph(advice[0].upper() + advice[1:] + "."), table(titles, rows)]


def training(evaluation: Evaluation, run: Run | None) -> Html:
    """How each view's model was trained, and the losses of its epochs."""
    summary = evaluation.subject.detector.manifest.training
    rows = [
        (name, fit.family, f"{fit.epochs}", _number(fit.loss), _number(fit.held_out_loss),
         f"{fit.active_units} of {fit.latent}", f"{fit.beta:g}", f"{fit.retries}")
        for name, fit in summary.fits.items()
    ]  # fmt: skip
    titles = ("View", "Family", "Epochs", "Loss kept", "Held out", "Active units", "Beta", "Retries")
    counts = (
        f"{summary.windows} windows of {summary.sessions} normal sessions ({summary.samples} rows), "
        f"{summary.held_out_windows} windows held out, seed {summary.seed}. Losses are negative ELBOs in nats a sample "
        "and channel."
    )
    parts = [paragraph(counts), table(titles, rows) if rows else paragraph("No view has a trained model.")]
    picture = None if run is None else run.folder / LOSS_PICTURE
    if picture is not None and picture.is_file():
        data = base64.b64encode(picture.read_bytes()).decode("ascii")
        text = "Training and held-out loss of each epoch, for each view"
        image = element("img", src=f"data:image/png;base64,{data}", alt=text, class_="picture")
        parts.append(element("div", image, class_="scroll"))
    elif run is None:
        parts.append(
            paragraph("A bundle carries no training curves; evaluate the run folder to see them.", class_="soft")
        )
    else:
        parts.append(
            paragraph("No curves: no model was trained in epochs, or the run's picture is gone.", class_="soft")
        )
    return join(parts)


def methods(evaluation: Evaluation) -> Html:
    """The model and the baselines on the same windows."""
    rows = []
    for row in evaluation.rows:
        m = row.metrics
        delay = "-" if m.mean_delay_s is None else f"{m.mean_delay_s:.0f} s"
        rows.append((
            row.method, _number(m.roc_auc), _number(m.average_precision), _number(m.vus_pr), _number(m.f1),
            _percent(m.far), _percent(m.mar), _percent(m.event_recall), delay, _number(m.false_alarms_per_day, 1),
        ))  # fmt: skip
    titles = ("Method", "ROC-AUC", "AP", "VUS-PR", "F1", "FAR", "MAR", "Events found", "Delay", "False alarms a day")
    wished = evaluation.subject.detector.manifest.threshold.false_alarms_per_day
    text = (
        f"Every threshold is fitted on held-out normal data for {wished:g} false alarms a day, never on these labels. "
        "FAR is the share of normal windows above the threshold, MAR that of labelled ones below."
    )
    return join([table(titles, rows, emphasised=0), paragraph(text, class_="soft")])


def terms(found: Sequence[Alone]) -> Html:
    """What each term of the score ranks by itself."""
    rows = [
        (one.name, _number(one.roc_auc), _number(one.average_precision), bar(one.part, f"{one.part:.0%}"))
        for one in found
    ]
    titles = ("Term", "ROC-AUC alone", "AP alone", "Part in the score of labelled windows")
    return table(titles, rows)


def curves(evaluation: Evaluation) -> Html:
    """Precision over recall of the model and the baselines."""
    labels = labels_of(evaluation.rows[0])
    if not labels.any() or labels.all():
        return paragraph("No curve: all scored windows are of one class.")
    chart = Chart((0, 1), (0, 1), x_label="recall", y_label="precision")
    chart.level(float(labels.mean()), "soft")
    for kind, row in reversed(list(zip(_KINDS, evaluation.rows, strict=False))):
        precision, recall, _ = precision_recall_curve(labels, scores_of(row))
        chart.line(*thinned(recall[::-1], precision[::-1]), kind)
    first = evaluation.rows[0].metrics
    if first.precision is not None and first.recall is not None:
        chart.dots(np.array([first.recall]), np.array([first.precision]), "ink point")
    entries = [
        (kind.split()[0], f"{row.method} (AP {_number(row.metrics.average_precision)})")
        for kind, row in zip(_KINDS, evaluation.rows, strict=False)
    ]
    return join([legend(*entries, ("ink", "at the threshold"), ("soft", "a coin")), chart.html()])


def scores(evaluation: Evaluation) -> Html:
    """Score, threshold, labels and alarms of every session."""
    row = evaluation.rows[0]
    rules = evaluation.subject.detector.manifest.alarm
    keys = legend(("a", "score"), ("limit", "threshold"), ("label", "labelled anomalous"), ("alarm", "alarm"))
    parts = [keys]
    shown = [(name, s) for name, s in zip(evaluation.names, row.sessions, strict=True) if len(s.rows)]
    for name, session in shown[:MAX_SESSIONS]:
        states = alarm_states(session, threshold=row.threshold, rules=rules)
        top = 1.1 * max(2.0 * row.threshold, float(np.quantile(session.score, 0.99)))
        rows = session.rows.astype(np.float64)
        chart = Chart((0.0, float(len(session.labels) - 1)), (0, top), x_label="row", y_label="score", size="low")
        for first, stop in runs(session.labels).tolist():
            chart.band(first, stop, "label")
        for first, stop in runs(states).tolist():
            chart.band(rows[first], rows[min(stop, len(rows) - 1)], "alarm", height=0.06)
        chart.line(*thinned(rows, session.score), "a")
        chart.level(row.threshold, "limit")
        parts.append(chart.html(f"{name}: {len(runs(states))} alarms"))
    hidden = len(shown) - MAX_SESSIONS
    if hidden > 0:
        parts.append(paragraph(f"{hidden} further sessions are counted in all figures and not drawn."))
    return join(parts)


def alarms(evaluation: Evaluation, insight: Insight) -> Html:
    """How alarms are explained, and the channels that come first in each."""
    explanation = insight.explanation
    names = evaluation.subject.detector.manifest.channel_names
    ways = {
        "share": "each channel's part in the score",
        "surprise": "how unlikely normal data is to have the channel's part in each term of the score",
        "imputation": "how far the score falls when a channel is replaced by what the model expects of it",
    }
    text = f"Alarms are explained by {explanation.method}: {ways[explanation.method]}."
    if explanation.hits:
        tried = ", ".join(f"{method} {hit:.0%}" for method, hit in explanation.hits.items())
        text += f" On synthetic faults of one channel (2 to 4 sigmas) the faulty channel came first: {tried}."
        seen = ", ".join(f"{method} {hit:.0%}" for method, hit in explanation.seen.items())
        text += f" Of those that the score sees: {seen}." if seen else ""
    else:
        text += " How often it names the right channel was not measured: there is one channel, or no model."
    if not insight.alarms:
        return join([paragraph(text), paragraph("No alarm was raised on this data.")])
    rows = []
    for alarm in insight.alarms:
        first = np.argsort(-alarm.shares, kind="stable")[:_TOP_CHANNELS]
        named = (
            f"{names[i]} {alarm.values[i]:.4g} where {alarm.expected[i]:.4g} was expected ({alarm.shares[i]:.0%})"
            for i in first
            if alarm.shares[i] > 0.01 or i == first[0]
        )
        label = "in a label" if alarm.labelled else "no label"
        rows.append((alarm.session, f"{alarm.row}", f"{alarm.score:.2f}", label, "; ".join(named)))
    titles = ("Session", "Row", "Score", "Label", "Channels, first the one that matters most (sensor units)")
    hidden = insight.all_alarms - len(insight.alarms)
    more = [paragraph(f"{hidden} further alarms are counted and not listed.")] if hidden else []
    return join([paragraph(text), table(titles, rows, kind="words"), *more])


def false_alarms(figures: Figures) -> Html:
    """Wished and achieved, and whether that can be judged."""
    achieved = figures.false_alarms / figures.normal_days if figures.normal_days else None
    judged = figures.expected >= MIN_EXPECTED
    ratio = f"{figures.false_alarms / figures.expected:.2f}" if judged else "not judged"
    rows = [
        ("Wished a day", f"{figures.wished_per_day:g}"),
        ("Achieved a day", _number(achieved, 2)),
        ("Normal days here", f"{figures.normal_days:.3g}"),
        ("Expected here", f"{figures.expected:.3g}"),
        ("Counted here", f"{figures.false_alarms}"),
        ("Achieved over wished", ratio),
    ]
    text = (
        f"A promise is judged where at least {MIN_EXPECTED:g} false alarms are expected: fewer are a matter of luck. "
        "Normal days are those of windows without a labelled row."
    )
    return join([table(("False alarms", "Value"), rows), paragraph(text, class_="soft")])
