"""API keys: made once, shown once, stored as a digest, revoked for good."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tidewheel.clock import from_micros, micros, new_id
from tidewheel.database.transaction import Transaction
from tidewheel.database.values import from_json, to_json
from tidewheel.errors import Conflict, InvalidInput, NotFound
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import append_event, check_name

VERBS = ("predict", "outcomes", "read", "manage")
PREFIX = "tw_"  # lets scanners for leaked secrets find it
LONGEST = 200  # characters of a secret; what is longer is not even digested
SHORTEST = 20  # characters of a secret that comes from outside


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What is known of a key; not its secret."""

    name: str  # what the audit log and the access log call it
    models: Sequence[str]  # what it may be used with; empty: all
    verbs: Sequence[str]  # of VERBS
    at: datetime  # when it was made
    by: str  # who made it
    expires: datetime | None  # from when on it is refused
    revoked: datetime | None  # since when it is refused

    def usable(self, at: datetime) -> bool:
        """Whether it opens anything at a moment."""
        return self.revoked is None and (self.expires is None or at < self.expires)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key just made; the only place where its secret stands."""

    key: ApiKey  # what is kept of it
    secret: str  # to be handed to the caller, now or never

    def __repr__(self) -> str:
        """Leave the secret out of logs and tracebacks."""
        return f"NewKey(key={self.key!r}, secret=<hidden>)"


def digest_of(secret: bytes) -> bytes:
    """Return the SHA-256 of a secret: it has 256 random bits, so that nothing slower is needed."""
    return hashlib.sha256(secret).digest()


def create_key(
    store: Store,
    name: str,
    *,
    models: Sequence[str] = (),
    verbs: Sequence[str] = ("predict",),
    expires: timedelta | None = None,
    by: str = "",
) -> NewKey:
    """Make a key, with a governing event; its secret is returned and stored nowhere.

    `models` are those it may be used with (none: all); `verbs` are what it may do; after `expires` it is refused.

    Raises Conflict for a name that is or was in use, NotFound for an unknown verb, InvalidInput for an unusable name.
    """
    check_name("key", name)
    for model in models:
        check_name("model", model)
    for verb in verbs:
        if verb not in VERBS:
            raise NotFound("verb", verb, VERBS)
    if not verbs:
        raise InvalidInput(f"The key {name!r} could do nothing.", f"Give it verbs: {', '.join(VERBS)}.")
    if expires is not None and expires <= timedelta(0):
        raise InvalidInput(f"The key {name!r} would have expired already.", "Give a time ahead, such as 90d.")
    now = store.clock.now()
    key = ApiKey(
        name=name,
        models=tuple(dict.fromkeys(models)),
        verbs=tuple(verb for verb in VERBS if verb in verbs),
        at=now,
        by=by,
        expires=None if expires is None else now + expires,
        revoked=None,
    )
    secret = PREFIX + secrets.token_urlsafe(32)
    with store.database.transaction() as tx:
        _insert(tx, key, digest_of(secret.encode()).hex())
    return NewKey(key=key, secret=secret)


def list_keys(store: Store) -> list[ApiKey]:
    """Return every key there ever was, oldest first."""
    with store.database.reading() as tx:
        return [_key(row) for row in tx.rows("SELECT * FROM api_key ORDER BY at, id")]


def revoke_key(store: Store, name: str, *, by: str = "", reason: str = "") -> ApiKey:
    """Refuse a key from now on, with a governing event; servers follow within their next look.

    Revoking it again changes nothing. Raises NotFound, with near names.
    """
    now = store.clock.now()
    with store.database.transaction() as tx:
        row = tx.row("SELECT * FROM api_key WHERE name = :name", name=name)
        if row is None:
            raise NotFound("key", name, [each["name"] for each in tx.rows("SELECT name FROM api_key")])
        changed = tx.run(
            "UPDATE api_key SET revoked = :at WHERE name = :name AND revoked IS NULL", at=micros(now), name=name
        )
        if changed:
            body = {"name": name, "reason": reason, "text": f"the API key {name} is revoked"}
            append_event(tx, "key.revoked", body, at=now, subject_id=row["id"], by=by, governs=True)
            row = {**row, "revoked": micros(now)}
    return _key(row)


def _insert(tx: Transaction, key: ApiKey, digest: str) -> None:
    key_id = new_id()
    made = tx.run(
        "INSERT INTO api_key (id, name, digest, models, verbs, at, actor, expires) VALUES"
        " (:id, :name, :digest, :models, :verbs, :at, :actor, :expires) ON CONFLICT DO NOTHING",
        id=key_id,
        name=key.name,
        digest=digest,
        models=to_json(key.models),
        verbs=to_json(key.verbs),
        at=micros(key.at),
        actor=key.by,
        expires=None if key.expires is None else micros(key.expires),
    )
    if not made:
        raise Conflict(
            f"There is or was a key named {key.name!r}.",
            "Take another name: the audit log tells keys apart by it. See tidewheel keys list.",
        )
    body = {
        "name": key.name,
        "models": list(key.models),
        "verbs": list(key.verbs),
        "expires": None if key.expires is None else key.expires.isoformat(),
        "text": f"an API key {key.name}: {', '.join(key.verbs)} with {', '.join(key.models) or 'all models'}",
    }
    append_event(tx, "key.created", body, at=key.at, subject_id=key_id, by=key.by, governs=True)


def _key(row: Any) -> ApiKey:
    return ApiKey(
        name=row["name"],
        models=tuple(from_json(row["models"])),
        verbs=tuple(from_json(row["verbs"])),
        at=from_micros(row["at"]),
        by=row["actor"],
        expires=None if row["expires"] is None else from_micros(row["expires"]),
        revoked=None if row["revoked"] is None else from_micros(row["revoked"]),
    )
