"""The store of messages that the broker has not acknowledged: on disk before the first publish, then deleted.

A message is dropped only when the bytes are used up, by the user's policy. Drops are counted on disk, in the
transaction that drops, and moved from that count into one `dropped` notice for each asset, in the transaction that
stores the notice, as soon as the outbox has drained to half. So a drop is reported once, whenever the power is cut.
A notice that is itself dropped gives its count back. What is kept of an asset beside its messages goes to disk in the
transaction of the message that tells of it. Every dropped message leaves a gap in the asset's sequence
numbers, and the counts add up to the gaps.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from edge_vae.outbox_file import OutboxFile

__all__ = ["EncodeNotice", "OnFull", "Outbox", "Stored"]

log = logging.getLogger(__name__)

OnFull = Literal["drop_oldest", "drop_newest"]
"""What is dropped when a message does not fit."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stored:
    """A message in the outbox; keys rise in the order in which messages were put and are never used again."""

    key: int
    asset: str
    seq: int
    topic: str
    payload: bytes


class EncodeNotice(Protocol):
    """Makes the payload of an event about an asset's messages; must not call the outbox."""

    def __call__(self, kind: Literal["dropped", "store_reset"], *, asset: str, seq: int, dropped: int | None) -> bytes:
        """The payload; `dropped` is the number of messages for kind `dropped`, else None."""
        ...


