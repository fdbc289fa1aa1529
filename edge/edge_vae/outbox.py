"""The store of messages that the broker has not acknowledged: on disk before the first publish, then deleted.

A message is dropped only when the bytes are used up, by the user's policy. Drops are counted on disk, in the
transaction that drops, and moved from that count into one `dropped` notice for each asset, in the transaction that
stores the notice, as soon as the outbox has drained to half. So a drop is reported once, whenever the power is cut.
A notice that is itself dropped gives its count back. What is kept of an asset beside its messages goes to disk in the
transaction of the message that tells of it. Every dropped message leaves a gap in the asset's sequence
numbers, and the counts add up to the gaps. So do those of messages that were set aside, because the broker parted from
us whenever it got them.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from edge_vae.outbox_file import OutboxFile
from edge_vae.overflow import OnFull, Overflow, Priority
from edge_vae.salvage import Salvaged, checksum

__all__ = ["EncodeNotice", "NoticeKind", "OnFull", "Outbox", "Priority", "Stored"]

log = logging.getLogger(__name__)

NoticeKind = Literal["dropped", "set_aside", "store_reset"]
SET_ASIDE_AFTER = 5
"""So often a broker may part from us over a message before it is set aside: a broker that is killed in the same moment
each time is a coincidence that does not repeat itself so often."""
ASIDE_PART = 8
"""Messages set aside may take this part of the outbox's bytes, in addition to them; then the oldest are deleted."""
_BATCH = 200
"""Messages that are rewritten in one transaction: it must not hold up a pipeline."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stored:
    """A message in the outbox; keys rise in the order in which messages were put and are never used again.

    Attributes:
        parted: How often a broker parted from us while this message was on its way.
    """

    key: int
    asset: str
    seq: int
    topic: str
    payload: bytes
    parted: int


class EncodeNotice(Protocol):
    """Makes the payload of an event about an asset's messages; must not call the outbox."""

    def __call__(self, kind: NoticeKind, *, asset: str, seq: int, dropped: int | None, salvaged: int | None) -> bytes:
        """The payload.

        Args:
            kind: What happened.
            asset: Whose messages it is about.
            seq: The notice's own sequence number.
            dropped: Number of messages that were dropped, set aside or lost with a damaged file; None: nobody knows.
            salvaged: Number of messages that were saved from a damaged file; None for other kinds.
        """
        ...


@dataclass(slots=True)
class _Stock:
    """What is stored, in memory: messages and highest key of each asset, highest key ever, bytes, drops."""

    counts: Counter[str] = field(default_factory=Counter)
    last_keys: dict[str, int] = field(default_factory=dict)
    last_key: int = 0
    size: int = 0
    unreported: bool = False
    dropped: int = 0

    def copy(self) -> _Stock:
        return replace(self, counts=self.counts.copy(), last_keys=self.last_keys.copy())


