"""Inserts that know ON CONFLICT, in the dialect of the connection; built once per table."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Table


@cache
def insert_into(table: Table, dialect: str) -> Any:
    """Return the dialect's insert into a table; PostgreSQL's module costs 50 ms of CPU to import, so only if needed."""
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
    return insert(table)


@cache
def insert_if_new(table: Table, dialect: str) -> Any:
    """Return the insert that leaves a row of the same key as it is."""
    return insert_into(table, dialect).on_conflict_do_nothing()
