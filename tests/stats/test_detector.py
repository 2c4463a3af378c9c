"""The risk detector: against the recursion written out, its false alarms and its delay by simulation."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tidewheel.errors import InvalidInput
from tidewheel.stats.detector import RiskDetector, risk_detector

LOSSES = st.lists(st.floats(0.0, 1.0), max_size=40)


def recursion(detector: RiskDetector, losses: list[float]) -> list[float]:
    """Return the average S after every loss by S <- (1 + S) * factor, the textbook's way."""
    bets = np.asarray(detector.stakes) / detector.tolerated
    sums = np.zeros(len(bets))
    after = []
    for loss in losses:
        sums = (1.0 + sums) * (1.0 + bets * (loss - detector.tolerated))
        after.append(float(sums.mean()))
    return after


@given(st.floats(0.02, 0.9), LOSSES)
def test_statistic_follows_the_recursion(tolerated: float, losses: list[float]) -> None:
    detector = risk_detector(tolerated, run_length=50)
    expected = recursion(detector, losses)
    seen = detector.update(losses)
    if losses:
        assert seen.statistic == pytest.approx(expected[-1], rel=1e-6)
    reached = [at + 1 for at, value in enumerate(expected) if value >= 50 * (1 + 1e-9)]
    if reached:
        assert seen.alarm_at is not None
        assert seen.alarm_at <= reached[0]
    assert seen.alarmed == any(value >= 50 * (1 - 1e-9) for value in expected) or not reached


@given(st.floats(0.02, 0.9), LOSSES, LOSSES)
def test_updates_in_parts_equal_one_update(tolerated: float, first: list[float], second: list[float]) -> None:
    whole = risk_detector(tolerated, run_length=50).update(first + second)
    parts = risk_detector(tolerated, run_length=50).update(first).update(second)
    assert parts.logs == pytest.approx(whole.logs, abs=1e-6)
    assert parts.walks == pytest.approx(whole.walks, abs=1e-6)
    assert parts.count == whole.count
    assert parts.alarmed == whole.alarmed


def stream(random: np.random.Generator, before: float, after: float, change: int, length: int) -> NDArray[np.float64]:
    rates = np.where(np.arange(length) < change, before, after)
    return (random.random(length) < rates).astype(np.float64)


def test_false_alarms_come_no_sooner_than_stated() -> None:
    """With the risk exactly at what is tolerated, alarms within a tenth of the run length hit at most a tenth."""
    random = np.random.default_rng(5)
    alarms = sum(
        risk_detector(0.1, run_length=2_000).update(stream(random, 0.1, 0.1, 0, 200)).alarmed for _ in range(400)
    )
    assert 0 < alarms <= 400 * 0.1 + 3 * math.sqrt(400 * 0.09)


def test_no_alarm_in_300000_losses_below_what_is_tolerated() -> None:
    """The notes' figure: risk 0.10, tolerance 0.01, threshold 1e5: no alarm in 300,000 losses."""
    random = np.random.default_rng(1)
    detector = risk_detector(0.11, run_length=1e5)
    for _ in range(30):
        detector = detector.update(stream(random, 0.1, 0.1, 0, 10_000))
    assert not detector.alarmed


@pytest.mark.parametrize(("after", "most"), [(0.15, 1_050), (0.2, 250), (0.3, 80)])
def test_delay_is_that_of_the_notes(after: float, most: int) -> None:
    """Error rate from 0.10 to 0.15 / 0.2 / 0.3: the notes' ten runs had 778 / 204 / 60; the bar for 0.2 is 250."""
    random = np.random.default_rng(2)
    delays = []
    for _ in range(200):
        detector = risk_detector(0.11, run_length=1e5).update(stream(random, 0.1, after, 1_000, 1_000 + 4 * most))
        assert detector.alarm_at is not None
        delays.append(detector.alarm_at - 1_000)
    assert 0 < float(np.median(delays)) <= most


def test_it_says_where_the_rise_began() -> None:
    random = np.random.default_rng(4)
    errors = []
    for _ in range(60):
        losses = stream(random, 0.1, 0.3, 3_000, 3_400)
        detector = risk_detector(0.12).update(losses[:1_000]).update(losses[1_000:3_001]).update(losses[3_001:])
        errors.append(abs(detector.rise_began - 3_000))
    assert float(np.median(errors)) <= 15


def test_clipped_losses_of_a_regression_are_found_to_have_risen() -> None:
    """Squared errors, capped at 16 times their mean; the root mean squared error rises by a quarter."""
    random = np.random.default_rng(6)
    squared = np.concatenate([random.normal(0, 1.0, 2_000), random.normal(0, 1.35, 2_000)]) ** 2
    detector = risk_detector(1.1**2, ceiling=16.0, run_length=10_000).update(np.minimum(squared, 16.0))
    assert detector.alarm_at is not None
    assert 2_000 < detector.alarm_at < 2_600


def test_state_survives_a_round_trip_before_and_after_losses() -> None:
    for detector in (risk_detector(0.1), risk_detector(0.1).update([0.0, 1.0, 1.0])):
        again = msgspec.json.decode(msgspec.json.encode(detector), type=RiskDetector)
        assert again == detector
        assert again.update([1.0, 0.0]).logs == detector.update([1.0, 0.0]).logs


def test_without_losses_nothing_changes() -> None:
    detector = risk_detector(0.1)
    assert detector.update([]) == detector
    assert detector.statistic == 0.0
    assert not detector.alarmed


def test_bad_input_is_refused() -> None:
    with pytest.raises(InvalidInput, match="strictly between"):
        risk_detector(1.0)
    with pytest.raises(InvalidInput, match="at least 2"):
        risk_detector(0.1, run_length=1)
    with pytest.raises(InvalidInput, match=r"from 0\.0 to 1\.0"):
        risk_detector(0.1).update([2.0])