class Outbox:
    """`outbox.db` in the state directory. Every call is whole or without effect, and threads may share one outbox.

    A damaged file is moved aside, when opened or while running. The fresh one begins with what could be read of it and
    goes on with a `store_reset` notice for each asset; sequence numbers start again at 1 where they could not be read.

    Args:
        state_dir: Folder of the file, made if absent.
        assets: The topic for notices about each asset.
        notice: Makes the payload of a notice.
        max_bytes: Limit on the sum of payload sizes; notices may exceed it by their own size.
        on_full: Which messages are dropped when one does not fit; those that were taken are spared.

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
        self._overflow = Overflow(on_full)
        self._lock = threading.RLock()
        self._listeners: list[Callable[[], None]] = []
        self._held: set[int] = set()
        self._kept: dict[tuple[str, str], bytes] = {}
        self._stock, self._counted = _Stock(), False
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
    def salvaged(self) -> Salvaged | None:
        """What was saved from that file."""
        return self._file.salvaged

    @property
    def count(self) -> int:
        """Number of stored messages."""
        return self._stock.counts.total()

    @property
    def size_bytes(self) -> int:
        """Sum of the sizes of the stored payloads."""
        return self._stock.size

    @property
    def last_key(self) -> int:
        """The highest key that was ever used; that of a message that failed is used again."""
        with self._lock:
            return self._stock.last_key

    def waiting(self) -> dict[str, int]:
        """The highest key of each asset that has messages stored."""
        with self._lock:
            return {asset: self._stock.last_keys[asset] for asset, count in self._stock.counts.items() if count}

    @property
    def dropped_total(self) -> int:
        """Number of messages dropped since the file was made."""
        return self._stock.dropped

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
        self,
        asset: str,
        topic: str,
        encode: Callable[[int], bytes],
        *,
        priority: Priority = Priority.BEGINNING,
        own_clock: bool = False,
        kept: Mapping[str, bytes] | None = None,
    ) -> int:
        """The message's sequence number, once the message is on disk (or dropped by the policy, and counted).

        Args:
            asset: Whose sequence number it takes.
            topic: Where it is to be published.
            encode: Makes the payload from the sequence number; must not call the outbox.
            priority: What it is worth to the policy `thin`.
            own_clock: Whether its times are of this machine's clock, so that `rewrite` may correct them.
            kept: What is to be kept of the asset from now on, by name; stored together with the message or not at all.
        """

        def work(db: sqlite3.Connection) -> int:
            seq = _next_seq(db, asset)
            payload = encode(seq)
            if self._make_room(db, len(payload), priority):
                self._store(db, asset, seq, topic, payload, priority=priority, own_clock=own_clock)
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
        return self._commit(lambda db: _select(db, after, limit))

    def take(self, asset: str, after: int, limit: int, *, skip_topics: Collection[str] = ()) -> list[Stored]:
        """Like `pending`, of one asset, without messages already taken and those on topics to skip.

        The result is taken from now on: a taken message may be on its way to the broker, so it is not dropped until it
        is released.
        """

        def work(db: sqlite3.Connection) -> list[Stored]:
            found = _select(db, after, limit + len(self._held), asset=asset, skip_topics=skip_topics)
            return list(islice((s for s in found if s.key not in self._held), limit))

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

    def blame(self, keys: Collection[int], reason: str) -> None:
        """Note that the broker parted from us while these messages were on their way; several are only suspected.

        A message that was alone `SET_ASIDE_AFTER` times is set aside, and a notice tells it.
        """

        def work(db: sqlite3.Connection) -> None:
            parted = "parted + 1" if len(keys) == 1 else "MAX(parted, 1)"
            for key in keys:
                db.execute(f"UPDATE message SET parted = {parted} WHERE key = ?", (key,))  # noqa: S608 (one of two)
            select = "SELECT key FROM message WHERE key = ? AND parted >= ?"
            for key in keys:
                if db.execute(select, (key, SET_ASIDE_AFTER)).fetchone():
                    self._set_aside(db, key, reason)
            self._report_drops(db)

        self._commit(work)

    def rewrite(self, change: Callable[[bytes], bytes | None]) -> int:
        """Number of waiting messages with times of this machine's clock that `change` gave another payload.

        Args:
            change: The new payload, or None to leave it; must not call the outbox.
        """
        select = "SELECT key, asset, seq, topic, payload FROM message WHERE own_clock AND key > ? ORDER BY key LIMIT ?"

        def work(db: sqlite3.Connection, after: int) -> tuple[int | None, int]:
            changed, rows = 0, db.execute(select, (after, _BATCH)).fetchall()
            for key, asset, seq, topic, payload in rows:
                if (new := change(payload)) is not None:
                    row = (new, checksum(asset, seq, topic, new), key)
                    db.execute("UPDATE message SET payload = ?, crc = ?, own_clock = 0 WHERE key = ?", row)
                    self._stock.size += len(new) - len(payload)
                    changed += 1
            return (rows[-1][0] if rows else None), changed

        last: int | None = 0
        total = 0
        while last is not None:
            last, changed = self._commit(partial(work, after=last))
            total += changed
        return total

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
        db, before = self._file.db, self._stock.copy()
        try:
            db.execute("BEGIN IMMEDIATE")
            result = work(db)
            db.execute("COMMIT")
        except BaseException:
            self._stock = before
            if db.in_transaction:
                db.rollback()
            raise
        return result

    def _fill(self, db: sqlite3.Connection, salvaged: Salvaged | None) -> None:
        """Keys go on where they were, so that a late acknowledgement deletes no other message; what is kept stays."""
        if salvaged is None:
            return
        db.execute("UPDATE sqlite_sequence SET seq = MAX(seq, ?) WHERE name = 'message'", (self._stock.last_key,))
        others = {asset: topic for asset, topic in salvaged.topics.items() if asset not in self._assets}
        for asset, topic in {**self._assets, **others}.items():
            saved = salvaged.messages[asset]
            # Only who has counted before can tell what is missing.
            lost = max(0, self._stock.counts[asset] - saved) if self._counted else None
            seq = _next_seq(db, asset)
            payload = self._notice("store_reset", asset=asset, seq=seq, dropped=lost, salvaged=saved)
            _insert(db, asset, seq, topic, payload, reports=lost or 0, priority=Priority.NOTE, own_clock=True)
        for (asset, what), value in self._kept.items():
            _keep(db, asset, what, value)

    def _take_stock(self) -> None:
        """Bring what is held in memory in line with the file."""
        with self._file.errors():
            db, stock = self._file.db, _Stock()
            select = "SELECT asset, COUNT(*), SUM(LENGTH(payload)), MAX(key) FROM message GROUP BY asset"
            for asset, count, size, last_key in db.execute(select):
                stock.counts[asset], stock.last_keys[asset] = count, last_key
                stock.size += size
            stock.unreported = db.execute("SELECT COUNT(*) FROM dropped WHERE unreported > 0").fetchone()[0] > 0
            stock.dropped = db.execute("SELECT COALESCE(SUM(total), 0) FROM dropped").fetchone()[0]
            stock.last_key = db.execute("SELECT MAX(seq) FROM sqlite_sequence").fetchone()[0] or 0
            self._stock, self._counted = stock, True
            self._held.clear()

    def _store(
        self,
        db: sqlite3.Connection,
        asset: str,
        seq: int,
        topic: str,
        payload: bytes,
        *,
        reports: int = 0,
        priority: Priority = Priority.NOTE,
        own_clock: bool = True,
    ) -> None:
        key = _insert(db, asset, seq, topic, payload, reports=reports, priority=priority, own_clock=own_clock)
        self._stock.counts[asset] += 1
        self._stock.last_keys[asset] = self._stock.last_key = key
        self._stock.size += len(payload)

    def _remove(self, db: sqlite3.Connection, key: int) -> None:
        row = db.execute("SELECT asset, LENGTH(payload) FROM message WHERE key = ?", (key,)).fetchone()
        if row is not None:
            db.execute("DELETE FROM message WHERE key = ?", (key,))
            self._stock.counts[row[0]] -= 1
            self._stock.size -= row[1]

    def _make_room(self, db: sqlite3.Connection, size: int, priority: Priority) -> bool:
        """Whether a payload of this size fits, after dropping others if that is the policy and gives enough."""
        excess = self._stock.size + size - self._max_bytes
        if excess <= 0:
            return True
        doomed = None if size > self._max_bytes else self._overflow.doomed(db, excess, priority, self._held)
        for gone in doomed or ():
            self._remove(db, gone.key)
            self._count_dropped(db, gone.asset, gone.topic, messages=1, unreported=1 + gone.reports)
        return doomed is not None

    def _count_dropped(self, db: sqlite3.Connection, asset: str, topic: str, *, messages: int, unreported: int) -> None:
        if not self._stock.unreported:
            log.warning("outbox full, dropping policy=%s asset=%s max_bytes=%d", self._on_full, asset, self._max_bytes)
        self._stock.unreported = True
        self._stock.dropped += messages
        db.execute(
            """INSERT INTO dropped (asset, policy, topic, total, unreported) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET topic = excluded.topic,
                total = total + excluded.total, unreported = unreported + excluded.unreported""",
            (asset, self._on_full, topic, messages, unreported),
        )

    def _report_drops(self, db: sqlite3.Connection) -> None:
        """Store one notice for each asset with drops that were not reported yet, if the outbox is at most half full."""
        if not self._stock.unreported or self._stock.size > self._max_bytes // 2:
            return
        select = "SELECT asset, MAX(topic), SUM(unreported) FROM dropped WHERE unreported > 0 GROUP BY asset"
        for asset, topic, dropped in db.execute(select).fetchall():
            self._tell(db, "dropped", asset, topic, dropped)
            log.warning("messages dropped, notice stored asset=%s dropped=%d", asset, dropped)
        db.execute("UPDATE dropped SET unreported = 0")
        self._overflow.reset()
        self._stock.unreported = False

    def _tell(
        self, db: sqlite3.Connection, kind: Literal["dropped", "set_aside"], asset: str, topic: str, dropped: int
    ) -> None:
        seq = _next_seq(db, asset)
        payload = self._notice(kind, asset=asset, seq=seq, dropped=dropped, salvaged=None)
        self._store(db, asset, seq, topic, payload, reports=dropped)

    def _set_aside(self, db: sqlite3.Connection, key: int, reason: str) -> None:
        """Move a message out of the way; what it stood for itself is told with its own number."""
        select = "SELECT asset, seq, topic, crc, payload, reports FROM message WHERE key = ?"
        asset, seq, topic, crc, payload, reports = db.execute(select, (key,)).fetchone()
        db.execute("INSERT INTO set_aside VALUES (?, ?, ?, ?, ?, ?, ?)", (key, asset, seq, topic, reason, crc, payload))
        self._remove(db, key)
        self._tell(db, "set_aside", asset, topic, 1 + reports)
        log.error("message set aside asset=%s seq=%d bytes=%d reason=%s", asset, seq, len(payload), reason)
        db.execute(
            """DELETE FROM set_aside WHERE key <> ? AND key IN (
                SELECT key FROM (SELECT key, SUM(LENGTH(payload)) OVER (ORDER BY key DESC) AS bytes FROM set_aside)
                WHERE bytes > ?)""",
            (key, self._max_bytes // ASIDE_PART),
        )


def _next_seq(db: sqlite3.Connection, asset: str) -> int:
    db.execute("INSERT INTO sequence VALUES (?, 1) ON CONFLICT DO UPDATE SET last = last + 1", (asset,))
    last: int = db.execute("SELECT last FROM sequence WHERE asset = ?", (asset,)).fetchone()[0]
    return last


def _keep(db: sqlite3.Connection, asset: str, what: str, value: bytes) -> None:
    db.execute(
        "INSERT INTO kept VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (asset, what, value)
    )


def _insert(
    db: sqlite3.Connection,
    asset: str,
    seq: int,
    topic: str,
    payload: bytes,
    *,
    reports: int,
    priority: Priority,
    own_clock: bool,
) -> int:
    cursor = db.execute(
        """INSERT INTO message (asset, seq, topic, reports, priority, own_clock, parted, crc, payload)
        VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?)""",
        (asset, seq, topic, reports, priority, own_clock, checksum(asset, seq, topic, payload), payload),
    )
    return cursor.lastrowid or 0


def _select(
    db: sqlite3.Connection, after: int, limit: int, *, asset: str | None = None, skip_topics: Collection[str] = ()
) -> list[Stored]:
    """Messages of an asset, or of all.

    Raises:
        sqlite3.DatabaseError: One of them is not what was stored.
    """
    rows = db.execute(
        """SELECT key, asset, seq, topic, payload, parted, crc FROM message
        WHERE key > ? AND asset = COALESCE(?, asset) AND topic NOT IN (SELECT value FROM json_each(?))
        ORDER BY key LIMIT ?""",
        (after, asset, json.dumps(list(skip_topics)), limit),
    )
    found = []
    for *values, crc in rows:
        stored = Stored(*values)
        if crc != checksum(stored.asset, stored.seq, stored.topic, stored.payload):
            msg = f"message {stored.key} is not what was stored"
            raise sqlite3.DatabaseError(msg)
        found.append(stored)
    return found
