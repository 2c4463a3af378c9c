"""Transactions, the two column types, and errors that say what to do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from tidewheel.clock import from_micros, micros, new_id
from tidewheel.database.database import Database, open_database
from tidewheel.database.schema import Json, Utc
from tidewheel.errors import InvalidInput, StorageUnavailable

metadata = sa.MetaData()
note = sa.Table(
    "note", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("at", Utc), sa.Column("body", Json)
)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path}/x.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    opened = open_database(url)
    metadata.create_all(opened.engine)
    yield opened
    opened.close()


def test_moments_and_json_come_back_as_they_went_in(database: Database) -> None:
    at = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
    body = {"b": [1, 2.5, None, "ü"], "a": {"x": True}}
    with database.transaction() as tx:
        tx.execute(sa.insert(note).values(id=1, at=at, body=body))
        tx.execute(sa.insert(note).values(id=2, at=None, body=None))
    with database.reading() as tx:
        rows = tx.execute(sa.select(note).order_by(note.c.id)).all()
    assert [tuple(row) for row in rows] == [(1, at, body), (2, None, None)]


def test_a_naive_moment_is_refused(database: Database) -> None:
    naive = datetime(2026, 3, 1)  # noqa: DTZ001 - the mistake under test
    with database.transaction() as tx, pytest.raises(sa.exc.StatementError, match="without time zone"):
        tx.execute(sa.insert(note).values(id=1, at=naive))


def test_nothing_is_kept_when_a_transaction_fails(database: Database) -> None:
    def fails() -> None:
        with database.transaction() as tx:
            tx.execute(sa.insert(note).values(id=1))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    with database.reading() as tx:
        assert tx.execute(sa.select(sa.func.count()).select_from(note)).scalar() == 0


def test_writers_queue_and_none_is_lost(database: Database) -> None:
    def write(start: int) -> None:
        for number in range(start, start + 25):
            with database.transaction() as tx:
                tx.execute(sa.insert(note).values(id=number))

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as tx:
        assert tx.execute(sa.select(sa.func.count()).select_from(note)).scalar() == 100


@pytest.mark.parametrize("url", ["nonsense", "mysql://x/y", "sqlite://", "sqlite:///:memory:"])
def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="sqlite:///path"):
        open_database(url)


def test_a_server_that_does_not_answer_is_named() -> None:
    with (
        pytest.raises(StorageUnavailable, match="Start it"),
        open_database("postgresql://nobody@127.0.0.1:1/x").reading(),
    ):
        pass


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StorageUnavailable, match="Restore"), open_database(f"sqlite:///{tmp_path}/x.db").reading():
        pass


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)))  # noqa: DTZ001 - made aware below
def test_microseconds_round_trip(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC)
    assert from_micros(micros(aware)) == aware


def test_ids_are_uuid7_and_in_order_of_time() -> None:
    import time
    import uuid

    first = new_id()
    time.sleep(0.002)
    second = new_id()
    assert uuid.UUID(first).version == 7
    assert uuid.UUID(first).variant == uuid.RFC_4122
    assert first < second
