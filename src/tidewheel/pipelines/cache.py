"""What steps answered before, by key, for every run of the project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from tidewheel.blobs.store import BlobStore
from tidewheel.database.insert import insert_if_new, insert_into
from tidewheel.database.transaction import Transaction
from tidewheel.fingerprint.code import CodeDigest
from tidewheel.pipelines.stored import Stored, stored_from
from tidewheel.pipelines.tables import step_cache, step_code

# Built once: SQLAlchemy takes longer to build and look up a statement than SQLite to execute it.
_FIND = sa.select(step_cache).where(step_cache.c.key == sa.bindparam("wanted"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """An earlier answer to the same call."""

    execution_id: str  # the execution that gave it
    outputs: tuple[Stored, ...]  # what it gave
    at: datetime  # when


def find(tx: Transaction, key: str, blobs: BlobStore) -> Hit | None:
    """Return the answer to a key; one whose blobs are gone does not count."""
    row = tx.execute(_FIND, {"wanted": key}).one_or_none()
    if row is None:
        return None
    outputs = tuple(stored_from(record) for record in row.outputs)
    return Hit(execution_id=row.execution_id, outputs=outputs, at=row.at) if readable(outputs, blobs) else None


def readable(outputs: Sequence[Stored], blobs: BlobStore) -> bool:
    """Say whether every blob of some outputs is still kept."""
    return all(blobs.exists(digest) for stored in outputs for digest in stored.blobs)


def remember(
    tx: Transaction, key: str, step: str, execution_id: str, *, outputs: Sequence[Stored], at: datetime
) -> None:
    """Keep an answer; the newest one counts."""
    values = {
        "key": key,
        "step": step,
        "execution_id": execution_id,
        "outputs": [stored.as_json() for stored in outputs],
        "at": at,
    }
    tx.execute(_statements(tx.dialect).answer, values)


def remember_code(tx: Transaction, code: CodeDigest) -> None:
    """Keep what a code digest is made of, for `why`."""
    tx.execute(_statements(tx.dialect).code, {"digest": code.digest, "parts": dict(code.parts)})


def code_parts(tx: Transaction, digest: str) -> dict[str, str]:
    """Return what a code digest is made of; {} when it is not known."""
    found = tx.execute(sa.select(step_code.c.parts).where(step_code.c.digest == digest)).scalar()
    return dict(found or {})


@dataclass(frozen=True, slots=True)
class _Statements:
    answer: Any  # keep an answer, over an older one
    code: Any  # keep what a digest is made of, once


@cache
def _statements(dialect: str) -> _Statements:
    """Build the inserts once."""
    answer = insert_into(step_cache, dialect)
    newest = {name: answer.excluded[name] for name in ("step", "execution_id", "outputs", "at")}
    return _Statements(
        answer=answer.on_conflict_do_update(index_elements=[step_cache.c.key], set_=newest),
        code=insert_if_new(step_code, dialect),
    )
