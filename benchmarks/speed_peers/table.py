"""The report of `benchmarks/speed.py` for people."""

from __future__ import annotations

from collections.abc import Iterator

from speed_peers.figures import Row, Wish

__all__ = ["row_lines", "wish_lines"]

_COLUMNS = (
    ("p50, us", "p50_us", 1), ("p99, us", "p99_us", 1), ("a second", "per_second", 0),
    ("bulk, /s", "bulk_per_second", 0),
    ("x invoke", "per_invoke", 2), ("x path", "per_path", 2), ("peak MiB", "peak_mib", 0), ("import s", "import_s", 2),
    ("load s", "load_s", 2), ("disk MiB", "installed_mib", 0), ("agrees", "agreement", 4),
)  # fmt: skip
_NAME, _WIDTH = 41, 10


def row_lines(rows: list[Row]) -> Iterator[str]:
    """Header and a line for each row; a peer that was not measured says why."""
    yield " " * _NAME + "".join(f"{title:>{_WIDTH}}" for title, _, _ in _COLUMNS)
    for row in rows:
        if row.reason:
            yield f"{row.name:<{_NAME}}not measured: {row.reason}"
            continue
        cells = [(getattr(row, field), digits) for _, field, digits in _COLUMNS]
        yield f"{row.name:<{_NAME}}" + "".join(f"{_cell(value, digits):>{_WIDTH}}" for value, digits in cells)


def _cell(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def wish_lines(wishes: list[Wish]) -> Iterator[str]:
    """Each ratio beside its wish."""
    verdicts = {None: "not measured", True: "met", False: "missed"}
    yield f"{'ratio, median over the turns':<62}{'measured':>10}{'wish':>10}"
    for wish in wishes:
        yield f"{wish.what:<62}{_cell(wish.ratio, 2):>10}{wish.limit:>10}  {verdicts[wish.met]}"
