"""A bundle in words and in plain numbers, for `edge-vae inspect`."""

from __future__ import annotations

from typing import Any

import msgspec

from edge_vae.bundle import Bundle

__all__ = ["document", "text"]


def document(bundle: Bundle) -> dict[str, Any]:
    """The manifest, the hash and the sizes in bytes."""
    described: dict[str, Any] = msgspec.to_builtins(bundle.manifest)
    return {"bytes": len(bundle.pack()), "model_bytes": len(bundle.model), "sha256": bundle.sha256, **described}


def text(bundle: Bundle) -> str:
    """The same for people."""
    m = bundle.manifest
    model, window, threshold, alarm, training = m.models[0], m.window, m.threshold, m.alarm, m.training
    operators = ", ".join(f"{count} {name}" for name, count in model.operators.items())
    baseline = (
        f"each session re-centred on its first {m.baseline} samples" if m.baseline else "one scaler for all sessions"
    )
    lines = [
        f"name       {m.name}, version {m.version}, made {m.created}",
        f"file       {len(bundle.pack())} bytes, sha256 {bundle.sha256}",
        f"model      {training.family}, {model.precision}, {len(bundle.model)} bytes: {operators}",
        f"calibrated with {m.calibration} windows" if m.calibration else "calibrated not at all: float",
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
        (
            f"trained    on {training.windows} windows of {training.sessions} sessions, seed {training.seed}, "
            f"held-out loss {training.held_out_loss:.4f}"
        ),
        "channels   " + ", ".join(f"{c.name} ({c.centre:.4g} +- {c.scale:.3g})" for c in m.channels),
        "parity with the trained model:",
    ]
    verdicts = {None: "", True: "ok", False: "REFUSED"}
    lines += [f"  {r.measure:<44} {r.value:>10.5g}  {r.limit:<9} {verdicts[r.passed]}".rstrip() for r in m.parity]
    return "\n".join(lines)
