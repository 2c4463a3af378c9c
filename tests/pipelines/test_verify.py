"""`verify=`: some answers of the cache are executed again; a different result is used, kept and told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tidewheel.lineage.read import list_events
from tidewheel.lineage.store import Store
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.records import RunEvent
from tidewheel.pipelines.runs import start_run
from tidewheel.pipelines.step import step
from tidewheel.pipelines.verification import verification
from tidewheel.pipelines.why import why


@step(verify=1.0)
def steady(x: int, book: str) -> int:
    with Path(book).open("a") as file:
        file.write("steady\n")
    return x + 1


@step(verify=1.0)
def shifty(book: str) -> int:
    """Depend on something that is no input."""
    with Path(book).open("a") as file:
        file.write("shifty\n")
    return Path(book).read_text().count("shifty")


@step(verify=0.3)
def sampled(x: int, book: str) -> int:
    with Path(book).open("a") as file:
        file.write("sampled\n")
    return x


@pipeline
def calm(book: str) -> int:
    return steady(1, book)


@pipeline
def restless(book: str) -> int:
    return shifty(book)


@pipeline
def spread(book: str, count: int = 200) -> int:
    return len([sampled(x, book) for x in range(count)])


def test_a_verified_hit_that_agrees_is_counted(store: Store, book: Path) -> None:
    start_run(store, calm, {"book": str(book)})
    run = start_run(store, calm, {"book": str(book)})
    assert run.steps[0].state == "COMMITTED"
    assert book.read_text() == "steady\nsteady\n"
    assert "to verify the answer of" in why(store, run.id).steps[0].reason
    assert "gave the same" in why(store, run.id).steps[0].reason
    found = verification(store)[0]
    assert (found.step.rpartition(".")[2], found.hits, found.verified, found.different) == ("steady", 1, 1, 0)
    assert (found.verified_share, found.different_share) == (1.0, 0.0)


def test_a_verified_hit_that_differs_is_told_and_replaces_the_answer(store: Store, book: Path) -> None:
    events: list[RunEvent] = []
    assert start_run(store, restless, {"book": str(book)}).output == 1
    run = start_run(store, restless, {"book": str(book)}, on_event=events.append)
    assert run.output == 2
    assert any("its answer in the cache was another one" in event.detail for event in events)
    assert "the step is not deterministic" in why(store, run.id).steps[0].reason
    with store.database.reading() as tx:
        (told,) = list_events(tx, type_prefix="step.verified_different")
        row = tx.row("SELECT execution_id FROM step_cache")
    assert told.subject_id == run.steps[0].id
    assert row == {"execution_id": run.steps[0].id}
    assert verification(store, restless_step := told.body["step"])[0].different_share == 1.0
    assert restless_step.endswith("shifty")


def test_the_sample_has_the_share_that_was_asked_for_and_differs_between_runs(store: Store, book: Path) -> None:
    start_run(store, spread, {"book": str(book)})
    runs = [start_run(store, spread, {"book": str(book)}) for _ in range(2)]
    chosen = [{step.name for step in run.steps if step.state == "COMMITTED"} for run in runs]
    assert all(30 <= len(names) <= 90 for names in chosen)  # 60 are expected; beyond this is 1 case in a million
    assert chosen[0] != chosen[1]
    assert Counter(str(step.state) for step in runs[0].steps)["CACHED"] == 200 - len(chosen[0])
    assert verification(store)[0].verified_share == pytest.approx((len(chosen[0]) + len(chosen[1])) / 400)
