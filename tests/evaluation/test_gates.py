"""Gates hold a candidate to bounds of its own, and to any rule of a third party; what they cannot use is an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression

from tidewheel.data.findings import error, warning
from tidewheel.data.records import Finding
from tidewheel.errors import InvalidInput, NotFound
from tidewheel.evaluation.evidence import GateContext
from tidewheel.evaluation.gates import beats_champion, data_valid, judge, latency, threshold
from tidewheel.evaluation.verdict import Gate, GateResult
from tidewheel.models.model import Model
from tidewheel.models.scorer import Scorer, Scores
from tidewheel.testing.scorers import AnsweringScorer, stored_answers


def numbers(
    truth: Sequence[float] | NDArray[np.float64], candidate: Scorer, champion: Scorer | None = None
) -> GateContext:
    rows = pl.DataFrame({"x": [0.0] * len(truth), "y": truth, "part": np.arange(len(truth)) % 2})
    return GateContext(task="regression", rows=rows, label="y", candidate=candidate, champion=champion)


def _raise(rows: int) -> Scores:
    raise ZeroDivisionError(f"{rows} rows")


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        (stored_answers("regression", [np.nan] * 40), "40 of 40 predictions are not finite"),
        (AnsweringScorer("regression", _raise), "ZeroDivisionError"),
        (stored_answers("regression", [0.0] * 10), "40 labels came with 10 predictions"),
    ],
)
def test_a_candidate_that_cannot_be_scored_fails_every_gate_that_scores_it(candidate: Scorer, words: str) -> None:
    truth = np.arange(40.0)
    gates: list[Gate] = [beats_champion("rmse"), threshold("mae", at_most=1)]
    judgement = judge(gates, numbers(truth, candidate, stored_answers("regression", truth)))
    assert [result.verdict for result in judgement.results] == ["fail", "fail"]
    assert all(words in result.reason for result in judgement.results)


def test_a_label_of_one_class_cannot_be_ranked() -> None:
    def answer(rows: int) -> Scores:
        return Scores(np.ones(rows, dtype=int), np.tile([0.2, 0.8], (rows, 1)))

    scorer = AnsweringScorer("binary", answer, classes=[0, 1])
    rows = pl.DataFrame({"x": np.zeros(50), "y": np.ones(50, dtype=int)})
    context = GateContext(task="binary", rows=rows, label="y", candidate=scorer, champion=scorer)
    judgement = judge([beats_champion("roc_auc"), threshold("roc_auc", at_least=0.5)], context)
    assert [result.verdict for result in judgement.results] == ["not_enough_data"] * 2
    assert all("only the class 1 occurs" in result.reason for result in judgement.results)


@pytest.mark.parametrize(
    ("bounds", "verdict"),
    [((None, 0.6), "pass"), ((None, 0.4), "fail"), ((0.4, 0.6), "pass"), ((0.6, None), "fail")],
)
def test_threshold_holds_the_metric_to_its_bounds(bounds: tuple[float | None, float | None], verdict: str) -> None:
    truth = np.arange(40.0)
    result = judge(
        [threshold("mae", at_least=bounds[0], at_most=bounds[1])],
        numbers(truth, stored_answers("regression", truth + 0.5)),
    ).results[0]
    assert result.verdict == verdict
    assert result.reason.startswith("mae is 0.5 on 40 rows")


def test_threshold_holds_slices_to_its_bounds() -> None:
    truth = np.arange(80.0)
    answers = truth + np.where(np.arange(80) % 2, 1.5, 0.1)
    result = judge(
        [threshold("mae", at_most=1, slices=["part"])], numbers(truth, stored_answers("regression", answers))
    )
    assert not result.passed
    assert "1 slices are outside: part=1 (1.5)" in result.reason


class Stopwatch:
    """A timer that moves only when a scorer takes its time."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def _slow(clock: Stopwatch, milliseconds: Callable[[int], float]) -> AnsweringScorer:
    calls = iter(range(10_000))

    def answer(rows: int) -> Scores:
        clock.now += int(milliseconds(next(calls)) * 1e6)
        return Scores(np.zeros(rows))

    return AnsweringScorer("regression", answer)


@pytest.mark.parametrize(
    ("milliseconds", "verdict", "p99"),
    [
        (lambda call: 500.0 if call < 50 else 1.0, "pass", 1.0),  # warming up does not count
        (lambda call: 9.0 if call % 50 == 0 else 1.0, "fail", 9.0),  # 2 of 100 calls are slow
        (lambda call: 9.0 if call % 500 == 0 else 1.0, "pass", 1.0),  # 1 of 500 is
        (lambda call: 9.0 if call < 450 else 1.0, "pass", 1.0),  # a first round disturbed by other work
        (lambda _: 5.1, "fail", 5.1),
    ],
)
def test_latency_is_the_99th_percentile_of_single_calls(
    milliseconds: Callable[[int], float], verdict: str, p99: float
) -> None:
    clock = Stopwatch()
    context = replace(numbers([0.0, 1.0], _slow(clock, milliseconds)), timer=clock)
    result = judge([latency(p99_ms=5)], context).results[0]
    assert (result.verdict, result.numbers["p99_ms"]) == (verdict, p99)
    assert "5 ms are allowed" in result.reason


