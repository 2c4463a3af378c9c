"""What a driver's error means for who meets it: what happened, and how to mend it."""

from __future__ import annotations

import sqlite3

from tidewheel.errors import StorageUnavailable

_FULL = ("The disk that holds the database is full", "Free room and try again; nothing was half written.")
_SITUATIONS = (
    ("disk is full", *_FULL),
    ("No space left", *_FULL),
    ("readonly database", "The database cannot be written", "Give this user write access to its file and folder."),
    ("unable to open", "The database file cannot be opened", "Check that its folder exists and can be written."),
    ("disk I/O error", "The database file cannot be read or written", "Check the disk and its free room."),
    ("not a database", "The database file is damaged or not SQLite", "Restore a backup or choose another home."),
    ("malformed", "The database file is damaged", "Restore it from a backup."),
    (
        "no such table",
        "The database holds no tables of tidewheel",
        "Restore it from a backup, or restart to begin anew.",
    ),
    (
        "read-only transaction",
        "The database cannot be written",
        "Connect to the primary server, or lift read-only mode.",
    ),
    ("database is locked", "Another process holds the database for long", "Stop the other process or use PostgreSQL."),
    ("connection", "The database server does not answer", "Start it, or correct database_url."),
)
# What may be over soon: room is made, another process ends, a server is started again.
_PASSING = ("disk is full", "No space left", "unable to open", "disk I/O error", "database is locked", "connection")


def situation(error: Exception, shown: str) -> StorageUnavailable | None:
    """Return what an error of the driver means, None when it is another kind of error."""
    cause = getattr(error, "orig", None) or error  # SQLAlchemy wraps the driver's own
    if not isinstance(cause, sqlite3.Error) and not type(cause).__module__.startswith("psycopg"):
        return None
    text = str(cause)
    for mark, what, mend in _SITUATIONS:
        if mark in text:
            line = text.strip().splitlines()[0]
            return StorageUnavailable(f"{what} ({shown}): {line}.", mend, passing=mark in _PASSING)
    return None
