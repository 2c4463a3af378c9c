"""Bring a database to the schema of this version: made whole when new, else step by step through Alembic."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tidewheel.database.database import Database
from tidewheel.database.schema import metadata
from tidewheel.errors import Conflict

HEAD = "0002"  # the newest file in migrations/versions
_VERSION_TABLE = sa.table("alembic_version", sa.column("version_num", sa.String))


def prepare(database: Database) -> None:
    """Make the tables of a new database, or migrate an old one; several processes may call it at once.

    All rooms' tables must have been imported. Alembic is imported only when an old database must
    be migrated, because it costs a third of a second of CPU.

    Raises Conflict when the database was written by a newer tidewheel.
    """
    with database.reading() as tx:
        found = schema_version(tx)
    if found == HEAD:
        return
    with database.transaction() as tx:
        if database.dialect == "postgresql":
            tx.execute(sa.text("SELECT pg_advisory_xact_lock(7143)"))
        found = schema_version(tx)
        if found is None:
            metadata.create_all(tx)
            tx.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
            tx.execute(sa.insert(_VERSION_TABLE).values(version_num=HEAD))
        elif found > HEAD:
            raise Conflict(
                f"The database has schema {found}; this tidewheel knows schemas up to {HEAD}.",
                "Update tidewheel: pip install --upgrade tidewheel.",
            )
        elif found < HEAD:
            upgrade(tx)


def schema_version(tx: Connection) -> str | None:
    """Return the schema version a database stands at; None when it is empty."""
    if not sa.inspect(tx).has_table("alembic_version"):
        return None
    return tx.execute(sa.select(_VERSION_TABLE.c.version_num)).scalar()


def upgrade(tx: Connection, to: str = "head") -> None:
    """Run the Alembic migrations from wherever the database stands, inside the caller's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = tx
    command.upgrade(config, to)
