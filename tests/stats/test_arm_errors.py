"""The two-arm error test: validity enumerated exactly, power and false alarms by simulation with fixed seeds."""

from __future__ import annotations

import math
from math import comb

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from tidewheel.errors import InvalidInput
from tidewheel.stats.arm_errors import SEGMENT_ATTEMPTS, ArmErrors, Tally, relative_risks, segment_logs


def tally(attempts: int, errors: int, other_attempts: int, other_errors: int) -> Tally:
    return Tally(attempts=attempts, errors=errors, other_attempts=other_attempts, other_errors=other_errors)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.001, 0.999), st.floats(0.0, 1.0))
def test_no_bet_grows_on_average_when_the_arm_is_no_worse(attempts: int, others: int, rate: float, less: float) -> None:
    """Enumerated over every outcome of both arms, for any error rate of the arm up to that of the other."""
    mine = [comb(attempts, k) * (rate * less) ** k * (1 - rate * less) ** (attempts - k) for k in range(attempts + 1)]
    theirs = [comb(others, k) * rate**k * (1 - rate) ** (others - k) for k in range(others + 1)]
    expected = np.zeros(len(relative_risks()))
    for errors, chance in enumerate(mine):
        for other_errors, other_chance in enumerate(theirs):
            expected += chance * other_chance * np.exp(segment_logs(tally(attempts, errors, others, other_errors)))
    assert (expected <= 1.0 + 1e-9).all()


@pytest.mark.parametrize("counts", [(600, 9, 5_400, 11), (50, 0, 950, 12), (400, 30, 400, 14)])
def test_evidence_is_that_of_the_continuous_prior(counts: tuple[int, int, int, int]) -> None:
    """Against numerical integration over the uniform prior on the excess share 1 - 1/r."""
    seen = tally(*counts)
    share = seen.attempts / (seen.attempts + seen.other_attempts)

    def likelihood(excess: float) -> float:
        risk = 1 / (1 - excess)
        errors = seen.errors + seen.other_errors
        return float(math.exp(seen.errors * math.log(risk) - errors * math.log(1 + share * (risk - 1))))

    exact, _ = quad(likelihood, 0, 1, limit=200)
    assert float(np.exp(segment_logs(seen)).mean()) == pytest.approx(exact, rel=0.05)
    assert ArmErrors().update(seen).e == pytest.approx(0.5 + 0.5 * float(np.exp(segment_logs(seen)).mean()))


@given(st.integers(1, 50), st.integers(1, 50), st.data())
def test_segments_of_equal_share_multiply_to_the_whole(scale: int, other_scale: int, data: st.DataObject) -> None:
    parts = []
    for repeats in (data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))):
        attempts, others = scale * repeats, other_scale * repeats
        errors, other_errors = data.draw(st.integers(0, attempts)), data.draw(st.integers(0, others))
        parts.append(tally(attempts, errors, others, other_errors))
    together = segment_logs(parts[0]) + segment_logs(parts[1])
    assert together == pytest.approx(segment_logs(parts[0] + parts[1]), abs=1e-6)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_looking_more_often_within_a_segment_changes_nothing(attempts: list[tuple[bool, bool]]) -> None:
    """Attempt by attempt, evidence moves only when a segment closes, and then by the segment's counts."""
    state = ArmErrors()
    segments: list[Tally] = []
    pending = Tally()
    for mine, failed in attempts:
        one = tally(int(mine), int(mine and failed), int(not mine), int(not mine and failed))
        state = state.update(one)
        pending += one
        if min(pending.attempts, pending.other_attempts) >= SEGMENT_ATTEMPTS:
            segments.append(pending)
            pending = Tally()
    by_segment = ArmErrors()
    for segment in segments:
        by_segment = by_segment.update(segment)
    assert state.log_e == pytest.approx(by_segment.log_e, abs=1e-9)
    assert state.open == pending
    assert state.total.attempts + state.total.other_attempts == len(attempts)


def minutes_to_rejection(
    random: np.random.Generator, load: tuple[int, int], rates: tuple[float, float], minutes: int, *, change: int = 0
) -> float:
    """Return the minute in which the arm is found failing, infinity if never; it fails more from minute `change`."""
    state = ArmErrors()
    mine, theirs = random.poisson(load[0], minutes), random.poisson(load[1], minutes)
    for minute in range(minutes):
        rate = rates[0] if minute >= change else rates[1]
        errors, others = random.binomial(mine[minute], rate), random.binomial(theirs[minute], rates[1])
        state = state.update(tally(int(mine[minute]), int(errors), int(theirs[minute]), int(others)))
        if state.rejects(0.05):
            return float(minute + 1 - change)
    return math.inf


@pytest.mark.parametrize(
    ("load", "rates", "most"),
    [
        ((600, 5_400), (0.005, 0.001), 3),  # the notes' gate D: 3 minutes
        ((600, 5_400), (0.010, 0.005), 5),  # 4 minutes
        ((20, 180), (0.05, 0.01), 8),  # 8 minutes
    ],
)
def test_power_is_that_of_the_notes(load: tuple[int, int], rates: tuple[float, float], most: int) -> None:
    random = np.random.default_rng(1)
    delays = [minutes_to_rejection(random, load, rates, 240) for _ in range(150)]
    assert max(delays) < math.inf
    assert 1 < float(np.median(delays)) <= most


def test_an_arm_that_begins_to_fail_after_a_healthy_day_is_found_soon() -> None:
    random = np.random.default_rng(2)
    delays = [minutes_to_rejection(random, (600, 5_400), (0.005, 0.001), 1_500, change=1_440) for _ in range(10)]
    assert 0 < float(np.median(delays)) <= 15


@pytest.mark.parametrize(
    ("load", "rate"), [((600, 5_400), 0.001), ((600, 5_400), 0.01), ((20, 180), 0.005), ((30, 570), 0.05)]
)
def test_false_rollbacks_stay_below_alpha_over_an_hour_of_looks(load: tuple[int, int], rate: float) -> None:
    random = np.random.default_rng(3)
    runs = 200
    false = sum(minutes_to_rejection(random, load, (rate, rate), 60) < math.inf for _ in range(runs))
    assert false <= runs * 0.05 + 2 * math.sqrt(runs * 0.05 * 0.95)


def test_a_heavy_user_in_one_arm_does_no_harm() -> None:
    """A third of the requests land in an arm that should have a tenth; both arms fail equally often."""
    random = np.random.default_rng(4)
    false = sum(minutes_to_rejection(random, (300, 600), (0.02, 0.02), 120) < math.inf for _ in range(100))
    assert false <= 5 + 2 * math.sqrt(100 * 0.05 * 0.95)


def test_without_errors_or_without_the_other_arm_there_is_no_evidence() -> None:
    clean = ArmErrors().update(tally(10_000, 0, 90_000, 0))
    alone = ArmErrors().update(tally(10_000, 900, 0, 0))
    assert clean.e == pytest.approx(1.0)
    assert alone.e == pytest.approx(1.0)
    assert alone.open.errors == 900


def test_state_survives_a_round_trip() -> None:
    for state in (ArmErrors(), ArmErrors().update(tally(30, 2, 30, 1)).update(tally(2, 1, 0, 0))):
        assert msgspec.json.decode(msgspec.json.encode(state), type=ArmErrors) == state


def test_counts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidInput, match="errors among them"):
        ArmErrors().update(tally(1, 2, 1, 0))
    with pytest.raises(InvalidInput, match="errors among them"):
        ArmErrors().update(tally(-1, -1, 1, 0))
