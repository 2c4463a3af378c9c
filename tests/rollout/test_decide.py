"""The rule: its tables of cases, and its error rates over whole rollouts by simulation."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from tidewheel.errors import Conflict, InvalidInput, NotFound
from tidewheel.rollout.decide import RATIO_ALPHA, decide, running_tests
from tidewheel.rollout.evidence import Evidence, Seen, no_evidence, see_requests
from tidewheel.rollout.goal import GoalEvidence, Subject
from tidewheel.rollout.records import check_transition
from tidewheel.rollout.rollouts import Canary, canary
from tidewheel.stats.arm_errors import ArmErrors
from tidewheel.stats.eprocess import betting_process
from tidewheel.stats.sample_ratio import SampleRatio

PLAIN = Subject(champion=1, candidate=2, loss=None)
GOAL = Subject(champion=1, candidate=2, loss="error")
CONFIG = canary((10, 50, 100), goal="accuracy", min_requests=100)


def certain(log_e: float) -> ArmErrors:
    """Return a guard with so much evidence."""
    return ArmErrors(logs=(log_e,) * 32, segments=10**9)


def proven(log_e: float) -> Any:
    process = betting_process(-0.02, low=-1.0, high=1.0, stakes=(0.5,))
    return msgspec.structs.replace(process, logs=(log_e,))


def evidence(**changes: Any) -> Evidence:
    """Return evidence that promotes at the last step."""
    goal = GoalEvidence(rows=200, proof=proven(9.0), harm=proven(-5.0), scale=1.0)
    enough = msgspec.structs.replace(no_evidence(CONFIG), step_scored=100, error_proof=proven(9.0), goal=goal)
    return msgspec.structs.replace(enough, **changes)


BAD_GOAL = GoalEvidence(rows=50, proof=proven(-5.0), harm=proven(4.2), scale=1.0)
OPEN_GOAL = GoalEvidence(rows=50, proof=proven(2.0), harm=proven(0.0), scale=1.0)


@pytest.mark.parametrize(
    ("changes", "step", "seconds", "action"),
    [
        ({}, 1, 0.0, "promote"),
        ({}, 0, 0.0, "step"),
        ({"step_scored": 99}, 1, 0.0, None),
        ({"step_scored": 99}, 0, 0.0, None),
        ({"error_proof": proven(2.9)}, 1, 0.0, None),
        ({"goal": OPEN_GOAL}, 1, 0.0, None),
        ({"goal": OPEN_GOAL}, 1, 1e9, "inconclusive"),
        ({}, 1, 1e9, "promote"),
        ({"goal": OPEN_GOAL}, 0, 1e9, "inconclusive"),
        ({"errors": certain(4.2)}, 1, 0.0, "roll_back"),  # log(3 guards * 20) = 4.09
        ({"errors": certain(4.0)}, 1, 0.0, "promote"),
        ({"errors": certain(3.0), "step_scored": 500}, 0, 0.0, None),  # suspicious: exposure does not grow
        ({"latency": certain(4.2)}, 0, 0.0, "roll_back"),
        ({"goal": BAD_GOAL}, 0, 0.0, "roll_back"),
        ({"errors": certain(3.6), "latency": certain(3.6)}, 1, 0.0, "roll_back"),  # none alone, both together
        ({"ratio": SampleRatio(share=0.5, units=900, other_units=100)}, 1, 0.0, None),
        ({"ratio": SampleRatio(share=0.5, units=900, other_units=100)}, 1, 1e9, "inconclusive"),
    ],
)
def test_what_the_evidence_decides(changes: dict[str, Any], step: int, seconds: float, action: str | None) -> None:
    verdict = decide(evidence(**changes), CONFIG, GOAL, step=step, seconds=seconds)
    assert verdict.action == action
    assert verdict.reason


def test_the_reason_names_the_worst_guard() -> None:
    assert "fails more often" in decide(evidence(errors=certain(9.0)), CONFIG, GOAL, step=0, seconds=0).reason
    assert "slower" in decide(evidence(latency=certain(9.0)), CONFIG, GOAL, step=0, seconds=0).reason
    assert "it is worse" in decide(evidence(goal=BAD_GOAL), CONFIG, GOAL, step=0, seconds=0).reason
    skewed = evidence(ratio=SampleRatio(share=0.5, units=900, other_units=100))
    assert skewed.ratio.rejects(RATIO_ALPHA)
    assert "split is not kept" in decide(skewed, CONFIG, GOAL, step=1, seconds=0).reason


def test_tests_that_are_not_asked_for_are_not_run() -> None:
    quiet = canary((10,), latency_ratio=None)
    assert [test.name for test in running_tests(no_evidence(quiet), quiet, PLAIN)] == ["errors", "errors not higher"]


def minute(random: np.random.Generator, config: Canary, rates: tuple[float, float], requests: int) -> Seen:
    """Return a minute of requests; rates are the failures of champion and candidate."""
    if config.paired:
        failed = random.random((requests, 2)) < rates
        return Seen(requests=requests, pairs=[(bool(mine), bool(theirs)) for mine, theirs in failed])
    mine = random.random(requests) < config.stages[0]
    failed_one = random.random(requests) < np.where(mine, rates[1], rates[0])
    attempts = [(bool(one), bool(two)) for one, two in zip(mine, failed_one, strict=True)]
    slow = random.lognormal(0, 0.5, requests) * 10_000
    return Seen(
        requests=requests,
        attempts=attempts,
        latencies=[(bool(one), int(two)) for one, two in zip(mine, slow, strict=True)],
    )


def outcomes(config: Canary, rates: tuple[float, float], *, runs: int, looks: int, requests: int) -> list[str | None]:
    found: list[str | None] = []
    for seed in range(runs):
        random = np.random.default_rng(seed)
        state, action = no_evidence(config), None
        for _ in range(looks):
            state = see_requests(state, minute(random, config, rates, requests), config)
            action = decide(state, config, PLAIN, step=len(config.stages) - 1, seconds=0).action
            if action is not None:
                break
        found.append(action)
    return found


@pytest.mark.parametrize("config", [canary((50,), min_requests=10**9), canary((50,), paired=True, min_requests=10**9)])
def test_equal_arms_are_rarely_rolled_back_however_long_one_looks(config: Canary) -> None:
    found = outcomes(config, (0.02, 0.02), runs=50, looks=40, requests=60)
    assert found.count("roll_back") <= 50 * 0.05 + 2


@pytest.mark.parametrize("config", [canary((50,), error_margin=0.02), canary((50,), paired=True, error_margin=0.02)])
def test_a_candidate_beyond_the_margin_is_rarely_promoted(config: Canary) -> None:
    """At the very edge of what would be promoted: three points more failures, two are allowed."""
    found = outcomes(config, (0.01, 0.04), runs=60, looks=40, requests=100)
    assert found.count("promote") <= 60 * 0.05 + 1
    assert found.count("roll_back") >= 50


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": ()},
        {"steps": (25, 5)},
        {"steps": (5, 5)},
        {"steps": (0, 50)},
        {"steps": (50, 101)},
        {"alpha": 0.0},
        {"margin": 1.5},
        {"error_margin": 0.0},
        {"latency_ratio": 0.5},
        {"min_requests": 0},
        {"min_requests": 100, "most_requests": 50},
    ],
)
def test_a_config_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        canary(**wrong)


def test_the_goal_must_be_a_metric_and_brings_pairs() -> None:
    with pytest.raises(NotFound, match="accuracy"):
        canary(goal="acuracy")
    assert canary(goal="accuracy").paired
    assert not canary().paired
    assert canary((100,)).stages == (1.0,)
    assert canary((5, 25)).stages == (0.05, 0.25)


def test_an_ended_rollout_never_runs_again() -> None:
    check_transition("running", "promoted")
    for ended in ("promoted", "rolled_back", "inconclusive"):
        with pytest.raises(Conflict, match="cannot become"):
            check_transition(ended, "running")
