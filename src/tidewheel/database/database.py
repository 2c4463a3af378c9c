"""A database that is open: two kinds of transaction, on SQLite (WAL) or PostgreSQL."""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tidewheel.database.situations import situation
from tidewheel.database.transaction import Transaction
from tidewheel.errors import InvalidInput, MissingExtra, StorageUnavailable

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

BUSY_SECONDS = 30.0
_IDLE = 8  # connections that are kept open between transactions


class Backend(Protocol):
    """What opens transactions on one kind of database."""

    dialect: str  # "sqlite" or "postgresql"
    shown: str  # its URL without the password

    @property
    def engine(self) -> Engine:
        """SQLAlchemy's engine, for migrations and inspection."""
        ...

    def begun(self, *, write: bool) -> AbstractContextManager[Transaction]:
        """Open a transaction that commits at the end of the block and rolls back on an error."""
        ...

    def close(self) -> None:
        """Give all connections back."""
        ...


class Database:
    """A database that is open; give every room the same one."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.dialect = backend.dialect
        self.sinks: tuple[str, ...] = ()  # names of those outside who are told of state changes, through the outbox
        self._listeners: list[Callable[[], None]] = []

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Open a writing transaction: all of it is kept, or none. SQLite takes its one write lock at the start."""
        with self._translated(), self._backend.begun(write=True) as tx:
            tx.sinks = self.sinks
            yield tx
        for heard in self._listeners:
            heard()

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Open a reading transaction: one consistent view."""
        with self._translated(), self._backend.begun(write=False) as tx:
            yield tx

    def listen(self, heard: Callable[[], None]) -> None:
        """Call a function after every writing transaction of this object that has committed."""
        self._listeners.append(heard)

    def close(self) -> None:
        """Give all connections back."""
        self._backend.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            found = situation(error, self._backend.shown)
            if found is None:
                raise
            raise found from error

    @property
    def engine(self) -> Engine:
        """SQLAlchemy's engine, for migrations and inspection."""
        return self._backend.engine


def open_database(url: str) -> Database:
    """Open `sqlite:///path` or `postgresql://user@host/name`.

    Raises InvalidInput for a URL that is not understood, MissingExtra when the driver is not
    installed, StorageUnavailable when the folder cannot be written or the server does not answer.
    """
    kind, mark, _ = url.partition(":")
    if not mark or "/" not in url:
        raise InvalidInput(f"{url!r} is not a database URL.", "Use sqlite:///path or postgresql://user@host/name.")
    if kind == "sqlite":
        return Database(_Sqlite(url.removeprefix("sqlite://").removeprefix("/")))
    if kind.partition("+")[0] in ("postgresql", "postgres"):
        return Database(_PostgreSQL(url))
    raise InvalidInput(f"The database {kind!r} is not supported.", "Use sqlite:///path or postgresql://.")


class _Raw(sqlite3.Connection):
    """A connection that SQLAlchemy cannot close: its view may fail where the connection itself is still good."""

    def close(self) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Close the connection."""
        super().close()


class _Link:
    """One connection to a SQLite file, and SQLAlchemy's view of it once it was asked for."""

    __slots__ = ("alchemy", "raw")

    def __init__(self, raw: _Raw) -> None:
        self.raw = raw
        self.alchemy: Connection | None = None

    def commit(self) -> None:
        """Keep what was written."""
        if self.alchemy is not None and self.alchemy.in_transaction():
            self.alchemy.commit()
        else:
            self.raw.commit()

    def rollback(self) -> None:
        """Undo what was written."""
        with suppress(sqlite3.Error):
            self.raw.rollback()
        if self.alchemy is not None:
            self.alchemy.close()
            self.alchemy = None

    def close(self) -> None:
        """Close the connection."""
        self.rollback()
        self.raw.end()


class _Sqlite:
    dialect = "sqlite"

    def __init__(self, path: str) -> None:
        if not path or path == ":memory:":
            raise InvalidInput("An in-memory SQLite database cannot be shared.", "Give a file: sqlite:///path.")
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageUnavailable(
                f"The folder {Path(path).parent} cannot be made: {error.strerror}.",
                "Choose a home that can be written.",
            ) from error
        self.shown = f"sqlite:///{path}"
        self._path = Path(path)
        self._idle: deque[_Link] = deque()
        self._lending = threading.local()  # the connection that SQLAlchemy is to look at next

    @contextmanager
    def begun(self, *, write: bool) -> Iterator[Transaction]:
        """Open a transaction; one that writes takes the file's write lock at once."""
        if write and not self._path.exists() and self._idle:
            # SQLite would go on writing to a file without a name, lost when it is closed
            raise StorageUnavailable(
                f"The database file {self._path} was deleted or moved while it was open.",
                "Move it back or restore it from a backup, then try again.",
            )
        link = self._link()
        try:
            link.raw.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            yield Transaction(self.dialect, link.raw, lambda: self._seen(link))
            link.commit()
        except BaseException:
            link.rollback()
            raise
        finally:
            if len(self._idle) < _IDLE and not link.raw.in_transaction:
                self._idle.append(link)
            else:
                link.close()

    @cached_property
    def engine(self) -> Engine:
        """SQLAlchemy's engine over connections of ours."""
        import sqlalchemy as sa

        engine = sa.create_engine(self.shown, creator=self._lent, poolclass=sa.pool.NullPool, pool_reset_on_return=None)
        self._lending.raw = sqlite3.connect(":memory:")
        with engine.connect():  # a new engine tries its first connection out and rolls it back: that must not be ours
            self._lending.raw = None
            return engine

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _link(self) -> _Link:
        try:
            return self._idle.pop()
        except IndexError:
            return _Link(self._opened())

    def _opened(self) -> _Raw:
        # Transactions are begun by `begun` alone; a link is used by one thread at a time.
        raw = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, factory=_Raw
        )
        raw.execute("PRAGMA journal_mode=WAL")
        raw.execute("PRAGMA synchronous=NORMAL")
        raw.execute("PRAGMA foreign_keys=ON")
        return raw

    def _seen(self, link: _Link) -> Connection:
        if link.alchemy is None:
            engine = self.engine
            self._lending.raw = link.raw
            try:
                link.alchemy = engine.connect()
            finally:
                self._lending.raw = None
        return link.alchemy

    def _lent(self) -> Any:
        # Without a link somebody looks at the engine itself: an ordinary connection then, which SQLAlchemy may close.
        return getattr(self._lending, "raw", None) or sqlite3.connect(self._path, timeout=BUSY_SECONDS)


class _PostgreSQL:
    dialect = "postgresql"

    def __init__(self, url: str) -> None:
        import sqlalchemy as sa
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError

        try:
            parsed = sa.make_url("postgresql" + url[url.index(":") :]).set(drivername="postgresql+psycopg")
            self.engine = sa.create_engine(parsed, pool_pre_ping=True, connect_args={"connect_timeout": 10})
        except ArgumentError as error:
            raise InvalidInput(
                f"{url!r} is not a database URL.", "Use sqlite:///path or postgresql://user@host/name."
            ) from error
        except (ModuleNotFoundError, NoSuchModuleError) as error:
            raise MissingExtra("psycopg", "postgres") from error
        self.shown = parsed.render_as_string(hide_password=True)

    @contextmanager
    def begun(self, *, write: bool) -> Iterator[Transaction]:
        """Open a transaction; the server locks what it writes."""
        del write
        with self.engine.connect() as connection, connection.begin():
            yield Transaction(self.dialect, connection.connection.driver_connection, lambda: connection)

    def close(self) -> None:
        """Close the pool."""
        self.engine.dispose()
