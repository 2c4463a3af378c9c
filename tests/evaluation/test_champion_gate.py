"""The champion gate lets a better candidate through, refuses a worse one, and says when the rows cannot tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tidewheel.evaluation.compare import compare
from tidewheel.evaluation.evidence import GateContext
from tidewheel.evaluation.gates import beats_champion, judge, threshold
from tidewheel.evaluation.verdict import Gate
from tidewheel.models.model import Model
from tidewheel.models.scorer import Scorer, Scores
from tidewheel.models.signature import Task
from tidewheel.testing.scorers import AnsweringScorer, stored_answers


def numbers(
    truth: Sequence[float] | NDArray[np.float64], candidate: Scorer, champion: Scorer | None = None
) -> GateContext:
    rows = pl.DataFrame({"x": [0.0] * len(truth), "y": truth, "part": np.arange(len(truth)) % 2})
    return GateContext(task="regression", rows=rows, label="y", candidate=candidate, champion=champion)


@cache
def digits() -> pl.DataFrame:
    features, target = load_digits(return_X_y=True)
    return pl.DataFrame(features, schema=[f"p{index}" for index in range(64)]).with_columns(y=pl.Series(target))


@cache
def prices() -> pl.DataFrame:
    """Return rows like the electricity market's: noisy, binary, with a rule that hangs on price, demand and hour."""
    random = np.random.default_rng(0)
    hour, price, demand = random.integers(0, 48, 3_000), random.gamma(2, 0.03, 3_000), random.random(3_000)
    lean = 40 * (price - 0.06) + 3 * (demand - 0.5) + np.sin(hour / 48 * 2 * np.pi)
    up = random.random(3_000) < 1 / (1 + np.exp(-lean))
    return pl.DataFrame({"hour": hour, "price": price, "demand": demand, "y": np.where(up, "up", "down")})


def fitted(rows: pl.DataFrame, *, shuffled: int | None = None, task: Task | None = None) -> Model:
    x, y = rows.drop("y"), rows["y"].to_numpy()
    if shuffled is not None:
        y = np.random.default_rng(shuffled).permutation(y)
    estimator: Any = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    if task == "binary":
        estimator = HistGradientBoostingClassifier(max_iter=20, max_depth=4)
    return Model(estimator.fit(x, y), example=x.head(20), task=task)


@pytest.mark.parametrize("held_out", [100, 200, 500])
@pytest.mark.parametrize("demand", ["better", "not_worse"])
def test_a_candidate_of_shuffled_labels_is_refused_on_digits(held_out: int, demand: Any) -> None:
    table = digits()
    history, newest = table.head(500), table.slice(500, held_out)
    champion = fitted(history)
    for seed in range(3):
        context = GateContext(
            task="multiclass", rows=newest, label="y", candidate=fitted(history, shuffled=seed), champion=champion
        )
        assert _verdicts(context, beats_champion("accuracy", demand=demand)) == ["fail"]


@pytest.mark.parametrize("held_out", [100, 200, 500])
def test_a_candidate_of_shuffled_labels_is_refused_on_a_noisy_market(held_out: int) -> None:
    table = prices()
    history, newest = table.head(1_500), table.slice(1_500, held_out)
    champion = fitted(history, task="binary")
    gate, ranking = beats_champion("accuracy"), beats_champion("roc_auc")
    for seed in range(3):
        candidate = fitted(history, shuffled=seed, task="binary")
        context = GateContext(task="binary", rows=newest, label="y", candidate=candidate, champion=champion)
        assert _verdicts(context, gate, ranking) == ["fail", "fail"]


def test_a_first_model_of_shuffled_labels_seldom_beats_a_constant() -> None:
    # A smooth classifier of shuffled labels is not always worthless on data with structure, but nearly so.
    for table, history, task in ((digits(), 500, None), (prices(), 1_500, "binary")):
        passed = 0
        for seed in range(10):
            candidate = fitted(table.head(history), shuffled=seed, task=task)  # type: ignore[arg-type]
            context = GateContext(
                task=candidate.signature.task, rows=table.slice(history, 150), label="y", candidate=candidate
            )
            passed += _verdicts(context, beats_champion("accuracy")) == ["pass"]
        assert passed <= 1


