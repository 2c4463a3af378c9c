"""Begin a rollout: the candidate gets its first share, and the evidence starts at nothing."""

from __future__ import annotations

from pathlib import Path

from tidewheel.clock import new_id
from tidewheel.database.transaction import Transaction
from tidewheel.errors import Conflict
from tidewheel.lineage.read import find_entity
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import link, start_execution
from tidewheel.models.bundle import load_bundle
from tidewheel.models.signature import Signature
from tidewheel.predictions.reader import Cursor, LogReader
from tidewheel.predictions.records import Outcome, Prediction
from tidewheel.predictions.segments import log_folder as folder_of
from tidewheel.registry.aliases import CHALLENGER, set_alias
from tidewheel.registry.traffic import Traffic, current_traffic, set_traffic
from tidewheel.registry.versions import KIND, ModelVersion, get_model
from tidewheel.rollout.decide import numbers_of
from tidewheel.rollout.evidence import no_evidence
from tidewheel.rollout.goal import goal_subject
from tidewheel.rollout.journal import record
from tidewheel.rollout.records import Cursors, Decision
from tidewheel.rollout.rollouts import Canary
from tidewheel.rollout.stored import Held, insert_rollout, running_rollout


def begin(
    store: Store,
    model: str,
    candidate: int,
    config: Canary,
    *,
    by: str,
    reason: str = "",
    fault: float = 0.0,
    log_folder: Path | None = None,
) -> Decision:
    """Give a registered version its first share of the traffic and start gathering evidence.

    `candidate` is the number of the version; `fault` is a share of its requests that fail on purpose (a game day).
    Traffic, alias `challenger`, rollout and event are written in one transaction. A candidate that is on trial already
    stays on trial: the decision that began it is returned, so that a conductor that died may begin it again.
    Raises NotFound for an unknown model or version, or when nothing is deployed that the candidate could be compared
    with; Conflict when another candidate is on trial, the candidate is the champion, or the traffic follows a strategy.
    """
    version = get_model(store, f"{model}:{candidate}")
    traffic = current_traffic(store, model)
    with store.database.reading() as tx:
        running = running_rollout(tx, model)
    if running is not None and running.subject.candidate == candidate and traffic.seq == running.traffic:
        return _started(running, share=traffic.share)
    _check(model, candidate, traffic)
    champion = get_model(store, f"{model}:{traffic.champion}")
    subject = goal_subject(
        config, traffic.champion, candidate, (_signature(store, champion), _signature(store, version))
    )
    here = end_of_log(log_folder or folder_of(store.home, model))
    held = Held(
        id=new_id(),
        model=model,
        state="running",
        step=0,
        traffic=traffic.seq + 1,
        revision=1,
        started=store.clock.now(),
        by=by,
        reason=reason or f"version {candidate} goes on trial at {config.stages[0]:.0%}",
        config=config,
        subject=subject,
        evidence=no_evidence(config),
        cursors=Cursors(log=here, labels=here),
    )
    with store.database.transaction() as tx:
        return _start(tx, held, traffic, version.version_id, fault=fault)


def end_of_log(folder: Path) -> Cursor:
    """Return a cursor at the present end of a log: what stands before it is never read.

    It may lie within a record that is being written; reading on steps over the rest of that one.
    """
    return LogReader(folder, Prediction).end() | LogReader(folder, Outcome).end()


def _start(tx: Transaction, held: Held, traffic: Traffic, version_id: str, *, fault: float) -> Decision:
    candidate, now = held.subject.candidate, held.started
    entity = find_entity(tx, KIND, held.model)
    moved = set_traffic(
        tx,
        held.model,
        champion=held.subject.champion,
        challenger=candidate,
        share=held.config.stages[0],
        paired=held.config.paired,
        fault=fault,
        by=held.by,
        reason=held.reason,
        at=now,
        expected_seq=traffic.seq,
    )
    if running_rollout(tx, held.model) is not None:
        raise _running(held.model)
    set_alias(tx, held.model, CHALLENGER, candidate, by=held.by, reason=held.reason, at=now)
    parameters = {"model": held.model, "champion": held.subject.champion, "candidate": candidate}
    start_execution(tx, kind="rollout", job=held.model, at=now, parameters=parameters, execution_id=held.id)
    link(tx, held.id, "used", version_id, role="candidate")
    insert_rollout(tx, held)
    decision = _started(held, share=moved.share)
    record(tx, decision, entity_id=entity.id, by=held.by)
    return decision


def _started(held: Held, *, share: float) -> Decision:
    return Decision(
        rollout_id=held.id,
        model=held.model,
        action="start",
        state="running",
        champion=held.subject.champion,
        candidate=held.subject.candidate,
        share=share,
        reason=held.reason,
        numbers=numbers_of(held.evidence, held.config, held.subject, step=held.step),
        at=held.started,
    )


def _check(model: str, candidate: int, traffic: Traffic) -> None:
    if traffic.strategy is not None:
        raise Conflict(
            f"The traffic of {model!r} follows the strategy {traffic.strategy.kind}; a canary has no place in it.",
            f"End it first: tidewheel models promote {model} {traffic.champion}",
        )
    if traffic.challenger is not None:
        raise _running(model)
    if traffic.champion == candidate:
        raise Conflict(
            f"Version {candidate} of {model!r} is the champion already.", "Begin a rollout with another version."
        )


def _running(model: str) -> Conflict:
    return Conflict(
        f"A candidate of {model!r} is on trial already.",
        f"Wait for its decision, or end it with: tidewheel models rollback {model}",
    )


def _signature(store: Store, version: ModelVersion) -> Signature:
    return load_bundle(store, version.bundle_digest).manifest.signature
