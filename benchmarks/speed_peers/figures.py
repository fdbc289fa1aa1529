"""What the turns of all peers say together: rows, ratios within each turn, and how they stand to what is wished."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["BATCHES", "INVOKE", "PATH", "Row", "Times", "Wish", "agreement", "ratio", "rows", "wishes"]

PATH, DEFAULT, INVOKE = "our path, VAE of the window", "our path, default score", "bare invoke, int8"
INVOKE_FLOAT, BATCHES = "bare invoke, float32", "bare invoke, int8, 32 at once"
PATH_TWO, DEFAULT_TWO = "our bulk on two cores, VAE of the window", "our bulk on two cores, default score"


@dataclass
class Times:
    """What was measured of one row, turn by turn.

    Attributes:
        one: Median, 99th percentile and mean of one window, in microseconds.
        bulk: Windows a second.
        start: `import_s`, `load_s`, `peak_mib`, `installed_mib`, as far as known.
        agreement: Rank correlation of its scores with those of our path; None where another model scores.
        reason: Why there is nothing.
    """

    one: list[tuple[float, float, float]] = field(default_factory=list)
    bulk: list[float] = field(default_factory=list)
    start: dict[str, float] = field(default_factory=dict)
    agreement: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Row:
    """A line of the table; what does not apply, or could not be measured, is None, and `reason` says why."""

    name: str
    p50_us: float | None
    p99_us: float | None
    per_second: float | None
    bulk_per_second: float | None
    peak_mib: float | None
    import_s: float | None
    load_s: float | None
    installed_mib: float | None
    per_invoke: float | None
    per_path: float | None
    agreement: float | None
    reason: str


@dataclass(frozen=True)
class Wish:
    """A ratio, and what it should be at most or at least; None where one of its parts was not measured."""

    what: str
    ratio: float | None
    limit: str
    met: bool | None


def agreement(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation (Spearman) of the scores of the same windows."""
    first, second = (np.argsort(np.argsort(scores)) for scores in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


def ratio(above: Sequence[float], below: Sequence[float]) -> float | None:
    """Median over the turns of the quotient within a turn; None where one side has none."""
    quotients = [a / b for a, b in zip(above, below, strict=False)]
    return statistics.median(quotients) if quotients else None


def _p50(times: Times | None) -> list[float]:
    return [p50 for p50, _, _ in times.one] if times else []


def _bulk(times: Times | None) -> list[float]:
    return times.bulk if times else []


def rows(measured: Mapping[str, Times]) -> list[Row]:
    """The lines of the table, in the order of what was measured."""
    return [_row(name, times, measured) for name, times in measured.items()]


def _row(name: str, times: Times, measured: Mapping[str, Times]) -> Row:
    def middle(column: Sequence[float]) -> float | None:
        return statistics.median(column) if column else None

    p50, p99, mean = (middle(column) for column in zip(*times.one, strict=True)) if times.one else (None, None, None)
    return Row(
        name=name, p50_us=p50, p99_us=p99, per_second=1e6 / mean if mean else None,
        bulk_per_second=middle(times.bulk), peak_mib=times.start.get("peak_mib"),
        import_s=times.start.get("import_s"), load_s=times.start.get("load_s"),
        installed_mib=times.start.get("installed_mib"), per_invoke=ratio(_p50(times), _p50(measured.get(INVOKE))),
        per_path=ratio(_p50(times), _p50(measured.get(PATH))), agreement=times.agreement, reason=times.reason,
    )  # fmt: skip


def wishes(measured: Mapping[str, Times], *, floor_us: float | None) -> list[Wish]:
    """The ratios of one run beside what they should be; `floor_us` is what an invoke takes at the core's ceiling."""
    one, bulk = (
        {name: column(times) for name, times in measured.items()} for column in (_p50, _bulk)
    )  # fmt: skip
    # The faster of both ways to run bare invokes in bulk, turn by turn.
    bare = [max(pair) for pair in zip(bulk.get(BATCHES, []), bulk.get(INVOKE, []), strict=False)]
    invoke, path = one.get(INVOKE, []), one.get(PATH, [])
    return [
        _at_most("our path, VAE of the window / bare invoke", ratio(path, invoke), 1.3),
        _at_most("our path, default score / the same invoke", ratio(one.get(DEFAULT, []), invoke), 2.5),
        _at_most(
            "bare invoke / what it takes at the ceiling",
            ratio(invoke, [floor_us] * len(invoke)) if floor_us else None,
            2.5,
        ),
        _at_least("bulk, VAE of the window / bare invokes in bulk", ratio(bulk.get(PATH, []), bare), 0.9),
        _at_least("bulk, two cores / one, VAE of the window", ratio(bulk.get(PATH_TWO, []), bulk.get(PATH, [])), 1.8),
        _at_least("bulk, two cores / one, default score", ratio(bulk.get(DEFAULT_TWO, []), bulk.get(DEFAULT, [])), 1.8),
        _at_least("float32 invoke / int8 invoke", ratio(one.get(INVOKE_FLOAT, []), invoke), 2.5),
        *(
            _at_least(f"{name} / our path, VAE of the window", ratio(one.get(name, []), path), limit)
            for name, limit in _SLOWER.items()
        ),
    ]


_SLOWER = {
    "LiteRT loop, int8": 3.5,
    "ONNX Runtime, int8": 5.0,
    "PyTorch": 20.0,
    "tf.function": 80.0,
    "Keras predict": 1000.0,
    "alibi-detect, its 10 samples": 1000.0,
}
"""Peers, and how many times as long they should take at batch 1."""


def _at_most(what: str, found: float | None, limit: float) -> Wish:
    return Wish(what, found, f"<= {limit:g}", None if found is None else found <= limit)


def _at_least(what: str, found: float | None, limit: float) -> Wish:
    return Wish(what, found, f">= {limit:g}", None if found is None else found >= limit)
