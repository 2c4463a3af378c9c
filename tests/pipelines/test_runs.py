"""Runs from start to end: values, branches, parallel steps, the cache, resumption, records in the graph."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from tidewheel.errors import AlreadyRunning, Conflict, InvalidInput, NotFound, RunFailed, StepFailed
from tidewheel.lineage.graph import graph
from tidewheel.lineage.read import get_version, list_entities, list_events, list_executions, list_versions
from tidewheel.lineage.store import Store
from tidewheel.models.model import Model
from tidewheel.pipelines.locks import run_lock
from tidewheel.pipelines.runs import RunEvent, cancel_run, get_run, list_runs, resume_run, start_run
from tidewheel.pipelines.target import load_target
from tidewheel.pipelines.transitions import RunState, StepState

ROWS = pl.DataFrame({"a": [1.0, 2.0, 3.0, 4.0]})


def states(run: Any) -> dict[str, StepState]:
    return {step.name: step.state for step in run.steps}


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_start_run_gives_what_the_plain_functions_give(store: Store, sample: ModuleType, executor: str) -> None:
    run = start_run(store, sample.tide, {"rows": ROWS, "depth": 3}, executor=executor)
    assert run.state is RunState.SUCCEEDED
    assert run.output == sample.tide(ROWS, 3) == 14.0
    assert states(run) == dict.fromkeys(["split", "total", "total-2", "biggest"], StepState.COMMITTED)
    assert get_run(store, run.id).output == 14.0


def test_start_run_works_on_each_database(any_store: Store, sample: ModuleType, book: Path) -> None:
    run = start_run(any_store, sample.tide, {"rows": ROWS, "book": str(book)}, cause={"kind": "manual"})
    again = start_run(any_store, sample.tide, {"rows": ROWS, "book": str(book)})
    assert run.output == again.output
    assert states(again)["total"] is StepState.CACHED
    assert [item.id for item in list_runs(any_store)] == [again.id, run.id]
    assert list_runs(any_store)[1].cause == {"kind": "manual"}


def test_start_run_answers_from_the_cache_across_runs_but_repeats_side_effects(
    store: Store, sample: ModuleType, book: Path
) -> None:
    start_run(store, sample.tide, {"rows": ROWS, "book": str(book)})
    run = start_run(store, sample.tide, {"rows": ROWS.clone(), "book": str(book)})
    assert states(run) == {
        **dict.fromkeys(["split", "total", "total-2", "biggest"], StepState.CACHED),
        "announce": StepState.COMMITTED,
    }
    notes = book.read_text().splitlines()
    assert len(notes) == 2
    assert len(set(notes)) == 2, "two executions have two idempotency keys"


def test_cached_answers_are_the_same_in_the_process_executor(store: Store, sample: ModuleType) -> None:
    start_run(store, sample.tide, {"rows": ROWS})
    run = start_run(store, sample.tide, {"rows": ROWS}, executor="process")
    assert set(states(run).values()) == {StepState.CACHED}


def test_start_run_executes_only_what_an_input_changes(store: Store, sample: ModuleType) -> None:
    start_run(store, sample.tide, {"rows": ROWS, "depth": 2})
    run = start_run(store, sample.tide, {"rows": ROWS, "depth": 3})
    assert states(run) == {
        "split": StepState.CACHED,
        "total": StepState.CACHED,
        "total-2": StepState.COMMITTED,
        "biggest": StepState.COMMITTED,
    }


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_two_calls_with_one_key_are_executed_once(store: Store, sample: ModuleType, book: Path, executor: str) -> None:
    run = start_run(store, sample.twice_the_same, {"book": str(book)}, executor=executor)
    assert run.output == [2, 2]
    assert book.read_text() == "noted 1\n"
    assert states(run) == {"noted": StepState.COMMITTED, "noted-2": StepState.CACHED}


def test_process_executor_executes_independent_steps_side_by_side(
    store: Store, sample: ModuleType, tmp_path: Path
) -> None:
    run = start_run(store, sample.side_by_side, {"folder": str(tmp_path)}, executor="process")
    assert run.output == ["left", "right"]


def test_a_hit_whose_blobs_are_gone_does_not_count(store: Store, sample: ModuleType) -> None:
    start_run(store, sample.tide, {"rows": ROWS})
    for digest in [blob.digest for blob in store.blobs.kept()]:
        store.blobs.delete(digest)
    run = start_run(store, sample.tide, {"rows": ROWS})
    assert states(run)["split"] is StepState.COMMITTED
    assert run.output == 11.0


@pytest.mark.parametrize(("name", "output"), [("careless", (3, 4)), ("mapping", 90), ("outer", 3), ("sizes", 1)])
def test_start_run_of_odd_bodies(store: Store, sample: ModuleType, book: Path, name: str, output: Any) -> None:
    given: dict[str, dict[str, Any]] = {"mapping": {"n": 10}, "outer": {"book": str(book)}}
    assert start_run(store, getattr(sample, name), given.get(name)).output == output


def test_a_step_inside_a_step_is_a_plain_call(store: Store, sample: ModuleType, book: Path) -> None:
    run = start_run(store, sample.nested_steps, {"book": str(book)})
    assert (run.output, [step.name for step in run.steps]) == (8, ["doubles_inside"])


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_a_run_can_return_a_model(store: Store, executor: str) -> None:
    train = load_target(f"{Path(__file__).with_name('sample_models.py')}:train")
    rows = pl.DataFrame({"a": [float(n) for n in range(20)], "y": [2.0 * n + 1 for n in range(20)]})
    parameters = {"rows": rows, "alphas": [100.0, 0.001, 10.0]}
    run = start_run(store, train, parameters, executor=executor)
    again = start_run(store, train, parameters)
    assert {step.state for step in again.steps} == {StepState.CACHED}
    for model in (run.output, again.output, get_run(store, run.id).output):
        assert type(model) is Model
        assert model.estimator.alpha == 0.001
        assert model.predict(pl.DataFrame({"a": [30.0]})).round(1).tolist() == [61.0]


def test_a_run_can_return_records_and_handles(store: Store, sample: ModuleType) -> None:
    run = start_run(store, sample.reporting, {"rows": ROWS})
    for output in (run.output, get_run(store, run.id).output):
        assert output["name"] == "first 4"
        assert output["rows"] == 4
        assert output["report"].rows.equals(ROWS)


def test_a_file_is_an_artifact_and_counts_by_content(store: Store, sample: ModuleType, tmp_path: Path) -> None:
    first = start_run(store, sample.files, {"folder": str(tmp_path)})
    (tmp_path / "model.bin").unlink()
    again = start_run(store, sample.files, {"folder": str(tmp_path)})
    assert first.output == again.output == "weights"
    assert set(states(again).values()) == {StepState.CACHED}


def test_events_tell_the_run_as_it_happens(store: Store, sample: ModuleType, book: Path) -> None:
    told: list[RunEvent] = []
    run = start_run(store, sample.chain, {"n": 2, "book": str(book)}, on_event=told.append)
    assert [(event.step, event.state) for event in told] == [
        ("", "RUNNING"),
        ("noted", "RUNNING"),
        ("noted", "COMMITTED"),
        ("noted-2", "RUNNING"),
        ("noted-2", "COMMITTED"),
        ("", "SUCCEEDED"),
    ]
    assert {event.run_id for event in told} == {run.id}
    assert told[2].detail.endswith(" s")


def test_a_run_leaves_its_lineage_in_the_graph(any_store: Store, sample: ModuleType) -> None:
    run = start_run(any_store, sample.tide, {"rows": ROWS})
    result = run.steps[-1].outputs[0].version_id
    with any_store.database.reading() as tx:
        walked = graph(tx, result, down=False)
        kinds = {(node.kind, node.label.partition(":")[0]) for node in walked.nodes}
        derived = {(edge.src, edge.dst) for edge in walked.edges if edge.relation == "derived"}
        given = get_version(tx, run.steps[0].outputs[1].version_id)
    assert ("run", "tide") in kinds
    assert ("step", "sample_steps.split") in kinds
    assert ("artifact", "tide[rows]") in kinds
    assert (result, given.id) in derived
    assert [(node.kind, node.detail) for node in walked.nodes if node.kind == "environment"] == [
        ("environment", run.environment)
    ]


def test_equal_outputs_are_one_version(store: Store, sample: ModuleType, book: Path) -> None:
    start_run(store, sample.chain, {"n": 1, "book": str(book)})
    start_run(store, sample.chain, {"n": 1, "book": str(book) + "x"})
    with store.database.reading() as tx:
        artifacts = {entity.name: list_versions(tx, entity.id) for entity in list_entities(tx, "artifact")}
    assert len(artifacts["sample_steps.noted"]) == 1


def test_pins_are_recorded_as_what_the_run_used(store: Store, sample: ModuleType) -> None:
    from tidewheel.data.datasets import register

    dataset = register(store, "bikes", ROWS)
    run = start_run(store, sample.tide, {"rows": ROWS}, pins={"rows": "bikes:1"})
    with store.database.reading() as tx:
        walked = graph(tx, run.steps[-1].outputs[0].version_id, down=False)
    assert dataset.version_id in {node.id for node in walked.nodes}
    assert (run.id, "used", dataset.version_id) in {(edge.src, edge.relation, edge.dst) for edge in walked.edges}


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_resume_run_after_a_failure_repeats_nothing_that_is_committed(
    store: Store, sample: ModuleType, book: Path, executor: str
) -> None:
    with pytest.raises(StepFailed) as failed:
        start_run(store, sample.stubborn, {"book": str(book), "succeed_at": 5}, executor=executor)
    run_id = failed.value.run_id
    assert get_run(store, run_id).state is RunState.FAILED
    assert book.read_text().splitlines() == ["flaky 1", "flaky 2", "flaky 3"]
    run = resume_run(store, run_id[-12:], sample.stubborn, executor=executor)
    assert (run.state, run.output, run.resumed) == (RunState.SUCCEEDED, 5, 1)
    assert book.read_text().splitlines()[3:] == ["flaky 4", "flaky 5"]
    assert [(step.state, step.attempt) for step in run.steps] == [(StepState.COMMITTED, 5)]


def test_resume_run_reads_its_parameters_from_the_store(store: Store, sample: ModuleType, book: Path) -> None:
    with pytest.raises(StepFailed) as failed:
        start_run(store, sample.broken, {"book": str(book)})
    with pytest.raises(StepFailed):
        resume_run(store, failed.value.run_id, sample.broken)
    assert sorted(book.read_text().splitlines()) == ["noted 1", "noted 100"], "what is committed is not repeated"
    run = get_run(store, failed.value.run_id)
    assert states(run) == {
        "noted": StepState.COMMITTED,
        "breaks": StepState.FAILED,
        "noted-2": StepState.SKIPPED,
        "noted-3": StepState.COMMITTED,
    }


def test_resume_run_of_a_finished_run_returns_it(store: Store, sample: ModuleType, book: Path) -> None:
    run = start_run(store, sample.chain, {"n": 2, "book": str(book)})
    assert resume_run(store, run.id, sample.chain) == get_run(store, run.id)
    assert len(book.read_text().splitlines()) == 2


def test_resume_run_refuses_the_run_of_another_pipeline(store: Store, sample: ModuleType, book: Path) -> None:
    run = start_run(store, sample.chain, {"n": 1, "book": str(book)})
    with pytest.raises(InvalidInput, match="not of 'tide'"):
        resume_run(store, run.id, sample.tide)


def test_resume_run_refuses_while_the_process_lives(store: Store, sample: ModuleType, book: Path) -> None:
    with pytest.raises(RunFailed) as failed:
        start_run(store, sample.body_raises, {"book": str(book)})
    with run_lock(store.home, failed.value.run_id), pytest.raises(AlreadyRunning, match="another process"):
        resume_run(store, failed.value.run_id, sample.body_raises)


def test_a_body_that_raises_ends_the_run(store: Store, sample: ModuleType, book: Path) -> None:
    with pytest.raises(RunFailed, match=r"invalid literal.*\n.*tidewheel resume") as failed:
        start_run(store, sample.body_raises, {"book": str(book)})
    assert isinstance(failed.value.__cause__, ValueError)
    run = get_run(store, failed.value.run_id)
    assert (run.state, states(run)) == (RunState.FAILED, {"noted": StepState.COMMITTED})
    assert 'int("x")' in (store.home / "runs" / run.id / "run.log").read_text()
    with pytest.raises(NotFound, match="FAILED"):
        _ = run.output


def test_an_interrupt_cancels_the_run(store: Store, sample: ModuleType, book: Path) -> None:
    def interrupt(event: RunEvent) -> None:
        if event.state == "COMMITTED":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start_run(store, sample.chain, {"n": 3, "book": str(book)}, on_event=interrupt)
    run = list_runs(store)[0]
    assert run.state is RunState.CANCELLED
    assert resume_run(store, run.id, sample.chain).output == 3
    assert len(book.read_text().splitlines()) == 3


def test_cancel_run_makes_the_token_stale(store: Store, sample: ModuleType, book: Path) -> None:
    def cancel(event: RunEvent) -> None:
        if event.step == "noted" and event.state == "COMMITTED":
            cancel_run(store, event.run_id, reason="enough")

    with pytest.raises(Conflict, match=r"taken from this process: it is CANCELLED \(enough\)"):
        start_run(store, sample.chain, {"n": 3, "book": str(book)}, on_event=cancel)
    run = list_runs(store, state="CANCELLED")[0]
    assert run.error == "enough"
    with pytest.raises(Conflict, match="CANCELLED cannot become CANCELLED"):
        cancel_run(store, run.id)


def test_a_second_owner_makes_the_first_one_harmless(any_store: Store, sample: ModuleType, book: Path) -> None:
    from tidewheel.lineage.claim import claim_execution

    def take_over(event: RunEvent) -> None:
        if event.step == "noted-2" and event.state == "RUNNING":
            with any_store.database.transaction() as tx:
                claim_execution(tx, event.run_id, owner="somebody else")

    with pytest.raises(Conflict, match=r"token 1 any more.*somebody else"):
        start_run(any_store, sample.chain, {"n": 3, "book": str(book)}, on_event=take_over)
    with any_store.database.reading() as tx:
        run = list_executions(tx, "run")[0]
        calls = list_executions(tx, "step", parent_id=run.id)
        committed = list_events(tx, type_prefix="step.committed")
    assert (run.state, run.owner) == ("RUNNING", "somebody else")
    assert sorted(call.state for call in calls) == ["COMMITTED", "RUNNING"]
    assert len(committed) == 1


@pytest.mark.parametrize(
    ("parameters", "kind", "hint"),
    [
        ({"rows": ROWS, "depht": 3}, NotFound, "Did you mean 'depth'"),
        ({}, InvalidInput, "needs the parameter 'rows'"),
        ({"rows": ROWS, "depth": "many"}, InvalidInput, "depth='many' of tide is not int"),
        ({"rows": "bikse"}, NotFound, "There is no dataset named 'bikse'"),
        (
            {"rows": (x for x in [1])},
            InvalidInput,
            "rows of tide is of the wrong type: expected DataFrame, got generator",
        ),
    ],
)
def test_start_run_refuses_wrong_parameters(
    store: Store, sample: ModuleType, parameters: dict[str, Any], kind: type[Exception], hint: str
) -> None:
    with pytest.raises(kind, match=hint):
        start_run(store, sample.tide, parameters)
    assert list_runs(store) == []


def test_start_run_refuses_an_unknown_executor(store: Store, sample: ModuleType, book: Path) -> None:
    with pytest.raises(NotFound, match="inline, isolated, kubernetes, process"):
        start_run(store, sample.chain, {"n": 1, "book": str(book)}, executor="moon")
    with pytest.raises(InvalidInput, match="SUCCEEDED"):
        list_runs(store, state="DONE")
    with pytest.raises(NotFound, match="tidewheel runs"):
        get_run(store, "nowhere")
