"""What can still be read of an outbox's file goes into a fresh one: of a damaged one, and of one of an older layout."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

__all__ = ["MAX_NUMBER", "Salvaged", "carry_over", "checksum"]

MAX_NUMBER = 1 << 62
"""A key or sequence number beyond it was never given: at a million messages a second they last 100,000 years."""
MAX_PROBES = 200_000
"""So many keys are asked for one by one where pages are damaged; it takes about a second."""

_OLDER: Mapping[str, Any] = {"priority": 3, "own_clock": 0, "parted": 0}
"""What a message of layout 1 gets: it counts as the beginning of an alarm, which is dropped last."""
_DAMAGE = (sqlite3.Error, UnicodeDecodeError)
"""What reading a damaged file raises; the latter from a message of SQLite that quotes garbage."""
_KINDS = {"INTEGER": int, "TEXT": str, "BLOB": bytes, "REAL": float}

Row = dict[str, Any]


@dataclass(slots=True)
class Salvaged:
    """What was carried over from another file.

    Attributes:
        messages: How many of each asset.
        topics: The topic of each asset's last one.
    """

    messages: Counter[str] = field(default_factory=Counter)
    topics: dict[str, str] = field(default_factory=dict)


def checksum(asset: str, seq: int, topic: str, payload: bytes) -> int:
    """CRC-32 of a message: SQLite notices a torn page, but no flipped bit inside of a value.

    >>> checksum("pump", 1, "t", b"{}") == checksum("pump", 1, "t", b"{ ")
    False
    """
    return crc32(payload, crc32(f"{asset}\0{seq}\0{topic}\0".encode()))


def carry_over(source: sqlite3.Connection, target: sqlite3.Connection) -> Salvaged:
    """Copy every whole row that can be read into the empty tables of another file, and say which messages there were.

    Nothing that is wrong with the source is an error: what cannot be read stays behind.

    Args:
        source: The damaged or older file.
        target: Inside of a transaction.

    Raises:
        sqlite3.Error: The target cannot be written.
    """
    for pragma in ("writable_schema", "cell_size_check"):  # go on after damage in the schema; look harder at pages
        with suppress(*_DAMAGE):
            source.execute(f"PRAGMA {pragma} = ON")
    salvaged = Salvaged()
    tables = target.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    for (table,) in tables.fetchall():
        columns = target.execute(f"SELECT name, type, [notnull] FROM pragma_table_info('{table}')").fetchall()  # noqa: S608 (a name of ours)
        insert = f"INSERT OR IGNORE INTO {table} VALUES ({', '.join(f':{name}' for name, *_ in columns)})"  # noqa: S608
        for row in _readable(source, table):
            if table == "message" and "crc" not in row:
                _complete(row)
            if all(_fits(row.get(name), kind, bool(notnull)) for name, kind, notnull in columns) and _unchanged(row):
                new = target.execute(insert, row).rowcount
                if new and table == "message":
                    salvaged.messages[row["asset"]] += 1
                    salvaged.topics[row["asset"]] = row["topic"]
    _restore_counters(source, target)
    return salvaged


def _complete(row: Row) -> None:
    """Add what a message of layout 1 lacks."""
    row |= _OLDER
    with suppress(KeyError, AttributeError, TypeError):  # columns that are missing or of another type
        row["crc"] = checksum(row["asset"], row["seq"], row["topic"], row["payload"])


def _fits(value: object, kind: str, notnull: bool) -> bool:  # noqa: FBT001 (as the table says it)
    if value is None:
        return not notnull
    return isinstance(value, _KINDS[kind]) and (not isinstance(value, int) or 0 <= value < MAX_NUMBER)


def _unchanged(row: Row) -> bool:
    return "crc" not in row or row["crc"] == checksum(row["asset"], row["seq"], row["topic"], row["payload"])


def _restore_counters(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Sequence numbers and keys go on behind every one that is known."""
    target.execute(
        """INSERT INTO sequence SELECT asset, MAX(seq) FROM message WHERE true GROUP BY asset
        ON CONFLICT DO UPDATE SET last = MAX(last, excluded.last)"""
    )
    known = target.execute("SELECT MAX(key) FROM message UNION SELECT MAX(key) FROM set_aside").fetchall()
    last = max(_last_key(source), *(key or 0 for (key,) in known))
    target.execute("DELETE FROM sqlite_sequence WHERE name = 'message'")
    target.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('message', ?)", (last,))


def _last_key(source: sqlite3.Connection) -> int:
    with suppress(*_DAMAGE):
        row = source.execute("SELECT seq FROM sqlite_sequence WHERE name = 'message'").fetchone()
        if row and isinstance(row[0], int) and 0 <= row[0] < MAX_NUMBER:
            return row[0]
    return 0


def _readable(source: sqlite3.Connection, table: str) -> Iterator[Row]:
    """The rows of a table that can be read: from its beginning and from its end up to damage, and what lies between."""
    try:
        described = source.execute(f"SELECT name, pk FROM pragma_table_info('{table}')").fetchall()  # noqa: S608
    except _DAMAGE:
        return
    names = [name for name, _ in described]
    order = next((name for name, pk in described if pk == 1), "")
    if not order:
        return
    select = f"SELECT {', '.join(names)} FROM {table}"  # noqa: S608 (names as the file has them)
    first = yield from _until_damage(source, f"{select} ORDER BY {order}", names, order)
    if first.whole:
        return
    last = yield from _until_damage(source, f"{select} ORDER BY {order} DESC", names, order)
    if order != "key" or (first.value is None and last.value is None):
        return
    high = last.value if isinstance(last.value, int) else _last_key(source) + 1
    low = first.value + 1 if isinstance(first.value, int) else max(1, high - MAX_PROBES)
    for key in range(low, min(high, low + MAX_PROBES)):
        yield from _until_damage(source, f"{select} WHERE key = {key}", names, order)


@dataclass(frozen=True, slots=True)
class _End:
    """Where reading ended: whether with the last row, and the value of the last one in the column it goes by."""

    whole: bool
    value: Any


def _until_damage(source: sqlite3.Connection, select: str, names: list[str], order: str) -> Generator[Row, None, _End]:
    value = None
    try:
        for values in source.execute(select):
            row = dict(zip(names, values, strict=True))
            value = row[order]
            yield row
    except _DAMAGE:
        return _End(whole=False, value=value)
    return _End(whole=True, value=value)
