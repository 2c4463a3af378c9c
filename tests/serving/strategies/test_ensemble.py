"""All members answer together: equal to what NumPy and scikit-learn make of the same answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewheel.errors import ValidationFailed
from tidewheel.registry.promotion import set_strategy
from tidewheel.registry.strategy import Ensemble
from tidewheel.registry.traffic import current_traffic
from tidewheel.serving.arms import Answer
from tidewheel.serving.deploy import deploy
from tidewheel.serving.strategies.ensemble import mean_numbers, mean_rows, vote_shares

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

ROW = {"a": 2.0, "b": 0.5, "n": 3}


def together(shop: Shop, model: str = "bikes", **given: Any) -> None:
    set_strategy(shop.store, model, Ensemble(**given), by="test", reason="a test")
    shop.engine.refresh()


@given(
    st.integers(1, 4).flatmap(
        lambda members: st.tuples(
            st.lists(st.floats(0.1, 9), min_size=members, max_size=members),
            st.lists(st.lists(st.floats(-9, 9), min_size=6, max_size=6), min_size=members, max_size=members),
        )
    )
)
def test_means_are_weighted_means(case: tuple[list[float], list[list[float]]]) -> None:
    weights, values = case
    numbers = mean_numbers([(weight, Answer(row, None)) for weight, row in zip(weights, values, strict=True)])
    assert numbers == pytest.approx(np.average(values, axis=0, weights=weights), abs=1e-9)
    tables = [np.reshape(row, (2, 3)).tolist() for row in values]
    rows = mean_rows([(weight, Answer([], table)) for weight, table in zip(weights, tables, strict=True)])
    expected = np.average(tables, axis=0, weights=weights)
    assert np.asarray(rows) == pytest.approx(expected, abs=1e-9)


def test_votes_are_those_of_scikit_learn() -> None:
    from sklearn.utils.extmath import weighted_mode

    random = np.random.default_rng(0)
    votes, weights = random.integers(0, 3, size=(5, 200)), random.random(5)
    shares = vote_shares(
        [(w, Answer(v, None)) for w, v in zip(weights.tolist(), votes.tolist(), strict=True)], [0, 1, 2]
    )
    assert np.sum(shares, axis=1) == pytest.approx(np.ones(200))
    mode, score = weighted_mode(votes, np.repeat(weights[:, None], 200, axis=1), axis=0)
    assert np.argmax(shares, axis=1).tolist() == mode[0].astype(int).tolist()
    assert np.max(shares, axis=1) * weights.sum() == pytest.approx(score[0])


def test_probabilities_are_averaged_and_each_member_is_logged(shop: Shop) -> None:
    together(shop, weights={1: 3.0, 2: 1.0})
    answer = shop.ask({"rows": [ROW], "id": "a"})
    (record,) = shop.log()
    parts = {part.version: part.probability for part in record.parts}
    assert parts[1] is not None
    assert parts[2] is not None
    expected = [0.75 * mine + 0.25 * theirs for mine, theirs in zip(parts[1][0], parts[2][0], strict=True)]
    assert answer["probabilities"][0] == pytest.approx(expected)
    assert answer["predictions"] == [int(np.argmax(expected))] == list(record.output)
    assert (record.version, record.arm, record.strategy, record.propensity) == (1, "champion", "ensemble", 1.0)


def test_a_vote_goes_by_weight(shop: Shop) -> None:
    third = shop.register("down")
    together(shop, weights={1: 1.0, 2: 1.0, third: 1.0}, combine="vote")
    answer = shop.ask(ROW)
    assert (answer["predictions"], answer["probabilities"]) == ([0], [pytest.approx([2 / 3, 1 / 3])])
    together(shop, weights={1: 5.0, 2: 1.0, third: 1.0}, combine="vote")
    assert shop.ask(ROW)["predictions"] == [1]


def test_numbers_are_averaged(shop: Shop) -> None:
    shop.register("line", "lines")
    shop.register("line", "lines")
    shop.deploy(1, "lines")
    single = shop.ask({"a": 1.0, "b": 1.0}, "lines")["predictions"]
    together(shop, "lines", weights={1: 1.0, 2: 1.0})
    assert shop.ask({"a": 1.0, "b": 1.0}, "lines")["predictions"] == pytest.approx(single)
    assert len(shop.log("lines")[-1].parts) == 2


def test_a_member_that_fails_is_left_out_and_logged(shop: Shop) -> None:
    together(shop, weights={1: 1.0, 2: 1.0}, faults={1: 1.0})
    answer = shop.ask({"rows": [ROW], "id": "a"})
    assert (answer["predictions"], answer["arm"]) == ([0], "fallback")
    failure, record = shop.log()
    assert (failure.version, failure.status, record.status, record.route) == (1, 500, 200, "fallback")
    assert [bool(part.error) for part in record.parts] == [True, False]


def test_when_every_member_fails_the_caller_is_told(shop: Shop) -> None:
    together(shop, weights={1: 1.0, 2: 1.0}, faults={1: 1.0, 2: 1.0})
    assert shop.post("/predict/bikes", {"rows": [ROW], "id": "a"}).status == 500
    assert sorted(record.version for record in shop.log()) == [1, 2]
    assert {record.status for record in shop.log()} == {500}


def test_what_cannot_be_put_together_is_refused_and_the_old_answers(shop: Shop) -> None:
    line = shop.register("line")
    together(shop, weights={1: 1.0, line: 1.0})
    with pytest.raises(ValidationFailed, match="different classes"):
        deploy(shop.store, current_traffic(shop.store, "bikes"))
    assert shop.ask(ROW)["predictions"] == [1]
    assert "different classes" in shop.get("/v2/health/ready").body.decode()
