"""What steps answered before, by key, for every run of the project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tidewheel.blobs.store import BlobStore
from tidewheel.fingerprint.code import CodeDigest
from tidewheel.pipelines.stored import Stored, stored_from
from tidewheel.pipelines.tables import step_cache, step_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """An earlier answer to the same call."""

    execution_id: str  # the execution that gave it
    outputs: tuple[Stored, ...]  # what it gave
    at: datetime  # when


def find(tx: Connection, key: str, blobs: BlobStore) -> Hit | None:
    """Return the answer to a key; one whose blobs are gone does not count."""
    row = tx.execute(sa.select(step_cache).where(step_cache.c.key == key)).one_or_none()
    if row is None:
        return None
    outputs = tuple(stored_from(record) for record in row.outputs)
    return Hit(execution_id=row.execution_id, outputs=outputs, at=row.at) if readable(outputs, blobs) else None


def readable(outputs: Sequence[Stored], blobs: BlobStore) -> bool:
    """Say whether every blob of some outputs is still kept."""
    return all(blobs.exists(digest) for stored in outputs for digest in stored.blobs)


def remember(
    tx: Connection, key: str, step: str, execution_id: str, *, outputs: Sequence[Stored], at: datetime
) -> None:
    """Keep an answer; the newest one counts."""
    values: dict[str, Any] = {
        "step": step,
        "execution_id": execution_id,
        "outputs": [stored.as_json() for stored in outputs],
        "at": at,
    }
    statement = _insert(tx)(step_cache).values(key=key, **values)
    tx.execute(statement.on_conflict_do_update(index_elements=[step_cache.c.key], set_=values))


def remember_code(tx: Connection, code: CodeDigest) -> None:
    """Keep what a code digest is made of, for `why`."""
    statement = _insert(tx)(step_code).values(digest=code.digest, parts=dict(code.parts))
    tx.execute(statement.on_conflict_do_nothing())


def code_parts(tx: Connection, digest: str) -> dict[str, str]:
    """Return what a code digest is made of; {} when it is not known."""
    found = tx.execute(sa.select(step_code.c.parts).where(step_code.c.digest == digest)).scalar()
    return dict(found or {})


def _insert(tx: Connection) -> Any:
    """Return the dialect's insert, which knows ON CONFLICT; PostgreSQL's costs 50 ms of CPU to import."""
    if tx.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as found
    else:
        from sqlalchemy.dialects.sqlite import insert as found  # type: ignore[assignment]
    return found
