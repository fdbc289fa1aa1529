"""The part of the report on latent spaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edge_vae.bundle import Manifest
from edge_vae.features import feature_names
from edge_vae_train.report.chart import Chart, legend, spark
from edge_vae_train.report.insight import Insight
from edge_vae_train.report.latent import LEVELS, Latent, Traversal, answer, latent, traverse
from edge_vae_train.report.markup import Html, element, join, paragraph, table
from edge_vae_train.run_folder import Run

__all__ = ["latent_spaces"]

_MAX_UNITS = 12
_MAX_CHANNELS = 8
_MAX_DOTS = 1500
_BINS = 30


@dataclass(frozen=True, slots=True)
class _Named:
    """A view's latent space with what is needed to tell of it."""

    view: str
    found: Latent
    traversal: Traversal | None
    manifest: Manifest


def latent_spaces(manifest: Manifest, insight: Insight, run: Run | None) -> Html:
    """For each view with a model: active units, how they move together, normal against labelled, traversals."""
    spaces = [_named(view, insight, manifest, run) for view in insight.means]
    if not spaces:
        return paragraph("No view of this score has a latent space.")
    return join(piece for space in spaces for piece in _space(space, is_run=run is not None))


def _named(view: str, insight: Insight, manifest: Manifest, run: Run | None) -> _Named:
    found = latent(insight.means[view], insight.labels)
    if run is None or not found.active:
        return _Named(view, found, None, manifest)
    conditions, counts = np.unique(insight.conditions, axis=0, return_counts=True)
    decoder = run.graph(view).get_layer("decoder")
    return _Named(view, found, traverse(found, decoder, conditions[counts.argmax()]), manifest)


def _space(space: _Named, *, is_run: bool) -> list[Html]:
    found, fits = space.found, space.manifest.training.fits
    trained: Mapping[str, int] = {name: fit.active_units for name, fit in fits.items()}
    units = found.means.shape[1]
    active = (
        f"{len(found.active)} of {units} units are active on the normal windows here "
        f"({trained[space.view]} were on those held out in training)."
    )
    parts = [element("h3", f"View {space.view}"), paragraph(active)]
    if not found.active:
        return [*parts, paragraph("Nothing passes through this latent space: its model gives a mean.")]
    parts += [paragraph(answer(found, space.traversal, space.manifest.channel_names)), _table(space)]
    if len(found.active) > 1:
        parts.append(_correlation(found))
    parts.append(_distributions(found))
    if space.traversal is not None:
        parts.append(_traversals(space, space.traversal))
    elif not is_run:
        text = (
            "What each unit does to a window cannot be shown for a bundle: it holds one graph from window to scores' "
            "inputs, and no decoder that could be given a latent of one's own. Evaluate the run folder to see it."
        )
        parts.append(paragraph(text, class_="soft"))
    return parts


def _table(space: _Named) -> Html:
    found, names = space.found, space.manifest.channel_names
    rows = []
    for i, unit in enumerate(found.active[:_MAX_UNITS]):
        parting = "-" if np.isnan(found.parting[i]) else f"{found.parting[i]:.2f}"
        row = [f"unit\u00a0{unit + 1}", f"{found.variance[unit]:.2f}", parting]
        if space.traversal is not None:
            shares = space.traversal.shares[i]
            row.append(", ".join(f"{names[c]} {shares[c]:.0%}" for c in np.argsort(-shares)[:2]))
        rows.append(row)
    moves = ("Moves above all",) if space.traversal is not None else ()
    return table(("Unit", "Variance of its mean", "Parts labelled from normal (ROC-AUC)", *moves), rows)


def _correlation(found: Latent) -> Html:
    units = found.active[:_MAX_UNITS]
    head = element("tr", element("th", "r"), *(element("th", f"{unit + 1}", scope="col") for unit in units))
    rows = [
        element(
            "tr",
            element("th", f"unit\u00a0{unit + 1}", scope="row"),
            *(_heat(float(found.correlation[i, j])) for j in range(len(units))),
        )
        for i, unit in enumerate(units)
    ]
    inner = element("table", element("thead", head), element("tbody", *rows))
    text = paragraph("Correlation of the units' posterior means on normal windows:", class_="soft")
    return join([text, element("div", inner, class_="scroll")])