def test_a_candidate_that_knows_the_new_writers_is_let_through() -> None:
    table = digits()
    champion = fitted(table.head(150))
    candidate = fitted(table.head(600))
    context = GateContext(
        task="multiclass", rows=table.slice(600, 200), label="y", candidate=candidate, champion=champion
    )
    judgement = judge([beats_champion("accuracy"), threshold("macro_f1", at_least=0.5)], context)
    assert judgement.passed
    figures = judgement.results[0].numbers
    assert figures["n"] == 200
    assert figures["candidate"] - figures["champion"] == pytest.approx(figures["difference"])
    assert 0 < figures["low"] < figures["difference"]
    assert "on 200 rows" in judgement.reason


def test_a_first_model_must_beat_the_best_constant() -> None:
    table = digits()
    first = GateContext(task="multiclass", rows=table.slice(500, 150), label="y", candidate=fitted(table.head(500)))
    for metric in ("accuracy", "balanced_accuracy", "macro_f1", "log_loss"):
        result = judge([beats_champion(metric)], first).results[0]
        assert result.verdict == "pass"
        assert result.reason.startswith("First model.")


@pytest.mark.parametrize("metric", ["rmse", "mae", "r2", "median_ae", "mape"])
def test_a_first_regression_must_beat_mean_and_median(metric: str) -> None:
    random = np.random.default_rng(1)
    truth = random.gamma(2, 10, 120) + 1
    assert _verdicts(
        numbers(truth, stored_answers("regression", truth + random.normal(0, 2, 120))), beats_champion(metric)
    ) == ["pass"]
    constant = np.full(120, np.median(truth) if metric in ("mae", "median_ae", "mape") else truth.mean())
    assert _verdicts(numbers(truth, stored_answers("regression", constant)), beats_champion(metric)) == ["fail"]


@pytest.mark.parametrize("metric", ["precision", "recall", "f1", "roc_auc", "brier"])
def test_always_yes_is_no_first_model(metric: str) -> None:
    truth = (np.random.default_rng(2).random(200) < 0.4).astype(int)

    def context(share: np.ndarray) -> GateContext:
        def answer(rows: int) -> Scores:
            return Scores((share > 0.5).astype(int)[:rows], np.column_stack([1 - share, share])[:rows])

        rows = pl.DataFrame({"x": np.zeros(200), "y": truth})
        return GateContext(
            task="binary", rows=rows, label="y", candidate=AnsweringScorer("binary", answer, classes=[0, 1])
        )

    assert _verdicts(context(np.full(200, 0.6)), beats_champion(metric)) != ["pass"]
    assert _verdicts(context(0.1 + 0.8 * truth), beats_champion(metric)) == ["pass"]


def test_too_few_rows_cannot_tell() -> None:
    truth = np.arange(29.0)
    result = judge([beats_champion("rmse")], numbers(truth, stored_answers("regression", truth))).results[0]
    assert result.verdict == "not_enough_data"
    assert result.reason == "29 labelled rows are too few to judge by; 30 are needed."


def test_a_difference_that_may_be_chance_is_not_enough_data_and_a_margin_lets_it_through() -> None:
    random = np.random.default_rng(3)
    truth, noise = random.normal(0, 1, 60), random.normal(0, 1, (2, 60))
    both = sorted((truth + one for one in noise), key=lambda answer: float(np.mean((answer - truth) ** 2)))
    context = numbers(truth, stored_answers("regression", both[0]), stored_answers("regression", both[1]))
    strict = judge([beats_champion("rmse", confidence=0.999)], context).results[0]
    assert strict.verdict == "not_enough_data"
    assert "more labelled rows would tell" in strict.reason
    assert _verdicts(context, beats_champion("rmse", confidence=0.999, margin=2.0)) == ["pass"]
    assert _verdicts(context, beats_champion("rmse", confidence=0.5)) == ["pass"]
    swapped = replace(
        context, candidate=stored_answers("regression", both[1]), champion=stored_answers("regression", both[0])
    )
    assert _verdicts(swapped, beats_champion("rmse", margin=2.0)) == ["fail"]
    assert _verdicts(swapped, beats_champion("rmse", margin=2.0, demand="not_worse")) == ["pass"]
    assert _verdicts(swapped, beats_champion("rmse", confidence=0.999, demand="not_worse")) == ["pass"]
    assert _verdicts(swapped, beats_champion("rmse", confidence=0.5, demand="not_worse")) == ["fail"]


