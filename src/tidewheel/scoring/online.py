"""Answers computed ahead, looked up by id: the seam of online tables, their records, and the twin in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import msgspec

from tidewheel.errors import Conflict, InvalidInput


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """One filling of a table; it becomes visible as a whole, in place of the one before."""

    id: str  # of the execution that computed it
    version: str  # name:version of the model that answered
    at: int  # when it was begun, microseconds since 1970 UTC
    rows: int = 0  # entries that it holds; 0 until it is swapped in


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a table holds under an id."""

    value: dict[str, Any]  # what was put: prediction, probabilities, classes
    generation: Generation  # the filling that it comes from


class OnlineStore(Protocol):
    """Tables of values by id; safe for many processes at once. A reader sees one generation or another, never both."""

    def get_many(self, table: str, ids: Sequence[str]) -> list[Found | None]:
        """Return what the live generation holds under each id, all of one generation; None for what it lacks."""
        ...

    def put_many(self, table: str, generation: Generation, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Add values to a generation that is not live yet; an id that is put again has the last value.

        Raises Conflict for a generation that is live or was given up.
        """
        ...

    def swap(self, table: str, generation: Generation) -> Generation:
        """Let a generation answer from now on, forget the one before, and return it with its number of entries.

        A second swap of the same generation changes nothing. Raises Conflict when a generation begun later is live.
        """
        ...

    def live(self, table: str) -> Generation | None:
        """Return the generation that answers; None for a table that none was swapped into."""
        ...

    def expire(self, before: int) -> int:
        """Forget every generation, live or unfinished, begun before a moment (microseconds); return how many."""
        ...


def overtaken(table: str, generation: Generation, live: Generation) -> Conflict:
    """Return the error for a generation that is older than the live one."""
    return Conflict(
        f"The answers {generation.id} for {table} were begun before those that are live ({live.id}).",
        "Nothing to do: newer answers are served.",
    )


def finished(table: str, generation: Generation) -> Conflict:
    """Return the error for values that come for a generation which is not being filled."""
    return Conflict(
        f"The answers {generation.id} for {table} are live already, or were given up.", "Begin a new generation."
    )


class MemoryOnline:
    """Tables in a dictionary, for tests and for one process."""

    def __init__(self) -> None:
        self._filling: dict[tuple[str, str], tuple[Generation, dict[str, dict[str, Any]]]] = {}
        self._live: dict[str, tuple[Generation, dict[str, dict[str, Any]]]] = {}
        self._lock = Lock()

    def get_many(self, table: str, ids: Sequence[str]) -> list[Found | None]:
        """Return what is live under each id."""
        held = self._live.get(table)
        if held is None:
            return [None] * len(ids)
        generation, values = held
        return [Found(value=values[each], generation=generation) if each in values else None for each in ids]

    def put_many(self, table: str, generation: Generation, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Add values to a generation that is being filled."""
        with self._lock:
            live = self._live.get(table)
            if live is not None and live[0].id == generation.id:
                raise finished(table, generation)
            _, held = self._filling.setdefault((table, generation.id), (generation, {}))
            held |= {each: dict(value) for each, value in values.items()}

    def swap(self, table: str, generation: Generation) -> Generation:
        """Let a generation answer."""
        with self._lock:
            live = self._live.get(table)
            if live is not None and live[0].id == generation.id:
                return live[0]
            if live is not None and live[0].at > generation.at:
                raise overtaken(table, generation, live[0])
            _, values = self._filling.pop((table, generation.id), (generation, {}))
            whole = msgspec.structs.replace(generation, rows=len(values))
            self._live[table] = (whole, values)
            return whole

    def live(self, table: str) -> Generation | None:
        """Return the generation that answers."""
        held = self._live.get(table)
        return held[0] if held is not None else None

    def expire(self, before: int) -> int:
        """Forget what was begun before a moment."""
        with self._lock:
            old = [key for key, (generation, _) in self._filling.items() if generation.at < before]
            gone = [table for table, (generation, _) in self._live.items() if generation.at < before]
            for key in old:
                del self._filling[key]
            for table in gone:
                del self._live[table]
        return len(old) + len(gone)


def open_online(url: str, home: Path) -> OnlineStore:
    """Open the online store of a URL: redis://host:6379/0, sqlite:///file; "": `online.db` in the home.

    Raises InvalidInput for another URL, MissingExtra for Redis without its client.
    """
    openers: Mapping[str, Callable[[], OnlineStore]] = {
        "": lambda: _sqlite(home / "online.db"),
        "sqlite": lambda: _sqlite(Path(url.removeprefix("sqlite:///"))),
        "redis": lambda: _redis(url),
        "rediss": lambda: _redis(url),
    }
    scheme = url.split("://", 1)[0]
    if scheme not in openers:
        raise InvalidInput(
            f"{url!r} names no online store.", "Use redis://host:6379/0, sqlite:///file, or leave it out."
        )
    return openers[scheme]()


def _sqlite(file: Path) -> OnlineStore:
    from tidewheel.scoring.online_sqlite import SqliteOnline

    return SqliteOnline(file)


def _redis(url: str) -> OnlineStore:
    from tidewheel.scoring.online_redis import RedisOnline

    return RedisOnline(url)
