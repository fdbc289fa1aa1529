"""An outbox as somebody sees it who only looks: it may be in use by an agent, and stays as it is."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from edge_vae.errors import OutboxError
from edge_vae.outbox_file import connection, expect_sound, is_older

__all__ = ["document", "fault", "lines", "opened", "text"]

Document = dict[str, Any]

_MESSAGES = "SELECT key, asset, seq, topic, payload, parted FROM message ORDER BY key"
_ASIDE = "SELECT key, asset, seq, topic, payload, reason FROM set_aside ORDER BY key"


@contextmanager
def opened(folder: Path) -> Iterator[sqlite3.Connection]:
    """The file, to be read.

    Raises:
        OutboxError: There is none, or it is damaged; also while it is read.
    """
    path = _existing(folder)
    try:
        with closing(connection(path, read_only=True)) as db:
            if is_older(db):
                raise _unreadable(path, "one of an older layout", "Bring it up to date with: edge-vae outbox repair")
            yield db
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error), "See what is wrong with: edge-vae outbox check") from error


def fault(folder: Path) -> str | None:
    """What is wrong with the file; None if it is sound.

    Raises:
        OutboxError: There is none, or it may not be read.
    """
    path = _existing(folder)
    try:
        with closing(connection(path, read_only=True)) as db:
            expect_sound(db, older=True)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return str(error)
    return None


def document(db: sqlite3.Connection, *, limit: int) -> Document:
    """What waits: by asset, the first messages one by one, all that was set aside, and what was dropped so far."""
    summary = """SELECT asset, COUNT(*) AS messages, SUM(LENGTH(payload)) AS bytes, MIN(seq) AS first_seq,
        MAX(seq) AS last_seq FROM message GROUP BY asset"""
    first = [_listed(row) for row in _dicts(db, f"{_MESSAGES} LIMIT {limit}")]
    return {
        "assets": list(_dicts(db, summary)),
        "messages": first,
        "set_aside": [_listed(row) for row in _dicts(db, _ASIDE)],
        "dropped": list(_dicts(db, "SELECT asset, policy, total, unreported FROM dropped ORDER BY asset, policy")),
    }


def text(document: Document) -> str:
    """The document for a person."""
    out = [
        f"{row['asset']}: {row['messages']} messages, {row['bytes']} bytes, seq {row['first_seq']} to {row['last_seq']}"
        for row in document["assets"]
    ] or ["no message waits"]
    for row in document["messages"]:
        parted = f"  {row['parted']} connections ended over it" if row["parted"] else ""
        out.append(f"  {row['time']:<27} {row['asset']} seq {row['seq']} {row['event']} {row['bytes']} bytes{parted}")
    waiting = sum(row["messages"] for row in document["assets"])
    if (more := waiting - len(document["messages"])) > 0:
        out.append(f"  and {more} more")
    out += [
        f"set aside: {row['asset']} seq {row['seq']} {row['event']} {row['bytes']} bytes: {row['reason']}"
        for row in document["set_aside"]
    ]
    out += [
        f"dropped: {row['asset']} {row['total']} by {row['policy']}, {row['unreported']} not told yet"
        for row in document["dropped"]
    ]
    return "\n".join(out)


def lines(db: sqlite3.Connection) -> Iterator[Document]:
    """Every message, and what to know about it besides."""
    for select, aside in ((_MESSAGES, False), (_ASIDE, True)):
        for row in _dicts(db, select):
            yield {
                "key": row["key"],
                "asset": row["asset"],
                "seq": row["seq"],
                "topic": row["topic"],
                "set_aside": row.get("reason") if aside else None,
                "message": _message(row["payload"]),
            }


def _existing(folder: Path) -> Path:
    path = folder / "outbox.db"
    if not path.is_file():
        raise OutboxError(
            str(path),
            expected="an outbox",
            received="no file",
            action="Name the folder with --state-dir, or the agent's configuration with --config.",
        )
    if not os.access(path, os.R_OK):
        raise _unreadable(path, "no permission", "Run it as root or as the agent's user.")
    return path


def _unreadable(path: Path, received: str, action: str) -> OutboxError:
    return OutboxError(str(path), expected="an outbox that can be read", received=received, action=action)


def _dicts(db: sqlite3.Connection, select: str) -> Iterator[Document]:
    cursor = db.execute(select)
    names = [column[0] for column in cursor.description]
    return (dict(zip(names, row, strict=True)) for row in cursor)


def _listed(row: Document) -> Document:
    payload: bytes = row.pop("payload")
    message = _message(payload)
    facts = message if isinstance(message, dict) else {}
    return row | {"event": facts.get("event", ""), "time": facts.get("time", ""), "bytes": len(payload)}


def _message(payload: bytes) -> Any:
    """The message; its text where it is no JSON."""
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode(errors="replace")
