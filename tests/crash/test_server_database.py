"""A PostgreSQL server that refuses or goes away: a clear error with its mend, and nothing lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from tidewheel.app import import_tables
from tidewheel.database.database import Database, open_database
from tidewheel.database.migrate import prepare
from tidewheel.errors import StorageUnavailable
from tidewheel.lineage.read import list_entities
from tidewheel.lineage.write import ensure_entity

pytestmark = pytest.mark.services
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def server(postgres_url: str) -> Iterator[Database]:
    database = open_database(postgres_url)
    prepare(database, import_tables)
    yield database
    database.close()


def note(database: Database, name: str) -> None:
    with database.transaction() as tx:
        ensure_entity(tx, "dataset", name, at=NOW)


def names(database: Database) -> list[str]:
    with database.reading() as tx:
        return sorted(entity.name for entity in list_entities(tx, "dataset"))


def test_a_server_gone_read_only_says_so_and_loses_nothing(server: Database, postgres_url: str) -> None:
    note(server, "before")
    admin = open_database(f"{postgres_url}?options=-cdefault_transaction_read_only%3Doff")
    _set_read_only(admin, server, "on")
    with pytest.raises(StorageUnavailable, match=r"cannot be written.*\n.*primary"):
        note(server, "while")
    assert names(server) == ["before"]
    _set_read_only(admin, server, "off")
    note(server, "after")
    assert names(server) == ["after", "before"]
    admin.close()


def _set_read_only(admin: Database, server: Database, mode: str) -> None:
    with admin.transaction() as tx:
        name = admin.engine.url.database
        tx.execute(sa.text(f"ALTER DATABASE {name} SET default_transaction_read_only = {mode}"))
    server.close()  # the setting holds for new connections


def test_a_connection_cut_in_a_transaction_rolls_it_back_and_the_next_one_works(server: Database) -> None:
    def cut() -> None:
        with server.transaction() as tx:
            ensure_entity(tx, "dataset", "lost", at=NOW)
            own = tx.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
            with server.reading() as other:
                other.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": own})
            ensure_entity(tx, "dataset", "lost too", at=NOW)

    note(server, "before")
    with pytest.raises(StorageUnavailable, match=r"does not answer.*\n.*[Ss]tart it"):
        cut()
    note(server, "after")
    assert names(server) == ["after", "before"]


def test_a_server_that_is_not_there_says_how_to_start_it() -> None:
    database = open_database("postgresql://postgres@127.0.0.1:1/nothing")
    with pytest.raises(StorageUnavailable, match=r"127\.0\.0\.1:1.*\n.*Start it"):
        names(database)
