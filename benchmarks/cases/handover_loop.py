"""Two loops over the same tiny learner: one hands over at once, one through a canary that asks for evidence."""

from __future__ import annotations

from typing import Any

import polars as pl

from tidewheel import Loop, Model, pipeline, rollouts, step, triggers
from tidewheel.monitoring.policy import MonitorPolicy

FEATURES = ("a", "b", "c", "d")
NEEDED = 60  # requests that the candidate must score at each step of the canary


@step
def fit(rows: pl.DataFrame) -> Model:
    """Fit a logistic regression."""
    from sklearn.linear_model import LogisticRegression

    table = rows.select(FEATURES)
    return Model(LogisticRegression().fit(table.to_numpy(), rows["y"].to_numpy()), example=table.head(20))


@pipeline
def learn(rows: pl.DataFrame) -> Model:
    """Return a model of the rows."""
    return fit(rows)


def make(name: str, **changes: Any) -> Loop:
    """Declare a loop that learns from the newest rows when its accuracy decays."""
    return Loop(
        learn,
        model=name,
        data=name,
        label="y",
        on=[triggers.decay("accuracy", worse_by=0.05)],
        train_rows=60,
        monitor=MonitorPolicy(label_rows=50, window_rows=500, psi=None, decay="accuracy", worse_by=0.05),
        **changes,
    )


direct = make("direct", holdout_rows=(10, 20))
guarded = make(
    "guarded",
    holdout_rows=(10, 20),
    rollout=rollouts.canary((10, 50, 100), goal="accuracy", min_requests=NEEDED, error_margin=0.05, latency_ratio=None),
)
