"""`approve(...)`: answers by those who may, in time, across crashes and processes; the log of them is chained."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tidewheel.clock import ManualClock
from tidewheel.errors import Conflict, InvalidInput, NotFound, ValidationFailed
from tidewheel.lineage.chain import verify_chain
from tidewheel.lineage.read import list_events
from tidewheel.lineage.store import Store
from tidewheel.pipelines.approvals import answer_question, open_questions
from tidewheel.pipelines.approving import approve
from tidewheel.pipelines.liveness import mark_lost
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.plan import plan_run
from tidewheel.pipelines.records import RunEvent
from tidewheel.pipelines.runs import cancel_run, get_run, list_runs, resume_run, start_run
from tidewheel.pipelines.step import step


@step
def train(book: str) -> int:
    with Path(book).open("a") as file:
        file.write("train\n")
    return 5


@step(side_effect=True)
def ship(version: int, by: str, book: str) -> str:
    with Path(book).open("a") as file:
        file.write("ship\n")
    return f"{version} by {by}"


@pipeline
def release(book: str) -> str:
    version = train(book)
    answer = approve("Ship it?", by=("ml-leads", "ann"), timeout="3d")
    if answer:
        return ship(version, answer.by, book)
    return f"not shipped: {answer.reason}"


@pipeline
def asks_twice(book: str) -> list[bool]:
    return [bool(approve("Sure?")), bool(approve("Sure?")), bool(approve("Really?"))]


def left(store: Store, book: Path, flow: Any = release) -> str:
    run = start_run(store, flow, {"book": str(book)}, leave=True)
    assert run.state == "WAITING"
    return run.id


def test_a_run_that_is_left_waits_without_a_process_and_goes_on_when_it_is_resumed(
    any_store: Store, book: Path
) -> None:
    run_id = left(any_store, book)
    assert mark_lost(any_store) == []
    (question,) = open_questions(any_store)
    assert (question.run_id, question.question, question.process_waits) == (run_id, "Ship it?", False)
    assert question.until == any_store.clock.now() + timedelta(days=3)
    assert resume_run(any_store, run_id, release, leave=True).state == "WAITING"
    answer_question(any_store, run_id, by="ann", granted=True, reason="beats the champion")
    run = resume_run(any_store, run_id, release)
    assert (run.state, run.output) == ("SUCCEEDED", "5 by ann")
    assert book.read_text() == "train\nship\n"
    assert [step.name for step in run.steps] == ["train", "approval", "ship"]
    assert get_run(any_store, run_id).output == "5 by ann"


def test_a_process_that_waits_goes_on_at_once(any_store: Store, book: Path) -> None:
    asked = threading.Event()

    def tell(event: RunEvent) -> None:
        if event.state == "WAITING":
            assert f"tidewheel approve {event.run_id}" in event.detail
            asked.set()

    found: list[Any] = []
    work: Callable[[], None] = lambda: found.append(  # noqa: E731
        start_run(any_store, release, {"book": str(book)}, on_event=tell)
    )
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert asked.wait(60)
    (question,) = open_questions(any_store)
    assert question.process_waits
    answer_question(any_store, question.id, by="bo", granted=True, groups={"ml-leads": ["bo"]})
    thread.join(60)
    assert found[0].output == "5 by bo"


def test_no_is_false_and_says_why(store: Store, book: Path) -> None:
    run_id = left(store, book)
    answer_question(store, run_id, by="ann", granted=False, reason="too slow")
    assert resume_run(store, run_id, release).output == "not shipped: too slow"
    assert book.read_text() == "train\n"


def test_time_says_no(store: Store, book: Path) -> None:
    run_id = left(store, book)
    assert isinstance(store.clock, ManualClock)
    store.clock.advance(timedelta(days=2))
    assert resume_run(store, run_id, release, leave=True).state == "WAITING"
    store.clock.advance(timedelta(days=1))
    assert resume_run(store, run_id, release).output == "not shipped: nobody answered in time"
    with pytest.raises(NotFound, match="open question"):
        answer_question(store, run_id, by="ann", granted=True)


def test_answers_are_events_of_the_audit_log(store: Store, book: Path) -> None:
    run_id = left(store, book)
    answer_question(store, run_id, by="ann", granted=True)
    resume_run(store, run_id, release)
    with store.database.reading() as tx:
        (told,) = list_events(tx, type_prefix="approval.given")
        assert verify_chain(tx).intact
    assert (told.by, told.governs, told.body["run"]) == ("ann", True, run_id)
    assert told.digest


@pytest.mark.parametrize("by", ["", "eve", "ml-lead"])
def test_only_those_who_are_asked_may_answer(store: Store, book: Path, by: str) -> None:
    run_id = left(store, book)
    with pytest.raises(ValidationFailed, match="ml-leads, ann"):
        answer_question(store, run_id, by=by, granted=True, groups={"ml-leads": ["bo"]})
    assert len(open_questions(store, run_id)) == 1


def test_a_question_is_answered_once(store: Store, book: Path) -> None:
    run_id = left(store, book)
    (question,) = open_questions(store, run_id)
    answer_question(store, question.id, by="ann", granted=True)
    with pytest.raises(Conflict, match="answered by ann"):
        answer_question(store, question.id, by="ann", granted=False)
    assert open_questions(store) == []


def test_a_cancelled_run_asks_nobody(store: Store, book: Path) -> None:
    run_id = left(store, book)
    (question,) = open_questions(store, run_id)
    cancel_run(store, run_id)
    assert open_questions(store) == []
    with pytest.raises(Conflict, match="CANCELLED"):
        answer_question(store, question.id, by="ann", granted=True)


def test_the_same_question_again_is_another_question(store: Store, book: Path) -> None:
    run_id = left(store, book, asks_twice)
    for granted in (True, False, True):
        (question,) = open_questions(store, run_id)
        answer_question(store, question.id, by="ann", granted=granted)
        run = resume_run(store, run_id, asks_twice, leave=True)
    assert run.output == [True, False, True]


class Killed(BaseException):
    """Ends a run without leaving it a chance to record that."""


@pytest.mark.parametrize("boundary", ["approval.ask", "approval.close"])
@pytest.mark.parametrize("moment", ["before", "inside", "after"])
def test_a_crash_around_a_question_loses_nothing(
    any_store: Store, book: Path, boundary: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidewheel.pipelines.drive._record_failure", lambda *_: None)

    def die(name: str) -> None:
        if name == f"{boundary}:{moment}":
            raise Killed

    if boundary == "approval.ask":
        with pytest.raises(Killed):
            start_run(any_store, release, {"book": str(book)}, on_boundary=die, leave=True)
        run_id = list_runs(any_store)[0].id
        assert resume_run(any_store, run_id, release, leave=True).state == "WAITING"
        answer_question(any_store, run_id, by="ann", granted=True)
    else:
        run_id = left(any_store, book)
        answer_question(any_store, run_id, by="ann", granted=True)
        with pytest.raises(Killed):
            resume_run(any_store, run_id, release, on_boundary=die)
    run = resume_run(any_store, run_id, release)
    assert run.output == "5 by ann"
    assert book.read_text() == "train\nship\n"
    with any_store.database.reading() as tx:
        assert len(list_events(tx, type_prefix="approval.given")) == 1
        assert len(list_events(tx, type_prefix="approval.asked")) == 1


def test_a_plan_ends_at_a_question(store: Store, book: Path) -> None:
    planned = plan_run(store, release, {"book": str(book)})
    assert (planned.complete, planned.stopped_at) == (False, "approve('Ship it?')")


def test_a_question_outside_a_run_is_refused(book: Path) -> None:
    with pytest.raises(InvalidInput, match="outside a run"):
        release(str(book))
    with pytest.raises(InvalidInput, match="no question"):
        start_run_of_nothing()


def start_run_of_nothing() -> None:
    from tidewheel.pipelines.active import recording
    from tidewheel.pipelines.plan import _Planner

    with recording(_Planner.__new__(_Planner)):
        approve(" ")


def test_the_command_line_leaves_asks_answers_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from tidewheel.cli.main import cli

    (tmp_path / "tidewheel.toml").write_text('[dev]\napprovers = {leads = ["bo"]}\n')
    (tmp_path / "gate.py").write_text(
        "from tidewheel import approve, pipeline\n\n\n@pipeline\ndef gate() -> str:\n"
        "    answer = approve('Ship?', by='leads')\n    return f'{bool(answer)} {answer.by}'\n"
    )
    monkeypatch.chdir(tmp_path)
    say = CliRunner()
    assert say.invoke(cli, ["run", "gate.py:gate", "--leave"]).exit_code == 3
    asked = say.invoke(cli, ["questions", "--json"]).stdout
    run_id = asked.partition('"run_id":"')[2].partition('"')[0]
    refused = say.invoke(cli, ["approve", run_id, "--by", "eve"])
    assert isinstance(refused.exception, ValidationFailed)
    answered = say.invoke(cli, ["approve", run_id, "--by", "bo", "--deny", "--reason", "not yet"])
    assert "denied by bo: Ship?" in answered.stdout
    done = say.invoke(cli, ["resume", "gate.py:gate", run_id, "--json"])
    assert done.exit_code == 0
    assert '"SUCCEEDED"' in done.stdout
