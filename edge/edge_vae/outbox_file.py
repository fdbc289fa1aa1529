"""The SQLite file of the outbox: made whole or not at all, checked when opened, moved aside when damaged."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from edge_vae.errors import OutboxError

__all__ = ["LOCK", "OutboxFile"]

log = logging.getLogger(__name__)

LOCK = "outbox.lock"
"""Locked by the process that uses the outbox, in the same folder."""
APPLICATION_ID = 0x45564F42  # "EVOB"
LAYOUT = 2
KEPT_DAMAGED = 3
"""So many damaged files stay for a person to look at: a dying card must not fill up with them."""

_COMPANIONS = ("", "-wal", "-shm", "-journal")
"""A database and what SQLite lays beside it. The database is moved first: what is left then belongs to nothing."""
_TABLES = (
    """CREATE TABLE message (
        key INTEGER PRIMARY KEY AUTOINCREMENT, asset TEXT NOT NULL, seq INTEGER NOT NULL, topic TEXT NOT NULL,
        payload BLOB NOT NULL, reports INTEGER NOT NULL)""",
    "CREATE TABLE sequence (asset TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE dropped (
        asset TEXT NOT NULL, policy TEXT NOT NULL, topic TEXT NOT NULL, total INTEGER NOT NULL,
        unreported INTEGER NOT NULL, PRIMARY KEY (asset, policy)) WITHOUT ROWID""",
    """CREATE TABLE kept (
        asset TEXT NOT NULL, what TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (asset, what)) WITHOUT ROWID""",
)
_ADDED = {1: _TABLES[3:]}
"""What a file of an older layout lacks."""
_SOUND = """SELECT
    NOT EXISTS (SELECT 1 FROM message WHERE typeof(payload) <> 'blob' OR typeof(seq) <> 'integer'
                OR typeof(asset) <> 'text' OR typeof(topic) <> 'text' OR typeof(reports) <> 'integer' OR key >= 1 << 62)
    AND NOT EXISTS (SELECT 1 FROM sequence WHERE typeof(last) <> 'integer')
    AND NOT EXISTS (SELECT 1 FROM dropped WHERE typeof(total) <> 'integer' OR typeof(unreported) <> 'integer')
    AND NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE seq >= 1 << 62)"""
_KEPT_SOUND = """SELECT NOT EXISTS (SELECT 1 FROM kept WHERE typeof(value) <> 'blob' OR typeof(asset) <> 'text'
    OR typeof(what) <> 'text')"""


class OutboxFile:
    """`outbox.db` in a folder, used by one process at a time.

    A new file is made under another name and then renamed, so that a power cut leaves either none or a whole one. A
    file that is no sound outbox (torn, zeroed, garbage, of another layout) is renamed to `outbox.db.damaged-<n>`.

    Args:
        folder: Made if absent.
        fill: Called inside the transaction that makes a new file, with True when it replaces a damaged one.

    Raises:
        OutboxError: The folder cannot be written, or another process uses it.
    """

    def __init__(self, folder: Path, fill: Callable[[sqlite3.Connection, bool], None]) -> None:
        self.path = folder / "outbox.db"
        self._new = folder / "outbox.db.new"
        self._fill = fill
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
            self._make(replaces=True)
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
            self._make(replaces=False)
            self._put_in_place()
        try:
            return self._connect()
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter: a message of SQLite that quotes garbage
            if "locked" in str(error):
                raise
            # That a fresh one can be made beside it shows that the file is at fault, and not the disk.
            self._make(replaces=True)
            self._swap(error)
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = _connection(self.path)
        try:
            _check(db)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA cache_size = -512")  # KiB; the device's memory is for the model
            # Fails where a damaged header says that the file is read-only.
            db.execute("BEGIN IMMEDIATE")
            added = _ADDED.get(_layout(db), ())
            for statement in (*added, f"PRAGMA user_version = {LAYOUT}"):
                db.execute(statement)
            db.execute("COMMIT" if added else "ROLLBACK")
        except BaseException:
            db.close()
            raise
        return db

    def _make(self, *, replaces: bool) -> None:
        _discard(self._new)
        with closing(_connection(self._new)) as db:
            db.execute("BEGIN IMMEDIATE")
            for statement in (*_TABLES, f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {LAYOUT}"):
                db.execute(statement)
            self._fill(db, replaces)
            db.execute("COMMIT")

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
        log.error("outbox damaged, replaced by an empty one cause=%s moved_to=%s", cause, aside)
        for number in sorted(numbers)[: -KEPT_DAMAGED + 1]:
            _discard(self._damaged_path(number))

    def _finish_interrupted_replacement(self) -> None:
        """After a power cut between the two renames the fresh file is whole and waits under its first name."""
        if self.path.exists() or not self._new.exists():
            return
        try:
            with closing(_connection(self._new)) as db:
                _check(db)
        except (sqlite3.Error, UnicodeDecodeError):
            return
        _move(self.path, self._damaged_path(max(self._damaged(), default=1)))
        self._put_in_place()

    def _damaged_path(self, number: int) -> Path:
        return self.path.with_name(f"outbox.db.damaged-{number}")

    def _damaged(self) -> list[int]:
        names = (path.name.rpartition("-")[2] for path in self.path.parent.glob("outbox.db.damaged-*"))
        return [int(name) for name in names if name.isdecimal()]


def _connection(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    # A flipped bit in a text must not make its row unreadable for ever.
    db.text_factory = lambda text: text.decode(errors="replace")
    return db


def _layout(db: sqlite3.Connection) -> int:
    layout: int = db.execute("PRAGMA user_version").fetchone()[0]
    return layout


def _check(db: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError when this is no sound outbox, of this layout or of an older one."""
    (kind,), layout = db.execute("PRAGMA application_id").fetchone(), _layout(db)
    if kind != APPLICATION_ID or layout not in (LAYOUT, *_ADDED):
        msg = f"kind {kind:#x} and layout {layout} are not those of an outbox"
        raise sqlite3.DatabaseError(msg)
    (answer,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if answer != "ok":
        raise sqlite3.DatabaseError(answer)
    tables = {sql for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")}
    lacking = set(_ADDED.get(layout, ()))
    types = (_SOUND,) if lacking else (_SOUND, _KEPT_SOUND)
    if tables != set(_TABLES) - lacking or not all(db.execute(sound).fetchone()[0] for sound in types):
        msg = "a table or the type of a value is not as it was made"
        raise sqlite3.DatabaseError(msg)


def _move(path: Path, target: Path) -> None:
    for suffix in _COMPANIONS:
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(target.with_name(target.name + suffix))


def _discard(path: Path) -> None:
    for suffix in _COMPANIONS:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
