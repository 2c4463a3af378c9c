"""Verdicts are kept in the graph with their edges and an event, on either database."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tidewheel.evaluation.evaluate import evaluate
from tidewheel.evaluation.evidence import GateContext
from tidewheel.evaluation.gates import beats_champion, data_valid, judge, latency
from tidewheel.evaluation.record import Subject, list_evaluations, record_evaluation
from tidewheel.evaluation.verdict import Judgement
from tidewheel.lineage.graph import graph
from tidewheel.lineage.read import get_execution, list_events
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import add_version, ensure_entity, start_execution
from tidewheel.models.model import Model


def judged(*, good: bool) -> tuple[Judgement, Model, pl.DataFrame]:
    from sklearn.linear_model import LinearRegression

    random = np.random.default_rng(0)
    rows = pl.DataFrame({"x": random.random(80), "part": ["a", "b"] * 40}).with_columns(y=pl.col("x") * 3)
    target = rows["y"] if good else rows["y"].shuffle(seed=1)
    model = Model(LinearRegression().fit(rows.select("x"), target.to_numpy()), example=rows.select("x"))
    context = GateContext(task="regression", rows=rows, label="y", candidate=model)
    return judge([beats_champion("rmse"), data_valid(), latency(p99_ms=1_000)], context), model, rows


@pytest.mark.parametrize("good", [True, False])
def test_a_verdict_is_kept_with_its_edges_and_read_back(any_store: Store, good: bool) -> None:
    judgement, model, rows = judged(good=good)
    measured = evaluate(
        rows["y"], model.score({"x": rows["x"].to_numpy()}), task="regression", rows=rows, slices=["part"]
    )
    at = any_store.clock.now()
    with any_store.database.transaction() as tx:
        data = add_version(tx, ensure_entity(tx, "dataset", "bikes", at=at).id, at=at, digest="sha256:d")
        old = add_version(tx, ensure_entity(tx, "model", "bikes", at=at).id, at=at, digest="sha256:m")
        run = start_execution(tx, kind="run", job="bikes", at=at)
        subject = Subject(
            model="bikes", champion_id=old.id, dataset_version_id=data.id, run_id=run.id, candidate_digest="sha256:c"
        )
        kept = record_evaluation(tx, subject, at=at, judgement=judgement, evaluation=measured, by="loop")
    with any_store.database.reading() as tx:
        assert list_evaluations(tx, "bikes") == [kept]
        assert list_evaluations(tx, "other") == []
        edges = {(edge.relation, edge.dst, edge.role) for edge in graph(tx, kept.id, down=False).edges}
        events = list_events(tx, subject_id=run.id)
        execution = get_execution(tx, kept.id)
    assert kept.passed is good
    assert kept.reason == judgement.reason
    assert [one.verdict for one in kept.results] == [one.verdict for one in judgement.results]
    assert kept.results[0].numbers["candidate"] == pytest.approx(measured.metrics["rmse"])
    assert (kept.n, kept.metrics) == (80, measured.metrics)
    assert edges == {("evaluated", run.id, "candidate"), ("used", data.id, "rows"), ("used", old.id, "champion")}
    assert [event.type for event in events] == ["evaluation.passed" if good else "evaluation.refused"]
    assert events[0].body["gates"][0]["numbers"]["n"] == 80
    assert (execution.kind, execution.state, execution.parent_id) == ("evaluation", "SUCCEEDED", run.id)
    assert set(execution.facets["slices"]) == {"part=a", "part=b"}


def test_a_measurement_without_gates_has_no_verdict(store: Store) -> None:
    measured = evaluate([1.0, 2.0], judged(good=True)[1].score({"x": [0.3, 0.6]}), task="regression")
    with store.database.transaction() as tx:
        kept = record_evaluation(tx, Subject(model="m"), at=store.clock.now(), evaluation=measured)
        assert kept.passed is None
        assert [event.type for event in list_events(tx, type_prefix="evaluation.")] == ["evaluation.measured"]


def test_nothing_is_kept_when_the_transaction_is_rolled_back(store: Store) -> None:
    judgement, _, _ = judged(good=True)

    def interrupted() -> None:
        with store.database.transaction() as tx:
            record_evaluation(tx, Subject(model="m"), at=store.clock.now(), judgement=judgement)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    with store.database.reading() as tx:
        assert list_evaluations(tx, "m") == []
        assert list_events(tx) == []
