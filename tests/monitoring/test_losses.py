"""Losses of single rows, against scikit-learn's metrics over the same rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.monitoring.latency import count_latencies, quantile_ms
from tidewheel.monitoring.losses import (
    Answered,
    Loss,
    as_metric,
    fitting_loss,
    label_text,
    loss_ceiling,
    loss_of,
    mean_loss,
    row_losses,
    tolerated_loss,
)
from tidewheel.monitoring.policy import MonitorPolicy

RANDOM = np.random.default_rng(0)
CLASSES = ["no", "yes"]
SHARES = RANDOM.dirichlet([1.0, 1.0], 300)
TRUTH = RANDOM.choice(CLASSES, 300)
SAID = np.where(SHARES[:, 1] > 0.5, "yes", "no")
NUMBERS = RANDOM.normal(5, 2, 300)
NEAR = NUMBERS + RANDOM.normal(0, 0.5, 300)

ANSWERED = Answered(
    truth=TRUTH.tolist(), predicted=SAID.tolist(), probability=np.clip(SHARES, 1e-3, 1).tolist(), classes=CLASSES
)
MEASURED = Answered(truth=NUMBERS.tolist(), predicted=NEAR.tolist(), probability=[None] * 300, classes=[])


@pytest.mark.parametrize(
    ("loss", "answered", "expected"),
    [
        ("error", ANSWERED, 1 - metrics.accuracy_score(TRUTH, SAID)),
        ("brier", ANSWERED, metrics.brier_score_loss(TRUTH, np.clip(SHARES[:, 1], 1e-3, 1), pos_label="yes")),
        ("surprise", ANSWERED, float(-np.log(np.clip(SHARES, 1e-3, 1)[np.arange(300), (TRUTH == "yes") * 1]).mean())),
        ("squared", MEASURED, metrics.mean_squared_error(NUMBERS, NEAR)),
        ("absolute", MEASURED, metrics.mean_absolute_error(NUMBERS, NEAR)),
        ("relative", MEASURED, metrics.mean_absolute_percentage_error(NUMBERS, NEAR)),
    ],
)
def test_the_mean_loss_is_the_metric(loss: Loss, answered: Answered, expected: float) -> None:
    mean = float(row_losses(loss, answered).mean())
    assert mean == pytest.approx(expected)
    name, shown = as_metric(loss, mean)
    assert mean_loss(loss, {name: shown}) == pytest.approx(mean)


def test_labels_that_cannot_be_used_have_no_loss() -> None:
    odd = Answered(truth=["x", None, 2.0, 0.0], predicted=[1.0] * 4, probability=[None] * 4, classes=[])
    assert np.isnan(row_losses("squared", odd)).tolist() == [True, True, False, False]
    assert np.isnan(row_losses("relative", odd)).tolist() == [True, True, False, True]
    shares = Answered(truth=["no", "new"], predicted=["no", "no"], probability=[None, [0.9, 0.1]], classes=CLASSES)
    assert np.isnan(row_losses("surprise", shares)).tolist() == [True, False]
    assert row_losses("surprise", shares)[1] == pytest.approx(-np.log(1e-3))


@pytest.mark.parametrize(("one", "other", "same"), [(3, 3.0, True), (True, 1, True), ("3", 3, True), ("a", "b", False)])
def test_labels_are_compared_across_json_types(one: object, other: object, same: bool) -> None:
    assert (label_text(one) == label_text(other)) is same


def test_a_metric_that_a_model_cannot_be_judged_by_falls_back_to_the_error() -> None:
    assert fitting_loss("log_loss", probabilities=False, classes=2) == "error"
    assert fitting_loss("roc_auc", probabilities=True, classes=3) == "error"
    assert fitting_loss("roc_auc", probabilities=True, classes=2) == "brier"
    with pytest.raises(NotFound, match="accuracy"):
        loss_of("acuracy")


def test_tolerance_is_in_points_for_shares_and_relative_for_others() -> None:
    assert tolerated_loss("error", 0.1, 0.05) == pytest.approx(0.15)
    assert tolerated_loss("error", 0.97, 0.1) == 0.99
    assert tolerated_loss("squared", 4.0, 0.1) == pytest.approx(4.84)
    assert tolerated_loss("absolute", 2.0, 0.1) == pytest.approx(2.2)


@given(st.sampled_from(["error", "brier", "surprise", "squared", "absolute", "relative"]), st.floats(0, 0.9))
def test_what_is_tolerated_lies_below_the_ceiling(loss: Loss, reference: float) -> None:
    tolerated = tolerated_loss(loss, reference, 0.1)
    assert 0 < tolerated < loss_ceiling(loss, tolerated)


@given(st.lists(st.integers(1, 10**8), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_latency_quantiles_are_within_the_bucket(micros: list[int], share: float) -> None:
    found = quantile_ms(count_latencies(count_latencies({}, micros[:50]), micros[50:]), share)
    exact = float(np.quantile(micros, share, method="inverted_cdf")) / 1_000
    assert found is not None
    assert abs(found - exact) <= 0.03 * exact + 0.006


def test_without_latencies_there_is_no_quantile() -> None:
    assert quantile_ms({}, 0.5) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"window_rows": 0},
        {"windows": 0},
        {"level": 1.0},
        {"exit_ratio": 0.0},
        {"worse_by": 0.0},
        {"run_length": 1.0},
    ],
)
def test_a_policy_that_cannot_work_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        MonitorPolicy(**wrong)  # type: ignore[arg-type]


def test_a_policy_with_an_unknown_metric_is_refused() -> None:
    with pytest.raises(NotFound, match="rmse"):
        MonitorPolicy(decay="rsme")
