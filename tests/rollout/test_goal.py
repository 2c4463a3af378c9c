"""Losses of both arms on the same rows: what is paired, how failures and scales count."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from tidewheel.predictions.join import LabelledRow
from tidewheel.predictions.records import Other, Prediction
from tidewheel.rollout.goal import SCALE_ROWS, GoalEvidence, Subject, goal_numbers, see_pairs, see_split
from tidewheel.rollout.rollouts import canary

ERRORS = Subject(champion=1, candidate=2, loss="error")
SQUARES = Subject(champion=1, candidate=2, loss="squared")
CONFIG = canary((50,), goal="accuracy")
NUMBERS = canary((50,), goal="rmse")


def row(
    label: Any, *, champion: Any = None, candidate: Any = None, route: str = "split", **changes: Any
) -> LabelledRow:
    """Return a labelled row the champion answered; without a candidate's answer it failed."""
    other = Other(version=2, error="no") if candidate is None else Other(version=2, output=[candidate])
    values: dict[str, Any] = {
        "id": "r",
        "at": 0,
        "model": "m",
        "version": 1,
        "arm": "champion",
        "propensity": 0.5,
        "unit": "",
        "status": 200,
        "features": [[1.0]],
        "output": [champion],
        "other": None if route == "fallback" else other,
        "route": route,
    }
    return LabelledRow(prediction=Prediction(**{**values, **changes}), row=0, label=label, at=0)


def test_errors_are_compared_row_by_row() -> None:
    rows = [row(1, champion=0, candidate=1), row(1, champion=1, candidate=0), row(1, champion=1, candidate=1)]
    goal = see_pairs(GoalEvidence(), rows, ERRORS, CONFIG)
    assert (goal.rows, goal.champion_loss, goal.candidate_loss) == (3, 1.0, 1.0)
    assert goal.null == -0.02
    assert goal_numbers(goal, "error")["champion"] == pytest.approx(2 / 3, abs=1e-6)


@pytest.mark.parametrize("route", ["split", "fallback"])
def test_a_failure_of_the_candidate_is_its_greatest_loss(route: str) -> None:
    failing = see_pairs(GoalEvidence(), [row(1, champion=1, route=route)] * 40, ERRORS, CONFIG)
    wrong = see_pairs(GoalEvidence(), [row(1, champion=1, candidate=0)] * 40, ERRORS, CONFIG)
    assert failing.log_harm == pytest.approx(wrong.log_harm)
    assert failing.log_harm > 5
    no_worse = see_pairs(GoalEvidence(), [row(1, champion=0, route=route)] * 40, ERRORS, CONFIG)
    assert no_worse.log_harm < 0.1  # the champion was wrong as well


def test_rows_that_only_one_arm_saw_are_no_pairs() -> None:
    rows = [row(1, champion=1, other=None), row(1, champion=1, candidate=1, route="pinned")]
    assert see_pairs(GoalEvidence(), rows, ERRORS, CONFIG).rows == 0


def test_the_scale_of_squares_is_fixed_from_the_first_rows_which_do_not_count() -> None:
    random = np.random.default_rng(0)
    errors = random.normal(0, [2.0, 1.0], (SCALE_ROWS + 80, 2)).tolist()
    rows = [row(0.0, champion=mine, candidate=theirs) for mine, theirs in errors]
    goal = GoalEvidence()
    for part in (rows[:7], rows[7:33], rows[33:]):
        goal = see_pairs(goal, part, SQUARES, NUMBERS)
    at_once = see_pairs(GoalEvidence(), rows, SQUARES, NUMBERS)
    assert goal.scale == at_once.scale
    first = [mine**2 for mine, _ in errors[:SCALE_ROWS]]
    assert goal.scale == pytest.approx(3 * np.quantile(first, 0.9))
    assert goal.rows == 80
    assert goal.log_proof == pytest.approx(at_once.log_proof)
    assert goal.log_proof > 3
    wild = see_pairs(goal, [row(0.0, champion=0.0, candidate=1e9)], SQUARES, NUMBERS)
    assert wild.scale == goal.scale
    assert goal.log_proof - wild.log_proof < 4  # one wild row does not undo the evidence


def test_failures_of_a_regression_weigh_and_a_perfect_champion_is_no_division_by_zero() -> None:
    rows = [row(1.0, champion=1.0, candidate=1.0)] * 30 + [row(1.0, champion=1.0)] * 60
    goal = see_pairs(GoalEvidence(), rows, SQUARES, NUMBERS)
    assert goal.scale == 1.0
    assert goal.log_harm > 5


def test_labels_that_cannot_be_used_are_counted() -> None:
    goal = see_pairs(GoalEvidence(), [row("oops", champion=1.0, candidate=1.0)], SQUARES, NUMBERS)
    assert (goal.rows, goal.unusable) == (0, 1)


@pytest.mark.parametrize(("better", "name"), [(True, "log_proof"), (False, "log_harm")])
def test_without_pairs_weighted_means_decide_at_any_share(better: bool, name: str) -> None:
    random = np.random.default_rng(1)
    rates = (0.3, 0.05) if better else (0.05, 0.3)  # wrong answers of champion and candidate
    rows = []
    for _ in range(4_000):
        mine = random.random() < 0.2
        right = random.random() > rates[mine]
        share = 0.2 if mine else 0.8
        version, arm = (2, "challenger") if mine else (1, "champion")
        answer = 1 if right else 0
        rows.append(row(1, champion=answer, version=version, arm=arm, propensity=share, other=None))
    config = canary((20,), goal="accuracy", paired=False)
    goal = see_split(GoalEvidence(), rows[:1_000], ERRORS, config, share=0.2)
    goal = see_split(goal, rows[1_000:], ERRORS, config, share=0.2)
    assert goal.rows == 4_000
    assert getattr(goal, name) > 3
    assert min(goal.log_proof, goal.log_harm) < 0
    assert goal_numbers(goal, "error")["champion"] == pytest.approx(1 - rates[0], abs=0.03)


def test_without_pairs_a_failure_counts_for_the_candidate() -> None:
    random = np.random.default_rng(2)
    rows = []
    for _ in range(2_000):
        if random.random() < 0.2:
            rows.append(row(1, champion=1, route="fallback", propensity=1.0))
        else:
            rows.append(row(1, champion=1, other=None, propensity=0.8))
    goal = see_split(GoalEvidence(), rows, ERRORS, canary((20,), goal="accuracy", paired=False), share=0.2)
    assert goal.log_harm > 3
    assert goal.candidate_rows == 0


def test_evidence_survives_a_round_trip() -> None:
    goal = see_pairs(GoalEvidence(), [row(1, champion=0, candidate=1)], ERRORS, CONFIG)
    assert msgspec.json.decode(msgspec.json.encode(goal), type=GoalEvidence) == goal
    half = see_pairs(GoalEvidence(), [row(1.0, champion=0.5, candidate=0.7)], SQUARES, NUMBERS)
    assert msgspec.json.decode(msgspec.json.encode(half), type=GoalEvidence) == half
