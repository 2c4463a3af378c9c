"""Decisions in the journal: governing events that say in words and numbers what was decided."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tidewheel.database.transaction import Transaction
from tidewheel.lineage.write import append_event
from tidewheel.rollout.records import Decision

TYPES: Mapping[str, str] = MappingProxyType(
    {
        "start": "rollout.started",
        "step": "rollout.stepped",
        "promote": "rollout.promoted",
        "roll_back": "rollout.rolled_back",
        "inconclusive": "rollout.inconclusive",
    }
)


def record(tx: Transaction, decision: Decision, *, entity_id: str, by: str) -> None:
    """Append the event of a decision in the transaction that carries it out."""
    body = {
        "rollout": decision.rollout_id,
        "model": decision.model,
        "candidate": decision.candidate,
        "champion": decision.champion,
        "share": decision.share,
        "text": decision.text,
        "reason": decision.reason,
        "numbers": dict(decision.numbers),
    }
    append_event(
        tx,
        TYPES[decision.action],
        body,
        at=decision.at,
        subject_id=entity_id,
        execution_id=decision.rollout_id,
        by=by,
        governs=True,
    )
