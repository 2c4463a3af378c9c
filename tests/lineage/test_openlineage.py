"""What is sent fits OpenLineage: every event is read back by the classes that its project generates from the spec."""

from __future__ import annotations

import importlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from openlineage.client import event_v2
from openlineage.client.generated.base import RunFacet
from tests.lineage.receiver import Receiver, receiving

from tidewheel.data import datasets
from tidewheel.errors import StepFailed
from tidewheel.lineage.openlineage import Teller
from tidewheel.lineage.sinks import LINEAGE_PATH, sink_at
from tidewheel.lineage.store import Store
from tidewheel.pipelines.runs import Run, resume_run, start_run
from tidewheel.pipelines.target import load_target

SAMPLES = Path(__file__).parents[1] / "pipelines" / "sample_steps.py"
_FACETS = {
    "processing_engine": "processing_engine_run.ProcessingEngineRunFacet",
    "parent": "parent_run.ParentRunFacet",
    "errorMessage": "error_message_run.ErrorMessageRunFacet",
    "nominalTime": "nominal_time_run.NominalTimeRunFacet",
    "executionParameters": "execution_parameters_run.ExecutionParametersRunFacet",
    "environmentVariables": "environment_variables_run.EnvironmentVariablesRunFacet",
    "jobType": "job_type_job.JobTypeJobFacet",
    "sourceCodeLocation": "source_code_location_job.SourceCodeLocationJobFacet",
    "version": "dataset_version_dataset.DatasetVersionDatasetFacet",
    "schema": "schema_dataset.SchemaDatasetFacet",
    "outputStatistics": "output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet",
}


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A file in which steps note that they were executed."""
    path = tmp_path / "book.txt"
    path.touch()
    return path


@pytest.fixture
def heard(any_store: Store) -> Iterator[tuple[Store, Receiver]]:
    """A store that tells a real receiver."""
    with receiving() as server:
        place = {"url": "https://example.org/bikes.git", "path": "bikes.py", "version": "abc"}
        teller = Teller("tidewheel.test", "0.1.0", lambda run: place)
        any_store.database.sinks = ("openlineage",)
        yield replace(any_store, sinks={"openlineage": (sink_at(server.url, path=LINEAGE_PATH), teller)}), server


def sample(name: str) -> Any:
    """Return one of the sample pipelines."""
    return load_target(f"{SAMPLES}:{name}")


def run(heard: tuple[Store, Receiver], name: str, **parameters: Any) -> tuple[Run, list[dict[str, Any]]]:
    """Run a pipeline and return what the receiver took, checked against the spec's classes."""
    store, receiver = heard
    found = start_run(store, sample(name), parameters)
    assert store.tell().failed == 0
    for event in receiver.taken:
        check(event)
    assert set(receiver.paths) == {LINEAGE_PATH}
    return found, receiver.taken


def check(event: Mapping[str, Any]) -> None:
    """Build the event of the classes that OpenLineage generates, strictly: an unknown or missing field is an error."""
    kind = event_v2.RunEvent(
        eventTime=event["eventTime"],
        producer=event["producer"],
        eventType=event_v2.RunState[event["eventType"]],
        run=event_v2.Run(runId=event["run"]["runId"], facets=facets(event["run"]["facets"])),
        job=event_v2.Job(**{**event["job"], "facets": facets(event["job"]["facets"])}),
        inputs=[event_v2.InputDataset(**{**item, "facets": facets(item["facets"])}) for item in event["inputs"]],
        outputs=[
            event_v2.OutputDataset(
                **{**item, "facets": facets(item["facets"]), "outputFacets": facets(item["outputFacets"])}
            )
            for item in event["outputs"]
        ],
    )
    assert set(event) == {"eventTime", "eventType", "producer", "schemaURL", "run", "job", "inputs", "outputs"}
    assert event["schemaURL"] == kind._get_schema()
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", event["run"]["runId"])
    json.dumps(event, allow_nan=False)


def facets(given: Mapping[str, Any]) -> dict[str, Any]:
    """Build facets of their classes; our own needs no more than what every run facet has."""
    found: dict[str, Any] = {}
    for name, facet in given.items():
        own = {key: value for key, value in facet.items() if not key.startswith("_")}
        if name == "tidewheel":
            found[name] = RunFacet(producer=facet["_producer"])
            assert facet["_schemaURL"].startswith("https://")
            continue
        module, _, kind = _FACETS[name].partition(".")
        loaded = importlib.import_module(f"openlineage.client.generated.{module}")
        found[name] = getattr(loaded, kind)(**nested(loaded, name, own), producer=facet["_producer"])
        assert facet["_schemaURL"] == found[name]._get_schema()
    return found


