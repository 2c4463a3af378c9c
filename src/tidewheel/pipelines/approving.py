"""`approve(...)`: a run waits until somebody who may has said yes or no, however long its process lives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tidewheel.blobs.store import digest_of
from tidewheel.clock import from_micros, micros, new_id
from tidewheel.database.transaction import Transaction
from tidewheel.database.values import from_json, to_json
from tidewheel.errors import InvalidInput
from tidewheel.fingerprint.code import CodeDigest
from tidewheel.fingerprint.value import value_digest
from tidewheel.lineage.claim import describe_execution
from tidewheel.lineage.read import get_execution
from tidewheel.lineage.write import append_event, link
from tidewheel.pipelines.active import recorder
from tidewheel.pipelines.answers import Answers
from tidewheel.pipelines.calls import Call
from tidewheel.pipelines.durations import seconds
from tidewheel.pipelines.entries import Done
from tidewheel.pipelines.journal import Journal
from tidewheel.pipelines.keys import Key
from tidewheel.pipelines.options import StepOptions
from tidewheel.pipelines.pausing import close, enter, leave
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.stored import Stored, content_of
from tidewheel.pipelines.transitions import RunState, StepState, move_step
from tidewheel.pipelines.tree import NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """The answer to a question; it is true when it was yes."""

    granted: bool  # yes or no; no when nobody answered in time
    question: str  # what was asked
    by: str  # who answered, "" when nobody did
    at: datetime  # when
    reason: str  # what was said with it

    def __bool__(self) -> bool:
        return self.granted


class RunLeft(BaseException):
    """The process of a run leaves it waiting for an approval; no `except Exception` of a body may stop that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question as the body asks it."""

    question: str  # what is to be approved
    by: tuple[str, ...]  # names and groups of those who may answer; () for anybody
    timeout: float | None  # seconds after which the answer is no; None: never

    @property
    def step(self) -> Step[..., Any]:
        """What stands for it among the calls of a run."""
        return APPROVAL

    def arguments(self) -> dict[str, Any]:
        """Return what it is known by: the same question to the same people is answered once, in order."""
        return {"question": self.question, "by": list(self.by)}


def approval(question: str, by: list[str]) -> Approval:
    """Stand for a question among the calls of a run; people answer it."""
    raise InvalidInput(f"{question!r} was asked of nobody: {by}.", "Ask with approve(...) in the body of a pipeline.")


APPROVAL: Step[..., Any] = Step(approval, StepOptions(cache=False, side_effect=True))


def approve(question: str, *, by: str | Iterable[str] = (), timeout: float | str | None = None) -> Approval:
    """Wait, in the body of a pipeline, until somebody has answered: `tidewheel approve RUN`, or with `--deny`.

    `by` names who may answer: people, or groups from `approvers` in tidewheel.toml; without it anybody may. `timeout`
    (seconds, or "90m", "3d") says no in the end. The answer is true or false, and says by whom, when and why. Steps
    called before go on meanwhile. The run may be left and resumed: it goes on waiting, and knows the answer.

    Raises InvalidInput outside a run.
    """
    taker = recorder()
    if taker is None:
        raise InvalidInput(
            f"approve({question!r}) was called outside a run, where nobody can answer.",
            "Start the pipeline as a run; in a test, put a function of your own in its place.",
        )
    if not question.strip():
        raise InvalidInput("approve() was given no question.", 'Ask something: approve("Ship model 5?").')
    names = (by,) if isinstance(by, str) else tuple(by)
    limit = None if timeout is None else seconds(timeout, "timeout", positive=True)
    answer: Approval = taker.approve(Asked(question=question, by=names, timeout=limit))
    return answer


@dataclass(slots=True, kw_only=True)
class Question:
    """A question that is open."""

    call: Call  # its call
    asked: Asked  # what was asked
    until: datetime | None  # when it is answered with no
    answer: Approval | None = None  # the answer, when the run had it already


class Approving:
    """Asks the questions of one run and takes the answers in."""

    def __init__(self, journal: Journal, answers: Answers, say: Callable[[Call, str, str], None]) -> None:
        self._journal = journal
        self._answers = answers
        self._say = say

    def ask(self, call: Call, asked: Asked) -> Question:
        """Record a question, or take it up where the run was left."""
        call.key = _key(asked)
        self._answers.number(call, call.key)
        found = self._answers.adopt(call, call.key)
        if found.kind == "prior":
            return Question(call=call, asked=asked, until=None, answer=_answer_in(found.outputs[0]))
        until = self._open(call, asked)
        call.state = StepState.WAITING
        who = f" by {', '.join(asked.by)}" if asked.by else ""
        run = self._journal.run_id
        self._say(call, StepState.WAITING, f"{asked.question} To be answered{who}: tidewheel approve {run}")
        return Question(call=call, asked=asked, until=until)

    def look(self, question: Question) -> Approval | None:
        """Return the answer once there is one, recorded; None until then."""
        if question.answer is not None:
            return question.answer
        now = self._journal.store.clock.now()
        given = self._journal.fence.read(lambda tx: answer_of(tx, question.call.execution_id))
        if given is None and (question.until is None or now < question.until):
            return None
        question.answer = self._close(question)
        self._say(question.call, StepState.COMMITTED, _told(question.answer))
        return question.answer

    def leave(self) -> None:
        """Let go of the run, so that any process may go on with it; raises RunLeft."""
        leave(self._journal)
        raise RunLeft

    def _open(self, call: Call, asked: Asked) -> datetime | None:
        call.reason = asked.question

        def body(tx: Transaction, at: datetime) -> datetime | None:
            before = get_execution(tx, call.execution_id).facets.get("until") if call.recorded else None
            until = micros(at + timedelta(seconds=asked.timeout)) if asked.timeout is not None else None
            until = until if before is None else int(before)
            facets = {"until": until, "by": list(asked.by), "question": asked.question}
            enter(self._journal, tx, call, at, facets)
            if not call.recorded:
                append_event(
                    tx,
                    "approval.asked",
                    {"question": asked.question, "by": list(asked.by)},
                    at=at,
                    subject_id=call.execution_id,
                    execution_id=self._journal.run_id,
                )
            return None if until is None else from_micros(until)

        call.execution_id = call.execution_id or new_id()
        move_step(call.state, StepState.WAITING)
        until = self._journal.write("approval.ask", body)
        call.recorded = True
        self._journal.state = RunState.WAITING
        return until

    def _close(self, question: Question) -> Approval:
        call, asked = question.call, question.asked

        def body(tx: Transaction, at: datetime) -> Approval:
            # Whoever answers locks the row, so an answer that came at the last moment is seen here or refused there.
            tx.row(f"SELECT id FROM execution WHERE id = :id{tx.locking}", id=call.execution_id)  # noqa: S608
            found = answer_of(tx, call.execution_id)
            if found is None:
                found = Approval(granted=False, question=asked.question, by="", at=at, reason="nobody answered in time")
                record_answer(tx, call.execution_id, self._journal.run_id, found)
            kept = {"question": asked.question, "by": list(asked.by), "answer": _as_json(found)}
            close(self._journal, tx, Done(call=call, outputs=(_stored(found),)), at, kept)
            return found

        answer = self._journal.write("approval.close", body)
        call.state = StepState.COMMITTED
        self._journal.state = RunState.RUNNING
        return answer


def record_answer(tx: Transaction, execution_id: str, run_id: str, answer: Approval) -> None:
    """Record an answer for good: in the question's row, and as an event of the audit log."""
    describe_execution(tx, execution_id, {"answer": _as_json(answer)})
    kind = "approval.given" if answer.granted else "approval.denied" if answer.by else "approval.expired"
    append_event(
        tx,
        kind,
        {"question": answer.question, "run": run_id, "reason": answer.reason},
        at=answer.at,
        subject_id=execution_id,
        execution_id=run_id,
        by=answer.by,
        governs=True,
    )
    if answer.granted:
        link(tx, execution_id, "approved", run_id, role=answer.question[:100])


