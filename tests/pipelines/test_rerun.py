"""A run is run again from a step on: what comes before is answered by the old run, even what is never cached."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tidewheel.database.transaction import Transaction
from tidewheel.errors import Conflict, InvalidInput, NotFound, StepFailed
from tidewheel.lineage.store import Store
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.records import Run, RunEvent
from tidewheel.pipelines.rerun import rerun_run
from tidewheel.pipelines.runs import get_run, list_runs, resume_run, start_run
from tidewheel.pipelines.step import step

_BROKEN: dict[str, bool] = {}  # what the steps below are told to do wrong


def _note(book: str, name: str) -> None:
    with Path(book).open("a") as file:
        file.write(f"{name}\n")


@step(cache=False)
def load(book: str) -> int:
    """Never cached."""
    _note(book, "load")
    return 3


@step(side_effect=True)
def publish(x: int, book: str) -> int:
    """Changes the world."""
    _note(book, "publish")
    return x


@step
def fit(x: int, book: str) -> int:
    """The same answer each time."""
    _note(book, "fit")
    return x + 1


@step
def score(x: int, book: str) -> int:
    """Depends on fit."""
    _note(book, "score")
    if _BROKEN.get("score"):
        raise ValueError("told to")
    return x * 10


@step
def aside(x: int, book: str) -> int:
    """Depends on load alone."""
    _note(book, "aside")
    return x * 100


@pipeline
def flow(book: str) -> list[int]:
    """Two branches."""
    rows = load(book)
    published = publish(rows, book)
    fitted = fit(rows, book)
    other = fit(published, book)
    return [score(fitted, book), aside(rows, book), other]


def names(book: Path) -> list[str]:
    found = book.read_text().split()
    book.write_text("")
    return sorted(found)


@pytest.fixture
def old(any_store: Store, book: Path) -> Run:
    run = start_run(any_store, flow, {"book": str(book)})
    assert names(book) == ["aside", "fit", "load", "publish", "score"]
    return run


def emptied(store: Store) -> None:
    """Let every cache entry expire."""
    with store.database.transaction() as tx:
        tx.run("DELETE FROM step_cache")


@pytest.mark.parametrize(
    ("start", "executed"),
    [
        ("fit", ["fit", "fit", "score"]),
        ("fit-2", ["fit"]),
        ("score", ["score"]),
        ("publish", ["fit", "publish"]),
        ("load", ["aside", "fit", "fit", "load", "publish", "score"]),
        ("", ["aside", "fit", "fit", "load", "publish", "score"]),
    ],
)
def test_rerun_executes_the_step_and_what_depends_on_it(
    any_store: Store, book: Path, old: Run, start: str, executed: list[str]
) -> None:
    emptied(any_store)
    run = rerun_run(any_store, old.id, flow, start=start)
    assert names(book) == executed
    assert run.output == old.output == [40, 300, 4]
    assert run.id != old.id
    assert (run.cause["execution_id"], run.cause["from"], run.cause["kind"]) == (old.id, start, "rerun")
    with any_store.database.reading() as tx:
        assert edges(tx, run.id, "triggered_by") == [old.id]
    assert get_run(any_store, old.id).steps == old.steps
    for record in run.steps:
        assert record.state == ("CACHED" if record.reason.startswith("answered by") else "COMMITTED")


def edges(tx: Transaction, src: str, relation: str) -> list[str]:
    query = "SELECT dst FROM edge WHERE src = :src AND relation = :relation"
    return [row["dst"] for row in tx.rows(query, src=src, relation=relation)]


def test_a_failed_run_is_run_again_with_what_it_had_done(any_store: Store, book: Path) -> None:
    _BROKEN["score"] = True
    try:
        with pytest.raises(StepFailed) as failed:
            start_run(any_store, flow, {"book": str(book)})
    finally:
        _BROKEN.clear()
    names(book)
    emptied(any_store)
    run = rerun_run(any_store, failed.value.run_id, flow, start="score")
    assert run.output == [40, 300, 4]
    assert "load" not in names(book)


def test_a_rerun_that_was_stopped_is_resumed_as_a_rerun(any_store: Store, book: Path, old: Run) -> None:
    class Stopped(BaseException):
        pass

    def stop(event: RunEvent) -> None:
        if event.step == "fit" and event.state == "COMMITTED":
            raise Stopped

    with pytest.raises(Stopped):
        rerun_run(any_store, old.id, flow, start="fit", on_event=stop)
    stopped = list_runs(any_store)[0]
    assert names(book) == ["fit"]
    run = resume_run(any_store, stopped.id, flow)
    assert run.output == old.output
    assert names(book) == ["fit", "score"]  # the second fit, and what depends on the first; not the first again


def test_rerun_of_an_unknown_step_names_near_ones(any_store: Store, old: Run) -> None:
    with pytest.raises(NotFound, match=r"no step named 'fitt'.*\n.*Did you mean 'fit"):
        rerun_run(any_store, old.id, flow, start="fitt")
    with pytest.raises(NotFound, match=r"no (execution|run)"):
        rerun_run(any_store, "0" * 36, flow)
    assert len(list_runs(any_store)) == 1


def test_rerun_of_another_pipelines_run_is_refused(any_store: Store, old: Run, sample: ModuleType) -> None:
    with pytest.raises(InvalidInput, match="is of the pipeline"):
        rerun_run(any_store, old.id, sample.tide)


def test_a_run_that_goes_on_is_not_run_again(any_store: Store, book: Path) -> None:
    refused: list[Any] = []

    def again(event: RunEvent) -> None:
        if event.step == "fit" and event.state == "COMMITTED":
            with pytest.raises(Conflict, match="RUNNING") as found:
                rerun_run(any_store, event.run_id, flow)
            refused.append(found.value)

    start_run(any_store, flow, {"book": str(book)}, on_event=again)
    assert refused


def test_a_rerun_of_a_rerun_is_answered_too(any_store: Store, book: Path, old: Run) -> None:
    first = rerun_run(any_store, old.id, flow, start="score")
    emptied(any_store)
    names(book)
    run = rerun_run(any_store, first.id, flow, start="score")
    assert names(book) == ["score"]
    assert {step.key for step in run.steps} == {step.key for step in old.steps}  # also of those that were answered
