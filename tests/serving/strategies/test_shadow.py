"""Challengers in the shadow: scored after the answer, compared, logged, dropped under load; never felt by a caller."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tidewheel.models.scorer import Rows, Scorer, Scores
from tidewheel.models.signature import Signature
from tidewheel.predictions.reader import LogReader
from tidewheel.predictions.records import Shadowed
from tidewheel.predictions.segments import log_folder
from tidewheel.registry.promotion import set_strategy
from tidewheel.registry.strategy import Shadow
from tidewheel.serving.strategies.way import make_way

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

ROW = {"a": 2.0, "b": 0.5, "n": 3}


def shadow(shop: Shop, *versions: int, **given: Any) -> None:
    set_strategy(shop.store, "bikes", Shadow(versions=versions, **given), by="test", reason="a test")
    shop.engine.refresh()


def shadows(shop: Shop) -> Sequence[Shadowed]:
    assert shop.engine.fleet.endpoints["bikes"].shadows.drain(60)
    return LogReader(log_folder(shop.store.home, "bikes"), Shadowed).read().records


def test_shadows_are_compared_and_logged_under_the_answers_id(shop: Shop) -> None:
    third = shop.register("up")
    shadow(shop, 2, third)
    for number in range(10):
        answer = shop.ask({"rows": [ROW], "id": f"r{number}"})
        assert (answer["version"], answer["predictions"]) == (1, [1])
    found = shadows(shop)
    assert sorted((each.id, each.version) for each in found) == sorted(
        (f"r{n}", v) for n in range(10) for v in (2, third)
    )
    for each in found:
        assert (each.champion, each.deployment, each.error) == (1, 2, "")
        assert (each.differ, list(each.output)) == ((1, [0]) if each.version == 2 else (0, [1]))
        assert (each.distance > 0.5) == (each.version == 2)
    assert {(record.version, record.route) for record in shop.log()} == {(1, "split")}  # the answers' log knows none
    assert shop.metric("tidewheel_shadow_scored_total") == 20
    assert shop.metric("tidewheel_shadow_differing_total") == 10
    assert shop.metric("tidewheel_model_info", version=2) == 0.0


def test_a_shadow_that_fails_is_logged_and_costs_nothing(shop: Shop) -> None:
    shadow(shop, 2, faults={2: 1.0})
    assert shop.ask(ROW)["version"] == 1
    (found,) = shadows(shop)
    assert "game day" in found.error
    assert (list(found.output), found.differ) == ([], 0)
    assert shop.metric("tidewheel_shadow_failures_total") == 1


class Slow:
    """A model that answers once it is let go."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.begun, self.go = threading.Event(), threading.Event()

    @property
    def signature(self) -> Signature:
        return self.scorer.signature

    def score(self, rows: Rows) -> Scores:
        return self.scorer.score(rows)

    def score_rows(self, rows: Sequence[Sequence[Any]]) -> Scores:
        self.begun.set()
        self.go.wait(60)
        return self.scorer.score_rows(rows)


def test_what_does_not_fit_the_queue_is_dropped_and_no_answer_waits(shop: Shop) -> None:
    shadow(shop, 2, queue=3)
    endpoint = shop.engine.fleet.endpoints["bikes"]
    live = endpoint.deployed
    assert live is not None
    assert live.others[0].scorer is not None
    slow = Slow(live.others[0].scorer)
    arms = {1: live.champion, 2: replace(live.others[0], scorer=slow)}
    endpoint.deployed = replace(live, others=[arms[2]], way=make_way(live.traffic, arms, live.rows))
    shop.ask({"rows": [ROW], "id": "first"})
    assert slow.begun.wait(60)  # the thread holds the first one; the queue is empty
    answers = [shop.ask({"rows": [ROW], "id": f"r{number}"})["version"] for number in range(10)]
    assert answers == [1] * 10
    assert shop.metric("tidewheel_shadow_dropped_total") == 7
    slow.go.set()
    assert [each.id for each in shadows(shop)] == ["first", "r0", "r1", "r2"]
    assert len(shop.log()) == 11


def test_closing_scores_what_waits(shop: Shop) -> None:
    shadow(shop, 2)
    for number in range(5):
        shop.ask({"rows": [ROW], "id": f"r{number}"})
    shop.engine.close()
    records = LogReader(log_folder(shop.store.home, "bikes"), Shadowed).read().records
    assert len(records) == 5


@pytest.mark.parametrize("rows", [1, 3])
def test_the_rows_that_differ_are_counted(shop: Shop, rows: int) -> None:
    shadow(shop, 2)
    shop.ask({"rows": [ROW] * rows})
    (found,) = shadows(shop)
    assert found.differ == rows