def nested(module: Any, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Build the records inside a facet."""
    if name == "parent":
        return {
            "run": module.Run(**values["run"]),
            "job": module.Job(**values["job"]),
            "root": module.Root(
                run=module.RootRun(**values["root"]["run"]), job=module.RootJob(**values["root"]["job"])
            ),
        }
    lists = {
        "schema": ("fields", "SchemaDatasetFacetFields"),
        "executionParameters": ("parameters", "ExecutionParameter"),
        "environmentVariables": ("environmentVariables", "EnvironmentVariable"),
    }
    if name in lists:
        field, kind = lists[name]
        return {field: [getattr(module, kind)(**item) for item in values[field]]}
    return dict(values)


def test_a_run_and_its_steps_are_told_from_start_to_end(heard: tuple[Store, Receiver], book: Path) -> None:
    found, events = run(heard, "tide", rows=pl.DataFrame({"a": [1.0, 2.0, 3.0]}), book=str(book))
    seen = Counter((event["run"]["runId"], event["eventType"]) for event in events)
    ids = {found.id, *(step.id for step in found.steps)}
    assert seen == Counter({(each, kind): 1 for each in ids for kind in ("START", "COMPLETE")})
    assert (events[0]["run"]["runId"], events[0]["eventType"]) == (found.id, "START")
    assert (events[-1]["run"]["runId"], events[-1]["eventType"]) == (found.id, "COMPLETE")
    for event in events:
        parent = event["run"]["facets"].get("parent")
        if event["run"]["runId"] != found.id:
            assert parent["run"]["runId"] == found.id
            assert event["job"]["name"].startswith("tide.sample_steps.")
        else:
            assert parent is None
        assert event["job"]["facets"]["sourceCodeLocation"]["version"] == "abc"


def test_inputs_and_outputs_are_datasets_with_versions(heard: tuple[Store, Receiver]) -> None:
    store, _ = heard
    datasets.register(store, "bikes", pl.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}))
    _, events = run(heard, "newest")
    begun, ended = events[0], events[-1]
    assert {item["name"] for item in begun["inputs"]} == {"dataset/bikes"}
    fields = begun["inputs"][0]["facets"]["schema"]["fields"]
    assert [field["name"] for field in fields] == ["a", "b"]
    assert begun["inputs"][0]["facets"]["version"]["datasetVersion"].startswith("1@sha256:")
    assert begun["outputs"] == []
    done = [event for event in events if event["eventType"] == "COMPLETE" and event is not ended]
    assert {item["name"] for event in done for item in event["inputs"]} == {"dataset/bikes"}
    outputs = [item for event in done for item in event["outputs"]]
    assert {item["name"] for item in outputs} == {"artifact/sample_steps.total"}
    assert all(item["outputFacets"]["outputStatistics"]["size"] > 0 for item in outputs)


def test_a_cached_step_tells_what_it_was_answered_with(heard: tuple[Store, Receiver], book: Path) -> None:
    run(heard, "chain", n=1, book=str(book))
    _, receiver = heard
    receiver.taken.clear()
    found, events = run(heard, "chain", n=1, book=str(book))
    assert [step.state for step in found.steps] == ["CACHED"]
    (done,) = [event for event in events if event["eventType"] == "COMPLETE" and event["run"]["runId"] != found.id]
    assert [item["name"] for item in done["outputs"]] == ["artifact/sample_steps.noted"]
    assert done["run"]["facets"]["tidewheel"]["state"] == "CACHED"


def test_failures_carry_their_message_and_a_resumed_run_goes_on(heard: tuple[Store, Receiver], book: Path) -> None:
    store, receiver = heard
    with pytest.raises(StepFailed):
        start_run(store, sample("broken"), {"book": str(book)})
    store.tell()
    for event in receiver.taken:
        check(event)
    failed = [event for event in receiver.taken if event["eventType"] == "FAIL"]
    assert len(failed) == 2
    assert all("ZeroDivisionError" in event["run"]["facets"]["errorMessage"]["message"] for event in failed)
    assert "ABORT" in {event["eventType"] for event in receiver.taken}, "the step that needed the failed one"
    run_id = receiver.taken[0]["run"]["runId"]
    receiver.taken.clear()
    with pytest.raises(StepFailed):
        resume_run(store, run_id, sample("broken"))
    store.tell()
    for event in receiver.taken:
        check(event)
    own = [event["eventType"] for event in receiver.taken if event["run"]["runId"] == run_id]
    assert own == ["START", "FAIL"]


def test_a_scheduled_run_says_when_it_was_due(heard: tuple[Store, Receiver], book: Path) -> None:
    store, receiver = heard
    due = "2026-01-01T03:00:00+00:00"
    start_run(store, sample("chain"), {"n": 0, "book": str(book)}, cause={"kind": "cron", "event": {"due": due}})
    store.tell()
    for event in receiver.taken:
        check(event)
        assert event["run"]["facets"]["nominalTime"]["nominalStartTime"] == due


def test_the_check_itself_finds_what_does_not_fit(heard: tuple[Store, Receiver], book: Path) -> None:
    _, events = run(heard, "chain", n=0, book=str(book))
    for change in ({"runId": "no uuid"}, {"facets": {"jobType": {"_producer": "x", "_schemaURL": "y", "odd": 1}}}):
        broken = json.loads(json.dumps(events[0]))
        broken["run"] |= change
        with pytest.raises((ValueError, TypeError)):
            check(broken)


def test_a_step_that_is_tried_again_begins_once(heard: tuple[Store, Receiver], book: Path) -> None:
    found, events = run(heard, "stubborn", book=str(book))
    (step,) = found.steps
    kinds = [event["eventType"] for event in events if event["run"]["runId"] == step.id]
    assert kinds == ["START", "RUNNING", "RUNNING", "COMPLETE"]
