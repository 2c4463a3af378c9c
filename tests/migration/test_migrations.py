"""A migrated database and a new one are the same; two processes may open a new one at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tidewheel.app import import_tables
from tidewheel.database.database import Database, open_database
from tidewheel.database.migrate import HEAD, prepare, schema_version, upgrade
from tidewheel.errors import Conflict


def shape(database: Database) -> dict[str, Any]:
    inspector = sa.inspect(database.engine)
    found: dict[str, Any] = {}
    for table in inspector.get_table_names():
        columns = {
            item["name"]: (str(item["type"]), item["nullable"], bool(item.get("autoincrement") is True))
            for item in inspector.get_columns(table)
        }
        indexes = {
            (item["name"], tuple(item["column_names"]), bool(item["unique"])) for item in inspector.get_indexes(table)
        }
        unique = {tuple(item["column_names"]) for item in inspector.get_unique_constraints(table)}
        key = tuple(inspector.get_pk_constraint(table)["constrained_columns"])
        found[table] = (columns, indexes, unique, key)
    return found


@pytest.fixture
def two_urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    return f"sqlite:///{tmp_path}/new.db", f"sqlite:///{tmp_path}/migrated.db"


def check_same(new: Database, migrated: Database) -> None:
    prepare(new, import_tables)
    with migrated.transaction() as tx:
        upgrade(tx)
    with migrated.reading() as tx:
        assert schema_version(tx) == HEAD
    assert shape(new) == shape(migrated)
    assert len(shape(new)) > 10
    for database in (new, migrated):
        database.close()


def test_migrations_give_the_schema_of_a_new_database_on_sqlite(two_urls: tuple[str, str]) -> None:
    check_same(*(open_database(url) for url in two_urls))


@pytest.mark.services
def test_migrations_give_the_schema_of_a_new_database_on_postgresql(postgres_url: str) -> None:
    base, name = postgres_url.rsplit("/", 1)
    admin = open_database(postgres_url).engine.execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}_m"))
    other = open_database(f"{base}/{name}_m")
    try:
        check_same(open_database(postgres_url), other)
    finally:
        other.close()
        with admin.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name}_m WITH (FORCE)"))
        admin.dispose()


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/x.db")
    prepare(database, import_tables)
    with database.transaction() as tx:
        tx.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Conflict, match="Update tidewheel"):
        prepare(database, import_tables)
    database.close()


@pytest.mark.slow
def test_four_processes_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from tidewheel.app import open_store; from tidewheel.settings import Settings;"
        f"open_store(Settings(home=Path({str(tmp_path)!r}))).close()"
    )
    openers = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(4)]
    errors = [opener.communicate()[1].decode() for opener in openers]
    assert [opener.returncode for opener in openers] == [0] * 4, errors
