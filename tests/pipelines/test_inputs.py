"""Inputs that the store picks are pinned when the run begins, and recorded."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest
from sklearn.linear_model import LinearRegression

from tidewheel.clock import ManualClock
from tidewheel.data.datasets import append, register
from tidewheel.errors import NotFound, StepFailed
from tidewheel.lineage.graph import graph
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import add_version, ensure_entity, move_alias
from tidewheel.models.bundle import Bundle, save_bundle
from tidewheel.models.model import Model
from tidewheel.pipelines.inputs import as_of, champion, latest, window
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.runs import resume_run, start_run
from tidewheel.pipelines.step import step


@step
def heights(rows: pl.DataFrame) -> list[float]:
    return rows["a"].to_list()


@step
def predict(bundle: Bundle, rows: pl.DataFrame) -> list[float]:
    scores = bundle.scorer().score(rows.to_dict(as_series=False))
    return [round(float(item), 6) for item in scores.prediction]


@pipeline
def column(rows: pl.DataFrame) -> list[float]:
    return heights(rows)


@pipeline
def scored(model: Bundle, rows: pl.DataFrame) -> list[float]:
    return predict(model, rows)


@pytest.fixture
def bikes(store: Store) -> Store:
    """Three versions of 3, 2 and 1 rows."""
    register(store, "bikes", pl.DataFrame({"a": [1.0, 2.0, 3.0]}))
    for values in ([4.0, 5.0], [6.0]):
        _advance(store)
        append(store, "bikes", pl.DataFrame({"a": values}))
    return store


def _advance(store: Store) -> None:
    clock = store.clock
    if isinstance(clock, ManualClock):
        clock.advance(timedelta(days=1))


def test_each_wish_gives_its_rows(bikes: Store) -> None:
    now = bikes.clock.now()
    cases = [
        (latest("bikes"), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        (latest("bikes:2"), [1.0, 2.0, 3.0, 4.0, 5.0]),
        (window("bikes", rows=2), [5.0, 6.0]),
        (window("bikes", last=1), [6.0]),
        (window("bikes", last=2), [4.0, 5.0, 6.0]),
        (window("bikes", last=9), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        (as_of(now - timedelta(days=1), latest("bikes")), [1.0, 2.0, 3.0, 4.0, 5.0]),
        (as_of(now - timedelta(days=1), window("bikes", last=1)), [4.0, 5.0]),
        ("bikes", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    ]
    for wish, expected in cases:
        assert start_run(bikes, column, {"rows": wish}).output == expected, wish


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_defaults_are_picked_and_pinned(bikes: Store, sample: ModuleType, executor: str) -> None:
    run = start_run(bikes, sample.newest, executor=executor)
    assert run.output == 21.0 + 11.0
    assert run.pins["rows"]["reference"] == "bikes:3"
    with bikes.database.reading() as tx:
        walked = graph(tx, run.steps[0].outputs[0].version_id, down=False)
    assert run.pins["rows"]["version_id"] in {node.id for node in walked.nodes}


def test_a_new_version_makes_the_steps_run_again(bikes: Store) -> None:
    start_run(bikes, column, {"rows": latest("bikes")})
    assert start_run(bikes, column, {"rows": latest("bikes")}).steps[0].state == "CACHED"
    append(bikes, "bikes", pl.DataFrame({"a": [5.5]}))
    assert start_run(bikes, column, {"rows": latest("bikes")}).steps[0].state == "COMMITTED"


def test_a_resumed_run_reads_what_was_pinned(bikes: Store) -> None:
    outcomes = iter([ValueError("not now"), None])

    @step(cache=False)
    def unlucky(rows: pl.DataFrame) -> float:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome
        return float(rows["a"].sum())

    @pipeline
    def summed(name: str, rows: pl.DataFrame = latest("bikes")) -> float:  # noqa: B008
        return unlucky(rows) + len(heights(latest(name)))

    with pytest.raises(StepFailed) as failed:
        start_run(bikes, summed, {"name": "bikes"})
    append(bikes, "bikes", pl.DataFrame({"a": [5.5]}))
    assert resume_run(bikes, failed.value.run_id, summed).output == 21.0 + 6


def test_an_input_of_the_body_is_pinned_too(bikes: Store, sample: ModuleType) -> None:
    run = start_run(bikes, sample.picks_inside, {"name": "bikes"})
    assert run.output == 21.0
    assert [pin["reference"] for pin in run.pins.values()] == ["bikes:3"]


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_champion_gives_the_bundle_that_holds_the_alias(store: Store, executor: str, tmp_path: Path) -> None:
    rows = pl.DataFrame({"a": [0.0, 1.0, 2.0, 3.0]})
    model = Model(LinearRegression().fit(rows, [1.0, 3.0, 5.0, 7.0]), example=rows)
    bundle = save_bundle(store, model, rows=rows)
    with pytest.raises(NotFound, match="no model named"):
        start_run(store, scored, {"model": champion("bikes"), "rows": rows})
    with store.database.transaction() as tx:
        at = store.clock.now()
        entity = ensure_entity(tx, "model", "bikes", at=at)
        version = add_version(tx, entity.id, at=at, digest=bundle.digest)
        move_alias(tx, entity.id, "champion", version.id, at=at, by="test", reason="first")
    run = start_run(store, scored, {"model": champion("bikes"), "rows": rows}, executor=executor)
    assert run.output == [1.0, 3.0, 5.0, 7.0]
    assert run.pins["model"]["reference"] == "bikes:1"
    before = as_of(at - timedelta(days=1), champion("bikes"))
    with pytest.raises(NotFound, match="champion of model 'bikes' at that time"):
        start_run(store, scored, {"model": before, "rows": rows})


@pytest.mark.parametrize(
    ("wish", "hint"),
    [
        (latest("bikse"), r"no dataset named 'bikse'.*\n.*Did you mean 'bikes'"),
        (latest("bikes:9"), r"version of dataset 'bikes'.*\n.*newest is 3"),
        (champion("bikes"), "no model named 'bikes'"),
    ],
)
def test_a_wish_that_cannot_be_granted_names_what_there_is(bikes: Store, wish: object, hint: str) -> None:
    with pytest.raises(NotFound, match=hint):
        start_run(bikes, column, {"rows": wish})


def test_as_of_before_the_first_version_says_when_that_was(bikes: Store) -> None:
    early = bikes.clock.now() - timedelta(days=30)
    with pytest.raises(NotFound, match="The first: 2026-01-01"):
        start_run(bikes, column, {"rows": as_of(early, latest("bikes"))})
