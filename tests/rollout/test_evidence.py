"""What requests show: who is counted, what a pair is, when a split is not kept."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewheel.predictions.records import Other, Prediction
from tidewheel.rollout.evidence import Evidence, Seen, no_evidence, see_requests, sort_records
from tidewheel.rollout.goal import Subject
from tidewheel.rollout.rollouts import canary
from tidewheel.stats.arm_errors import Tally

SUBJECT = Subject(champion=1, candidate=2, loss=None)
PAIRED = canary((50,), paired=True)
SPLIT = canary((50,), paired=False)


def record(number: int = 1, version: int = 1, **changes: Any) -> Prediction:
    values: dict[str, Any] = {
        "id": f"r{number}",
        "at": number,
        "model": "m",
        "version": version,
        "arm": "champion" if version == 1 else "challenger",
        "propensity": 0.5,
        "unit": "",
        "status": 200,
        "features": [[1.0]],
        "output": [1],
        "latency_us": 1_000,
    }
    return Prediction(**{**values, **changes})


BOTH = Other(version=2, output=[1])
FAILED = Other(version=2, error="no")


@pytest.mark.parametrize(
    ("records", "pairs", "attempts"),
    [
        ([record(other=BOTH)], [(False, False)], [(False, False)]),
        ([record(other=FAILED)], [(False, True)], [(False, False)]),
        ([record(version=2, other=Other(version=1, output=[1]))], [(False, False)], [(True, False)]),
        ([record(version=2, other=Other(version=1, error="no"))], [(True, False)], [(True, False)]),
        (  # the candidate fails, the champion answers
            [record(version=2, status=500), record(version=1, route="fallback", propensity=1.0)],
            [(False, True)],
            [(True, True)],
        ),
        (  # both fail
            [record(version=2, status=500), record(version=1, route="fallback", status=500)],
            [(True, True)],
            [(True, True)],
        ),
        ([record(status=500)], [(True, True)], [(False, True)]),  # nobody asked the candidate
        ([record(status=422, route="refused")], [], []),
        ([record(status=422)], [], []),  # both arms refuse what the caller sent
        ([record(route="pinned")], [], []),
        ([record(version=7)], [], []),
        ([record(other=Other(version=7, output=[1]))], [], [(False, False)]),
    ],
)
def test_who_is_counted(
    records: list[Prediction], pairs: list[tuple[bool, bool]], attempts: list[tuple[bool, bool]]
) -> None:
    seen = sort_records(records, SUBJECT)
    assert seen.pairs == pairs
    assert seen.attempts == attempts
    assert seen.requests == len(attempts)


def test_pairs_count_both_arms_and_the_split_counts_one() -> None:
    seen = sort_records([record(other=FAILED), record(2, other=BOTH), record(3, version=2)], SUBJECT)
    paired = see_requests(no_evidence(PAIRED), seen, PAIRED)
    assert paired.errors.total == Tally(attempts=2, errors=1, other_attempts=2, other_errors=0)
    assert (paired.requests, paired.scored) == (3, 2)
    split = see_requests(no_evidence(SPLIT), seen, SPLIT)
    assert split.errors.total == Tally(attempts=1, errors=0, other_attempts=2, other_errors=0)
    assert (split.requests, split.scored) == (3, 1)


ATTEMPTS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60)


@given(ATTEMPTS, st.integers(0, 60))
def test_groups_do_not_depend_on_how_the_log_was_cut(attempts: list[tuple[bool, bool]], cut: int) -> None:
    whole = see_requests(no_evidence(SPLIT), Seen(requests=1, attempts=attempts), SPLIT)
    first = see_requests(no_evidence(SPLIT), Seen(requests=1, attempts=attempts[:cut]), SPLIT)
    parts = see_requests(first, Seen(requests=1, attempts=attempts[cut:]), SPLIT)
    assert parts.error_proof.count == whole.error_proof.count
    assert parts.error_proof.logs == pytest.approx(whole.error_proof.logs)
    assert parts.waiting == whole.waiting


def test_a_difference_of_groups_has_the_mean_of_the_two_rates() -> None:
    """One arm at 5 %, failing 3 % and 1 % of the time: the average gain is -0.02, whatever the group sizes."""
    random = np.random.default_rng(0)
    attempts = [
        (bool(mine), bool(random.random() < (0.03 if mine else 0.01))) for mine in random.random(300_000) < 0.05
    ]
    state = see_requests(no_evidence(canary((5,), error_margin=0.02)), Seen(requests=1, attempts=attempts), SPLIT)
    higher = see_requests(no_evidence(canary((5,), error_margin=0.04)), Seen(requests=1, attempts=attempts), SPLIT)
    assert state.error_proof.log_e < 3
    assert higher.error_proof.log_e > 20


def test_zero_failures_prove_a_margin_after_the_rule_of_three() -> None:
    """No test can prove "at most 2 points more" from fewer than log(20) / 0.02 = 150 clean requests."""
    state, needed = no_evidence(PAIRED), 0
    while not state.error_proof.rejects(0.05):
        state = see_requests(state, Seen(requests=1, pairs=[(False, False)]), PAIRED)
        needed += 1
    assert 150 <= needed <= 200


def test_the_limit_of_a_slow_request_comes_from_the_champion_and_does_not_move() -> None:
    latencies = [(False, 10_000 + number * 100) for number in range(50)]
    warm = see_requests(no_evidence(SPLIT), Seen(requests=50, latencies=[*latencies[:30], (True, 90_000)]), SPLIT)
    assert warm.slow_us is None
    warm = see_requests(warm, Seen(requests=20, latencies=latencies[30:]), SPLIT)
    assert warm.slow_us == pytest.approx(14_655, abs=1)
    later = see_requests(
        warm, Seen(requests=4, latencies=[(True, 30_000), (True, 20_000), (False, 20_000), (False, 9_000)]), SPLIT
    )
    assert later.slow_us == warm.slow_us
    assert later.latency.total == Tally(attempts=2, errors=1, other_attempts=2, other_errors=1)


def test_each_unit_is_counted_once_and_a_new_share_begins_a_segment() -> None:
    assigned = [("ada", True, 0.1), ("ada", True, 0.1), ("bob", False, 0.1), ("cyd", True, 0.5)]
    state = see_requests(no_evidence(SPLIT), Seen(requests=4, assigned=assigned), SPLIT)
    again = see_requests(state, Seen(requests=4, assigned=assigned), SPLIT)
    assert again.ratio == state.ratio
    assert (state.ratio.share, state.ratio.units, state.ratio.other_units) == (0.5, 1, 0)


def test_evidence_survives_a_round_trip() -> None:
    seen = sort_records([record(other=FAILED), record(2, version=2, other=Other(version=1, output=[1]))], SUBJECT)
    state = see_requests(no_evidence(PAIRED), seen, PAIRED)
    stored = msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(state, str_keys=True)))
    assert msgspec.convert(stored, Evidence, strict=False) == state
