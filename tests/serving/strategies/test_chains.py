"""Cascade and fallback: who is asked next, what is logged of each, and what a model that hangs costs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tidewheel.errors import ModelFailed, ValidationFailed
from tidewheel.models.scorer import Rows, Scorer, Scores
from tidewheel.models.signature import Signature
from tidewheel.registry.promotion import set_strategy
from tidewheel.registry.strategy import Cascade, Fallback
from tidewheel.registry.traffic import current_traffic
from tidewheel.serving.deploy import deploy
from tidewheel.serving.strategies.timed import Timed
from tidewheel.serving.strategies.way import make_way

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

CLEAR = {"a": 4.0, "b": 0.5, "n": 3}
CLOSE = {"a": 0.01, "b": 0.0, "n": 4}


def cascade(shop: Shop, **given: Any) -> None:
    set_strategy(shop.store, "bikes", Cascade(versions=(2, 1), threshold=0.9, **given), by="test", reason="a test")
    shop.engine.refresh()


def chain(shop: Shop, *versions: int, **given: Any) -> None:
    set_strategy(shop.store, "bikes", Fallback(versions=versions, **given), by="test", reason="a test")
    shop.engine.refresh()


@pytest.mark.parametrize("measure", ["top", "margin"])
def test_a_cascade_asks_the_champion_only_when_the_cheap_one_is_unsure(shop: Shop, measure: str) -> None:
    cascade(shop, measure=measure)
    sure, unsure = shop.ask({"rows": [CLEAR], "id": "sure"}), shop.ask({"rows": [CLOSE], "id": "unsure"})
    assert (sure["version"], sure["arm"], sure["predictions"]) == (2, "challenger", [0])
    assert (unsure["version"], unsure["arm"]) == (1, "champion")
    first, second = shop.log()
    assert (first.version, list(first.parts), first.route, first.strategy) == (2, [], "split", "cascade")
    (cheap,) = second.parts
    assert (second.version, cheap.version) == (1, 2)
    assert cheap.probability is not None
    assert max(cheap.probability[0]) < 0.9
    assert list(second.output) != list(cheap.output)  # the two models answer the opposite


def test_a_request_of_several_rows_is_unsure_when_one_of_them_is(shop: Shop) -> None:
    cascade(shop)
    assert shop.ask({"rows": [CLEAR, CLEAR]})["version"] == 2
    assert shop.ask({"rows": [CLEAR, CLOSE]})["version"] == 1


def test_a_cheap_model_that_fails_escalates_and_a_champion_that_fails_leaves_its_answer(shop: Shop) -> None:
    cascade(shop, faults={2: 1.0})
    assert (shop.ask({"rows": [CLEAR], "id": "a"})["version"], shop.log()[-1].route) == (1, "fallback")
    cascade(shop, faults={1: 1.0})
    answer = shop.ask({"rows": [CLOSE], "id": "b"})
    assert (answer["version"], answer["arm"]) == (2, "fallback")
    told = [(record.id, record.version, record.status, record.route) for record in shop.log()]
    assert told == [
        ("a", 2, 500, "split"),
        ("a", 1, 200, "fallback"),
        ("b", 1, 500, "split"),
        ("b", 2, 200, "fallback"),
    ]
    assert shop.metric("tidewheel_fallbacks_total") == 2


def test_when_all_fail_the_caller_is_told_and_each_failure_is_logged(shop: Shop) -> None:
    cascade(shop, faults={1: 1.0, 2: 1.0})
    assert shop.post("/predict/bikes", {"rows": [CLOSE], "id": "a"}).status == 500
    assert [(record.version, record.status, record.route) for record in shop.log()] == [
        (2, 500, "split"),
        (1, 500, "fallback"),
    ]


def test_a_cascade_begins_with_probabilities(shop: Shop) -> None:
    lines = [shop.register("line", "lines"), shop.register("line", "lines")]
    shop.deploy(1, "lines")
    strategy = Cascade(versions=tuple(reversed(lines)), threshold=0.9)
    set_strategy(shop.store, "lines", strategy, by="test", reason="a test")
    with pytest.raises(ValidationFailed, match="without probabilities"):
        deploy(shop.store, current_traffic(shop.store, "lines"))
    shop.engine.refresh()
    assert shop.ask({"a": 1.0, "b": 1.0}, "lines")["version"] == 1  # what was live stays


def test_a_chain_goes_on_until_somebody_answers(shop: Shop) -> None:
    third = shop.register("up")
    chain(shop, 1, 2, third, faults={1: 1.0, 2: 1.0})
    answer = shop.ask({"rows": [CLEAR], "id": "a"})
    assert (answer["version"], answer["arm"], answer["predictions"]) == (third, "fallback", [1])
    assert [(record.version, record.status, record.route) for record in shop.log()] == [
        (1, 500, "split"),
        (2, 500, "fallback"),
        (third, 200, "fallback"),
    ]


def test_faults_of_two_versions_hit_requests_of_their_own(shop: Shop) -> None:
    chain(shop, 1, 2, faults={1: 0.5, 2: 0.5})
    statuses = [shop.post("/predict/bikes", {"rows": [CLEAR], "id": f"r{n}"}).status for n in range(200)]
    assert 25 < statuses.count(500) < 75  # a quarter, not a half: the second one answers for the first


class Stuck:
    """A model that does not come back before it is let go."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.go = threading.Event()
        self.calls = 0

    @property
    def signature(self) -> Signature:
        return self.scorer.signature

    def score(self, rows: Rows) -> Scores:
        return self.scorer.score(rows)

    def score_rows(self, rows: Sequence[Sequence[Any]]) -> Scores:
        self.calls += 1
        self.go.wait(60)
        return self.scorer.score_rows(rows)


