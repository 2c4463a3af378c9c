"""Online tables in one SQLite file, for one machine: read while they are written (WAL), swapped in one transaction."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tidewheel.errors import StorageUnavailable
from tidewheel.scoring.online import Found, Generation, finished, overtaken

PATIENCE = 30.0  # seconds that a writer waits for another
MOST_IDS = 500  # of one statement
SWEPT = 5_000  # rows of a forgotten generation that are deleted at once, so that readers and writers get between
SCHEMA = """
CREATE TABLE IF NOT EXISTS generation (
  number INTEGER PRIMARY KEY, name TEXT NOT NULL, id TEXT NOT NULL, version TEXT NOT NULL, at INTEGER NOT NULL,
  rows INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL, UNIQUE (name, id)
);
CREATE UNIQUE INDEX IF NOT EXISTS one_live ON generation (name) WHERE state = 'live';
CREATE TABLE IF NOT EXISTS entry (
  number INTEGER NOT NULL, id TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (number, id)
) WITHOUT ROWID;
"""


class SqliteOnline:
    """Tables in a file; each thread has its own connection."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._threads = threading.local()

    def get_many(self, table: str, ids: Sequence[str]) -> list[Found | None]:
        """Return what is live under each id, in one reading transaction."""
        with self._transaction("DEFERRED") as tx:
            number, generation = _live(tx, table)
            values: dict[str, bytes] = {}
            for start in range(0, len(ids) if generation else 0, MOST_IDS):
                some = list(ids[start : start + MOST_IDS])
                marks = ",".join("?" * len(some))
                query = f"SELECT id, value FROM entry WHERE number = ? AND id IN ({marks})"  # noqa: S608 - only marks
                values |= dict(tx.execute(query, (number, *some)).fetchall())
        if generation is None:
            return [None] * len(ids)
        return [
            Found(value=msgspec.json.decode(values[each]), generation=generation) if each in values else None
            for each in ids
        ]

    def put_many(self, table: str, generation: Generation, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Add values to a generation that is being filled."""
        encoded = [(each, msgspec.json.encode(value)) for each, value in values.items()]
        with self._transaction("IMMEDIATE") as tx:
            tx.execute(
                "INSERT INTO generation (name, id, version, at, state) VALUES (?, ?, ?, ?, 'filling')"
                " ON CONFLICT DO NOTHING",
                (table, generation.id, generation.version, generation.at),
            )
            number, state = tx.execute(
                "SELECT number, state FROM generation WHERE name = ? AND id = ?", (table, generation.id)
            ).fetchone()
            if state != "filling":
                raise finished(table, generation)
            tx.executemany(
                "INSERT INTO entry VALUES (?, ?, ?) ON CONFLICT (number, id) DO UPDATE SET value = excluded.value",
                [(number, *each) for each in encoded],
            )

    def swap(self, table: str, generation: Generation) -> Generation:
        """Let a generation answer; what it replaces is deleted afterwards, bit by bit."""
        with self._transaction("IMMEDIATE") as tx:
            _, live = _live(tx, table)
            if live is not None and live.id == generation.id:
                return live
            if live is not None and live.at > generation.at:
                raise overtaken(table, generation, live)
            tx.execute("UPDATE generation SET state = 'old' WHERE name = ? AND state = 'live'", (table,))
            tx.execute(
                "INSERT INTO generation (name, id, version, at, state) VALUES (?, ?, ?, ?, 'live')"
                " ON CONFLICT (name, id) DO UPDATE SET state = 'live'",
                (table, generation.id, generation.version, generation.at),
            )
            tx.execute(
                "UPDATE generation SET rows = (SELECT COUNT(*) FROM entry WHERE entry.number = generation.number)"
                " WHERE name = ? AND state = 'live'",
                (table,),
            )
            _, now = _live(tx, table)
        self._sweep()
        return now or generation

    def live(self, table: str) -> Generation | None:
        """Return the generation that answers."""
        with self._transaction("DEFERRED") as tx:
            return _live(tx, table)[1]

    def expire(self, before: int) -> int:
        """Forget what was begun before a moment."""
        with self._transaction("IMMEDIATE") as tx:
            changed = tx.execute(
                "UPDATE generation SET state = 'old' WHERE at < ? AND state <> 'old'", (before,)
            ).rowcount
        self._sweep()
        return changed

    def _sweep(self) -> None:
        while True:
            with self._transaction("IMMEDIATE") as tx:
                old = tx.execute("SELECT number FROM generation WHERE state = 'old' LIMIT 1").fetchone()
                if old is None:
                    return
                ids = tx.execute("SELECT id FROM entry WHERE number = ? LIMIT ?", (old[0], SWEPT)).fetchall()
                tx.executemany("DELETE FROM entry WHERE number = ? AND id = ?", [(old[0], each[0]) for each in ids])
                if len(ids) < SWEPT:
                    tx.execute("DELETE FROM generation WHERE number = ?", old)

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._connection()
            connection.execute(f"BEGIN {kind}")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise StorageUnavailable(
                f"The online table in {self.file} cannot be used: {error}.", "Check the disk and the file."
            ) from error

    def _connection(self) -> sqlite3.Connection:
        held: sqlite3.Connection | None = getattr(self._threads, "connection", None)
        if held is None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            held = sqlite3.connect(self.file, timeout=PATIENCE, isolation_level=None)
            held.execute("PRAGMA journal_mode = WAL")
            held.execute("PRAGMA synchronous = NORMAL")
            held.executescript(SCHEMA)
            self._threads.connection = held
        return held


def _live(tx: sqlite3.Connection, table: str) -> tuple[int, Generation | None]:
    row = tx.execute(
        "SELECT number, id, version, at, rows FROM generation WHERE name = ? AND state = 'live'", (table,)
    ).fetchone()
    return (row[0], Generation(id=row[1], version=row[2], at=row[3], rows=row[4])) if row else (0, None)
