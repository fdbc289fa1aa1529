"""The whole page: its sections in the order in which an engineer asks."""

from __future__ import annotations

from pathlib import Path

from edge_vae_train.evaluation import Evaluation
from edge_vae_train.report import sections
from edge_vae_train.report.figures import alone, figures
from edge_vae_train.report.insight import look, run_of
from edge_vae_train.report.markup import Html, element, join, paragraph
from edge_vae_train.report.style import CSS
from edge_vae_train.report.units import latent_spaces
from edge_vae_train.report.verdict import verdict

__all__ = ["build", "write"]


def write(evaluation: Evaluation, file: Path) -> Path:
    """The report of an evaluation as one HTML file without anything outside it; the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(build(evaluation), encoding="utf-8")
    return file


def build(evaluation: Evaluation) -> str:
    """The page.

    Raises:
        DataError: The run folder that was evaluated has since been damaged.
    """
    run = run_of(evaluation)
    insight = look(evaluation, run)
    manifest = evaluation.subject.detector.manifest
    each = alone(evaluation)
    found = figures(evaluation, each)
    parts = {
        "Verdict": sections.findings(verdict(found)),
        "The score and the baselines": sections.methods(evaluation),
        "Terms of the score": sections.terms(each),
        "Precision and recall": sections.curves(evaluation),
        "False alarms": sections.false_alarms(found),
        "Score over time": sections.scores(evaluation),
        "Alarms explained": sections.alarms(evaluation, insight),
        "Data quality": sections.data_quality(evaluation, run),
        "Session shift": sections.session_shift(evaluation, insight, run),
        "Training": sections.training(evaluation, run),
        "Latent space": latent_spaces(manifest, insight, run),
    }
    return _document(f"{manifest.name}: evaluation", _head(evaluation), parts)


def _head(evaluation: Evaluation) -> Html:
    manifest, metrics = evaluation.subject.detector.manifest, evaluation.rows[0].metrics
    share = "" if metrics.positive_share is None else f", {metrics.positive_share:.1%} of them labelled"
    text = (
        f"{evaluation.subject.name} ({evaluation.subject.kind}), made {manifest.created}. "
        f"{metrics.windows} windows of {len(evaluation.names)} sessions{share}; labelled events: {metrics.events}. "
        f"Windows of {manifest.window.length} samples every {evaluation.stride}. A higher score is more anomalous."
    )
    return paragraph(text, class_="soft")


def _document(title: str, head: Html, parts: dict[str, Html]) -> str:
    links = (element("a", name, href=f"#{_anchor(name)}") for name in parts)
    body = [element("h1", title), head, element("nav", *links)]
    body += [element("section", element("h2", name), part, id=_anchor(name)) for name, part in parts.items()]
    # What stands in a style element is not escaped; nothing of it comes from data.
    top = [
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(CSS)),
    ]
    html = element("html", element("head", *top), element("body", element("main", *body)), lang="en")
    return "<!doctype html>\n" + join([html]) + "\n"


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")