@pytest.fixture
def stuck(shop: Shop) -> Iterator[Stuck]:
    """Version 1, which answers, made to hang behind version 2."""
    chain(shop, 1, 2, timeout_ms=20)
    endpoint = shop.engine.fleet.endpoints["bikes"]
    live = endpoint.deployed
    assert live is not None
    assert live.champion.scorer is not None
    hanging = Stuck(live.champion.scorer)
    arms = {arm.version: arm for arm in (replace(live.champion, scorer=hanging), *live.others)}
    endpoint.deployed = replace(live, champion=arms[1], way=make_way(live.traffic, arms, live.rows))
    yield hanging
    hanging.go.set()


def test_a_model_that_hangs_is_given_up_once_and_then_left_alone(shop: Shop, stuck: Stuck) -> None:
    answers = [shop.ask({"rows": [CLEAR], "id": f"r{number}"}) for number in range(5)]
    assert {(answer["version"], answer["arm"]) for answer in answers} == {(2, "fallback")}
    errors = [record.error for record in shop.log() if record.status == 500]
    assert "took longer than 20 ms" in errors[0]
    assert all("still at work" in error for error in errors[1:])
    assert stuck.calls == 1


def test_a_model_that_comes_back_answers_again(shop: Shop, stuck: Stuck) -> None:
    endpoint = shop.engine.fleet.endpoints["bikes"]
    assert endpoint.deployed is not None
    timed = Timed(stuck, 20)
    with pytest.raises(ModelFailed, match="took longer"):
        timed.score_rows([(4.0, 0.5, 3)])
    stuck.go.set()
    late = timed._late
    assert late is not None
    late.result(60)
    assert timed.score_rows([(4.0, 0.5, 3)]).prediction.tolist() == [1]
    assert stuck.calls == 2


def test_a_way_of_several_requests_asks_further_versions_in_one_call(shop: Shop) -> None:
    cascade(shop)
    endpoint = shop.engine.fleet.endpoints["bikes"]
    assert endpoint.deployed is not None
    delivered: list[int] = []
    for row in (CLEAR, CLOSE, CLOSE, CLEAR):
        body = b'{"rows": [{"a": %f, "b": %f, "n": %d}]}' % (row["a"], row["b"], row["n"])
        shop.engine.submit("POST", "/predict/bikes", [], body, lambda response: delivered.append(response.status))
    shop.engine.flush()
    assert delivered == [200] * 4
    assert [record.version for record in shop.log()] == [2, 1, 1, 2]
