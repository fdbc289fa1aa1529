"""An outbox as an earlier version of this program left it."""

__all__ = ["LAYOUT_1"]

LAYOUT_1 = """
CREATE TABLE message (
        key INTEGER PRIMARY KEY AUTOINCREMENT, asset TEXT NOT NULL, seq INTEGER NOT NULL, topic TEXT NOT NULL,
        payload BLOB NOT NULL, reports INTEGER NOT NULL);
CREATE TABLE sequence (asset TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE dropped (
        asset TEXT NOT NULL, policy TEXT NOT NULL, topic TEXT NOT NULL, total INTEGER NOT NULL,
        unreported INTEGER NOT NULL, PRIMARY KEY (asset, policy)) WITHOUT ROWID;
PRAGMA application_id = 1163284290;
PRAGMA user_version = 1;
INSERT INTO sqlite_sequence VALUES ('message', 9);
INSERT INTO sequence VALUES ('pump', 6), ('fan', 2);
INSERT INTO dropped VALUES ('pump', 'drop_newest', 't/pump/event', 3, 2);
INSERT INTO message VALUES (5, 'pump', 5, 't/pump/event', x'2121', 0), (7, 'pump', 6, 't/pump/event', x'3030', 4);
"""
