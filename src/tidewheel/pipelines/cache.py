"""What steps answered before, by key, for every run of the project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tidewheel.blobs.store import BlobStore
from tidewheel.clock import from_micros, micros
from tidewheel.database.transaction import Transaction
from tidewheel.database.values import from_json, to_json
from tidewheel.fingerprint.code import CodeDigest
from tidewheel.pipelines.stored import Stored, stored_from


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """An earlier answer to the same call."""

    execution_id: str  # the execution that gave it
    outputs: tuple[Stored, ...]  # what it gave
    at: datetime  # when


def find(tx: Transaction, key: str, blobs: BlobStore) -> Hit | None:
    """Return the answer to a key; one whose blobs are gone does not count."""
    hit = entry(tx, key)
    return hit if hit is not None and readable(hit.outputs, blobs) else None


def entry(tx: Transaction, key: str) -> Hit | None:
    """Return what stands in the cache for a key, readable or not."""
    row = tx.row("SELECT * FROM step_cache WHERE key = :key", key=key)
    if row is None:
        return None
    outputs = tuple(stored_from(record) for record in from_json(row["outputs"]))
    return Hit(execution_id=row["execution_id"], outputs=outputs, at=from_micros(row["at"]))


def answered_by(tx: Transaction, key: str) -> str:
    """Return the execution that gave the answer to a key, readable or not; "" when there is none."""
    row = tx.row("SELECT execution_id FROM step_cache WHERE key = :key", key=key)
    return str(row["execution_id"]) if row else ""


def readable(outputs: Sequence[Stored], blobs: BlobStore) -> bool:
    """Say whether every blob of some outputs is still kept."""
    return all(blobs.exists(digest) for stored in outputs for digest in stored.blobs)


def remember(
    tx: Transaction, key: str, step: str, execution_id: str, *, outputs: Sequence[Stored], at: datetime
) -> None:
    """Keep an answer; the newest one counts."""
    tx.run(
        "INSERT INTO step_cache (key, step, execution_id, outputs, at) VALUES (:key, :step, :execution, :outputs, :at)"
        " ON CONFLICT (key) DO UPDATE SET step = excluded.step, execution_id = excluded.execution_id,"
        " outputs = excluded.outputs, at = excluded.at",
        key=key,
        step=step,
        execution=execution_id,
        outputs=to_json([stored.as_json() for stored in outputs]),
        at=micros(at),
    )


def remember_code(tx: Transaction, code: CodeDigest) -> None:
    """Keep what a code digest is made of, for `why`."""
    tx.run(
        "INSERT INTO step_code (digest, parts) VALUES (:digest, :parts) ON CONFLICT DO NOTHING",
        digest=code.digest,
        parts=to_json(dict(code.parts)),
    )


def code_parts(tx: Transaction, digest: str) -> dict[str, str]:
    """Return what a code digest is made of; {} when it is not known."""
    found = tx.row("SELECT parts FROM step_code WHERE digest = :digest", digest=digest)
    return dict(from_json(found["parts"])) if found else {}
