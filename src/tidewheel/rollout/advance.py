"""Advance a rollout: read what is new, decide, and carry the decision out in one transaction."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import msgspec
import sqlalchemy as sa

from tidewheel.database.transaction import Transaction
from tidewheel.errors import Conflict
from tidewheel.lineage.read import find_entity
from tidewheel.lineage.store import Store
from tidewheel.lineage.tables import entity
from tidewheel.lineage.write import finish_execution
from tidewheel.predictions.join import Joiner
from tidewheel.predictions.reader import LogReader
from tidewheel.predictions.records import Prediction
from tidewheel.predictions.segments import log_folder as folder_of
from tidewheel.registry.promotion import promote, rollback
from tidewheel.registry.traffic import Traffic, current_traffic, set_traffic
from tidewheel.registry.versions import KIND
from tidewheel.rollout.decide import Verdict, decide, numbers_of
from tidewheel.rollout.evidence import next_step, see_requests, sort_records
from tidewheel.rollout.goal import see_pairs, see_split
from tidewheel.rollout.journal import record
from tidewheel.rollout.records import Cursors, Decision, State
from tidewheel.rollout.stored import Held, require_running, running_rollout, update_rollout

RECORDS_AT_ONCE = 20_000  # bounds memory; evidence is the same however the log is cut
BY = "rollout"


def advance(
    store: Store, model: str, *, log_folder: Path | None = None, joiner: Joiner | None = None
) -> Decision | None:
    """Take in what the log brought since the last look, and return the decision it leads to; None: go on.

    Evidence, cursors, traffic, aliases and the event are written in one transaction, so a crash repeats the look and
    not the decision, and of two processes one decides and the other returns None. Without a running rollout nothing
    happens. When somebody else has moved the traffic since, the rollout ends as inconclusive and leaves it alone.
    `log_folder` is the folder of this model's log (default: where the store keeps it); a `joiner` kept between calls
    (of the same folder, for this caller alone) spares reading the log again. Raises NotFound for an unknown model.
    """
    with store.database.reading() as tx:
        find_entity(tx, KIND, model)
        held = running_rollout(tx, model)
    if held is None:
        return None
    traffic = current_traffic(store, model)
    if traffic.seq != held.traffic:
        return _superseded(store, held, traffic)
    folder = log_folder or folder_of(store.home, model)
    seen = _look(held, folder, joiner or Joiner(folder), share=traffic.share)
    now = store.clock.now()
    verdict = decide(
        seen.evidence, held.config, held.subject, step=held.step, seconds=(now - held.started).total_seconds()
    )
    seen = replace(seen, reason=verdict.reason, revision=held.revision + 1)
    if verdict.action is None and seen.evidence == held.evidence and seen.cursors == held.cursors:
        return None
    try:
        with store.database.transaction() as tx:
            return _carry_out(tx, held, seen, traffic, verdict, at=now)
    except Conflict:
        if not _has_moved(store, held):
            raise
        return None  # somebody else was faster, or moved the traffic; the next look sees by whom


def cancel(store: Store, model: str, *, by: str, reason: str) -> Decision:
    """End a running rollout by hand: the traffic goes back to the champion alone.

    Raises NotFound when none is running, Conflict when it is being decided at this moment.
    """
    with store.database.reading() as tx:
        held = require_running(tx, model)
    traffic = current_traffic(store, model)
    after = replace(held, reason=reason, revision=held.revision + 1)
    verdict = Verdict(action="roll_back", reason=f"{by} ended it: {reason}")
    with store.database.transaction() as tx:
        decision = _carry_out(tx, held, after, traffic, verdict, at=store.clock.now(), by=by)
    if decision is None:
        raise Conflict(f"The rollout of {model!r} has moved on.", "Look again: tidewheel loop status")
    return decision


def _look(held: Held, folder: Path, joiner: Joiner, *, share: float) -> Held:
    """Return the rollout with the evidence of everything behind its cursors."""
    evidence, log = held.evidence, held.cursors.log
    reader = LogReader(folder, Prediction)
    while True:
        batch = reader.read(log, limit=RECORDS_AT_ONCE)
        log = batch.cursor
        evidence = see_requests(evidence, sort_records(batch.records, held.subject), held.config)
        if len(batch.records) < RECORDS_AT_ONCE:
            break
    labels = held.cursors.labels
    more = held.subject.loss is not None
    while more:
        labelled = joiner.labelled(labels, limit=RECORDS_AT_ONCE)
        labels, more = labelled.cursor, labelled.more
        if held.config.paired:
            goal = see_pairs(evidence.goal, labelled.rows, held.subject, held.config)
        else:
            goal = see_split(evidence.goal, labelled.rows, held.subject, held.config, share=share)
        evidence = msgspec.structs.replace(evidence, goal=goal)
    return replace(held, evidence=evidence, cursors=Cursors(log=log, labels=labels))


def _carry_out(
    tx: Transaction, before: Held, seen: Held, traffic: Traffic, verdict: Verdict, *, at: datetime, by: str = BY
) -> Decision | None:
    """Write the look and do what it decided; None when somebody else was faster, or nothing is decided."""
    after = _after(seen, verdict)
    ended = None if after.state == "running" else at
    if verdict.action is None:
        update_rollout(tx, before, after, ended=ended)
        return None
    moved = _move_traffic(tx, after, traffic, verdict, at=at, by=by)
    if not update_rollout(tx, before, replace(after, traffic=moved.seq), ended=ended):
        raise Conflict(f"The rollout of {before.model!r} has moved on.", "Look again: tidewheel loop status")
    decision = Decision(
        rollout_id=after.id,
        model=after.model,
        action=verdict.action,
        state=after.state,
        champion=moved.champion,
        candidate=after.subject.candidate,
        share=1.0 if verdict.action == "promote" else moved.share,
        reason=verdict.reason,
        numbers=numbers_of(seen.evidence, before.config, before.subject, step=before.step),
        at=at,
    )
    _write_down(tx, decision, by=by)
    return decision


def _write_down(tx: Transaction, decision: Decision, *, by: str) -> None:
    record(tx, decision, entity_id=find_entity(tx, KIND, decision.model).id, by=by)
    if decision.state != "running":
        facets = {"decision": decision.action, "reason": decision.reason}
        finish_execution(tx, decision.rollout_id, at=decision.at, state="SUCCEEDED", facets=facets)


def _after(seen: Held, verdict: Verdict) -> Held:
    states: dict[str, State] = {"promote": "promoted", "roll_back": "rolled_back", "inconclusive": "inconclusive"}
    if verdict.action == "step":
        return replace(seen, step=seen.step + 1, evidence=next_step(seen.evidence))
    return replace(seen, state=states.get(verdict.action or "", "running"))


def _move_traffic(
    tx: Transaction, after: Held, traffic: Traffic, verdict: Verdict, *, at: datetime, by: str
) -> Traffic:
    """Do what was decided to traffic and aliases; Conflict when the row this was decided on is no longer the newest."""
    model, reason = after.model, f"rollout: {verdict.reason}"
    if verdict.action == "promote":
        return promote(tx, model, after.subject.candidate, by=by, reason=reason, at=at, expected_seq=after.traffic)
    if verdict.action == "step":
        return set_traffic(
            tx,
            model,
            champion=traffic.champion,
            challenger=traffic.challenger,
            share=after.config.stages[after.step],
            salt=traffic.salt,
            paired=traffic.paired,
            fault=traffic.fault,
            by=by,
            reason=reason,
            at=at,
            expected_seq=after.traffic,
        )
    if verdict.action == "inconclusive" and after.config.at_deadline == "hold":
        return traffic
    held = entity.c.kind == KIND, entity.c.name == model
    tx.execute(sa.select(entity.c.id).where(*held).with_for_update())  # what is checked must still hold when undone
    if current_traffic(tx, model).seq != after.traffic:
        raise Conflict(f"The traffic of {model!r} has moved.", "Look again: tidewheel loop status")
    return rollback(tx, model, by=by, reason=reason, at=at)


def _has_moved(store: Store, held: Held) -> bool:
    with store.database.reading() as tx:
        now = running_rollout(tx, held.model)
        return now is None or now.revision != held.revision or current_traffic(tx, held.model).seq != held.traffic


def _superseded(store: Store, held: Held, traffic: Traffic) -> Decision | None:
    """End a rollout whose traffic somebody else has moved; the traffic stays as it is."""
    now = store.clock.now()
    reason = f"{traffic.by} moved the traffic ({traffic.reason})"
    after = replace(held, state="inconclusive", reason=reason, revision=held.revision + 1)
    decision = Decision(
        rollout_id=held.id,
        model=held.model,
        action="inconclusive",
        state="inconclusive",
        champion=traffic.champion,
        candidate=held.subject.candidate,
        share=traffic.share,
        reason=reason,
        numbers=numbers_of(held.evidence, held.config, held.subject, step=held.step),
        at=now,
    )
    with store.database.transaction() as tx:
        if not update_rollout(tx, held, after, ended=now):
            return None
        _write_down(tx, decision, by=BY)
    return decision