@pytest.mark.parametrize("confidence", [0.6, 0.8, 0.95])
def test_confidence_is_one_sided(confidence: float) -> None:
    random = np.random.default_rng(8)
    truth = random.normal(0, 1, 100)
    answers = [truth + random.normal(0, spread, 100) for spread in (0.5, 1.0)]
    context = numbers(truth, *(stored_answers("regression", one) for one in answers))
    figures = judge([beats_champion("mae", confidence=confidence)], context).results[0].numbers
    two_sided = compare(
        truth, Scores(answers[0]), Scores(answers[1]), task="regression", metric="mae", level=2 * confidence - 1
    )
    assert (figures["low"], figures["high"]) == (two_sided.low, two_sided.high)
    gaps = np.abs(answers[1] - truth) - np.abs(answers[0] - truth)
    bound = gaps.mean() - stats.t.ppf(confidence, 99) * gaps.std(ddof=1) / 10
    assert figures["low"] == pytest.approx(bound, abs=0.015)


def test_the_same_model_again_is_refused_or_not_worse() -> None:
    truth = np.random.default_rng(4).normal(0, 1, 50)
    same = stored_answers("regression", truth + 0.1)
    result = judge([beats_champion("mae")], numbers(truth, same, same)).results[0]
    assert (result.verdict, result.numbers["changed"]) == ("fail", 0)
    assert "Both answer every row alike" in result.reason
    assert _verdicts(numbers(truth, same, same), beats_champion("mae", demand="not_worse")) == ["pass"]


def test_a_candidate_that_is_worse_on_a_slice_is_refused() -> None:
    random = np.random.default_rng(5)
    truth = random.normal(0, 1, 400)
    part = np.arange(400) % 2
    candidate = truth + random.normal(0, 1, 400) * np.where(part == 1, 0.5, 0.1)
    champion = truth + random.normal(0, 1, 400) * np.where(part == 1, 0.2, 2.0)
    context = numbers(truth, stored_answers("regression", candidate), stored_answers("regression", champion))
    assert _verdicts(context, beats_champion("rmse")) == ["pass"]
    result = judge([beats_champion("rmse", slices=["part"])], context).results[0]
    assert result.verdict == "fail"
    assert "worse on part=1" in result.reason
    assert "part=0" not in result.reason
    assert result.numbers["slices"]["part=1"]["high"] < 0


def test_a_slice_on_which_it_may_be_worse_by_chance_stops_nobody() -> None:
    random = np.random.default_rng(9)
    truth = random.normal(0, 1, 400)
    part = np.arange(400) % 2
    candidate = truth + random.normal(0, 1, 400) * np.where(part == 1, 1.02, 0.1)
    champion = truth + random.normal(0, 1, 400) * np.where(part == 1, 1.0, 2.0)
    context = numbers(truth, stored_answers("regression", candidate), stored_answers("regression", champion))
    result = judge([beats_champion("rmse", slices=["part"])], context).results[0]
    figures = result.numbers["slices"]["part=1"]
    assert figures["low"] < figures["difference"] < 0 < figures["high"]
    assert result.verdict == "pass"


def test_rows_whose_label_has_not_arrived_are_left_out() -> None:
    truth = [float(index) for index in range(40)]
    scorer = stored_answers("regression", truth)
    rows = pl.DataFrame({"x": [0.0] * 60, "y": [*truth, *[None] * 20]})
    context = GateContext(task="regression", rows=rows, label="y", candidate=scorer)
    assert judge([beats_champion("rmse")], context).results[0].numbers["n"] == 40


def _raise(rows: int) -> Scores:
    raise ZeroDivisionError(f"{rows} rows")


@pytest.mark.parametrize(
    "champion", [AnsweringScorer("regression", _raise), stored_answers("regression", [np.nan] * 40)]
)
def test_a_champion_that_cannot_score_the_rows_does_not_stop_a_good_candidate(champion: Scorer) -> None:
    truth = np.random.default_rng(6).normal(0, 1, 40)
    result = judge([beats_champion("rmse")], numbers(truth, stored_answers("regression", truth), champion)).results[0]
    assert result.verdict == "pass"
    assert "held against a constant answer" in result.reason


def test_one_label_for_all_rows_tells_nothing() -> None:
    result = judge([beats_champion("rmse")], numbers([2.0] * 40, stored_answers("regression", [2.0] * 40))).results[0]
    assert result.verdict == "not_enough_data"
    assert "All 40 labels are alike" in result.reason


def _verdicts(context: GateContext, *gates: Gate) -> list[str]:
    return [result.verdict for result in judge(gates, context).results]