def _heat(r: float) -> Html:
    colour = "var(--a)" if r < 0 else "var(--b)"
    style = f"background:color-mix(in srgb, {colour} {abs(r) * 70:.0f}%, transparent)"
    return element("td", f"{r:.2f}", class_="heat", style=style)


def _distributions(found: Latent) -> Html:
    both = bool(found.labels.any())
    keys = legend(("a", "normal windows"), *([("b", "labelled windows")] if both else []))
    charts = [_histogram(found, unit) for unit in found.active[:_MAX_UNITS]]
    parts = [keys, element("div", *charts, class_="grid")]
    if len(found.active) > 1:
        parts.append(_scatter(found))
    return join(parts)


def _histogram(found: Latent, unit: int) -> Html:
    values = found.means[:, unit]
    low, high = np.quantile(values, (0.002, 0.998))
    edges = np.linspace(low, max(high, low + 1e-6), _BINS + 1)
    groups = [(values[~found.labels], "a"), (values[found.labels], "b")]
    shares = [
        (np.histogram(np.clip(group, edges[0], edges[-1]), edges)[0] / len(group), kind)
        for group, kind in groups
        if len(group)
    ]
    top = max(float(share.max()) for share, _ in shares)
    chart = Chart((low, edges[-1]), (0, top), x_label=f"unit\u00a0{unit + 1}", y_label="share", size="low")
    for share, kind in shares:
        chart.bars(edges, share, kind)
    return chart.html()


def _scatter(found: Latent) -> Html:
    """The two units that part labelled windows best, or vary most where nothing is labelled."""
    order = np.argsort(-np.nan_to_num(found.parting, nan=0.0), kind="stable")[:2]
    one, other = (found.active[int(i)] for i in order)
    at = np.unique(np.linspace(0, len(found.means) - 1, _MAX_DOTS).astype(np.intp))
    x, y, labels = found.means[at, one], found.means[at, other], found.labels[at]
    limits = [(float(v.min()), float(v.max())) for v in (found.means[:, one], found.means[:, other])]
    chart = Chart(limits[0], limits[1], x_label=f"unit {one + 1}", y_label=f"unit {other + 1}")
    for chosen, kind in ((~labels, "a"), (labels, "b")):
        if chosen.any():
            chart.dots(x[chosen], y[chosen], kind)
    which = "part labelled windows best" if found.labels.any() else "vary most"
    return chart.html(f"Posterior means of the two units that {which}")


def _traversals(space: _Named, traversal: Traversal) -> Html:
    names, found = space.manifest.channel_names, space.found
    order = np.argsort(-traversal.windows.var(axis=1).mean(axis=(0, 1)), kind="stable")[:_MAX_CHANNELS]
    channels = sorted(int(c) for c in order)
    limits = [(float(traversal.windows[..., c].min()), float(traversal.windows[..., c].max())) for c in channels]
    rows = [
        [
            f"unit\u00a0{unit + 1}",
            *(
                spark(traversal.windows[i, :, :, c], limit, label=f"unit {unit + 1}, {names[c]}")
                for c, limit in zip(channels, limits, strict=True)
            ),
        ]
        for i, unit in enumerate(found.active[:_MAX_UNITS])
    ]
    is_features = next(view.input == "features" for view in space.manifest.views if view.name == space.view)
    length = space.manifest.window.length
    what = f"the features {', '.join(feature_names(length))}" if is_features else f"the {length} samples of the window"
    text = (
        f"Each active unit is moved from {LEVELS[0]:g} to {LEVELS[-1]:g} of its standard deviations, the others stay "
        f"at their mean, and the decoder answers. From left to right in a cell: {what}; each column has one scale."
    )
    hidden = len(names) - len(channels)
    text += f" The {hidden} channels that move least are left out." if hidden else ""
    keys = legend(("s0", f"{LEVELS[0]:g}"), ("s2", "mean"), ("s4", f"+{LEVELS[-1]:g}"))
    return join([
        element("h3", f"Traversals, view {space.view}"), paragraph(text, class_="soft"), keys,
        table(("Unit", *(names[c] for c in channels)), rows, kind="sparks"),
    ])  # fmt: skip
