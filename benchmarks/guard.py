"""How often a canary's error guard rolls back by mistake, and how soon it does so with cause, beside a threshold gate.

Simulated requests, fixed seeds, a look every minute. The reference is a gate as Argo Rollouts users write it: a minute
fails when less than 99 % of the canary's requests succeed, and more than three failed minutes roll back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.measure import show
from tidewheel.rollout.rollouts import canary
from tidewheel.stats.arm_errors import ArmErrors, Tally

DAY = 1_440  # minutes
GUARDS = 2  # errors and latency share the chance of a false rollback
LIMIT = math.log(GUARDS / canary().alpha)
LEAST_SUCCESS = 0.99
FAILURES_ALLOWED = 3


@dataclass(frozen=True)
class Case:
    """A day, or what is left of it, of two arms."""

    load: tuple[int, int]  # requests a minute of candidate and champion
    rates: tuple[float, float]  # share of failed requests of candidate and champion
    healthy: int = 0  # minutes before the candidate begins to fail as `rates` says


Minutes = np.ndarray  # [minute, (candidate's attempts, errors, champion's attempts, errors)]


def day(random: np.random.Generator, case: Case, minutes: int) -> Minutes:
    """Draw the counts of each minute."""
    mine, theirs = random.poisson(case.load[0], minutes), random.poisson(case.load[1], minutes)
    rate = np.where(np.arange(minutes) < case.healthy, case.rates[1], case.rates[0])
    return np.column_stack([mine, random.binomial(mine, rate), theirs, random.binomial(theirs, case.rates[1])])


def by_evidence(minutes: Minutes) -> float:
    """Return the minute of the rollback by our guard; infinity if there is none."""
    state = ArmErrors()
    for minute, (attempts, errors, others, other_errors) in enumerate(minutes.tolist(), start=1):
        seen = Tally(attempts=attempts, errors=errors, other_attempts=others, other_errors=other_errors)
        state = state.update(seen)
        if state.log_e >= LIMIT:
            return minute
    return math.inf


def by_threshold(minutes: Minutes) -> float:
    """Return the minute of the rollback by the threshold gate; infinity if there is none."""
    failed = np.cumsum(minutes[:, 1] > (1 - LEAST_SUCCESS) * minutes[:, 0])
    over = np.flatnonzero(failed > FAILURES_ALLOWED)
    return float(over[0] + 1) if len(over) else math.inf


def rolled_back(gate: Callable[[Minutes], float], days: list[Minutes]) -> str:
    """Return the share of days that a gate rolls back."""
    return f"{np.mean([gate(one) < math.inf for one in days]):.1%}"


def delay(gate: Callable[[Minutes], float], days: list[Minutes], healthy: int) -> str:
    """Return the median minutes from the failure to the rollback, and the share of days in which it never came."""
    stops = np.array([gate(one) for one in days])
    late = stops[stops > healthy] - healthy
    missed = np.mean(np.isinf(stops))
    middle = np.median(late) if len(late) else math.inf
    return "never" if math.isinf(middle) else f"{middle:g} min" + (f", {missed:.0%} never" if missed else "")


def main() -> None:
    """Print false rollbacks over a day, then delays."""
    rows = []
    for rate, load in ((0.001, (600, 5_400)), (0.008, (600, 5_400)), (0.01, (600, 5_400)), (0.005, (20, 180))):
        random = np.random.default_rng(1)
        days = [day(random, Case(load=load, rates=(rate, rate)), DAY) for _ in range(40)]
        name = f"both fail {rate:.1%}, canary {load[0]} requests/min"
        rows.append((name, rolled_back(by_evidence, days), f"threshold gate {rolled_back(by_threshold, days)}"))
    show("guard: false rollbacks over 24 h of looks each minute, 40 days each (target: 5 % at most)", rows)
    rows = []
    for name, case in (
        ("0.1 % to 0.5 %, canary 600 requests/min of 6,000", Case(load=(600, 5_400), rates=(0.005, 0.001))),
        ("0.1 % to 0.5 %, canary 600 requests/min of 1,200", Case(load=(600, 600), rates=(0.005, 0.001))),
        ("1 % to 5 %, canary 20 requests/min of 200", Case(load=(20, 180), rates=(0.05, 0.01))),
        ("0.1 % to 0.5 % after a healthy day", Case(load=(600, 5_400), rates=(0.005, 0.001), healthy=DAY)),
    ):
        random = np.random.default_rng(2)
        days = [day(random, case, case.healthy + 240) for _ in range(12 if case.healthy else 100)]
        found = delay(by_evidence, days, case.healthy)
        rows.append((name, found, f"threshold gate {delay(by_threshold, days, case.healthy)}"))
    show("guard: median delay of a rollback with cause (target: 5 min at 600 requests/min)", rows)


if __name__ == "__main__":
    main()
