"""edge-vae evaluate --report: one page, of a bundle and of a run, that data cannot break."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from edge_vae.bundle import Bundle
from edge_vae.cli import run
from edge_vae_train import report
from edge_vae_train.data import Columns
from edge_vae_train.evaluation import Evaluation, evaluate
from edge_vae_train.report.figures import alone, figures
from edge_vae_train.report.insight import look
from edge_vae_train.scoring import subject

EVIL = "<script>alert('x')</script>"
SECTIONS = [
    "Verdict", "The score and the baselines", "Terms of the score", "Precision and recall", "False alarms",
    "Score over time", "Alarms explained", "Data quality", "Session shift", "Training", "Latent space",
]  # fmt: skip


class Page(HTMLParser):
    """A strict reader: every element must be closed in order; keeps texts, headings and what is referred to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.headings: list[str] = []
        self.ids: set[str] = set()
        self.references: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attributes)
        assert len(given) == len(attributes)
        self.ids |= {given["id"] or ""} if "id" in given else set()
        self.references += [given[name] or "" for name in ("href", "src", "action", "data") if name in given]
        assert not any(name.startswith("on") for name in given)
        if tag not in {"img", "meta"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if self.open[-1:] == ["h2"]:
            self.headings.append(data)


def spoiled(rig: Path, folder: Path) -> Path:
    """Three faulty recordings whose first channel has an evil name, one with a name to match."""
    folder.mkdir()
    for i, name in enumerate(("leak.csv", "clogged-filter.csv", "imbalance.csv")):
        frame = pd.read_csv(rig / "faulty" / name)
        if not i:
            frame.loc[100:109, "speed_rpm"] = np.nan
        frame.rename(columns={"current_a": EVIL}).to_csv(folder / f"<b>{name}", index=False)
    return folder


@pytest.fixture(scope="module")
def data(rig: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spoiled(rig, tmp_path_factory.mktemp("spoiled") / "data")


@pytest.fixture(scope="module")
def evaluated(bundle_path: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """A bundle with an evil channel."""
    bundle = Bundle.read(bundle_path)
    channels = tuple(
        msgspec.structs.replace(c, name=EVIL) if c.name == "current_a" else c for c in bundle.manifest.channels
    )
    path = tmp_path_factory.mktemp("bundle") / "evil.evb"
    manifest = msgspec.structs.replace(bundle.manifest, channels=channels)
    Bundle(manifest, bundle.models, bundle.golden, bundle.reference).write(path)
    return evaluate(subject(path), [data], Columns(label="anomaly"), stride=None)


@pytest.fixture(scope="module")
def of_bundle(evaluated: Evaluation) -> str:
    return report.build(evaluated)


@pytest.fixture(scope="module")
def of_run(run_folder: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run with an evil channel."""
    folder = tmp_path_factory.mktemp("run") / "evil"
    shutil.copytree(run_folder, folder)
    record = (folder / "run.json").read_text()
    (folder / "run.json").write_text(record.replace('"current_a"', f'"{EVIL}"'))
    return report.build(evaluate(subject(folder), [data], Columns(label="anomaly"), stride=None))


def check_whole(html: str) -> Page:
    page = Page(html)
    assert html.startswith("<!doctype html>\n<html")
    assert page.headings == SECTIONS
    assert {"script", "link", "iframe", "object", "b-"}.isdisjoint(page.tags)
    assert "<script" not in html
    assert EVIL in page.text
    assert "<b>leak.csv" in page.text
    assert all(r.startswith(("#", "data:image/png;base64,")) for r in page.references)
    assert {r[1:] for r in page.references if r.startswith("#")} <= page.ids
    assert not re.search(r"https?:|url\(|@import|//[a-z]", re.sub(r"base64,[^\"]*", "", html))
    return page


def test_a_page_of_a_bundle_is_whole_and_says_what_a_bundle_cannot_show(of_bundle: str) -> None:
    text = check_whole(of_bundle).text
    assert "A bundle carries no training curves" in text
    assert "A bundle does not carry the shift between the sessions of its training." in text
    assert "cannot be shown for a bundle" in text
    assert "Traversals" not in text


@pytest.mark.keras
def test_a_page_of_a_run_shows_curves_shift_and_traversals_too(of_run: str) -> None:
    page = check_whole(of_run)
    assert "img" in page.tags
    assert "Sessions of training" in page.text
    assert "Traversals, view window" in page.text
    assert "Traversals, view features" in page.text
    assert "the faulty channel came first: share" in page.text
    assert "bundle" not in page.text.lower()


def test_figures_on_the_page_are_those_of_the_evaluation(evaluated: Evaluation, of_bundle: str) -> None:
    text = Page(of_bundle).text
    for row in evaluated.rows:
        assert f"{row.method}{row.metrics.roc_auc:.3f}{row.metrics.average_precision:.3f}" in text
    for term in alone(evaluated):
        assert f"{term.name}{term.roc_auc:.3f}{term.average_precision:.3f}" in text
    assert "of them removed for a missing reading10" in text
    assert f"Counted here{evaluated.rows[0].metrics.false_alarms}" in text
    assert "not judged" in text


def test_terms_alone_and_the_best_threshold_are_what_they_say(evaluated: Evaluation) -> None:
    terms = alone(evaluated)
    found = figures(evaluated, terms)
    by_name = {term.name: term for term in terms}
    labels = np.concatenate([s.window_labels for s in evaluated.rows[0].sessions])
    said = np.concatenate([scored.terms for scored in evaluated.scored])
    assert [term.name for term in terms] == [term.name for term in evaluated.subject.detector.manifest.score]
    assert by_name["features.level"].roc_auc == pytest.approx(roc_auc_score(labels, said[:, 2]))
    assert sum(term.part for term in terms) == pytest.approx(1.0)
    assert set(found.simple) == {
        "mean|z|", "PCA T2 + Q", "PCA of lag vectors (term pca)",
        "distance of the features (term features.mahalanobis)", "distance of the levels (term features.level)",
    }  # fmt: skip
    assert set(found.terms) == {"window.max", "features.nll"}
    above = np.concatenate([s.score for s in evaluated.rows[0].sessions]) >= found.best_threshold
    assert found.best_f1 == pytest.approx(2 * (above & labels).sum() / (above.sum() + labels.sum()))
    assert found.f1 is not None
    assert found.best_f1 is not None
    assert found.best_f1 >= found.f1


def test_an_alarm_is_explained_in_sensor_units(evaluated: Evaluation) -> None:
    insight = look(evaluated, None)
    assert insight.all_alarms == len(insight.alarms) > 0
    recording = {session.name: session for session in evaluated.recording.sessions}
    for alarm in insight.alarms:
        rows = recording[alarm.session].values[alarm.row - 31 : alarm.row + 1]
        np.testing.assert_allclose(alarm.values, rows.mean(axis=0))
        assert alarm.shares.sum() == pytest.approx(1.0)
        centre = evaluated.subject.detector.manifest.scaler.centre
        assert (np.abs(alarm.expected / centre - 1.0) < 0.5).all()


def test_what_the_second_pass_saw_is_of_the_same_windows(evaluated: Evaluation) -> None:
    insight = look(evaluated, None)
    windows = evaluated.rows[0].metrics.windows
    assert set(insight.means) == {"window", "features"}
    assert {len(means) for means in insight.means.values()} == {windows}
    assert len(insight.labels) == len(insight.conditions) == sum(map(len, insight.last)) == windows


def test_the_command_writes_the_page_and_says_where(
    bundle_path: Path, rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_csv(rig / "faulty" / "leak.csv").assign(anomaly=0)
    frame.to_csv(tmp_path / "healthy.csv", index=False)
    frame[:10].to_csv(tmp_path / "short.csv", index=False)
    page = tmp_path / "new" / "page.html"
    files = [str(tmp_path / name) for name in ("healthy.csv", "short.csv")]
    options = ["--label", "anomaly", "-o", str(tmp_path), "--report", str(page)]
    assert run(["evaluate", str(bundle_path), *files, *options]) == 0
    assert f"report: {page}" in capsys.readouterr().err.splitlines()
    text = Page(page.read_text(encoding="utf-8")).text
    assert "The ranking cannot be judged" in text
    assert "No curve: all scored windows are of one class." in text
    assert "of them too short to be scored1" in text


def test_sessions_beyond_some_tens_are_counted(evaluated: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_vae_train.report import sections

    monkeypatch.setattr(sections, "MAX_SESSIONS", 1)
    assert "2 further sessions are counted in all figures and not drawn." in Page(sections.scores(evaluated)).text
