"""A bundle in words and in plain numbers, for `edge-vae inspect`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from edge_vae.bundle import FOREIGN, GRAPH, PCA_VIEW, Bundle, Modes, Training
from edge_vae.explain import Explanation
from edge_vae.graph import Graph
from edge_vae.view import View

__all__ = ["document", "text"]


def document(bundle: Bundle) -> dict[str, Any]:
    """The manifest, the hash and the sizes in bytes."""
    described: dict[str, Any] = msgspec.to_builtins(bundle.manifest)
    model_bytes = sum(len(model) for model in bundle.models.values())
    return {"bytes": len(bundle.pack()), "model_bytes": model_bytes, "sha256": bundle.sha256, **described}


def text(bundle: Bundle) -> str:
    """The same for people."""
    m = bundle.manifest
    window, threshold, alarm, training = m.window, m.threshold, m.alarm, m.training
    baseline = (
        f"each session re-centred on its first {m.baseline} samples" if m.baseline else "one scaler for all sessions"
    )
    lines = [
        f"name       {m.name}, version {m.version}, made {m.created}",
        f"file       {len(bundle.pack())} bytes, sha256 {bundle.sha256}",
        *(_view(bundle, view) for view in m.views),
        *([_graph(m.graph, len(bundle.models[GRAPH]))] if m.graph else []),
        _calibrated(bundle),
        f"window     {window.length} samples every {window.stride}, {m.rate_hz:.4g} Hz, clipped at {m.clip:g} sigma",
        f"baseline   {baseline}",
        f"score      {' + '.join(term.name for term in m.score)}",
        (
            f"threshold  {threshold.value:.3f} for {threshold.false_alarms_per_day:g} false alarms a day "
            f"({threshold.kind}; {threshold.low:.3f} to {threshold.high:.3f}), "
            f"from {threshold.peaks} peaks in {threshold.observed_days:.3g} days"
        ),
        (
            f"alarm      raised by {alarm.on_delay[0]} of {alarm.on_delay[1]} windows, cleared by "
            f"{alarm.off_delay[0]} of {alarm.off_delay[1]} below {1 - alarm.deadband:.0%} of the threshold"
        ),
        _trained(training),
        *([_modes(m.modes)] if m.modes else []),
        _explanation(m.explanation),
        "channels   " + ", ".join(f"{c.name} ({c.centre:.4g} +- {c.scale:.3g})" for c in m.channels),
        "parity with the trained model:",
    ]
    verdicts = {None: "", True: "ok", False: "REFUSED"}
    lines += [f"  {r.measure:<44} {r.value:>10.5g}  {r.limit:<9} {verdicts[r.passed]}".rstrip() for r in m.parity]
    return "\n".join(lines)


def _view(bundle: Bundle, view: View) -> str:
    if view.name == PCA_VIEW:
        return f"view       {view.name}: principal components of {view.lag} consecutive samples"
    if view.model is None:
        return f"view       {view.name}: no model"
    fit = bundle.manifest.training.fits[view.name]
    size = f", {len(bundle.models[view.name])} bytes" if view.name in bundle.models else ""
    family = "made elsewhere" if fit.family == FOREIGN else fit.family
    return f"view       {view.name}: {family}, {view.model.precision}{size}: {_listed(view.model.operators)}"


def _graph(graph: Graph, size: int) -> str:
    return f"graph      window to score, {size} bytes: {_listed(graph.operators)}"


def _listed(operators: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in operators.items())


def _calibrated(bundle: Bundle) -> str:
    m = bundle.manifest
    if m.calibration:
        return f"calibrated with {m.calibration} windows"
    return "calibrated where it was made" if "int8" in m.precision else "calibrated not at all: float"


def _trained(training: Training) -> str:
    learned = f"on {training.windows} windows of {training.sessions} sessions, seed {training.seed}"
    if any(fit.family == FOREIGN for fit in training.fits.values()):
        errors = ", ".join(f"{fit.held_out_loss:.4f} ({name})" for name, fit in training.fits.items())
        return f"trained    elsewhere; scored {learned}, held-out squared error {errors} sigma^2"
    losses = ", ".join(f"{fit.held_out_loss:.4f} ({name})" for name, fit in training.fits.items())
    return f"trained    {learned}, held-out loss {losses}"


def _explanation(explanation: Explanation) -> str:
    if not explanation.hits:
        return f"explained  by {explanation.method}"
    by, seen = explanation.method, explanation.seen
    first = f"{explanation.hits[by]:.0%} of all synthetic faults"
    if by in seen:
        first = f"{seen[by]:.0%} of the synthetic faults that the score sees, {first}"
    others = "; ".join(
        f"{method} {', '.join(f'{rates[method]:.0%}' for rates in (seen, explanation.hits) if rates)}"
        for method in explanation.hits
        if method != by
    )
    return f"explained  by {by}: the faulty channel came first in {first} ({others})"


def _modes(modes: Modes) -> str:
    known = ", ".join(" ".join(f"{value:g}" for value in row) for row in modes.values)
    return f"modes      {len(modes.values)} of {', '.join(modes.columns)}: {known}"
