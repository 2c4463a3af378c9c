"""The loop that the demo turns: one policy for any ordered table, scaled by the length of its history.

Why these numbers: docs/decisions/0012_retraining_policy.md.
"""

from __future__ import annotations

import polars as pl

from tidewheel.demo.learner import learn
from tidewheel.evaluation import gates
from tidewheel.loop import triggers
from tidewheel.loop.loop import GameDay, Loop
from tidewheel.models.model import Model
from tidewheel.models.signature import Task
from tidewheel.monitoring.policy import MonitorPolicy
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.step import step
from tidewheel.rollout import rollouts

WINDOW_SHARE = 0.1  # of the history makes a monitor window ...
WINDOW_ROWS = (100, 500)  # ... of at least and at most so many rows
TRAIN_ROWS = 8_000  # newest rows a retraining learns from; older ones would weigh less than half a percent
PSI = 0.25  # population stability index of a column that is drift
SHARE_MARGINS = (0.05, 0.05)  # points of accuracy: tolerated decay; canary's "not worse"
RATIO_MARGINS = (0.15, 0.10)  # share of the error: tolerated decay; canary's "not worse"
GATE_MARGIN = 0.01  # points of accuracy, or share of the label's standard deviation
FAULT = 0.05  # share of requests that fail with --sabotage serving


@step
def fit(rows: pl.DataFrame, label: str, task: Task) -> Model:
    """Fit the demo's learner."""
    return learn(rows, label, task)


@pipeline
def retrain(rows: pl.DataFrame, label: str, task: Task) -> Model:
    """Return a model of the rows that the loop gives."""
    return fit(rows, label, task)


def make_loop(*, name: str, label: str, task: Task, history: int, spread: float = 1.0, sabotage: str = "") -> Loop:
    """Return the demo's loop for a dataset and model of that name.

    `history` is the number of rows known at the start, `spread` the standard deviation of a quantity's label in them.
    `sabotage` is "", "serving" (the first candidate that goes on trial fails on some requests) or "labels" (the first
    retraining learns from shuffled labels).
    """
    metric = "rmse" if task == "regression" else "accuracy"
    worse_by, margin = RATIO_MARGINS if task == "regression" else SHARE_MARGINS
    gate_margin = GATE_MARGIN * spread if task == "regression" else GATE_MARGIN
    fewest, most = WINDOW_ROWS
    window = min(max(round(history * WINDOW_SHARE), fewest), most)
    return Loop(
        retrain,
        model=name,
        data=name,
        label=label,
        on=[
            triggers.drift(psi=PSI, windows=2),
            triggers.decay(metric, worse_by=worse_by),
            triggers.new_data(rows=2 * window),
        ],
        gates=[gates.beats_champion(metric, demand="not_worse", margin=gate_margin, confidence=0.95)],
        rollout=rollouts.canary((5, 25, 100), goal=metric, margin=margin, error_margin=0.05, min_requests=50),
        train_rows=TRAIN_ROWS,
        cooldown_rows=window,
        ladder=(window, 2 * window, 4 * window),
        ladder_on=("decay",),  # a season is drift that does not end
        collect_rows=window,
        monitor=MonitorPolicy(
            window_rows=window, label_rows=window, psi=PSI, windows=2, decay=metric, worse_by=worse_by
        ),
        parameters={"label": label, "task": task},
        game_day=GameDay(fault=FAULT if sabotage == "serving" else 0.0, shuffle_labels=sabotage == "labels"),
    )