def test_latency_warms_up_with_fifty_calls_and_stops_when_one_round_is_fast_enough() -> None:
    clock, seen = Stopwatch(), [0]

    def milliseconds(call: int) -> float:
        seen[0] = call + 1
        return 100.0 if call < 50 else 1.0

    context = replace(numbers([0.0, 1.0], _slow(clock, milliseconds)), timer=clock)
    assert _verdicts(context, latency(p99_ms=5)) == ["pass"]
    assert seen == [450]


def test_latency_of_a_real_model_is_measured_on_real_rows() -> None:
    random = np.random.default_rng(0)
    x = pl.DataFrame({"x": random.random(50), "z": random.random(50)})
    model = Model(LinearRegression().fit(x, x["x"].to_numpy()), example=x)
    context = GateContext(task="regression", rows=x.with_columns(y=x["x"]), label="y", candidate=model)
    result = judge([latency(p99_ms=1_000)], context).results[0]
    assert result.verdict == "pass"
    assert 0 < result.numbers["p50_ms"] <= result.numbers["p99_ms"]


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        (AnsweringScorer("regression", _raise), "ZeroDivisionError"),
        (stored_answers("regression", [0.0], column="nope"), "'nope'"),
    ],
)
def test_latency_of_a_scorer_that_fails_is_a_refusal(candidate: Scorer, words: str) -> None:
    result = judge([latency(p99_ms=5)], numbers([0.0, 1.0], candidate)).results[0]
    assert result.verdict == "fail"
    assert words in result.reason


def test_latency_without_rows_is_not_enough_data() -> None:
    assert _verdicts(numbers([], stored_answers("regression", [])), latency(p99_ms=5)) == ["not_enough_data"]


@pytest.mark.parametrize(
    ("findings", "warnings", "verdict"),
    [
        ([], False, "pass"),
        ([warning("hour", "range", "0 to 23", "24", "Column 'hour' holds 24.")], False, "pass"),
        ([warning("hour", "range", "0 to 23", "24", "Column 'hour' holds 24.")], True, "fail"),
        ([error("hour", "missing", "int", "nothing", "Column 'hour' is missing.")], False, "fail"),
    ],
)
def test_data_valid_looks_at_findings(findings: list[Finding], warnings: bool, verdict: str) -> None:
    context = replace(numbers([0.0], stored_answers("regression", [0.0])), findings=findings)
    result = judge([data_valid(warnings=warnings)], context).results[0]
    assert result.verdict == verdict
    assert verdict == "pass" or "Column 'hour'" in result.reason


class Friday:
    """A gate of a third party."""

    name = "not_on_fridays"

    def check(self, evidence: object) -> GateResult:
        return GateResult(gate=self.name, verdict="fail", reason="It is Friday.", numbers={})


def test_any_object_with_name_and_check_is_a_gate() -> None:
    truth = np.random.default_rng(7).normal(0, 1, 40)
    judgement = judge([beats_champion("mae"), Friday()], numbers(truth, stored_answers("regression", truth)))
    assert not judgement.passed
    assert judgement.reason == "It is Friday."


def test_no_gates_no_objection() -> None:
    assert judge([], numbers([0.0], stored_answers("regression", [0.0]))).passed


@pytest.mark.parametrize(
    ("make", "error_type", "words"),
    [
        (lambda: beats_champion("acuracy"), NotFound, "'accuracy'"),
        (lambda: beats_champion("rmse", confidence=95), InvalidInput, "from 0.5"),
        (lambda: beats_champion("rmse", margin=-1), InvalidInput, "negative"),
        (lambda: beats_champion("rmse", demand="equal"), InvalidInput, '"better" or "not_worse"'),  # type: ignore[arg-type]
        (lambda: threshold("rmse"), InvalidInput, "at_least="),
        (lambda: threshold("rmsee", at_most=1), NotFound, "'rmse'"),
        (lambda: latency(p99_ms=0), InvalidInput, "positive"),
    ],
)
def test_gates_are_checked_where_they_are_declared(
    make: Callable[[], Gate], error_type: type[Exception], words: str
) -> None:
    with pytest.raises(error_type, match=words):
        make()


@pytest.mark.parametrize(
    ("gate", "changes", "error_type", "words"),
    [
        (beats_champion("rmse"), {"label": "z"}, NotFound, "label column named 'z'"),
        (beats_champion("rmse", slices=["prt"]), {}, NotFound, "'part'"),
        (beats_champion("accuracy"), {}, InvalidInput, "does not measure a regression"),
        (threshold("rmse", at_most=1, slices=["prt"]), {}, NotFound, "'part'"),
        (beats_champion("rmse"), {"task": "binary"}, InvalidInput, "regression model"),
    ],
)
def test_a_context_that_does_not_fit_is_an_error_not_a_verdict(
    gate: Gate, changes: dict[str, Any], error_type: type[Exception], words: str
) -> None:
    truth = np.arange(40.0)
    scorer = stored_answers("regression", truth)
    with pytest.raises(error_type, match=words):
        judge([gate], replace(numbers(truth, scorer, scorer), **changes))


def _verdicts(context: GateContext, *gates: Gate) -> list[str]:
    return [result.verdict for result in judge(gates, context).results]