def answer_of(tx: Transaction, execution_id: str) -> Approval | None:
    """Return the answer to a question; None while there is none."""
    record = get_execution(tx, execution_id).facets.get("answer")
    return None if record is None else _from_json(record)


def _key(asked: Asked) -> Key:
    """Return the key of a question: no code stands behind it."""
    arguments = asked.arguments()
    return Key(
        digest=value_digest(["approval", arguments]),
        code=CodeDigest(digest="", parts={}),
        besides={},
        inputs={"question": asked.question, "by": ", ".join(asked.by)},
        reusable=False,
        note="",
    )


def _as_json(answer: Approval) -> dict[str, Any]:
    return {
        "granted": answer.granted,
        "question": answer.question,
        "by": answer.by,
        "at": micros(answer.at),
        "reason": answer.reason,
    }


def _from_json(record: Mapping[str, Any]) -> Approval:
    return Approval(
        granted=record["granted"],
        question=record["question"],
        by=record["by"],
        at=from_micros(record["at"]),
        reason=record["reason"],
    )


def _stored(answer: Approval) -> Stored:
    """Keep an answer in the row itself, as a step's small output is kept."""
    text = to_json(_as_json(answer))
    data = text.encode()
    return Stored(codec=NAME, content=content_of(text, data), digest=digest_of(data), size=len(data), inline=text)


def _answer_in(stored: Stored) -> Approval:
    return _from_json(from_json(stored.inline or "{}"))


def _told(answer: Approval) -> str:
    who = f" by {answer.by}" if answer.by else ""
    why = f": {answer.reason}" if answer.reason else ""
    return f"{'approved' if answer.granted else 'denied'}{who}{why}"
