"""Bring a database to the schema of this version: made whole when new, else step by step through Alembic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tidewheel.database.database import Database
from tidewheel.database.transaction import Transaction
from tidewheel.errors import Conflict

HEAD = "0002"  # the newest file in migrations/versions
MADE = Path(__file__).with_name("schema.sql")  # the whole schema for SQLite, written by scripts/write_schema.py


def prepare(database: Database, import_tables: Callable[[], None]) -> None:
    """Make the tables of a new database, or migrate an old one; several processes may call it at once.

    `import_tables` imports every room's tables; it is called only where SQLAlchemy has to know them, because that
    takes longer than a whole run. So does Alembic, imported only for an old database.

    Raises Conflict when the database was written by a newer tidewheel.
    """
    with database.reading() as tx:
        found = schema_version(tx)
    if found == HEAD:
        return
    with database.transaction() as tx:
        if tx.dialect == "postgresql":
            tx.rows("SELECT pg_advisory_xact_lock(7143)")
        found = schema_version(tx)
        if found is None:
            _make(tx, import_tables)
        elif found > HEAD:
            raise Conflict(
                f"The database has schema {found}; this tidewheel knows schemas up to {HEAD}.",
                "Update tidewheel: pip install --upgrade tidewheel.",
            )
        elif found < HEAD:
            import_tables()
            upgrade(tx)


def _make(tx: Transaction, import_tables: Callable[[], None]) -> None:
    if tx.dialect == "sqlite":
        for statement in MADE.read_text("utf-8").split(";\n"):
            if statement.strip():
                tx.run(statement)
    else:
        from tidewheel.database.schema import metadata

        import_tables()
        metadata.create_all(tx.alchemy)
    tx.run("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    tx.run("INSERT INTO alembic_version (version_num) VALUES (:head)", head=HEAD)


def schema_version(tx: Transaction) -> str | None:
    """Return the schema version a database stands at; None when it is empty."""
    known = (
        "SELECT 1 AS found FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
        if tx.dialect == "sqlite"
        else "SELECT 1 AS found WHERE to_regclass('alembic_version') IS NOT NULL"
    )
    if tx.row(known) is None:
        return None
    row = tx.row("SELECT version_num FROM alembic_version")
    return None if row is None else str(row["version_num"])


def upgrade(tx: Transaction, to: str = "head") -> None:
    """Run the Alembic migrations from wherever the database stands, inside the caller's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = tx.alchemy
    command.upgrade(config, to)
