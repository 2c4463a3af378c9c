"""Maps: partial failure item by item, resume of only what is missing, branches, loops and inner pipelines."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tidewheel.errors import InvalidInput, StepFailed
from tidewheel.lineage.store import Store
from tidewheel.pipelines.calls import Call
from tidewheel.pipelines.collected import Collected
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.plan import plan_run
from tidewheel.pipelines.runs import get_run, list_runs, resume_run, start_run
from tidewheel.pipelines.step import step
from tidewheel.pipelines.why import why


def executed(book: Path) -> Counter[str]:
    return Counter(book.read_text().splitlines())


def note(book: str, text: object) -> None:
    with Path(book).open("a") as file:
        file.write(f"{text}\n")


@step
def inverse(x: int, book: str) -> float:
    note(book, x)
    if x < 0 and not Path(f"{book}.mended").exists():
        raise ValueError(f"{x} is negative")
    return 1 / x


@step
def total(items: list[float]) -> float:
    return sum(items)


@pipeline
def all_or_none(book: str, count: int = 8) -> float:
    return total(inverse.map([-x if x % 3 == 0 else x for x in range(1, count)], book=book))


@pipeline
def what_there_is(book: str, count: int = 8) -> dict[str, Any]:
    found = inverse.map([-x if x % 3 == 0 else x for x in range(1, count)], on_error="collect", book=book)
    why_not = {str(failure.index): failure.message for failure in found.failures}
    return {"total": total(list(found)), "indices": list(found.indices), "failures": why_not}


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_a_map_with_failures_commits_the_others_and_names_each(store: Store, book: Path, executor: str) -> None:
    with pytest.raises(StepFailed) as failed:
        start_run(store, all_or_none, {"book": str(book)}, executor=executor)
    said = failed.value.what
    assert "2 calls of all_or_none failed (2 of inverse); all others are committed." in said
    assert "inverse, item 2: ValueError: -3 is negative" in said
    assert "inverse, item 5: ValueError: -6 is negative" in said
    run = list_runs(store)[0]
    states = Counter((step.identity.rpartition(".")[2], str(step.state)) for step in get_run(store, run.id).steps)
    assert states == {("inverse", "COMMITTED"): 5, ("inverse", "FAILED"): 2, ("total", "SKIPPED"): 1}


def test_resume_executes_only_the_items_that_are_missing(store: Store, book: Path) -> None:
    with pytest.raises(StepFailed):
        start_run(store, all_or_none, {"book": str(book)})
    Path(f"{book}.mended").touch()
    before = executed(book)
    run = resume_run(store, list_runs(store)[0].id, all_or_none)
    assert run.state == "SUCCEEDED"
    assert executed(book) - before == {"-3": 1, "-6": 1}


def test_one_failed_item_is_told_with_its_index(store: Store, book: Path) -> None:
    with pytest.raises(StepFailed, match=r"Step inverse-3 \(item 2\) of all_or_none failed.*-3 is negative"):
        start_run(store, all_or_none, {"book": str(book), "count": 5})


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_collect_goes_on_with_those_that_succeeded(store: Store, book: Path, executor: str) -> None:
    run = start_run(store, what_there_is, {"book": str(book), "count": 5}, executor=executor)
    assert run.state == "SUCCEEDED"
    assert run.output["indices"] == [0, 1, 3]
    assert run.output["total"] == pytest.approx(1 + 1 / 2 + 1 / 4)
    assert list(run.output["failures"]) == ["2"]
    assert "-3 is negative" in run.output["failures"]["2"]
    assert {step.state for step in run.steps} == {"COMMITTED", "FAILED"}


def test_collect_outside_a_run_does_the_same(book: Path) -> None:
    found = inverse.map([1, -1], on_error="collect", book=str(book))
    assert isinstance(found, Collected)
    assert (found.values, found.indices, found.failures[0].index) == ((1.0,), (0,), 1)
    with pytest.raises(InvalidInput, match="collect"):
        inverse.map([1], on_error="ignore", book=str(book))  # type: ignore[call-overload]


def test_plan_sees_through_a_map_that_is_cached(store: Store, book: Path) -> None:
    Path(f"{book}.mended").touch()
    start_run(store, what_there_is, {"book": str(book)})
    planned = plan_run(store, what_there_is, {"book": str(book)})
    assert planned.complete
    assert {item.action for item in planned.steps} == {"cached"}


@step
def keep(x: int) -> str:
    return str(x) * 200


@pipeline
def many(count: int) -> int:
    handles = keep.map(range(count))
    gc.collect()
    alive = [found for found in gc.get_objects() if type(found) is Call]
    assert len(alive) <= 2, "calls that are done are let go of while their handles live"
    return len(handles)


def test_calls_that_are_done_are_let_go(store: Store) -> None:
    assert start_run(store, many, {"count": 300}).output == 300


@pipeline
def plenty(count: int) -> int:
    return len(keep.map(range(count)))


def test_more_answers_than_one_transaction_takes(store: Store) -> None:
    first = start_run(store, plenty, {"count": 450})
    second = start_run(store, plenty, {"count": 450})
    assert {step.state for step in second.steps} == {"CACHED"}
    assert [step.key for step in second.steps] == [step.key for step in first.steps]


@step
def long_chain(x: int) -> int:
    if x == 0:
        raise ValueError("the first one fails")
    return x


@pipeline
def deep(length: int) -> int:
    x: int = 0
    for _ in range(length):
        x = long_chain(x)
    return x


def test_a_failure_skips_a_chain_longer_than_the_stack(store: Store) -> None:
    with pytest.raises(StepFailed, match="the first one fails"):
        start_run(store, deep, {"length": 2_500}, executor="threads")
    states = Counter(str(step.state) for step in get_run(store, list_runs(store)[0].id).steps)
    assert states == {"FAILED": 1, "SKIPPED": 2_499}


@step
def add(x: int, y: int = 1) -> int:
    return x + y


@step
def is_large(x: int) -> bool:
    return x > 10


@pipeline
def grow(x: int) -> int:
    """Loop until a value says stop; branch on it."""
    rounds = 0
    while not is_large(x) and rounds < 20:
        x = add(x, 3)
        rounds += 1
    return add(x, 100) if rounds % 2 else x


@pipeline
def outer(x: int) -> int:
    return add(grow(x), grow(x + 1))


@pytest.mark.parametrize(("start", "wanted"), [(0, 12), (2, 111), (50, 50)])
def test_branches_and_loops_are_plain_python(store: Store, start: int, wanted: int) -> None:
    run = start_run(store, grow, {"x": start})
    assert run.output == wanted == grow(start)
    again = start_run(store, grow, {"x": start})
    assert {step.state for step in again.steps} <= {"CACHED"}


def test_steps_of_inner_pipelines_are_named_after_them(store: Store) -> None:
    run = start_run(store, outer, {"x": 9})
    names = [step.name for step in run.steps]
    assert names[:2] == ["grow.is_large", "grow.add"]
    assert names[-1] == "add"
    assert len(set(names)) == len(names)
    assert run.output == outer(9)
    told = [step.step for step in why(store, run.id).steps]
    assert told == names
    planned = plan_run(store, outer, {"x": 9})
    assert [item.step for item in planned.steps] == names
