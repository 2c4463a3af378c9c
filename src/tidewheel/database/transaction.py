"""One open transaction: plain SQL for what every run executes, SQLAlchemy Core for the rest, on one connection."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, CursorResult
    from sqlalchemy.sql import Executable

_PARAMETER = re.compile(r"(?<!:):([a-z_][a-z_0-9]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Among:
    """A list of values for `IN (...)`."""

    sql: str  # the parameters, as they stand between the brackets
    values: Mapping[str, Any]  # their values by name


def among(name: str, values: Iterable[Any]) -> Among:
    """Name the values of a list.

    >>> among("state", ["LOST", "FAILED"]).sql
    ':state_0, :state_1'
    """
    named = {f"{name}_{place}": value for place, value in enumerate(values)}
    return Among(sql=", ".join(f":{each}" for each in named) or "NULL", values=named)


class Transaction:
    """Statements that are kept together, or not at all.

    `rows`, `row`, `run` take SQL with `:name` parameters, the same text for SQLite and PostgreSQL: times as whole
    microseconds, JSON as text. They cost no import of SQLAlchemy, which takes longer than a whole run of one step;
    `execute` takes its statements, for rooms off that path.
    """

    def __init__(self, dialect: str, raw: Any, connect: Callable[[], Connection]) -> None:
        self.dialect = dialect  # "sqlite" or "postgresql"
        self.locking = " FOR UPDATE" if dialect == "postgresql" else ""  # SQLite has locked the whole file
        self.sinks: tuple[str, ...] = ()  # who outside is told of state changes; set by the database that opens it
        self._raw = raw
        self._connect = connect
        self._alchemy: Connection | None = None

    def rows(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """Return what a query finds, each row by column name."""
        cursor = self._sent(sql, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def row(self, sql: str, **values: Any) -> dict[str, Any] | None:
        """Return the first row that a query finds, or None."""
        cursor = self._sent(sql, values)
        found = cursor.fetchone()
        names = [column[0] for column in cursor.description]
        return None if found is None else dict(zip(names, found, strict=True))

    def run(self, sql: str, **values: Any) -> int:
        """Execute a statement that changes something; return how many rows it changed."""
        return int(self._sent(sql, values).rowcount)

    def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Execute a statement of SQLAlchemy Core."""
        return self.alchemy.execute(statement, parameters)

    @property
    def alchemy(self) -> Connection:
        """SQLAlchemy's connection of this very transaction."""
        if self._alchemy is None:
            self._alchemy = self._connect()
        return self._alchemy

    def _sent(self, sql: str, values: Mapping[str, Any]) -> Any:
        if isinstance(self._raw, sqlite3.Connection):
            return self._raw.execute(sql, values)
        return self._raw.execute(_percent(sql), values)


@lru_cache(maxsize=512)
def _percent(sql: str) -> str:
    """Return SQL in the notation of psycopg."""
    return _PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%"))
