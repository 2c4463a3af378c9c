"""Answer the questions that runs wait with: who may, and what is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tidewheel.clock import from_micros, micros
from tidewheel.database.transaction import Transaction
from tidewheel.errors import Conflict, NotFound, ValidationFailed
from tidewheel.lineage.read import get_execution, list_executions
from tidewheel.lineage.records import Execution
from tidewheel.lineage.store import Store
from tidewheel.pipelines.approving import APPROVAL, Approval, answer_of, record_answer
from tidewheel.pipelines.transitions import OPEN_STEP, RunState, StepState

_NONE: Mapping[str, Sequence[str]] = {}
_OPEN = [*sorted(OPEN_STEP), StepState.LOST]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenQuestion:
    """A question that nobody has answered yet."""

    id: str  # its execution
    run_id: str  # the run that waits
    pipeline: str  # its pipeline
    step: str  # its name in the run: approval, approval-2
    question: str  # what is asked
    by: tuple[str, ...]  # who may answer; () for anybody
    until: datetime | None  # when it is answered with no
    process_waits: bool  # whether a process waits; if none does, the run has to be resumed


def open_questions(store: Store, run_id: str = "") -> list[OpenQuestion]:
    """Return the questions that wait for an answer, the oldest first; of one run where it is named."""
    with store.database.reading() as tx:
        run = get_execution(tx, run_id).id if run_id else None
        calls = list_executions(tx, "step", job=APPROVAL.identity, parent_id=run, state=_OPEN, limit=1_000)
        waiting = [(call, get_execution(tx, call.parent_id)) for call in calls if call.parent_id]
    return [
        _question(call, owner)
        for call, owner in reversed(waiting)
        if "answer" not in call.facets and owner.state not in (RunState.CANCELLED, RunState.FAILED)
    ]


def can_go_on(store: Store, run_id: str) -> bool:
    """Say whether a run that was left waiting can go on: its questions are answered, or their time is over."""
    now = micros(store.clock.now())
    with store.database.reading() as tx:
        run = get_execution(tx, run_id)
        if run.state != RunState.WAITING or run.owner:
            return False
        calls = list_executions(tx, "step", job=APPROVAL.identity, parent_id=run.id, state=_OPEN, limit=1_000)
    limits = [call.facets.get("until") for call in calls if "answer" not in call.facets]
    return all(until is not None and until <= now for until in limits)


def answer_question(
    store: Store,
    run_or_question: str,
    *,
    by: str,
    granted: bool,
    reason: str = "",
    groups: Mapping[str, Sequence[str]] = _NONE,
) -> Approval:
    """Answer the one open question of a run, or the one whose id is given; the answer is an event of the audit log.

    `by` is who answers; `groups` are the people in each group that a question may name. A process that waits goes on
    by itself; a run that was left goes on when it is resumed.

    Raises NotFound for a run without an open question, Conflict for several, an answered one and a run that has
    ended, ValidationFailed for somebody who is not asked.
    """
    with store.database.transaction() as tx:
        asked = _asked(tx, run_or_question)
        # The run takes the answer in under this lock: it sees it, or has ended the question already.
        tx.row(f"SELECT id FROM execution WHERE id = :id{tx.locking}", id=asked.id)  # noqa: S608 - a constant
        asked = get_execution(tx, asked.id)
        run = get_execution(tx, asked.parent_id or "")
        before = answer_of(tx, asked.id)
        if before is not None or asked.state not in _OPEN or run.state == RunState.CANCELLED:
            said = (
                f"answered by {before.by or 'nobody in time'}"
                if before is not None
                else f"in a run that is {run.state}"
            )
            raise Conflict(f"The question {asked.facets['question']!r} is {said}.", "It cannot be answered again.")
        _check_allowed(asked, by, groups)
        at = store.clock.now()
        answer = Approval(granted=granted, question=asked.facets["question"], by=by, at=at, reason=reason)
        record_answer(tx, asked.id, run.id, answer)
    return answer


def _asked(tx: Transaction, wanted: str) -> Execution:
    found = get_execution(tx, wanted)
    if found.kind == "step" and found.job == APPROVAL.identity:
        return found
    calls = list_executions(tx, "step", job=APPROVAL.identity, parent_id=found.id, state=_OPEN, limit=1_000)
    waiting = [call for call in calls if "answer" not in call.facets]
    if not waiting:
        raise NotFound("open question of run", found.id, mend="List runs that wait: tidewheel runs")
    if len(waiting) > 1:
        told = ", ".join(f"{call.id}: {call.facets['question']}" for call in waiting)
        raise Conflict(f"The run {found.id} waits for {len(waiting)} answers.", f"Name the question: {told}")
    return waiting[0]


def _check_allowed(asked: Execution, by: str, groups: Mapping[str, Sequence[str]]) -> None:
    names = list(asked.facets.get("by", ()))
    allowed = {person for name in names for person in (name, *groups.get(name, ()))}
    if names and by not in allowed:
        raise ValidationFailed(
            f"{by or 'Somebody without a name'} may not answer {asked.facets['question']!r}.",
            f"It is to be answered by {', '.join(names)}; groups stand under approvers in tidewheel.toml.",
        )


def _question(call: Execution, run: Execution) -> OpenQuestion:
    until = call.facets.get("until")
    return OpenQuestion(
        id=call.id,
        run_id=run.id,
        pipeline=run.job,
        step=call.facets["label"],
        question=call.facets.get("question", ""),
        by=tuple(call.facets.get("by", ())),
        until=None if until is None else from_micros(until),
        process_waits=bool(run.owner) and run.state == RunState.WAITING,
    )
