"""The demo's loop: one policy, scaled by the length of the history."""

from __future__ import annotations

from typing import Any

import pytest

from tidewheel.demo.project import make_loop


@pytest.mark.parametrize(("history", "window"), [(500, 100), (4_000, 400), (8_640, 500), (60, 100)])
def test_windows_follow_the_history_within_bounds(history: int, window: int) -> None:
    loop = make_loop(name="t", label="y", task="binary", history=history)
    assert (loop.policy.window_rows, loop.policy.label_rows, loop.cooldown_rows) == (window, window, window)
    assert list(loop.ladder) == [window, 2 * window, 4 * window]


@pytest.mark.parametrize(
    ("task", "metric", "worse_by", "margin"),
    [("multiclass", "accuracy", 0.05, 0.05), ("regression", "rmse", 0.15, 0.1)],
)
def test_metric_and_margins_follow_the_task(task: Any, metric: str, worse_by: float, margin: float) -> None:
    loop = make_loop(name="t", label="y", task=task, history=1_000, spread=200.0)
    assert (loop.policy.decay, loop.policy.worse_by) == (metric, worse_by)
    assert loop.rollout is not None
    assert (loop.rollout.goal, loop.rollout.margin, loop.rollout.paired) == (metric, margin, True)
    gate: Any = loop.gates[0]
    assert (gate.metric, gate.demand, gate.margin) == (metric, "not_worse", 2.0 if task == "regression" else 0.01)


def test_sabotage_is_a_game_day_of_the_loop() -> None:
    def day(sabotage: str) -> tuple[float, bool]:
        rehearsed = make_loop(name="t", label="y", task="binary", history=500, sabotage=sabotage).game_day
        return rehearsed.fault, rehearsed.shuffle_labels

    assert (day(""), day("serving"), day("labels")) == ((0.0, False), (0.05, False), (0.0, True))
