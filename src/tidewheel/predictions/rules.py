"""What of a request is kept in its log: columns left out, hashed or masked, and the share of payloads that is kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any
from zlib import crc32

from tidewheel.errors import InvalidInput, NotFound, StorageUnavailable
from tidewheel.predictions.records import Value

EVERY = "*"  # the name under which rules for all models stand
SHOWN = 2  # characters at the end of a masked text that stay
_COLUMNS = ("drop", "hash", "mask")
_SALT = ".salt"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRules:
    """How the log of one model is kept."""

    drop: frozenset[str] = frozenset()  # columns of which nothing is kept
    hash: frozenset[str] = frozenset()  # columns of which only equality is kept, by a keyed digest
    mask: frozenset[str] = frozenset()  # columns of which the last two characters of a text are kept
    share: float = 1.0  # share of requests whose features are kept, 0 to 1; the rest of the record always is
    days: float = 0.0  # after so many days records are deleted; 0: never

    @property
    def plain(self) -> bool:
        """Whether everything is kept as it comes."""
        return self.share >= 1.0 and not (self.drop or self.hash or self.mask)


def rules_for(tables: Mapping[str, Mapping[str, Any]], model: str) -> LogRules:
    """Return the rules of a model: those of "*" and its own, which win; columns are added up.

    >>> rules = {"*": {"drop": ["email"], "days": 90}, "bikes": {"hash": ["customer"], "share": 0.1}}
    >>> found = rules_for(rules, "bikes")
    >>> sorted(found.drop), sorted(found.hash), found.share, found.days
    (['email'], ['customer'], 0.1, 90.0)

    Raises NotFound for a rule that is not known, InvalidInput for a value that cannot be one.
    """
    general, own = (_checked(name, tables.get(name, {})) for name in (EVERY, model))
    columns: dict[str, Any] = {
        name: frozenset(general.get(name, ())) | frozenset(own.get(name, ())) for name in _COLUMNS
    }
    numbers: dict[str, Any] = {"share": 1.0, "days": 0.0}
    numbers |= {name: float(value) for name, value in (general | own).items() if name in numbers}
    return LogRules(**columns, **numbers)


def check_rules(tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise NotFound or InvalidInput for tables that are no rules."""
    for model in tables:
        rules_for(tables, model)


def _checked(model: str, table: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in table.items():
        place = f"The setting log.{model}.{name} = {value!r} cannot be used"
        if name not in (*_COLUMNS, "share", "days"):
            raise NotFound("rule of the prediction log", name, (*_COLUMNS, "share", "days"), f"See log.{model}.")
        if name in _COLUMNS:
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise InvalidInput(f"{place}.", f'Give a list of columns: {name} = ["email"].')
        elif not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
            raise InvalidInput(f"{place}.", "Give a number that is not negative.")
        elif name == "share" and value > 1:
            raise InvalidInput(f"{place}.", "A share is 0 to 1.")
    return dict(table)


def keeps_payload(request_id: str, share: float) -> bool:
    """Say whether the features of a request are among those that are kept: always the same for the same id.

    >>> keeps_payload("r1", 1.0), keeps_payload("r1", 0.0)
    (True, False)
    """
    return crc32(request_id.encode()) < share * 4294967296.0


class Redaction:
    """Takes the named columns out of rows; for the fields of one model version, in order."""

    def __init__(self, rules: LogRules, fields: Sequence[str], salt: bytes) -> None:
        ways: Mapping[str, Callable[[Value], Value]] = {"hash": partial(hashed, salt=salt), "mask": masked}
        changes: dict[int, Callable[[Value], Value]] = {}
        for place, name in enumerate(fields):
            if name in rules.drop:
                changes[place] = _nothing
            elif way := next((ways[each] for each in ("hash", "mask") if name in getattr(rules, each)), None):
                changes[place] = way
        self.places = tuple(changes)  # columns that are not what they were
        self._changes = tuple(changes.items())

    def rows(self, rows: Sequence[Sequence[Value]]) -> Sequence[Sequence[Value]]:
        """Return the rows without what may not be kept."""
        if not self._changes:
            return rows
        redacted: list[list[Value]] = []
        for row in rows:
            values = list(row)
            for place, change in self._changes:
                if place < len(values):
                    values[place] = change(values[place])
            redacted.append(values)
        return redacted


def hashed(value: Value, salt: bytes) -> Value:
    """Return a digest of 12 characters, the same for the same value under the same salt; None stays None.

    >>> hashed("ann", b"s") == hashed("ann", b"s"), hashed(None, b"s")
    (True, None)
    """
    if value is None:
        return None
    # The key keeps short values, such as telephone numbers, from being found by trying them all.
    return "#" + blake2b(repr(value).encode(), digest_size=6, key=salt).hexdigest()


def masked(value: Value) -> Value:
    """Return a text with all but its last two characters covered; a short one whole, anything else as None.

    >>> masked("4929 1234"), masked("ab"), masked(12.5)
    ('*******34', '**', None)
    """
    if not isinstance(value, str):
        return None
    shown = value[-SHOWN:] if len(value) > 2 * SHOWN else ""
    return "*" * (len(value) - len(shown)) + shown


def salt_of(home: Path) -> bytes:
    """Return the key of the hashes of this home, made when it is first wanted, readable by its owner alone."""
    place = home / "log" / _SALT
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = place.with_name(f"{_SALT}.{os.getpid()}")
        if not place.exists():
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(os.urandom(32))
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(fresh, place)  # whoever comes first wins; the other takes theirs
            fresh.unlink()
        return place.read_bytes()
    except OSError as error:
        raise StorageUnavailable(
            f"The key of hashed columns in {place} cannot be kept: {error.strerror}.", "Give this user write access."
        ) from error


def _nothing(value: Value) -> Value:
    del value
    return None
