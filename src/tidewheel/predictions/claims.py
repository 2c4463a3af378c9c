"""Which answer an outcome belongs to, and which rows have one already; on disk beyond the first megabytes."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tidewheel.predictions.records import Label, Outcome

CACHE_KIB = 8_192  # what stays in memory; the rest is in a temporary file that SQLite deletes
DIGITS = 10  # a longer number behind a slash is no row

_TABLES = """
CREATE TABLE segment (number INTEGER PRIMARY KEY, name TEXT UNIQUE);
CREATE TABLE answer (request TEXT PRIMARY KEY, segment INTEGER, offset INTEGER, rows INTEGER) WITHOUT ROWID;
CREATE TABLE joined (request TEXT, row INTEGER, PRIMARY KEY (request, row)) WITHOUT ROWID;
CREATE TABLE orphan (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, request TEXT, at INTEGER, label BLOB);
CREATE INDEX orphan_request ON orphan (request);
"""
_ANSWER = "SELECT name, offset, rows FROM answer JOIN segment ON number = segment WHERE request = ?"


class Place(NamedTuple):
    """Where an answer stands in the log."""

    segment: str  # file name
    offset: int  # bytes
    rows: int  # rows it answered


class Seen(NamedTuple):
    """An answer that the log holds."""

    request: str  # its id
    place: Place  # where it stands


class Claim(NamedTuple):
    """An outcome that was joined."""

    place: Place  # the answer
    row: int  # which of its rows
    outcome: Outcome  # what turned out to be true


class Claims:
    """What a joiner remembers of the part of the log that it has read."""

    def __init__(self) -> None:
        self.duplicates = 0  # outcomes for a row that had one already
        self.orphans = 0  # outcomes that wait for a prediction nobody has seen yet
        self._segments: dict[str, int] = {}
        self._label = msgspec.msgpack.Decoder(Label)
        self._due: dict[int, Outcome] = {}  # orphans whose answer may have come, by number
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for name, value in (("journal_mode", "OFF"), ("synchronous", "OFF"), ("cache_size", f"-{CACHE_KIB}")):
            self._db.execute(f"PRAGMA {name} = {value}")
        self._db.execute("PRAGMA temp_store = FILE")
        self._db.executescript(_TABLES)
        self._db.execute("BEGIN")  # never ended: nobody else looks, and a statement alone costs ten times as much

    def see(self, answers: Sequence[Seen]) -> None:
        """Take note of answers in the order of the log; where an id comes twice, the first counts."""
        rows = [(request, self._number(place.segment), place.offset, place.rows) for request, place in answers]
        self._db.executemany("INSERT OR IGNORE INTO answer VALUES (?, ?, ?, ?)", rows)
        if self.orphans:
            for request, _ in answers:
                self._awaken(request)

    def take(self, outcomes: Sequence[Outcome]) -> list[Claim]:
        """Return what outcomes claim, those first that have waited for an answer."""
        found: list[Claim] = []
        due, self._due = sorted(self._due.items()), {}
        for seq, outcome in due:
            request, row, place = self._answer(outcome.id)
            if place is not None and row is not None:
                self._db.execute("DELETE FROM orphan WHERE seq = ?", (seq,))
                self.orphans -= 1
                self._claim(found, request, row, place, outcome)
        for outcome in outcomes:
            request, row, place = self._answer(outcome.id)
            if place is not None and row is not None:
                self._claim(found, request, row, place, outcome)
            else:
                self._wait(request, outcome)
        return found

    def _claim(self, found: list[Claim], request: str, row: int, place: Place, outcome: Outcome) -> None:
        if self._db.execute("INSERT OR IGNORE INTO joined VALUES (?, ?)", (request, row)).rowcount:
            found.append(Claim(place, row, outcome))
        else:
            self.duplicates += 1

    def _wait(self, request: str, outcome: Outcome) -> None:
        values = (outcome.id, request, outcome.at, msgspec.msgpack.encode(outcome.label))
        if self._db.execute("INSERT OR IGNORE INTO orphan VALUES (NULL, ?, ?, ?, ?)", values).rowcount:
            self.orphans += 1
        else:
            self.duplicates += 1

    def _awaken(self, request: str) -> None:
        query = "SELECT seq, id, at, label FROM orphan WHERE request = ?1 OR id = ?1"
        for seq, name, at, label in self._db.execute(query, (request,)):
            self._due[seq] = Outcome(id=name, at=at, label=self._label.decode(label))

    def _answer(self, outcome_id: str) -> tuple[str, int | None, Place | None]:
        """Return the request that a row id names, which row, and its answer; None for what is not there (yet)."""
        place = self._place(outcome_id)
        if place is not None:
            return outcome_id, 0 if place.rows == 1 else None, place
        request, slash, row = outcome_id.rpartition("/")
        if slash and row.isascii() and row.isdigit() and len(row) < DIGITS:
            place = self._place(request)
            number = int(row)
            return request, number if place is not None and number < place.rows else None, place
        return outcome_id, None, None

    def _place(self, request: str) -> Place | None:
        found = self._db.execute(_ANSWER, (request,)).fetchone()
        return None if found is None else Place(*found)

    def _number(self, segment: str) -> int:
        number = self._segments.get(segment)
        if number is None:
            number = self._segments[segment] = len(self._segments)
            self._db.execute("INSERT INTO segment VALUES (?, ?)", (number, segment))
        return number
