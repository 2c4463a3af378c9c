"""Who may do what: the check that each request passes before anything of it is decoded.

The secret that a caller shows is digested, and the digest is looked up: how long that takes depends on the length of
what was shown, never on how much of a stored secret was guessed, because no secret is stored or compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from tidewheel.database.values import from_json
from tidewheel.errors import Forbidden, InvalidInput, TidewheelError, Unauthorized
from tidewheel.lineage.store import Store
from tidewheel.serving.keys import LONGEST, SHORTEST, VERBS, digest_of

VARIABLE = "TIDEWHEEL_API_KEY"
OPEN = frozenset({"live", "ready", "ping"})  # health probes
MODELLESS = frozenset({"server", "version", "outcomes"})  # name no model, or name it later
_VERB_OF: Mapping[str, str] = {
    "predict": "predict",
    "infer": "predict",
    "invocations": "predict",
    "explain": "predict",
    "lookup": "predict",
    "outcomes": "outcomes",
    "server": "read",
    "version": "read",
    "model": "read",
    "model_ready": "read",
    "metrics": "read",
    "docs": "read",
    "openapi": "read",
    "index": "read",
}
_ASK = "Send it as 'authorization: Bearer KEY' or 'x-api-key: KEY'. One is made with: tidewheel keys create NAME"

Headers = Mapping[bytes, bytes]  # by name in lower case
Refusal = TypeVar("Refusal", Unauthorized, Forbidden)


class Grant(msgspec.Struct, frozen=True, gc=False):
    """What a key opens."""

    name: str  # of the key
    models: frozenset[str]  # what it may be used with; empty: all
    verbs: frozenset[str]  # what it may do
    expires: int = 0  # from when on it is refused, microseconds since 1970; 0: never
    revoked: bool = False  # whether it opens nothing any more


class _Ring(msgspec.Struct, frozen=True):
    """The keys there are at one moment."""

    grants: dict[bytes, Grant]  # by the digest of the secret
    revision: tuple[int, int]  # keys made, keys revoked: neither ever shrinks, and nothing else changes


NOBODY = Grant("", frozenset(), frozenset())
_ANYBODY = Grant("anonymous", frozenset(), frozenset(VERBS) - {"manage"})
_HOLDER = Grant(VARIABLE, frozenset(), frozenset(VERBS) - {"manage"})  # of the secret in the environment


def verb_of(action: str) -> str:
    """Return the verb that an operation needs; what nobody has thought of needs the strongest.

    >>> verb_of("infer"), verb_of("format_disk")
    ('predict', 'manage')
    """
    return _VERB_OF.get(action, "manage")


class Gate:
    """Lets requests in, or says why not. One thread calls `refresh`, others may ask meanwhile.

    While no key was ever made, everybody is let in; once one was made, also when all are revoked, callers need one.
    `secret` opens everything but `manage`, as in a container that has no store of its own to keep keys in. `anonymous`
    lets callers without a key do the same.
    """

    def __init__(self, store: Store, now_us: Callable[[], int], *, secret: str = "", anonymous: bool = False) -> None:
        self.closed = True  # whether callers are asked at all; until the keys were read, nobody comes in
        self.refused: dict[str, int] = {}  # reason -> requests
        self._store = store
        self._now_us = now_us
        self._anonymous = anonymous
        self._fixed = {digest_of(secret.encode()): _HOLDER} if check_secret(secret) else {}
        self._ring = _Ring(dict(self._fixed), (-1, -1))

    def refresh(self) -> None:
        """Look which keys there are."""
        with self._store.database.reading() as tx:
            count = tx.row("SELECT COUNT(*) AS made, COUNT(revoked) AS revoked FROM api_key")
            revision = (count["made"], count["revoked"]) if count else (0, 0)
            if revision == self._ring.revision:
                return
            rows = tx.rows("SELECT name, digest, models, verbs, expires, revoked FROM api_key")
        grants = {
            bytes.fromhex(row["digest"]): Grant(
                row["name"],
                frozenset(from_json(row["models"])),
                frozenset(from_json(row["verbs"])),
                row["expires"] or 0,
                row["revoked"] is not None,
            )
            for row in rows
        }
        self._ring = _Ring(self._fixed | grants, (len(rows), sum(row["revoked"] is not None for row in rows)))
        self.closed = bool(self._ring.grants)

    def usable(self) -> bool:
        """Whether any key opens anything now."""
        return not all(map(self._is_over, self._ring.grants.values()))

    def refusal(self, headers: Headers, verb: str, model: str | None) -> TidewheelError | None:
        """Return why a caller may not do something with a model ("": all, None: none of them); None: it may."""
        if not self.closed:
            return None
        grant = self._ring.grants.get(digest_of(_shown(headers)))
        if grant is None:
            if not self._anonymous or _shows(headers):
                return self._unknown(headers)
            grant = _ANYBODY
        if self._is_over(grant):
            return self._refuse("revoked" if grant.revoked else "expired", _ended(grant))
        if verb in grant.verbs and (not grant.models or model is None or model in grant.models):
            return None
        return self._refuse("scope", _beyond(grant, verb, model))

    def caller(self, headers: Headers) -> str:
        """Return the name of the key that a caller shows; "" for none, or one that opens nothing."""
        grant = self._ring.grants.get(digest_of(_shown(headers)), NOBODY)
        return "" if self._is_over(grant) else grant.name

    def _is_over(self, grant: Grant) -> bool:
        return grant.revoked or 0 < grant.expires <= self._now_us()

    def _unknown(self, headers: Headers) -> Unauthorized:
        if not _shows(headers):
            return self._refuse("missing", Unauthorized("This server asks for an API key; the request has none.", _ASK))
        if not _shown(headers):
            text = "The credentials of the request are no API key: they are empty, too long, or of another scheme."
            return self._refuse("malformed", Unauthorized(text, _ASK))
        return self._refuse("unknown", Unauthorized("The API key of the request is not known here.", _ASK))

    def _refuse(self, reason: str, error: Refusal) -> Refusal:
        self.refused[reason] = self.refused.get(reason, 0) + 1
        return error


def check_secret(secret: str) -> bool:
    """Return whether a secret from outside is given; raises InvalidInput, without the secret, for a weak one."""
    if not secret:
        return False
    if not (SHORTEST <= len(secret) <= LONGEST and secret.isascii() and secret.isprintable() and " " not in secret):
        raise InvalidInput(
            f"The variable {VARIABLE} cannot be used as an API key.",
            f"Give it {SHORTEST} to {LONGEST} printable ASCII characters without spaces, chosen by chance.",
        )
    return True


def _shown(headers: Headers) -> bytes:
    """Return the secret that a request shows; b"" for none or one that cannot be a key."""
    shown = headers.get(b"x-api-key")
    if shown is None:
        scheme, _, shown = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return b""
        shown = shown.strip()
    return shown if len(shown) <= LONGEST else b""


def _shows(headers: Headers) -> bool:
    return b"x-api-key" in headers or b"authorization" in headers


def _ended(grant: Grant) -> Unauthorized:
    word = "was revoked" if grant.revoked else "has expired"
    return Unauthorized(f"The API key {grant.name!r} {word}.", "Make another one: tidewheel keys create NAME")


def _beyond(grant: Grant, verb: str, model: str | None) -> Forbidden:
    wish = f"{verb} with the model {model!r}" if model else f"{verb} what concerns all models"
    wish = verb if model is None else wish
    can = f"{', '.join(sorted(grant.verbs))} with {', '.join(sorted(grant.models)) or 'all models'}"
    option = f" --model {model}" if model else ""
    return Forbidden(
        f"The API key {grant.name!r} may not {wish[:300]}; it may {can[:300]}.",
        f"Use one that may: tidewheel keys create NAME{option[:220]} --verb {verb}",
    )
