"""The rule: what the evidence decides. Pure; the version of the rule is part of every decision.

Rolls back when the average of the guards' e-values reaches 1/alpha: an average of e-values is one, whatever their
dependence (Vovk and Wang, "E-values: calibration, combination and applications", Annals of Statistics 2021), so the
chance of a false rollback is at most alpha over all guards and all looks. Promotes only when every proof that is asked
for has reached 1/alpha on its own: a false promotion needs a false proof, so its chance is at most alpha, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tidewheel.rollout.evidence import Evidence
from tidewheel.rollout.goal import Subject, goal_numbers
from tidewheel.rollout.rollouts import Canary
from tidewheel.stats.eprocess import mixed

RULE = "canary-1"
RATIO_ALPHA = 0.01  # level at which a split that is not kept forbids a promotion

Action = Literal["step", "promote", "roll_back", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningTest:
    """One running test."""

    name: str  # what is tested: errors, slower, goal worse; or errors not higher, goal not worse
    guard: bool  # a guard rolls back, a proof promotes
    log_e: float  # evidence so far, natural logarithm of the e-value
    limit: float  # where it decides on its own, on the same scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one look concludes."""

    action: Action | None  # None: go on gathering
    reason: str  # in words


def running_tests(evidence: Evidence, config: Canary, subject: Subject) -> list[RunningTest]:
    """Return the running tests, guards first."""
    guards = [("errors", evidence.errors.log_e)]
    proofs = [("errors not higher", evidence.error_proof.log_e)]
    if config.latency_ratio is not None:
        guards.append(("slower", evidence.latency.log_e))
    if subject.loss is not None:
        guards.append(("goal worse", evidence.goal.log_harm))
        proofs.append(("goal not worse", evidence.goal.log_proof))
    limit = -math.log(config.alpha)
    return [
        *(
            RunningTest(name=name, guard=True, log_e=log_e, limit=limit + math.log(len(guards)))
            for name, log_e in guards
        ),
        *(RunningTest(name=name, guard=False, log_e=log_e, limit=limit) for name, log_e in proofs),
    ]


def decide(evidence: Evidence, config: Canary, subject: Subject, *, step: int, seconds: float) -> Verdict:
    """Return what the evidence decides at `step`, so many seconds after the begin."""
    tests = running_tests(evidence, config, subject)
    guards = [test for test in tests if test.guard]
    combined = mixed(np.array([test.log_e for test in guards]))
    if combined >= -math.log(config.alpha):
        worst = max(guards, key=lambda test: test.log_e)
        return Verdict(action="roll_back", reason=_harm_words(worst, evidence, subject))
    exposed = evidence.step_scored >= config.min_requests
    last = step >= len(config.stages) - 1
    skewed = evidence.ratio.rejects(RATIO_ALPHA)
    open_proofs = [test for test in tests if not test.guard and test.log_e < test.limit]
    if exposed and last and not open_proofs and not skewed:
        return Verdict(action="promote", reason=_proof_words(evidence, config, subject))
    overdue = _overdue(evidence, config, seconds)
    if overdue:
        return Verdict(action="inconclusive", reason=f"{overdue}; {_waiting_words(evidence, config, tests)}")
    if exposed and not last and not _suspicious(combined, config):
        share = config.stages[step + 1]
        return Verdict(
            action="step",
            reason=f"{evidence.step_scored} requests at {config.stages[step]:.0%} show no harm: {share:.0%}",
        )
    return Verdict(action=None, reason=_waiting_words(evidence, config, tests))


def numbers_of(evidence: Evidence, config: Canary, subject: Subject, *, step: int) -> dict[str, Any]:
    """Return the numbers behind a decision, as JSON."""
    total = evidence.errors.total
    numbers: dict[str, Any] = {
        "rule": RULE,
        "share": config.stages[step],
        "requests": evidence.requests,
        "scored_by_candidate": evidence.scored,
        "scored_at_step": evidence.step_scored,
        "errors": {
            "candidate": total.errors,
            "candidate_attempts": total.attempts,
            "champion": total.other_errors,
            "champion_attempts": total.other_attempts,
        },
        "sample_ratio_log_e": round(evidence.ratio.log_e, 3),
        "alpha": config.alpha,
        "tests": {
            test.name: {"log_e": round(test.log_e, 3), "limit": round(test.limit, 3)}
            for test in running_tests(evidence, config, subject)
        },
    }
    if evidence.slow_us is not None:
        slow = evidence.latency.total
        numbers["slow"] = {
            "beyond_us": evidence.slow_us,
            "candidate": slow.errors,
            "candidate_attempts": slow.attempts,
            "champion": slow.other_errors,
            "champion_attempts": slow.other_attempts,
        }
    if subject.loss is not None:
        numbers["goal"] = goal_numbers(evidence.goal, subject.loss)
    return numbers


def _suspicious(combined: float, config: Canary) -> bool:
    """Say whether there is half the evidence of harm that it takes: then exposure does not grow."""
    return combined >= -math.log(config.alpha) / 2


def _overdue(evidence: Evidence, config: Canary, seconds: float) -> str:
    if config.most_requests is not None and evidence.scored >= config.most_requests:
        return f"{evidence.scored} requests have not decided it"
    return f"the deadline of {config.deadline:g} seconds has passed" if seconds >= config.deadline else ""


def _harm_words(worst: RunningTest, evidence: Evidence, subject: Subject) -> str:
    if worst.name == "errors":
        total = evidence.errors.total
        return (
            f"it fails more often: {total.errors} of {total.attempts} requests, "
            f"the champion {total.other_errors} of {total.other_attempts}"
        )
    if worst.name == "slower":
        slow = evidence.latency.total
        return (
            f"it is slower: {slow.errors} of {slow.attempts} requests, "
            f"the champion {slow.other_errors} of {slow.other_attempts}"
        )
    return f"it is worse: {_goal_words(evidence, subject)}"


def _proof_words(evidence: Evidence, config: Canary, subject: Subject) -> str:
    total = evidence.errors.total
    errors = f"{total.errors} of {total.attempts} requests failed, within {config.error_margin:.1%} of the champion"
    if subject.loss is None:
        return f"it is not worse: {errors}"
    return f"it is not worse: {_goal_words(evidence, subject)}; {errors}"


def _goal_words(evidence: Evidence, subject: Subject) -> str:
    if subject.loss is None:
        return ""
    numbers = goal_numbers(evidence.goal, subject.loss)
    if "candidate" not in numbers or "champion" not in numbers:
        return f"{numbers['rows']} labelled rows"
    return (
        f"{numbers['metric']} {numbers['candidate']:.4g} against {numbers['champion']:.4g} "
        f"over {numbers['rows']} labelled rows"
    )


def _waiting_words(evidence: Evidence, config: Canary, tests: list[RunningTest]) -> str:
    missing = [f"{test.name} at {test.log_e:.1f} of {test.limit:.1f}" for test in tests if not test.guard]
    if evidence.step_scored < config.min_requests:
        missing.insert(0, f"{evidence.step_scored} of {config.min_requests} requests at this step")
    guards = [test for test in tests if test.guard]
    if _suspicious(mixed(np.array([test.log_e for test in guards])), config):
        worst = max(guards, key=lambda test: test.log_e)
        missing.append(f"{worst.name} at {worst.log_e:.1f} of {worst.limit:.1f} is suspicious")
    if evidence.ratio.rejects(RATIO_ALPHA):
        missing.append("the split is not kept, so nothing can be promoted")
    return "gathering evidence: " + ", ".join(missing)
