"""The audit log: events that govern, chained by hash, and the check of that chain."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from tidewheel.clock import micros
from tidewheel.database.transaction import Transaction
from tidewheel.lineage.rows import event_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainReport:
    """What a walk along the audit log found."""

    events: int  # governing events walked
    broken_at: int | None  # seq of the first event whose link does not fit, None when all fit

    @property
    def intact(self) -> bool:
        """Whether every link fits."""
        return self.broken_at is None


def link_digest(previous: str, fact: Mapping[str, Any]) -> str:
    """Return the chain link of a fact: SHA-256 over the link before it and the fact's own canonical JSON."""
    canonical = dict(fact) | {"at": micros(fact["at"])}
    options = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY
    # The body is taken through JSON once, so that what is hashed is what can be read back.
    canonical["body"] = orjson.loads(orjson.dumps(fact["body"], option=options))
    return "sha256:" + hashlib.sha256(previous.encode() + orjson.dumps(canonical, option=options)).hexdigest()


def verify_chain(tx: Transaction) -> ChainReport:
    """Walk the audit log from its start; an altered, removed or inserted event breaks a link."""
    previous, count = "", 0
    for row in tx.rows("SELECT * FROM event WHERE governs ORDER BY seq"):
        event = event_of(row)
        fact = {"id": event.id, "at": event.at, "type": event.type, "subject_id": event.subject_id}
        fact |= {"execution_id": event.execution_id, "actor": event.by, "body": event.body}
        if event.digest != link_digest(previous, fact):
            return ChainReport(events=count, broken_at=event.seq)
        previous, count = event.digest, count + 1
    return ChainReport(events=count, broken_at=None)
