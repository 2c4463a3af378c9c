"""Write src/tidewheel/database/schema.sql, from which a new SQLite file is made without SQLAlchemy."""

from __future__ import annotations

import sys
from pathlib import Path

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from tidewheel.app import import_tables
from tidewheel.database.migrate import MADE
from tidewheel.database.schema import metadata


def schema() -> str:
    """Return the statements that make every table and index, as SQLAlchemy writes them."""
    import_tables()
    dialect = sqlite.dialect()
    statements: list[str] = []
    for table in metadata.sorted_tables:
        statements.append(str(CreateTable(table).compile(dialect=dialect)).strip())
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        statements += [str(CreateIndex(index).compile(dialect=dialect)).strip() for index in indexes]
    lines = (line.rstrip() for line in ";\n".join(statements).replace("\t", "    ").splitlines())
    return "\n".join(lines) + ";\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(MADE.read_text("utf-8") != schema() and f"{MADE.name} is old; run scripts/write_schema.py")
    Path(MADE).write_text(schema(), "utf-8")
