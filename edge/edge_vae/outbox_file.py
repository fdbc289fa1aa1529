"""The SQLite file of the outbox: made whole or not at all, checked when opened, moved aside when damaged.

What can still be read of a damaged file, and all of one of an older layout, is carried over into the fresh one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from edge_vae.errors import OutboxError
from edge_vae.salvage import MAX_NUMBER, Salvaged, carry_over, checksum

__all__ = ["LOCK", "OutboxFile", "connection", "expect_sound", "is_older"]

log = logging.getLogger(__name__)

LOCK = "outbox.lock"
"""Locked by the process that uses the outbox, in the same folder."""
APPLICATION_ID = 0x45564F42  # "EVOB"
LAYOUT = 2
OLDER_LAYOUTS = (1,)
"""These are carried over into a file of today's layout."""
KEPT_DAMAGED = 3
"""So many damaged files stay for a person to look at: a dying card must not fill up with them."""

_COMPANIONS = ("", "-wal", "-shm", "-journal")
"""A database and what SQLite lays beside it. The database is moved first: what is left then belongs to nothing."""
_TABLES = (
    """CREATE TABLE message (
        key INTEGER PRIMARY KEY AUTOINCREMENT, asset TEXT NOT NULL, seq INTEGER NOT NULL, topic TEXT NOT NULL,
        reports INTEGER NOT NULL, priority INTEGER NOT NULL, own_clock INTEGER NOT NULL, parted INTEGER NOT NULL,
        crc INTEGER NOT NULL, payload BLOB NOT NULL)""",
    # Without alarms, whose storing it must not slow down: how many writes a card survives is counted.
    "CREATE INDEX lesser ON message (priority) WHERE priority < 2",
    "CREATE TABLE sequence (asset TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE dropped (
        asset TEXT NOT NULL, policy TEXT NOT NULL, topic TEXT NOT NULL, total INTEGER NOT NULL,
        unreported INTEGER NOT NULL, PRIMARY KEY (asset, policy)) WITHOUT ROWID""",
    """CREATE TABLE kept (
        asset TEXT NOT NULL, what TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (asset, what)) WITHOUT ROWID""",
    """CREATE TABLE set_aside (
        key INTEGER PRIMARY KEY, asset TEXT NOT NULL, seq INTEGER NOT NULL, topic TEXT NOT NULL,
        reason TEXT NOT NULL, crc INTEGER NOT NULL, payload BLOB NOT NULL)""",
)
_SOUND = f"""SELECT
    NOT EXISTS (SELECT 1 FROM message WHERE typeof(payload) <> 'blob' OR typeof(seq) <> 'integer'
                OR typeof(asset) <> 'text' OR typeof(topic) <> 'text' OR typeof(reports) <> 'integer'
                OR typeof(priority) <> 'integer' OR typeof(own_clock) <> 'integer' OR typeof(parted) <> 'integer'
                OR key >= {MAX_NUMBER} OR crc IS NOT checksum(asset, seq, topic, payload))
    AND NOT EXISTS (SELECT 1 FROM set_aside WHERE crc IS NOT checksum(asset, seq, topic, payload))
    AND NOT EXISTS (SELECT 1 FROM sequence WHERE typeof(last) <> 'integer')
    AND NOT EXISTS (SELECT 1 FROM dropped WHERE typeof(total) <> 'integer' OR typeof(unreported) <> 'integer')
    AND NOT EXISTS (SELECT 1 FROM kept WHERE typeof(value) <> 'blob' OR typeof(asset) <> 'text'
                    OR typeof(what) <> 'text')
    AND NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE seq >= {MAX_NUMBER})"""  # noqa: S608 (a number)


class OutboxFile:
    """`outbox.db` in a folder, used by one process at a time.

    A new file is made under another name and then renamed, so that a power cut leaves either none or a whole one. A
    file that is no sound outbox (torn, zeroed, garbage, of a newer layout) is renamed to `outbox.db.damaged-<n>`, after
    what can be read of it was carried over.

    Args:
        folder: Made if absent.
        fill: Called inside the transaction that makes a new file, with what was salvaged of a damaged one, None where
            there was none.

    Raises:
        OutboxError: The folder cannot be written, or another process uses it.
    """

    def __init__(self, folder: Path, fill: Callable[[sqlite3.Connection, Salvaged | None], None]) -> None:
        self.path = folder / "outbox.db"
        self._new, self._aid = folder / "outbox.db.new", folder / "outbox.db.aid"
        self._fill = fill
        self.salvaged: Salvaged | None = None
        """What was carried over from the damaged file that this process replaced last."""
        self.moved_to: Path | None = None
        """Where the damaged file went that this process replaced last."""
        with self.errors():
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._locked(folder / LOCK)
            try:
                self.db = self._open()
            except BaseException:
                os.close(self._lock)
                raise

    def replace(self, cause: sqlite3.Error) -> None:
        """Move the damaged file aside and go on with a fresh one.

        Raises:
            OutboxError: No fresh one can be made; nothing was moved.
        """
        with self.errors():
            self._make_from_damaged(self.db)
            self.db.close()
            self._swap(cause)
            self.db = self._connect()

    def close(self) -> None:
        """Close the file and let another process use it."""
        self.db.close()
        with suppress(OSError):
            os.close(self._lock)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what the disk and SQLite raise into an OutboxError."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            what = f"{self.path}: cannot keep messages"
            raise OutboxError(
                what,
                expected="a folder that can be written, with free space",
                received=str(error),
                action="Check the disk, or set state_dir under [node] to another folder.",
            ) from error

    def _locked(self, path: Path) -> int:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            what = f"{self.path}: in use"
            raise OutboxError(
                what,
                expected="one agent for each state_dir",
                received="a lock of another process",
                action="Stop the other agent, or give this one its own state_dir under [node].",
            ) from error
        return descriptor

    def _open(self) -> sqlite3.Connection:
        self._finish_interrupted_replacement()
        if not self.path.exists():
            _discard(self.path)
            self._make(None, damaged=False)
            self._put_in_place()
        try:
            self._bring_up_to_date()
            return self._connect()
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter: a message of SQLite that quotes garbage
            if "locked" in str(error):
                raise
            # That a fresh one can be made beside it shows that the file is at fault, and not the disk.
            with closing(connection(self.path)) as damaged:
                self._make_from_damaged(damaged)
            self._swap(error)
            return self._connect()

    def _bring_up_to_date(self) -> None:
        """Replace a sound file of an older layout by one of today's, with everything that it holds.

        Raises:
            sqlite3.Error: It is damaged.
        """
        with closing(connection(self.path)) as db:
            if not is_older(db):
                return
            _expect_ok(db)
            # Checkpointed and without a log beside it: that of the old file must not be replayed into the new one.
            db.execute("PRAGMA journal_mode = DELETE")
            (count,) = db.execute("SELECT COUNT(*) FROM message").fetchone()
            if self._make(db, damaged=False).messages.total() != count:
                msg = "a message of an older layout is damaged"
                raise sqlite3.DatabaseError(msg)
        self._put_in_place()
        log.info("outbox brought up to date layout=%d messages=%d", LAYOUT, count)

    def _connect(self) -> sqlite3.Connection:
        db = connection(self.path)
        try:
            expect_sound(db)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA cache_size = -512")  # KiB; the device's memory is for the model
            # Fails where a damaged header says that the file is read-only.
            db.execute("BEGIN IMMEDIATE")
            db.execute(f"PRAGMA user_version = {LAYOUT}")
            db.execute("ROLLBACK")
        except BaseException:
            db.close()
            raise
        return db

    def _make(self, source: sqlite3.Connection | None, *, damaged: bool) -> Salvaged:
        """Make the new file, with what can be read of another one."""
        _discard(self._new)
        with closing(connection(self._new)) as db:
            db.execute("BEGIN IMMEDIATE")
            for statement in (*_TABLES, f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {LAYOUT}"):
                db.execute(statement)
            salvaged = Salvaged() if source is None else carry_over(source, db)
            self._fill(db, salvaged if damaged else None)
            db.execute("COMMIT")
        if damaged:
            self.salvaged = salvaged
        return salvaged

    def _make_from_damaged(self, damaged: sqlite3.Connection) -> None:
        if self._make(damaged, damaged=True).messages:
            return
        try:
            self._make_with_another_head()
        except (sqlite3.Error, UnicodeDecodeError, OSError):  # no space for a copy
            self._make(damaged, damaged=True)

    def _make_with_another_head(self) -> None:
        """Try again to carry over, reading the first page of the damaged file from the new one, where it is the same.

        All files of one layout have their tables in the same places; without its first page nothing of them is found.
        """
        new = self._new.read_bytes()
        head = bytearray(new[: int.from_bytes(new[16:18], "big")])
        head[92:96] = bytes(4)  # the number of pages that it names is not that of this file
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(
                    self.path.with_name(self.path.name + suffix), self._aid.with_name(self._aid.name + suffix)
                )
        with self._aid.open("r+b") as file:
            file.write(head)
        try:
            with closing(connection(self._aid)) as aided:
                self._make(aided, damaged=True)
        finally:
            _discard(self._aid)

    def _put_in_place(self) -> None:
        self._new.rename(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _swap(self, cause: Exception) -> None:
        """Move the damaged file aside and the fresh one in its place."""
        numbers = self._damaged()
        aside = self._damaged_path(max(numbers, default=0) + 1)
        _move(self.path, aside)
        self._put_in_place()
        self.moved_to = aside
        messages = self.salvaged.messages.total() if self.salvaged else 0
        log.error("outbox damaged, replaced by a new one cause=%s moved_to=%s salvaged=%d", cause, aside, messages)
        for number in sorted(numbers)[: -KEPT_DAMAGED + 1]:
            _discard(self._damaged_path(number))

    def _finish_interrupted_replacement(self) -> None:
        """After a power cut between the two renames the fresh file is whole and waits under its first name."""
        if self.path.exists() or not self._new.exists():
            return
        try:
            with closing(connection(self._new)) as db:
                expect_sound(db)
        except (sqlite3.Error, UnicodeDecodeError):
            return
        _move(self.path, self._damaged_path(max(self._damaged(), default=1)))
        self._put_in_place()

    def _damaged_path(self, number: int) -> Path:
        return self.path.with_name(f"outbox.db.damaged-{number}")

    def _damaged(self) -> list[int]:
        names = (path.name.rpartition("-")[2] for path in self.path.parent.glob("outbox.db.damaged-*"))
        return [int(name) for name in names if name.isdecimal()]


def connection(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """An open file, sound or not.

    Args:
        path: Made if absent, unless it is only read.
        read_only: Beside a running agent, and leaving nothing in its folder that the agent could not open later.
    """
    # Nobody has the file open where it has no log; SQLite would make one, in the name of whoever is looking.
    alone = "" if path.with_name(path.name + "-wal").exists() else "&immutable=1"
    where = f"{path.absolute().as_uri()}?mode=ro{alone}" if read_only else path
    db = sqlite3.connect(where, isolation_level=None, check_same_thread=False, uri=read_only)
    # A flipped bit in a text must not make its row unreadable for ever.
    db.text_factory = lambda text: text.decode(errors="replace")
    db.create_function("checksum", 4, _checksum, deterministic=True)
    return db


def is_older(db: sqlite3.Connection) -> bool:
    """Whether this is an outbox of an older layout."""
    return _kind_and_layout(db) in [(APPLICATION_ID, layout) for layout in OLDER_LAYOUTS]


def expect_sound(db: sqlite3.Connection, *, older: bool = False) -> None:
    """Raise sqlite3.DatabaseError when this is no sound outbox of today's layout, nor, with `older`, of one before."""
    if older and is_older(db):
        _expect_ok(db)
        return
    kind, layout = _kind_and_layout(db)
    if (kind, layout) != (APPLICATION_ID, LAYOUT):
        msg = f"kind {kind:#x} and layout {layout} are not those of an outbox"
        raise sqlite3.DatabaseError(msg)
    _expect_ok(db)
    statements = {sql for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")}
    if statements != set(_TABLES) or not db.execute(_SOUND).fetchone()[0]:
        msg = "a table, the type of a value or the checksum of a message is not as it was made"
        raise sqlite3.DatabaseError(msg)


def _kind_and_layout(db: sqlite3.Connection) -> tuple[int, int]:
    return db.execute("PRAGMA application_id").fetchone()[0], db.execute("PRAGMA user_version").fetchone()[0]


def _expect_ok(db: sqlite3.Connection) -> None:
    (answer,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if answer != "ok":
        raise sqlite3.DatabaseError(answer)


def _checksum(asset: object, seq: object, topic: object, payload: object) -> int | None:
    """For SQL; None where a value is not of its type."""
    if isinstance(asset, str) and isinstance(seq, int) and isinstance(topic, str) and isinstance(payload, bytes):
        return checksum(asset, seq, topic, payload)
    return None


def _move(path: Path, target: Path) -> None:
    for suffix in _COMPANIONS:
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(target.with_name(target.name + suffix))


def _discard(path: Path) -> None:
    for suffix in _COMPANIONS:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