class Outbox:
    """`outbox.db` in the state directory. Every call is whole or without effect, and threads may share one outbox.

    A damaged file is moved aside, when opened or while running, and the fresh one begins with a `store_reset` notice
    for each asset, whose sequence numbers start again at 1.

    Args:
        state_dir: Folder of the file, made if absent.
        assets: The topic for notices about each asset.
        notice: Makes the payload of a notice.
        max_bytes: Limit on the sum of payload sizes; notices may exceed it by their own size.
        on_full: Which messages are dropped when one does not fit. `drop_oldest` spares those that were taken.

    Raises:
        OutboxError: The file cannot be read or written, or another process uses it; also from every method.
    """

    def __init__(
        self, state_dir: Path, *, assets: Mapping[str, str], notice: EncodeNotice, max_bytes: int, on_full: OnFull
    ) -> None:
        if max_bytes < 1:
            msg = f"expected max_bytes of at least 1, received {max_bytes}"
            raise ValueError(msg)
        self._assets, self._notice, self._max_bytes, self._on_full = assets, notice, max_bytes, on_full
        self._lock = threading.RLock()
        self._listeners: list[Callable[[], None]] = []
        self.last_key = 0
        """The highest key that was ever used."""
        self._held: set[int] = set()
        self._kept: dict[tuple[str, str], bytes] = {}
        self._count, self._size, self._unreported, self._dropped = 0, 0, False, 0
        self._file = OutboxFile(state_dir, self._fill)
        self._take_stock()
        rows = self._commit(lambda db: db.execute("SELECT asset, what, value FROM kept").fetchall())
        self._kept = {(asset, what): value for asset, what, value in rows}
        self._commit(self._report_drops)

    @property
    def moved_to(self) -> Path | None:
        """Where the damaged file went that was replaced since this outbox was opened; None when all was well."""
        return self._file.moved_to

    @property
    def count(self) -> int:
        """Number of stored messages."""
        return self._count

    @property
    def size_bytes(self) -> int:
        """Sum of the sizes of the stored payloads."""
        return self._size

    @property
    def dropped_total(self) -> int:
        """Number of messages dropped since the file was made."""
        return self._dropped

    def serve(self, assets: Mapping[str, str]) -> None:
        """From now on these are the assets, each with the topic of its events, that are told of a damaged file."""
        self._assets = assets

    def dropped(self) -> dict[str, int]:
        """Number of messages dropped by each policy since the file was made."""
        return self._commit(lambda db: dict(db.execute("SELECT policy, SUM(total) FROM dropped GROUP BY policy")))

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` after every message that is put, from the thread that puts."""
        self._listeners.append(wake)

    def put(
        self, asset: str, topic: str, encode: Callable[[int], bytes], *, kept: Mapping[str, bytes] | None = None
    ) -> int:
        """The message's sequence number, once the message is on disk (or dropped by the policy, and counted).

        Args:
            asset: Whose sequence number it takes.
            topic: Where it is to be published.
            encode: Makes the payload from the sequence number; must not call the outbox.
            kept: What is to be kept of the asset from now on, by name; stored together with the message or not at all.
        """

        def work(db: sqlite3.Connection) -> int:
            seq = _next_seq(db, asset)
            payload = encode(seq)
            if self._make_room(db, len(payload)):
                self._store(db, asset, seq, topic, payload, reports=0)
            else:
                self._count_dropped(db, asset, topic, messages=1, unreported=1)
            self._report_drops(db)
            for what, value in (kept or {}).items():
                _keep(db, asset, what, value)
            return seq

        with self._lock:
            seq = self._commit(work)
            self._kept.update({(asset, what): value for what, value in (kept or {}).items()})
        for wake in self._listeners:
            wake()
        return seq

    def keep(self, asset: str, what: str, value: bytes) -> None:
        """Keep something of an asset without a message, in the place of what was kept under this name."""
        with self._lock:
            self._commit(lambda db: _keep(db, asset, what, value))
            self._kept[asset, what] = value

    def kept(self, asset: str, what: str) -> bytes | None:
        """What is kept of an asset under this name."""
        return self._kept.get((asset, what))

    def pending(self, after: int, limit: int) -> list[Stored]:
        """The first `limit` messages with a key above `after`, in the order in which they were put."""
        return self._commit(lambda db: _select(db, after, limit, ()))

    def take(self, after: int, limit: int, *, skip_topics: Collection[str] = ()) -> list[Stored]:
        """Like `pending`, without messages already taken and those on topics to skip; the result is taken from now on.

        A taken message may be on its way to the broker, so it is not dropped until it is released.
        """

        def work(db: sqlite3.Connection) -> list[Stored]:
            free = (s for s in _select(db, after, limit + len(self._held), skip_topics) if s.key not in self._held)
            return list(islice(free, limit))

        with self._lock:
            taken = self._commit(work)
            self._held.update(stored.key for stored in taken)
            return taken

    def release(self, keys: Iterable[int] | None = None) -> None:
        """Undo the taking of these messages, or of all."""
        with self._lock:
            self._held.difference_update(list(self._held) if keys is None else keys)

    def delete(self, *keys: int) -> None:
        """Delete delivered messages; keys that are not stored are passed over."""

        def work(db: sqlite3.Connection) -> None:
            for key in keys:
                self._remove(db, key)
            self._report_drops(db)

        with self._lock:
            self._commit(work)
            self._held.difference_update(keys)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            self._file.close()

    def _commit(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, run in one transaction; run again on a fresh file when this one proves to be damaged."""
        with self._lock, self._file.errors():
            try:
                return self._transaction(work)
            except sqlite3.DatabaseError as error:
                # A damaged file comes as the base class itself, a full or failing disk as a subclass.
                if type(error) is not sqlite3.DatabaseError:
                    raise
                self._file.replace(error)
                self._take_stock()
                return self._transaction(work)

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        db, before = self._file.db, (self._count, self._size, self._unreported, self._dropped)
        try:
            db.execute("BEGIN IMMEDIATE")
            result = work(db)
            db.execute("COMMIT")
        except BaseException:
            self._count, self._size, self._unreported, self._dropped = before
            if db.in_transaction:
                db.rollback()
            raise
        return result

    def _fill(self, db: sqlite3.Connection, replaces: bool) -> None:  # noqa: FBT001 (the signature that OutboxFile calls)
        """Keys go on where they were, so that a late acknowledgement deletes no other message; what is kept stays."""
        db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('message', ?)", (self.last_key,))
        for asset, topic in self._assets.items() if replaces else ():
            seq = _next_seq(db, asset)
            _insert(db, asset, seq, topic, self._notice("store_reset", asset=asset, seq=seq, dropped=None), 0)
        for (asset, what), value in self._kept.items():
            _keep(db, asset, what, value)

    def _take_stock(self) -> None:
        """Bring what is held in memory in line with the file."""
        with self._file.errors():
            db = self._file.db
            stock = "SELECT COUNT(*), COALESCE(SUM(LENGTH(payload)), 0) FROM message"
            self._count, self._size = db.execute(stock).fetchone()
            self._unreported = db.execute("SELECT COUNT(*) FROM dropped WHERE unreported > 0").fetchone()[0] > 0
            self._dropped = db.execute("SELECT COALESCE(SUM(total), 0) FROM dropped").fetchone()[0]
            self.last_key = db.execute("SELECT MAX(seq) FROM sqlite_sequence").fetchone()[0] or 0
            self._held.clear()

    def _store(self, db: sqlite3.Connection, asset: str, seq: int, topic: str, payload: bytes, *, reports: int) -> None:
        self.last_key = _insert(db, asset, seq, topic, payload, reports)
        self._count += 1
        self._size += len(payload)

    def _remove(self, db: sqlite3.Connection, key: int) -> None:
        row = db.execute("SELECT LENGTH(payload) FROM message WHERE key = ?", (key,)).fetchone()
        if row is not None:
            db.execute("DELETE FROM message WHERE key = ?", (key,))
            self._count -= 1
            self._size -= row[0]

    def _make_room(self, db: sqlite3.Connection, size: int) -> bool:
        """Whether a payload of this size fits, after dropping older messages if that is the policy and gives enough."""
        excess = self._size + size - self._max_bytes
        if excess <= 0:
            return True
        if self._on_full == "drop_newest" or size > self._max_bytes:
            return False
        doomed = []
        for row in db.execute("SELECT key, asset, topic, reports, LENGTH(payload) FROM message ORDER BY key"):
            if row[0] not in self._held:
                doomed.append(row)
                excess -= row[4]
            if excess <= 0:
                break
        else:
            return False
        for key, asset, topic, reports, _ in doomed:
            self._remove(db, key)
            self._count_dropped(db, asset, topic, messages=1, unreported=1 + reports)
        return True

    def _count_dropped(self, db: sqlite3.Connection, asset: str, topic: str, *, messages: int, unreported: int) -> None:
        if not self._unreported:
            log.warning("outbox full, dropping policy=%s asset=%s max_bytes=%d", self._on_full, asset, self._max_bytes)
        self._unreported = True
        self._dropped += messages
        db.execute(
            """INSERT INTO dropped (asset, policy, topic, total, unreported) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET topic = excluded.topic,
                total = total + excluded.total, unreported = unreported + excluded.unreported""",
            (asset, self._on_full, topic, messages, unreported),
        )

    def _report_drops(self, db: sqlite3.Connection) -> None:
        """Store one notice for each asset with drops that were not reported yet, if the outbox is at most half full."""
        if not self._unreported or self._size > self._max_bytes // 2:
            return
        select = "SELECT asset, MAX(topic), SUM(unreported) FROM dropped WHERE unreported > 0 GROUP BY asset"
        for asset, topic, dropped in db.execute(select).fetchall():
            seq = _next_seq(db, asset)
            payload = self._notice("dropped", asset=asset, seq=seq, dropped=dropped)
            self._store(db, asset, seq, topic, payload, reports=dropped)
            log.warning("messages dropped, notice stored asset=%s dropped=%d", asset, dropped)
        db.execute("UPDATE dropped SET unreported = 0")
        self._unreported = False


def _next_seq(db: sqlite3.Connection, asset: str) -> int:
    db.execute("INSERT INTO sequence VALUES (?, 1) ON CONFLICT DO UPDATE SET last = last + 1", (asset,))
    last: int = db.execute("SELECT last FROM sequence WHERE asset = ?", (asset,)).fetchone()[0]
    return last


def _keep(db: sqlite3.Connection, asset: str, what: str, value: bytes) -> None:
    db.execute(
        "INSERT INTO kept VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (asset, what, value)
    )


def _insert(db: sqlite3.Connection, asset: str, seq: int, topic: str, payload: bytes, reports: int) -> int:
    """The key of the stored message; `reports` is the number of dropped messages that it stands for."""
    row = (asset, seq, topic, payload, reports)
    cursor = db.execute("INSERT INTO message (asset, seq, topic, payload, reports) VALUES (?, ?, ?, ?, ?)", row)
    return cursor.lastrowid or 0


def _select(db: sqlite3.Connection, after: int, limit: int, skip_topics: Collection[str]) -> list[Stored]:
    rows = db.execute(
        """SELECT key, asset, seq, topic, payload FROM message
        WHERE key > ? AND topic NOT IN (SELECT value FROM json_each(?)) ORDER BY key LIMIT ?""",
        (after, json.dumps(list(skip_topics)), limit),
    )
    return [Stored(*row) for row in rows]
