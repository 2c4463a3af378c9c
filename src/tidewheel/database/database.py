"""One connection pool, two kinds of transaction, on SQLite (WAL) or PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from tidewheel.errors import InvalidInput, MissingExtra, StorageUnavailable

BUSY_SECONDS = 30.0


class Database:
    """A database that is open; give every room the same one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.dialect = engine.dialect.name  # "sqlite" or "postgresql"

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a writing transaction: all of it is kept, or none. SQLite takes its one write lock at the start."""
        with self._translated(), self._engine.connect() as connection:
            connection.execution_options(tidewheel_write=True)
            with connection.begin():
                yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a reading transaction: one consistent view."""
        with self._translated(), self._engine.connect() as connection, connection.begin():
            yield connection

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise _situation(error, self._engine) from error

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine, for migrations."""
        return self._engine


def open_database(url: str) -> Database:
    """Open `sqlite:///path` or `postgresql://user@host/name`.

    Raises InvalidInput for a URL that is not understood, MissingExtra when the driver is not
    installed, StorageUnavailable when the folder cannot be written or the server does not answer.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidInput(
            f"{url!r} is not a database URL.", "Use sqlite:///path or postgresql://user@host/name."
        ) from error
    if parsed.get_backend_name() == "sqlite":
        return Database(_sqlite(parsed.database or ""))
    if parsed.get_backend_name() in ("postgresql", "postgres"):
        return Database(_postgresql(url))
    raise InvalidInput(
        f"The database {parsed.get_backend_name()!r} is not supported.", "Use sqlite:///path or postgresql://."
    )


def _sqlite(path: str) -> Engine:
    if not path or path == ":memory:":
        raise InvalidInput("An in-memory SQLite database cannot be shared.", "Give a file: sqlite:///path.")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageUnavailable(
            f"The folder {Path(path).parent} cannot be made: {error.strerror}.", "Choose a home that can be written."
        ) from error
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_SECONDS})
    sa.event.listen(engine, "connect", _sqlite_connect)
    sa.event.listen(engine, "begin", _sqlite_begin)
    return engine


def _sqlite_connect(connection: Any, record: object) -> None:
    del record
    connection.isolation_level = None  # transactions are begun by _sqlite_begin alone
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _sqlite_begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("tidewheel_write", False)
    path = Path(connection.engine.url.database or "")
    if write and not path.exists():  # SQLite would go on writing to a file without a name, lost when it is closed
        raise StorageUnavailable(
            f"The database file {path} was deleted or moved while it was open.",
            "Move it back or restore it from a backup, then try again.",
        )
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _postgresql(url: str) -> Engine:
    parsed = make_url("postgresql" + url[url.index(":") :]).set(drivername="postgresql+psycopg")
    try:
        return sa.create_engine(parsed, pool_pre_ping=True, connect_args={"connect_timeout": 10})
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise MissingExtra("psycopg", "postgres") from error


_SITUATIONS = (
    ("disk is full", "The disk that holds the database is full", "Free room and try again; nothing was half written."),
    ("No space left", "The disk that holds the database is full", "Free room and try again; nothing was half written."),
    ("readonly database", "The database cannot be written", "Give this user write access to its file and folder."),
    ("unable to open", "The database file cannot be opened", "Check that its folder exists and can be written."),
    ("disk I/O error", "The database file cannot be read or written", "Check the disk and its free room."),
    (
        "not a database",
        "The database file is damaged or not SQLite",
        "Restore a backup or choose another home.",
    ),
    ("malformed", "The database file is damaged", "Restore it from a backup."),
    (
        "no such table",
        "The database holds no tables of tidewheel",
        "Restore it from a backup, or restart to begin anew.",
    ),
    (
        "read-only transaction",
        "The database cannot be written",
        "Connect to the primary server, or lift read-only mode.",
    ),
    ("database is locked", "Another process holds the database for long", "Stop the other process or use PostgreSQL."),
    ("connection", "The database server does not answer", "Start it, or correct database_url."),
)


def _situation(error: DBAPIError, engine: Engine) -> SQLAlchemyError | StorageUnavailable:
    text = str(error.orig)
    for mark, what, mend in _SITUATIONS:
        if mark in text:
            place = engine.url.render_as_string(hide_password=True)
            return StorageUnavailable(f"{what} ({place}): {text.strip().splitlines()[0]}.", mend)
    return error
